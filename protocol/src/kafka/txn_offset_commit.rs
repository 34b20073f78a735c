//! TxnOffsetCommit: how far a group has come, once a transaction is committed.

use crate::kafka_message;

kafka_message! {
    /// How far it will have come in a partition.
    pub struct TxnOffsetCommitRequestPartition {
        /// The partition.
        (0..) partition_index: i32;
        /// The next offset to read.
        (0..) committed_offset: i64;
        /// The leadership that wrote the last record read; -1: not known.
        (2..) committed_leader_epoch: i32 = -1;
        /// Whatever the client notes with it.
        (0..) committed_metadata: Option<String>, null (0..) = Some(String::new());
    }
}

kafka_message! {
    /// How far it will have come in a topic.
    pub struct TxnOffsetCommitRequestTopic {
        /// The topic.
        (0..) name: String;
        /// The partitions.
        (0..) partitions: Vec<TxnOffsetCommitRequestPartition>;
    }
}

kafka_message! {
    /// Notes offsets as part of a transaction.
    pub struct TxnOffsetCommitRequest {
        /// Whose.
        (0..) transactional_id: String;
        /// The group.
        (0..) group_id: String;
        /// The producer.
        (0..) producer_id: i64;
        /// Its epoch.
        (0..) producer_epoch: i16;
        /// The generation; -1 from who does not say.
        (3..) generation_id: i32 = -1;
        /// The member; empty from who does not say.
        (3..) member_id: String;
        /// The name that outlives its process.
        (3..) group_instance_id: Option<String>, null (3..);
        /// By topic.
        (0..) topics: Vec<TxnOffsetCommitRequestTopic>;
    }
}

kafka_message! {
    /// What came of a partition.
    pub struct TxnOffsetCommitResponsePartition {
        /// The partition.
        (0..) partition_index: i32;
        /// What went wrong.
        (0..) error_code: i16;
    }
}

kafka_message! {
    /// What came of a topic.
    pub struct TxnOffsetCommitResponseTopic {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<TxnOffsetCommitResponsePartition>;
    }
}

kafka_message! {
    /// What came of it.
    pub struct TxnOffsetCommitResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// By topic.
        (0..) topics: Vec<TxnOffsetCommitResponseTopic>;
    }
}
