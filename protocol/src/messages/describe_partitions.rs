//! DescribePartitions: who holds each partition, and what is not as it should be.

use crate::ids::{BrokerId, LeaderEpoch, MetadataIndex, PartitionEpoch, PartitionId, TopicId, TopicName};
use crate::{message, wire_enum};

wire_enum! {
    /// Which partitions are shown.
    pub enum PartitionFilter {
        /// All.
        0 All,
        /// Those that are offline, under-replicated, below their minimum or being reassigned.
        1 Unsettled,
    }
}

message! {
    /// Asks who holds partitions.
    pub struct DescribePartitionsRequest {
        /// The topics asked for; absent means all.
        1 topics: Option<Vec<TopicName>>,
        /// Which of their partitions.
        1 filter: PartitionFilter,
    }
}

message! {
    /// Who holds a partition.
    pub struct PartitionReplicas {
        /// The topic.
        1 topic_id: TopicId,
        /// Its name.
        1 topic: TopicName,
        /// The partition.
        1 partition: PartitionId,
        /// The broker that leads it; absent while it is offline.
        1 leader: Option<BrokerId>,
        /// The leadership.
        1 leader_epoch: LeaderEpoch,
        /// Version of this state.
        1 partition_epoch: PartitionEpoch,
        /// Brokers that hold a replica, the preferred leader first.
        1 replicas: Vec<BrokerId>,
        /// Those of them in sync.
        1 in_sync: Vec<BrokerId>,
        /// Those not in sync that may lead if all in sync are lost.
        1 eligible: Vec<BrokerId>,
        /// Those that are being copied.
        1 adding: Vec<BrokerId>,
        /// Those that go once the copies are in sync.
        1 removing: Vec<BrokerId>,
        /// How many must be in sync for records with acks=all.
        1 min_in_sync: u16,
        /// Who led it last, while nobody does.
        1 last_leader: Option<BrokerId>,
        /// The leadership that the last unclean election began, if there was one: records may be lost at its start.
        1 unclean_epoch: Option<LeaderEpoch>,
    }
}

message! {
    /// Who holds them.
    pub struct DescribePartitionsResponse {
        /// As of which record of the metadata log.
        1 as_of: MetadataIndex,
        /// The partitions, by topic and index.
        1 partitions: Vec<PartitionReplicas>,
        /// Names asked for that do not exist.
        1 unknown: Vec<TopicName>,
    }
}
