//! OffsetForLeaderEpoch: where a leadership ended in the log here (KIP-320).

use crate::kafka_message;

kafka_message! {
    /// One question.
    pub struct OffsetForLeaderPartition {
        /// The partition.
        (0..) partition: i32;
        /// The leadership that the client knows; -1: not checked.
        (2..) current_leader_epoch: i32 = -1;
        /// The leadership in question.
        (0..) leader_epoch: i32;
    }
}

kafka_message! {
    /// Questions about a topic.
    pub struct OffsetForLeaderTopic {
        /// The topic.
        (0..) topic: String;
        /// The questions.
        (0..) partitions: Vec<OffsetForLeaderPartition>;
    }
}

kafka_message! {
    /// Asks where leaderships ended.
    pub struct OffsetForLeaderEpochRequest {
        /// The replica that asks; -1 of a consumer.
        (3..) replica_id: i32 = -2;
        /// The questions.
        (0..) topics: Vec<OffsetForLeaderTopic>;
    }
}

kafka_message! {
    /// One answer.
    pub struct EpochEndOffset {
        /// What went wrong.
        (0..) error_code: i16;
        /// The partition.
        (0..) partition: i32;
        /// The latest leadership up to the one asked for; -1 where there is none.
        (1..) leader_epoch: i32 = -1;
        /// Where it ended.
        (0..) end_offset: i64 = -1;
    }
}

kafka_message! {
    /// Answers about a topic.
    pub struct OffsetForLeaderTopicResult {
        /// The topic.
        (0..) topic: String;
        /// The answers.
        (0..) partitions: Vec<EpochEndOffset>;
    }
}

kafka_message! {
    /// The answers.
    pub struct OffsetForLeaderEpochResponse {
        /// How long the client was held back, in milliseconds.
        (2..) throttle_time_ms: i32;
        /// By topic.
        (0..) topics: Vec<OffsetForLeaderTopicResult>;
    }
}
