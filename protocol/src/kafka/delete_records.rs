//! DeleteRecords: the first offsets of partitions move up.

use crate::kafka_message;

/// Stands for the high watermark: the partition is emptied.
pub const HIGH_WATERMARK: i64 = -1;

kafka_message! {
    /// A partition.
    pub struct DeleteRecordsPartition {
        /// The partition.
        (0..) partition_index: i32;
        /// The first offset to keep; -1 means the high watermark.
        (0..) offset: i64;
    }
}

kafka_message! {
    /// A topic.
    pub struct DeleteRecordsTopic {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<DeleteRecordsPartition>;
    }
}

kafka_message! {
    /// Deletes records.
    pub struct DeleteRecordsRequest {
        /// By topic.
        (0..) topics: Vec<DeleteRecordsTopic>;
        /// How long it may take, in milliseconds.
        (0..) timeout_ms: i32;
    }
}

kafka_message! {
    /// What came of a partition.
    pub struct DeleteRecordsPartitionResult {
        /// The partition.
        (0..) partition_index: i32;
        /// The first offset that can be read; -1 where something went wrong.
        (0..) low_watermark: i64;
        /// What went wrong.
        (0..) error_code: i16;
    }
}

kafka_message! {
    /// What came of a topic.
    pub struct DeleteRecordsTopicResult {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<DeleteRecordsPartitionResult>;
    }
}

kafka_message! {
    /// What came of it.
    pub struct DeleteRecordsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// By topic.
        (0..) topics: Vec<DeleteRecordsTopicResult>;
    }
}
