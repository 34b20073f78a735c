//! A question to the coordinators of every shard of an internal topic: asked of the brokers that lead them, and of those alone, until each shard
//! is answered for or time is over. One broker that hangs so costs only its own shards, and those only until another leads them. Knows nothing
//! of what is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{PartitionMetadata, UnreadShard};
use tidelog_protocol::{BrokerId, LeaderEpoch, PartitionId, TopicName, WireError};
use tokio::task::JoinSet;

use super::{Cluster, cut_short};
use crate::listed::MissingShards;
use crate::{Backoff, ClientError};

/// How long a broker is waited for before it is looked whether its shards have moved.
const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
/// How long it is tried altogether: more than a failover takes.
const LIMIT: Duration = Duration::from_secs(12);
/// The part of the caller's own time that it takes at most: what is missing is to be told within it.
const SHARE: f64 = 0.8;

/// What was answered, in the order of the answers, and for which shards nobody did.
pub(crate) struct Gathered<T> {
    pub(crate) answers: Vec<T>,
    pub(crate) missing: Vec<MissingShards>,
}

impl Cluster {
    /// Asks whoever leads a shard of the internal topic `name`. A shard that moved meanwhile is asked for again where it is then. `unread` gives
    /// those of an answer that who leads them cannot read.
    pub(crate) async fn ask_shards<R>(
        self: &Arc<Self>,
        name: &str,
        request: R,
        unread: fn(&R::Response) -> &[UnreadShard],
    ) -> Result<Gathered<R::Response>, ClientError>
    where
        R: Request + Clone + Send + Sync + 'static,
        R::Response: Send + 'static,
    {
        let limit = cut_short(self.options.request_timeout, self.options.deadline).mul_f64(SHARE).min(LIMIT);
        let (began, mut rounds) = (Instant::now(), 0);
        let mut answers = Vec::new();
        // As of which leadership.
        let mut answered: BTreeMap<PartitionId, LeaderEpoch> = BTreeMap::new();
        let mut failures: BTreeMap<BrokerId, ClientError> = BTreeMap::new();
        let mut unreadable: BTreeMap<PartitionId, (BrokerId, ClientError)> = BTreeMap::new();
        loop {
            let shards = self.shards(name).await?;
            let open: Vec<&PartitionMetadata> = shards
                .iter()
                .filter(|shard| answered.get(&shard.partition).is_none_or(|epoch| shard.leader_epoch > *epoch))
                .collect();
            let left = limit.saturating_sub(began.elapsed());
            if open.is_empty() || left.is_zero() {
                let mut missing = missing(name, &open, &failures, shards.len());
                let of = shards.len() as u32;
                missing.extend(unreadable.into_values().map(|(broker, error)| MissingShards {
                    broker: Some(broker),
                    shards: 1,
                    of,
                    error,
                }));
                return Ok(Gathered { answers, missing });
            }
            // Those that do not answer are given more time with each round, for they may just be slow.
            let patience = (ANSWERED_WITHIN * (rounds + 1)).min(left);
            let leaders: BTreeSet<BrokerId> = open.iter().filter_map(|shard| shard.leader).collect();
            let mut asking = JoinSet::new();
            for leader in leaders {
                let (cluster, request) = (Arc::clone(self), request.clone());
                asking.spawn(async move { (leader, cluster.ask_soon(leader, &request, patience).await) });
            }
            while let Some(asked) = asking.join_next().await {
                match asked {
                    Ok((leader, Ok(answer))) => {
                        let led = || open.iter().filter(|shard| shard.leader == Some(leader));
                        answered.extend(led().map(|shard| (shard.partition, shard.leader_epoch)));
                        // Whoever led them before may have been unable to.
                        led().for_each(|shard| drop(unreadable.remove(&shard.partition)));
                        let said = unread(&answer).iter();
                        unreadable.extend(said.map(|shard| {
                            let error = ClientError::Broker(WireError::from(shard.fault.clone()));
                            (shard.partition, (leader, error))
                        }));
                        answers.push(answer);
                    }
                    Ok((leader, Err(error))) => drop(failures.insert(leader, error)),
                    // The runtime is going down.
                    Err(_) => return Err(ClientError::Closed),
                }
            }
            let is_answered = open.iter().all(|shard| answered.contains_key(&shard.partition));
            rounds += 1;
            if !is_answered {
                let pause = Backoff::DEFAULT.wait(rounds, fastrand::f64());
                tokio::time::sleep(pause.min(limit.saturating_sub(began.elapsed()))).await;
            }
        }
    }

    /// Who leads which shard now; none where there is no such topic, as nobody has needed it yet.
    async fn shards(&self, name: &str) -> Result<Vec<PartitionMetadata>, ClientError> {
        let topic = TopicName::new(name).map_err(|error| ClientError::Argument(error.to_string()))?;
        let found = self.metadata(Some(vec![topic])).await?.topics.pop();
        Ok(found.map(|topic| topic.partitions).unwrap_or_default())
    }

    async fn ask_soon<R: Request>(
        &self,
        broker: BrokerId,
        request: &R,
        patience: Duration,
    ) -> Result<R::Response, ClientError> {
        let address = self.address_of(broker).await?;
        let asked = async { self.ask_at(&address, request, patience).await };
        tokio::time::timeout(patience, asked).await.unwrap_or_else(|_| {
            self.pool.shun(&address);
            Err(ClientError::TimedOut { address: address.clone(), request: R::API.name(), after: patience })
        })
    }
}

/// The shards that are open, by who should answer for them.
fn missing(
    name: &str,
    open: &[&PartitionMetadata],
    failures: &BTreeMap<BrokerId, ClientError>,
    of: usize,
) -> Vec<MissingShards> {
    let mut by_leader: BTreeMap<Option<BrokerId>, Vec<PartitionId>> = BTreeMap::new();
    for shard in open {
        by_leader.entry(shard.leader).or_default().push(shard.partition);
    }
    let missing = by_leader.into_iter().map(|(broker, shards)| {
        let first = shards.first().copied().unwrap_or(PartitionId(0));
        let unled = || ClientError::NoLeader { topic: name.to_owned(), partition: first };
        // One that was not asked has become the leader just now.
        let error = broker.and_then(|broker| failures.get(&broker).cloned()).unwrap_or_else(unled);
        MissingShards { broker, shards: shards.len() as u32, of: of as u32, error }
    });
    missing.collect()
}
