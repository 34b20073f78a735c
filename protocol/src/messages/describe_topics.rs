//! DescribeTopics: configuration and state.

use super::compaction_state::CompactionState;
use crate::ids::{BrokerId, LeaderEpoch, Offset, PartitionId, TopicId, TopicName};
use crate::{message, wire_enum};

wire_enum! {
    /// How a partition's log is.
    pub enum LogHealth {
        /// Reads and writes.
        0 Healthy,
        /// The disk is full or nearly so: reads only, heals by itself.
        1 Full,
        /// Part of it is damaged; the rest is served.
        2 Corrupt,
        /// A write or flush failed: out of service until restart.
        3 Poisoned,
        /// No leader is known.
        4 Offline,
    }
}

message! {
    /// Asks for configuration and state.
    pub struct DescribeTopicsRequest {
        /// The topics asked for; absent means all.
        1 topics: Option<Vec<TopicName>>,
    }
}

message! {
    /// A configuration value that holds for a topic.
    pub struct ConfigValue {
        /// Its key.
        1 key: String,
        /// Its value.
        1 value: String,
        /// True where the topic does not set it.
        1 is_default: bool,
        /// What it does, with unit and range.
        1 doc: String,
    }
}

message! {
    /// The state of a partition.
    pub struct PartitionDescription {
        /// Its index.
        1 partition: PartitionId,
        /// Its leader.
        1 leader: Option<BrokerId>,
        /// The leadership.
        1 leader_epoch: LeaderEpoch,
        /// First offset that can be read.
        1 log_start: Offset,
        /// First offset that consumers cannot read yet.
        1 high_watermark: Offset,
        /// Next offset to be written.
        1 log_end: Offset,
        /// Next offset that is not durable yet on the leader.
        1 flushed_end: Offset,
        /// Bytes of log.
        1 size_bytes: u64,
        /// Segments of log.
        1 segments: u32,
        /// How the log is.
        1 health: LogHealth,
        /// How its compaction is; absent where the topic is not compacted.
        5 compaction: Option<CompactionState>,
    }
}

message! {
    /// A topic, its configuration and its state.
    pub struct TopicDescription {
        /// Its identity.
        1 topic_id: TopicId,
        /// Its name.
        1 name: TopicName,
        /// True where the broker itself owns it.
        1 internal: bool,
        /// Every key that a topic can have.
        1 configs: Vec<ConfigValue>,
        /// In order of their index.
        1 partitions: Vec<PartitionDescription>,
    }
}

message! {
    /// Configuration and state.
    pub struct DescribeTopicsResponse {
        /// The topics found.
        1 topics: Vec<TopicDescription>,
        /// Names asked for that do not exist.
        1 unknown: Vec<TopicName>,
    }
}
