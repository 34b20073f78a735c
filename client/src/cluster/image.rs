//! A topic as the cluster described it at one moment. Knows nothing of connections.

use std::sync::Arc;
use std::time::Instant;

use tidelog_protocol::messages::TopicMetadata;
use tidelog_protocol::{BrokerId, LeaderEpoch, PartitionId, TopicId};

use crate::ClientError;
use crate::address::Address;

/// A topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicImage {
    pub(crate) id: TopicId,
    pub(crate) name: Arc<str>,
    pub(crate) batch_bytes_max: u32,
    pub(crate) partitions: Vec<Place>,
    /// When this was heard.
    pub(crate) as_of: Instant,
}

/// Where a partition lives.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) leader: Option<BrokerId>,
    pub(crate) leader_epoch: LeaderEpoch,
    /// The brokers whose replicas keep up with it, itself included.
    pub(crate) in_sync: Vec<BrokerId>,
    /// The brokers that hold a replica.
    pub(crate) replicas: Vec<BrokerId>,
}

/// A broker as it was heard of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Known {
    pub(crate) address: Address,
    /// Where it stands.
    pub(crate) rack: Option<String>,
}

/// Who leads a partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Leader {
    pub(crate) address: Address,
    pub(crate) epoch: LeaderEpoch,
}

impl TopicImage {
    pub(crate) fn new(topic: &TopicMetadata, as_of: Instant) -> Self {
        let mut partitions: Vec<Place> = Vec::with_capacity(topic.partitions.len());
        for partition in &topic.partitions {
            // They come in order of their index; a gap would be the broker's mistake, and then none is better than a wrong one.
            if partition.partition.0 as usize != partitions.len() {
                break;
            }
            let (leader, leader_epoch) = (partition.leader, partition.leader_epoch);
            let (in_sync, replicas) = (partition.in_sync.clone(), partition.replicas.clone());
            partitions.push(Place { leader, leader_epoch, in_sync, replicas });
        }
        Self {
            id: topic.topic_id,
            name: topic.name.as_str().into(),
            batch_bytes_max: topic.batch_bytes_max,
            partitions,
            as_of,
        }
    }

    /// The brokers that are in `newer` no more what they were here: others have followed them as leaders of partitions of it, or their replicas
    /// keep up no longer, so that nobody nearby is to read from them.
    pub(super) fn deposed_in(&self, newer: &Self) -> impl Iterator<Item = BrokerId> {
        let pairs = self.partitions.iter().zip(&newer.partitions).filter(|_| self.id == newer.id);
        pairs.flat_map(|(before, now)| {
            let follows = now.leader_epoch > before.leader_epoch && now.leader.is_some() && now.leader != before.leader;
            let fell_behind = before.in_sync.iter().filter(|broker| !now.in_sync.contains(broker)).copied();
            before.leader.filter(|_| follows).into_iter().chain(fell_behind)
        })
    }

    /// The partition of this index.
    pub(crate) fn partition(&self, partition: PartitionId) -> Result<&Place, ClientError> {
        self.partitions.get(partition.0 as usize).ok_or_else(|| ClientError::UnknownPartition {
            topic: self.name.to_string(),
            partition,
            partitions: self.partitions.len() as u32,
        })
    }
}
