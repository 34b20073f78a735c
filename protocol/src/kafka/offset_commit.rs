//! OffsetCommit: how far a group has come.

use crate::kafka_message;

kafka_message! {
    /// How far it has come in a partition.
    pub struct OffsetCommitRequestPartition {
        /// The partition.
        (0..) partition_index: i32;
        /// The next offset to read.
        (0..) committed_offset: i64;
        /// The leadership that wrote the last record read; -1: not known.
        (6..) committed_leader_epoch: i32 = -1;
        /// Whatever the client notes with it.
        (0..) committed_metadata: Option<String>, null (0..) = Some(String::new());
    }
}

kafka_message! {
    /// How far it has come in a topic.
    pub struct OffsetCommitRequestTopic {
        /// The topic.
        (0..) name: String;
        /// The partitions.
        (0..) partitions: Vec<OffsetCommitRequestPartition>;
    }
}

kafka_message! {
    /// Notes how far a group has come.
    pub struct OffsetCommitRequest {
        /// The group.
        (0..) group_id: String;
        /// The generation, or the epoch of a member whose partitions the broker assigns; -1 from who is no member.
        (0..) generation_id_or_member_epoch: i32 = -1;
        /// Who commits; empty from who is no member.
        (0..) member_id: String;
        /// The name that outlives its process.
        (7..) group_instance_id: Option<String>, null (7..);
        /// How long it is to be kept, in milliseconds. Not looked at.
        (2..=4) retention_time_ms: i64 = -1;
        /// By topic.
        (0..) topics: Vec<OffsetCommitRequestTopic>;
    }
}

kafka_message! {
    /// What came of a partition.
    pub struct OffsetCommitResponsePartition {
        /// The partition.
        (0..) partition_index: i32;
        /// What went wrong.
        (0..) error_code: i16;
    }
}

kafka_message! {
    /// What came of a topic.
    pub struct OffsetCommitResponseTopic {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<OffsetCommitResponsePartition>;
    }
}

kafka_message! {
    /// What came of it.
    pub struct OffsetCommitResponse {
        /// How long the client was held back, in milliseconds.
        (3..) throttle_time_ms: i32;
        /// By topic.
        (0..) topics: Vec<OffsetCommitResponseTopic>;
    }
}
