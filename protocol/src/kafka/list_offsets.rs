//! ListOffsets: offsets by time, or of either end.

use crate::kafka_message;

/// Asks for the first offset that cannot be read yet.
pub const LATEST: i64 = -1;
/// Asks for the first offset that can be read.
pub const EARLIEST: i64 = -2;
/// Asks for the record with the largest timestamp.
pub const MAX_TIMESTAMP: i64 = -3;
/// Asks for the first offset on the broker's own disk, where others are elsewhere.
pub const EARLIEST_LOCAL: i64 = -4;

kafka_message! {
    /// One question.
    pub struct ListOffsetsPartition {
        /// The partition.
        (0..) partition_index: i32;
        /// The leadership that the client knows; -1: not checked.
        (4..) current_leader_epoch: i32 = -1;
        /// The time, or one of the names above.
        (0..) timestamp: i64;
    }
}

kafka_message! {
    /// Questions about a topic.
    pub struct ListOffsetsTopic {
        /// The topic.
        (0..) name: String;
        /// The questions.
        (0..) partitions: Vec<ListOffsetsPartition>;
    }
}

kafka_message! {
    /// Asks for offsets.
    pub struct ListOffsetsRequest {
        /// The replica that asks; -1 of a consumer.
        (0..) replica_id: i32;
        /// 1: nothing above the last stable offset.
        (2..) isolation_level: i8;
        /// The questions.
        (0..) topics: Vec<ListOffsetsTopic>;
        /// How long it may take, in milliseconds.
        (10..) timeout_ms: i32;
    }
}

kafka_message! {
    /// One answer.
    pub struct ListOffsetsPartitionResponse {
        /// The partition.
        (0..) partition_index: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// The record's timestamp; -1 for an end.
        (1..) timestamp: i64 = -1;
        /// Its offset; -1 where no record fits.
        (1..) offset: i64 = -1;
        /// The leadership that wrote it.
        (4..) leader_epoch: i32 = -1;
    }
}

kafka_message! {
    /// Answers about a topic.
    pub struct ListOffsetsTopicResponse {
        /// The topic.
        (0..) name: String;
        /// The answers.
        (0..) partitions: Vec<ListOffsetsPartitionResponse>;
    }
}

kafka_message! {
    /// The answers.
    pub struct ListOffsetsResponse {
        /// How long the client was held back, in milliseconds.
        (2..) throttle_time_ms: i32;
        /// By topic.
        (0..) topics: Vec<ListOffsetsTopicResponse>;
    }
}
