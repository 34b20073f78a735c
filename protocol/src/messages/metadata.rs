//! Metadata: what a client needs to find the leader of a partition.

use crate::ids::{BrokerId, ClusterId, LeaderEpoch, MetadataIndex, PartitionId, TopicId, TopicName};
use crate::message;

message! {
    /// Asks where partitions live.
    pub struct MetadataRequest {
        /// The topics asked for; absent means all.
        1 topics: Option<Vec<TopicName>>,
    }
}

message! {
    /// A broker and its address.
    pub struct BrokerAddress {
        /// The broker.
        1 broker_id: BrokerId,
        /// Host name or IP address to dial.
        1 host: String,
        /// TCP port.
        1 port: u16,
        /// Where it stands, for replica placement and nearby reads.
        1 rack: Option<String>,
    }
}

message! {
    /// A partition and who holds it.
    pub struct PartitionMetadata {
        /// Its index.
        1 partition: PartitionId,
        /// The broker that leads it; absent while it is offline.
        1 leader: Option<BrokerId>,
        /// The leadership this answer describes.
        1 leader_epoch: LeaderEpoch,
        /// Brokers that hold a replica, the preferred leader first.
        1 replicas: Vec<BrokerId>,
        /// Those of them in sync.
        1 in_sync: Vec<BrokerId>,
    }
}

message! {
    /// A topic and its partitions.
    pub struct TopicMetadata {
        /// Its identity.
        1 topic_id: TopicId,
        /// Its name.
        1 name: TopicName,
        /// True where the broker itself owns it.
        1 internal: bool,
        /// The largest record batch that it accepts, in bytes.
        1 batch_bytes_max: u32,
        /// In order of their index.
        1 partitions: Vec<PartitionMetadata>,
    }
}

message! {
    /// Where partitions live.
    pub struct MetadataResponse {
        /// The cluster.
        1 cluster_id: ClusterId,
        /// The broker that runs the controller; absent while there is none.
        1 controller: Option<BrokerId>,
        /// As of which record of the metadata log.
        1 as_of: MetadataIndex,
        /// The live brokers.
        1 brokers: Vec<BrokerAddress>,
        /// The topics found.
        1 topics: Vec<TopicMetadata>,
        /// Names asked for that do not exist.
        1 unknown: Vec<TopicName>,
    }
}
