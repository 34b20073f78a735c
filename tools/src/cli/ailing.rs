//! Replicas that cannot do their work although their broker serves: a full disk, damaged bytes, a log that failed or cannot be opened. Only
//! the broker that has them knows. Knows nothing of how they are shown.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_client::messages::{
    BrokerStanding, DescribeClusterResponse, LogHealth, PartitionFilter, PartitionReplicas,
};
use tidelog_client::{Admin, BrokerId, PartitionId, TopicId};

/// How long a broker may take to say how it is: one that is stopped must not hold up what is known of the others.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);

/// What ails replicas, by partition and broker.
#[derive(Clone, Debug, Default)]
pub(super) struct Ailing(BTreeMap<(TopicId, PartitionId), BTreeMap<BrokerId, Ailment>>);

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
            let known: BTreeMap<_, _> = topics
                .iter()
                .flat_map(|topic| {
                    topic.partitions.iter().map(|state| ((topic.topic_id, state.partition), state.health))
                })
                .collect();
            for partition in held.iter().filter(|partition| counts_on(partition, *broker)) {
                let place = (partition.topic_id, partition.partition);
                if let Some(health) = known.get(&place).copied().filter(|health| *health != LogHealth::Healthy) {
                    let ailment = Ailment { health, leads: partition.leader == Some(*broker) };
                    ailing.0.entry(place).or_default().insert(*broker, ailment);
                }
            }
        }
        ailing
    }

    /// What ails the replicas of one partition.
    pub(super) fn of(&self, partition: &PartitionReplicas) -> impl Iterator<Item = (BrokerId, Ailment)> {
        let replicas = self.0.get(&(partition.topic_id, partition.partition));
        replicas.into_iter().flatten().map(|(broker, ailment)| (*broker, *ailment))
    }

    /// How many replicas of one broker ail, and how many of those lead, by what it is.
    pub(super) fn at(&self, broker: BrokerId) -> BTreeMap<&'static str, (usize, usize)> {
        let mut counts = BTreeMap::new();
        for ailment in self.0.values().filter_map(|replicas| replicas.get(&broker)) {
            let (replicas, leads) = counts.entry(ailment.words()).or_insert((0, 0));
            *replicas += 1;
            *leads += usize::from(ailment.leads);
        }
        counts
    }

    /// Does none?
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// One that is being copied has nothing yet.
fn counts_on(partition: &PartitionReplicas, broker: BrokerId) -> bool {
    partition.replicas.contains(&broker) && !partition.adding.contains(&broker)
}
