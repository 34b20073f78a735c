//! OffsetFetch: where groups stopped.

use crate::kafka_message;

kafka_message! {
    /// A topic that is asked for.
    pub struct OffsetFetchRequestTopic {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partition_indexes: Vec<i32>;
    }
}

kafka_message! {
    /// A group that is asked for.
    pub struct OffsetFetchRequestGroup {
        /// The group.
        (0..) group_id: String;
        /// Who asks, where the broker assigns its partitions.
        (9..) member_id: Option<String>, null (9..);
        /// Its epoch; -1: not checked.
        (9..) member_epoch: i32 = -1;
        /// The topics; null means all.
        (0..) topics: Option<Vec<OffsetFetchRequestTopic>>, null (0..);
    }
}

kafka_message! {
    /// Asks where groups stopped.
    pub struct OffsetFetchRequest {
        /// The one group.
        (0..=7) group_id: String;
        /// The topics; null means all.
        (0..=7) topics: Option<Vec<OffsetFetchRequestTopic>>, null (2..) = Some(Vec::new());
        /// The groups.
        (8..) groups: Vec<OffsetFetchRequestGroup>;
        /// Refuse what an open transaction is about to move.
        (7..) require_stable: bool;
    }
}

kafka_message! {
    /// Where the group stopped in a partition.
    pub struct OffsetFetchResponsePartition {
        /// The partition.
        (0..) partition_index: i32;
        /// The next offset to read; -1 where nothing was committed.
        (0..) committed_offset: i64 = -1;
        /// The leadership that wrote the last record read; -1: not known.
        (5..) committed_leader_epoch: i32 = -1;
        /// Whatever the client noted with it.
        (0..) metadata: Option<String>, null (0..) = Some(String::new());
        /// What went wrong.
        (0..) error_code: i16;
    }
}

kafka_message! {
    /// Where it stopped in a topic.
    pub struct OffsetFetchResponseTopic {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<OffsetFetchResponsePartition>;
    }
}

kafka_message! {
    /// Where one of several groups stopped.
    pub struct OffsetFetchResponseGroup {
        /// The group.
        (0..) group_id: String;
        /// By topic.
        (0..) topics: Vec<OffsetFetchResponseTopic>;
        /// What went wrong with all of it.
        (0..) error_code: i16;
    }
}

kafka_message! {
    /// Where groups stopped.
    pub struct OffsetFetchResponse {
        /// How long the client was held back, in milliseconds.
        (3..) throttle_time_ms: i32;
        /// Of the one group, by topic.
        (0..=7) topics: Vec<OffsetFetchResponseTopic>;
        /// What went wrong with all of it.
        (2..=7) error_code: i16;
        /// Of several groups.
        (8..) groups: Vec<OffsetFetchResponseGroup>;
    }
}
