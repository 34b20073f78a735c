//! What the brokers themselves say of the cluster: leaders, in-sync sets, watermarks, who decides. Knows nothing of faults.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tidelog_protocol::messages::{
    DescribeTopicsRequest, LogHealth, MetadataRequest, MetadataResponse, PartitionDescription, PartitionMetadata,
};
use tidelog_protocol::{LeaderEpoch, TopicName};

use super::Cluster;
use crate::patience::{insist, wait_until};
use crate::question::ask;

/// All that a broker knows of the cluster, or why it does not say.
///
/// # Errors
/// Why there is no answer.
pub async fn metadata(address: SocketAddr) -> Result<MetadataResponse, String> {
    ask(address, &MetadataRequest { topics: None }).await.map_err(|error| format!("{address}: {error:?}"))
}

/// What a broker holds of a topic, in order of the partitions.
///
/// # Errors
/// Why there is no answer.
pub async fn replicas_at(address: SocketAddr, topic: &str) -> Result<Vec<PartitionDescription>, String> {
    let name = TopicName::new(topic).map_err(|error| error.to_string())?;
    let answer = ask(address, &DescribeTopicsRequest { topics: Some(vec![name]) }).await;
    let mut topics = answer.map_err(|error| format!("{address}: {error:?}"))?.topics;
    topics.pop().map(|topic| topic.partitions).ok_or_else(|| format!("{address} does not know {topic}"))
}

impl Cluster {
    /// The broker that decides on metadata, as most of those say that can be asked.
    ///
    /// # Panics
    /// Where none is found.
    pub async fn controller(&self) -> u32 {
        wait_until("a controller", async || {
            let mut named = HashMap::<u32, u32>::new();
            for address in self.reachable() {
                if let Ok(Some(controller)) = metadata(address).await.map(|metadata| metadata.controller) {
                    *named.entry(controller.0).or_default() += 1;
                }
            }
            let (most, votes) = named.into_iter().max_by_key(|(_, votes)| *votes)?;
            (!self.is_down(most) && votes * 2 > self.brokers()).then_some(most)
        })
        .await
    }

    /// Waits until another broker than `before` decides; says who.
    ///
    /// # Panics
    /// Where that never comes.
    pub async fn next_controller(&self, before: u32) -> u32 {
        wait_until("another controller", async || {
            let controller = self.controller().await;
            (controller != before).then_some(controller)
        })
        .await
    }

    /// Who leads a partition and under which epoch, as those say that can be asked.
    ///
    /// # Panics
    /// Where nobody does.
    pub async fn leader(&self, topic: &str, partition: u32) -> (u32, LeaderEpoch) {
        wait_until("a leader", async || {
            let mut newest: Option<(u32, LeaderEpoch)> = None;
            for address in self.reachable() {
                let Ok(metadata) = metadata(address).await else { continue };
                let state = partitions_of(&metadata, topic).and_then(|all| all.get(partition as usize))?;
                let leader = state.leader.map(|leader| (leader.0, state.leader_epoch));
                newest = newest.max_by_epoch(leader);
            }
            newest.filter(|(leader, _)| !self.is_down(*leader))
        })
        .await
    }

    /// Waits until another broker than `before` leads a partition; says who.
    ///
    /// # Panics
    /// Where that never comes.
    pub async fn next_leader(&self, topic: &str, partition: u32, before: u32) -> u32 {
        wait_until("another leader", async || {
            let (leader, _) = self.leader(topic, partition).await;
            (leader != before).then_some(leader)
        })
        .await
    }

    /// Waits until all of these brokers, and nobody else, are in sync with a partition, as `asked` says.
    ///
    /// # Panics
    /// Where that never comes.
    pub async fn wait_in_sync(&self, (topic, partition): (&str, u32), wanted: &[u32], asked: u32) {
        insist("the in-sync set", async || {
            let metadata = metadata(self.address(asked)).await?;
            let state = partitions_of(&metadata, topic).and_then(|all| all.get(partition as usize));
            let mut in_sync: Vec<u32> = state.ok_or("no such partition")?.in_sync.iter().map(|id| id.0).collect();
            in_sync.sort_unstable();
            if in_sync == wanted { Ok(()) } else { Err(format!("{in_sync:?} and not {wanted:?}")) }
        })
        .await;
    }

    /// The third assertion of a fault test, first half: every broker answers and says the same of who decides and who leads, every partition
    /// has a leader and all its replicas in sync, and no log is out of order. Says how long that took.
    ///
    /// # Panics
    /// Where that does not come about, with what was missing last.
    pub async fn wait_healed(&self, topic: &str) -> Duration {
        let begin = Instant::now();
        insist("the cluster to heal", async || self.is_healed(topic).await).await;
        begin.elapsed()
    }

    /// Waits until every replica has, and knows as settled, all that its leader has. Somebody who still writes prevents that.
    ///
    /// # Panics
    /// Where that does not come about.
    pub async fn wait_settled(&self, topic: &str) {
        insist("the replicas to be equally far", async || {
            let mut ends: Option<Vec<_>> = None;
            for id in 1..=self.brokers() {
                let replicas = replicas_at(self.address(id), topic).await?;
                for (partition, replica) in replicas.iter().enumerate() {
                    let is_held = self.data(id).join(format!("{topic}-{partition}")).exists();
                    if is_held && (replica.high_watermark != replica.log_end || replica.flushed_end != replica.log_end)
                    {
                        return Err(format!("broker {id}: {replica:?}"));
                    }
                }
                if replicas.len() == self.held_everywhere(topic, replicas.len()) {
                    let own: Vec<_> = replicas.iter().map(|replica| replica.log_end).collect();
                    if ends.get_or_insert_with(|| own.clone()) != &own {
                        return Err(format!("broker {id} ends at {own:?}, another at {ends:?}"));
                    }
                }
            }
            Ok(())
        })
        .await;
    }

    /// `partitions` where every broker holds all of them.
    fn held_everywhere(&self, topic: &str, partitions: usize) -> usize {
        let holds = |id, partition| self.data(id).join(format!("{topic}-{partition}")).exists();
        let all = (1..=self.brokers()).all(|id| (0..partitions).all(|partition| holds(id, partition)));
        if all { partitions } else { usize::MAX }
    }

    async fn is_healed(&self, topic: &str) -> Result<(), String> {
        let mut said = None;
        for id in 1..=self.brokers() {
            let metadata = metadata(self.address(id)).await?;
            let controller = metadata.controller.ok_or_else(|| format!("broker {id} knows no controller"))?;
            if metadata.brokers.len() != self.brokers() as usize {
                return Err(format!("broker {id} knows {} brokers", metadata.brokers.len()));
            }
            let partitions = partitions_of(&metadata, topic).ok_or_else(|| format!("broker {id} knows no {topic}"))?;
            for state in partitions {
                let in_sync = state.in_sync.len();
                if state.leader.is_none() || in_sync != state.replicas.len() {
                    return Err(format!("broker {id} says {state:?}"));
                }
            }
            let own =
                (controller, partitions.iter().map(|state| (state.leader, state.leader_epoch)).collect::<Vec<_>>());
            if said.get_or_insert_with(|| own.clone()) != &own {
                return Err(format!("broker {id} says {own:?}, another {said:?}"));
            }
            for replica in replicas_at(self.address(id), topic).await? {
                if matches!(replica.health, LogHealth::Corrupt | LogHealth::Poisoned | LogHealth::Full) {
                    return Err(format!("broker {id}: {replica:?}"));
                }
            }
        }
        Ok(())
    }
}

/// All that every broker says, as evidence of a test that failed.
pub(super) fn last_words(cluster: &Cluster) -> String {
    let brokers: Vec<_> = (1..=cluster.brokers()).map(|id| (id, cluster.address(id))).collect();
    let words = async move {
        let mut words = String::new();
        for (id, address) in brokers {
            let metadata = match metadata(address).await {
                Ok(metadata) => metadata,
                Err(silence) => {
                    words.push_str(&format!("broker {id}: {silence}\n"));
                    continue;
                }
            };
            words.push_str(&format!("broker {id}: controller {:?}, as of {}\n", metadata.controller, metadata.as_of));
            for topic in metadata.topics {
                let replicas = replicas_at(address, topic.name.as_str()).await.unwrap_or_default();
                for (state, replica) in topic.partitions.iter().zip(replicas) {
                    words.push_str(&format!(
                        "  {}-{}: leader {:?} of epoch {}, in sync {:?}; here epoch {}, {:?}, watermark {}, flushed {}, end {}\n",
                        topic.name, state.partition, state.leader, state.leader_epoch, state.in_sync, replica.leader_epoch,
                        replica.health, replica.high_watermark, replica.flushed_end, replica.log_end,
                    ));
                }
            }
        }
        words
    };
    // The test's own runtime may be the one that is being torn down.
    let asking = std::thread::spawn(|| {
        tokio::runtime::Builder::new_current_thread().enable_all().build().map(|runtime| runtime.block_on(words))
    });
    asking.join().map_or_else(|_| "nobody could be asked".into(), |words| words.unwrap_or_default())
}

/// The partitions of a topic.
#[must_use]
pub fn partitions_of<'m>(metadata: &'m MetadataResponse, topic: &str) -> Option<&'m Vec<PartitionMetadata>> {
    metadata.topics.iter().find(|known| known.name.as_str() == topic).map(|known| &known.partitions)
}

trait Newest: Sized {
    fn max_by_epoch(self, other: Self) -> Self;
}

impl Newest for Option<(u32, LeaderEpoch)> {
    fn max_by_epoch(self, other: Self) -> Self {
        match (self, other) {
            (Some(one), Some(two)) => Some(if two.1 > one.1 { two } else { one }),
            (one, two) => one.or(two),
        }
    }
}
