//! ListPartitionReassignments: which partitions move.

use crate::kafka_message;

kafka_message! {
    /// Partitions of a topic.
    pub struct ListPartitionReassignmentsTopics {
        /// The topic.
        (0..) name: String;
        /// The partitions.
        (0..) partition_indexes: Vec<i32>;
    }
}

kafka_message! {
    /// Asks which move.
    pub struct ListPartitionReassignmentsRequest {
        /// How long it may take, in milliseconds.
        (0..) timeout_ms: i32 = 60_000;
        /// Of which; null means all.
        (0..) topics: Option<Vec<ListPartitionReassignmentsTopics>>, null (0..);
    }
}

kafka_message! {
    /// A partition that moves.
    pub struct OngoingPartitionReassignment {
        /// The partition.
        (0..) partition_index: i32;
        /// All that hold a replica.
        (0..) replicas: Vec<i32>;
        /// Those of them that are being copied.
        (0..) adding_replicas: Vec<i32>;
        /// Those of them that go once the copies are in sync.
        (0..) removing_replicas: Vec<i32>;
    }
}

kafka_message! {
    /// Those of a topic.
    pub struct OngoingTopicReassignment {
        /// The topic.
        (0..) name: String;
        /// The partitions.
        (0..) partitions: Vec<OngoingPartitionReassignment>;
    }
}

kafka_message! {
    /// Which move.
    pub struct ListPartitionReassignmentsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// What went wrong with all of it.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
        /// By topic.
        (0..) topics: Vec<OngoingTopicReassignment>;
    }
}
