//! Metadata: where partitions live, and the way to the brokers.

use super::codec::Uuid;
use crate::kafka_message;

/// The authorized operations of whoever did not ask for them.
pub const NOT_ASKED: i32 = i32::MIN;

kafka_message! {
    /// A topic that is asked for.
    pub struct MetadataRequestTopic {
        /// By its identity, or all zero.
        (10..) topic_id: Uuid;
        /// By its name.
        (0..) name: Option<String>, null (10..);
    }
}

kafka_message! {
    /// Asks where partitions live.
    pub struct MetadataRequest {
        /// The topics asked for; null means all, and so does an empty list in version 0.
        (0..) topics: Option<Vec<MetadataRequestTopic>>, null (1..);
        /// Make those that do not exist.
        (4..) allow_auto_topic_creation: bool = true;
        /// Say what the client may do with the cluster.
        (8..=10) include_cluster_authorized_operations: bool;
        /// Say what the client may do with each topic.
        (8..) include_topic_authorized_operations: bool;
    }
}

kafka_message! {
    /// A broker and its address.
    pub struct MetadataResponseBroker {
        /// The broker.
        (0..) node_id: i32;
        /// Host to dial.
        (0..) host: String;
        /// Port.
        (0..) port: i32;
        /// Where it stands.
        (1..) rack: Option<String>, null (1..);
    }
}

kafka_message! {
    /// A partition and who holds it.
    pub struct MetadataResponsePartition {
        /// What is wrong with it.
        (0..) error_code: i16;
        /// Its index.
        (0..) partition_index: i32;
        /// Who leads it; -1 where nobody does.
        (0..) leader_id: i32;
        /// Which leadership that is.
        (7..) leader_epoch: i32 = -1;
        /// Who holds a replica.
        (0..) replica_nodes: Vec<i32>;
        /// Those in sync.
        (0..) isr_nodes: Vec<i32>;
        /// Those that are away.
        (5..) offline_replicas: Vec<i32>;
    }
}

kafka_message! {
    /// A topic and its partitions.
    pub struct MetadataResponseTopic {
        /// What is wrong with it.
        (0..) error_code: i16;
        /// Its name; null where it was asked for by an identity that nobody knows.
        (0..) name: Option<String>, null (12..);
        /// Its identity.
        (10..) topic_id: Uuid;
        /// True where the broker itself owns it.
        (1..) is_internal: bool;
        /// Its partitions.
        (0..) partitions: Vec<MetadataResponsePartition>;
        /// What the client may do with it.
        (8..) topic_authorized_operations: i32 = NOT_ASKED;
    }
}

kafka_message! {
    /// Where partitions live.
    pub struct MetadataResponse {
        /// How long the client was held back, in milliseconds.
        (3..) throttle_time_ms: i32;
        /// The brokers.
        (0..) brokers: Vec<MetadataResponseBroker>;
        /// The cluster.
        (2..) cluster_id: Option<String>, null (2..);
        /// The broker to which changes of metadata are sent.
        (1..) controller_id: i32 = -1;
        /// The topics.
        (0..) topics: Vec<MetadataResponseTopic>;
        /// What the client may do with the cluster.
        (8..=10) cluster_authorized_operations: i32 = NOT_ASKED;
        /// What went wrong with all of it.
        (13..) error_code: i16;
    }
}
