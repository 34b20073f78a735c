//! The cluster as an operator sees it: brokers, and who holds what. Reads the image and the leases; knows nothing of the log
//! positions of partitions.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use tidelog_protocol::messages::{
    BrokerDescription, BrokerStanding, PartitionCounts, PartitionFilter, PartitionReplicas,
};
use tidelog_protocol::{BrokerId, PartitionId};

use crate::image::{BrokerImage, ClusterImage, TopicImage};
use crate::records::PartitionState;

/// What a partition lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Wants {
    /// It has no leader.
    pub offline: bool,
    /// A replica that it shall keep is not in sync.
    pub under_replicated: bool,
    /// Fewer are in sync than the topic's minimum.
    pub below_minimum: bool,
    /// It is being reassigned.
    pub moving: bool,
    /// Another than the preferred replica leads it.
    pub not_preferred: bool,
}

impl Wants {
    /// What a partition of `topic` lacks.
    #[must_use]
    pub fn of(topic: &TopicImage, state: &PartitionState) -> Self {
        Self {
            offline: state.leader.is_none(),
            under_replicated: state.is_under_replicated(),
            below_minimum: state.in_sync.len() < usize::from(topic.config.min_in_sync_replicas),
            moving: state.is_moving(),
            not_preferred: state.leader.is_some() && state.leader != state.preferred(),
        }
    }

    /// Is there something that should pass?
    #[must_use]
    pub const fn is_unsettled(self) -> bool {
        self.offline || self.under_replicated || self.below_minimum || self.moving
    }
}

/// How many partitions there are, and how many lack what.
#[must_use]
pub fn partition_counts(image: &ClusterImage) -> PartitionCounts {
    let mut counts = PartitionCounts {
        partitions: 0,
        offline: 0,
        under_replicated: 0,
        below_minimum: 0,
        moving: 0,
        not_preferred: 0,
    };
    for topic in image.topics() {
        for state in &topic.partitions {
            let wants = Wants::of(topic, state);
            counts.partitions += 1;
            counts.offline += u32::from(wants.offline);
            counts.under_replicated += u32::from(wants.under_replicated);
            counts.below_minimum += u32::from(wants.below_minimum);
            counts.moving += u32::from(wants.moving);
            counts.not_preferred += u32::from(wants.not_preferred);
        }
    }
    counts
}

/// The brokers, by id, with what they hold. `lease_left_ms` says how much of its lease a broker has left; only the controller
/// knows.
#[must_use]
pub fn brokers(image: &ClusterImage, lease_left_ms: impl Fn(BrokerId) -> Option<u64>) -> Vec<BrokerDescription> {
    let mut held: BTreeMap<BrokerId, Held> = BTreeMap::new();
    for state in image.topics().flat_map(|topic| &topic.partitions) {
        state.replicas.iter().for_each(|broker| held.entry(*broker).or_default().replicas += 1);
        state.in_sync.iter().for_each(|broker| held.entry(*broker).or_default().in_sync += 1);
        state.leader.iter().for_each(|broker| held.entry(*broker).or_default().leaders += 1);
        state.preferred().iter().for_each(|broker| held.entry(*broker).or_default().preferred += 1);
    }
    let describe = |broker: &BrokerImage| {
        let Held { replicas, in_sync, leaders, preferred } = held.get(&broker.broker_id).copied().unwrap_or_default();
        BrokerDescription {
            broker_id: broker.broker_id,
            broker_epoch: broker.epoch,
            incarnation: broker.incarnation,
            host: broker.host.clone(),
            port: broker.port,
            rack: broker.rack.clone(),
            standing: match (broker.fenced, broker.leaving) {
                (true, _) => BrokerStanding::Fenced,
                (false, true) => BrokerStanding::Leaving,
                (false, false) => BrokerStanding::Serving,
            },
            draining: broker.draining,
            lease_left_ms: lease_left_ms(broker.broker_id).map(|ms| u32::try_from(ms).unwrap_or(u32::MAX)),
            replicas,
            in_sync,
            leaders,
            preferred,
        }
    };
    image.brokers().map(describe).collect()
}

#[derive(Clone, Copy, Default)]
struct Held {
    replicas: u32,
    in_sync: u32,
    leaders: u32,
    preferred: u32,
}

/// Who holds the partitions of `topic` that `filter` lets through.
pub fn partitions(topic: &TopicImage, filter: PartitionFilter) -> impl Iterator<Item = PartitionReplicas> {
    let shown = move |(_, state): &(PartitionId, &PartitionState)| match filter {
        PartitionFilter::All => true,
        PartitionFilter::Unsettled => Wants::of(topic, state).is_unsettled(),
    };
    topic.partitions().filter(shown).map(|(partition, state)| {
        let state = state.clone();
        PartitionReplicas {
            topic_id: topic.id,
            topic: topic.name.clone(),
            partition,
            leader: state.leader,
            leader_epoch: state.leader_epoch,
            partition_epoch: state.partition_epoch,
            replicas: state.replicas,
            in_sync: state.in_sync,
            eligible: state.eligible,
            adding: state.adding,
            removing: state.removing,
            min_in_sync: topic.config.min_in_sync_replicas,
            last_leader: state.last_leader,
            unclean_epoch: state.unclean_epoch,
        }
    })
}
