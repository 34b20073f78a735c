//! OffsetDelete: what a group has committed for single partitions is forgotten.

use crate::kafka_message;

kafka_message! {
    /// A partition.
    pub struct OffsetDeleteRequestPartition {
        /// The partition.
        (0..) partition_index: i32;
    }
}

kafka_message! {
    /// A topic.
    pub struct OffsetDeleteRequestTopic {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<OffsetDeleteRequestPartition>;
    }
}

kafka_message! {
    /// Forgets offsets.
    pub struct OffsetDeleteRequest {
        /// The group.
        (0..) group_id: String;
        /// By topic.
        (0..) topics: Vec<OffsetDeleteRequestTopic>;
    }
}

kafka_message! {
    /// What came of a partition.
    pub struct OffsetDeleteResponsePartition {
        /// The partition.
        (0..) partition_index: i32;
        /// What went wrong.
        (0..) error_code: i16;
    }
}

kafka_message! {
    /// What came of a topic.
    pub struct OffsetDeleteResponseTopic {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<OffsetDeleteResponsePartition>;
    }
}

kafka_message! {
    /// What came of it.
    pub struct OffsetDeleteResponse {
        /// What went wrong with all of it.
        (0..) error_code: i16;
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// By topic.
        (0..) topics: Vec<OffsetDeleteResponseTopic>;
    }
}
