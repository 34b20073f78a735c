//! AlterPartitionReassignments: an operator says which brokers shall hold which partitions.

use crate::kafka_message;

kafka_message! {
    /// A partition that is to move.
    pub struct ReassignablePartition {
        /// The partition.
        (0..) partition_index: i32;
        /// The brokers, the preferred leader first; null takes a move under way back.
        (0..) replicas: Option<Vec<i32>>, null (0..);
    }
}

kafka_message! {
    /// Those of a topic.
    pub struct ReassignableTopic {
        /// The topic.
        (0..) name: String;
        /// The partitions.
        (0..) partitions: Vec<ReassignablePartition>;
    }
}

kafka_message! {
    /// Moves partitions.
    pub struct AlterPartitionReassignmentsRequest {
        /// How long it may take, in milliseconds.
        (0..) timeout_ms: i32 = 60_000;
        /// Whether a partition may get more or fewer replicas than it has.
        (1..) allow_replication_factor_change: bool = true;
        /// By topic.
        (0..) topics: Vec<ReassignableTopic>;
    }
}

kafka_message! {
    /// What came of a partition.
    pub struct ReassignablePartitionResponse {
        /// The partition.
        (0..) partition_index: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
    }
}

kafka_message! {
    /// What came of a topic.
    pub struct ReassignableTopicResponse {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<ReassignablePartitionResponse>;
    }
}

kafka_message! {
    /// What came of it.
    pub struct AlterPartitionReassignmentsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// What the request said of more or fewer replicas.
        (1..) allow_replication_factor_change: bool = true;
        /// What went wrong with all of it.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
        /// By topic.
        (0..) responses: Vec<ReassignableTopicResponse>;
    }
}
