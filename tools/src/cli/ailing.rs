//! Replicas that cannot do their work although their broker serves: a full disk, damaged bytes, a log that failed or cannot be opened. Only
//! the broker that has them knows. Knows nothing of how they are shown.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_client::messages::{
    BrokerStanding, DescribeClusterResponse, LogHealth, PartitionFilter, PartitionReplicas,
};
use tidelog_client::{Admin, BrokerId, PartitionId, TopicId};
use tidelog_protocol::messages::{CompactionState, PartitionDescription};

/// How long a broker may take to say how it is: one that is stopped must not hold up what is known of the others.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What ails replicas, by partition and broker.
#[derive(Clone, Debug, Default)]
pub(super) struct Ailing {
    replicas: Of<Ailment>,
    /// Their logs cannot be compacted, and grow.
    uncompacted: Of<CompactionState>,
}

type Of<T> = BTreeMap<(TopicId, PartitionId), BTreeMap<BrokerId, T>>;

/// What ails one replica.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ailment {
    pub(super) health: LogHealth,
    pub(super) leads: bool,
}

impl Ailment {
    /// In words.
    pub(super) const fn words(self) -> &'static str {
        match self.health {
            LogHealth::Healthy => "healthy",
            LogHealth::Full => "disk full",
            LogHealth::Corrupt => "damaged",
            LogHealth::Poisoned => "out of service",
            LogHealth::Offline => "cannot be read",
        }
    }
}

impl Ailing {
    /// Asks the brokers that serve, all at once. Who does not answer says nothing; nor is anybody asked where no controller says who serves:
    /// what is known then is old, and the time is better spent on telling it.
    pub(super) async fn ask(admin: &Admin, cluster: &DescribeClusterResponse) -> Self {
        if cluster.controller.is_none() {
            return Self::default();
        }
        let serving = cluster.brokers.iter().filter(|broker| broker.standing == BrokerStanding::Serving);
        let asked: Vec<_> = serving
            .map(|broker| broker.broker_id)
            .map(|broker| {
                let admin = admin.clone();
                let ask = async move { tokio::time::timeout(PATIENCE, admin.describe_replicas_of(broker)).await };
                (broker, tokio::spawn(ask))
            })
            .collect();
        let mut said = Vec::new();
        for (broker, answer) in asked {
            if let Ok(Ok(Ok(topics))) = answer.await {
                said.push((broker, topics));
            }
        }
        // After they were asked: a replica that came since is not missed, and one that went is not counted.
        let Ok(held) = admin.describe_partitions(None, PartitionFilter::All).await else { return Self::default() };
        let mut ailing = Self::default();
        for (broker, topics) in &said {
            let known: BTreeMap<_, &PartitionDescription> = topics
                .iter()
                .flat_map(|topic| topic.partitions.iter().map(|state| ((topic.topic_id, state.partition), state)))
                .collect();
            for partition in held.iter().filter(|partition| counts_on(partition, *broker)) {
                let place = (partition.topic_id, partition.partition);
                let Some(state) = known.get(&place) else { continue };
                if state.health != LogHealth::Healthy {
                    let ailment = Ailment { health: state.health, leads: partition.leader == Some(*broker) };
                    ailing.replicas.entry(place).or_default().insert(*broker, ailment);
                }
                if let Some(compaction) = state.compaction.as_ref().filter(|compaction| compaction.failures > 0) {
                    ailing.uncompacted.entry(place).or_default().insert(*broker, compaction.clone());
                }
            }
        }
        ailing
    }

    /// What ails the replicas of one partition.
    pub(super) fn of(&self, partition: &PartitionReplicas) -> impl Iterator<Item = (BrokerId, Ailment)> {
        let replicas = self.replicas.get(&(partition.topic_id, partition.partition));
        replicas.into_iter().flatten().map(|(broker, ailment)| (*broker, *ailment))
    }

    /// One replica's, for tests of what is shown.
    #[cfg(test)]
    pub(super) fn one(
        partition: &PartitionReplicas,
        broker: BrokerId,
        ailment: Option<Ailment>,
        uncompacted: Option<CompactionState>,
    ) -> Self {
        let place = (partition.topic_id, partition.partition);
        let mut ailing = Self::default();
        if let Some(ailment) = ailment {
            ailing.replicas.insert(place, BTreeMap::from([(broker, ailment)]));
        }
        if let Some(compaction) = uncompacted {
            ailing.uncompacted.insert(place, BTreeMap::from([(broker, compaction)]));
        }
        ailing
    }

    /// Its replicas that cannot be compacted.
    pub(super) fn uncompacted(
        &self,
        partition: &PartitionReplicas,
    ) -> impl Iterator<Item = (BrokerId, &CompactionState)> {
        let replicas = self.uncompacted.get(&(partition.topic_id, partition.partition));
        replicas.into_iter().flatten().map(|(broker, compaction)| (*broker, compaction))
    }

    /// How many replicas of one broker ail, and how many of those lead, by what it is.
    pub(super) fn at(&self, broker: BrokerId) -> BTreeMap<&'static str, (usize, usize)> {
        let mut counts = BTreeMap::new();
        for ailment in self.replicas.values().filter_map(|replicas| replicas.get(&broker)) {
            let (replicas, leads) = counts.entry(ailment.words()).or_insert((0, 0));
            *replicas += 1;
            *leads += usize::from(ailment.leads);
        }
        counts
    }

    /// Does none?
    pub(super) fn is_empty(&self) -> bool {
        self.replicas.is_empty() && self.uncompacted.is_empty()
    }
}

/// One that is being copied has nothing yet.
fn counts_on(partition: &PartitionReplicas, broker: BrokerId) -> bool {
    partition.replicas.contains(&broker) && !partition.adding.contains(&broker)
}
