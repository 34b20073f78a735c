//! CreateTopic: a name, partitions, replicas, and what differs from the defaults.

use crate::ids::TopicId;
use crate::message;

message! {
    /// One configuration value.
    pub struct ConfigEntry {
        /// Its key, such as `retention.ms`.
        1 key: String,
        /// Its value, as text.
        1 value: String,
    }
}

message! {
    /// Creates a topic.
    pub struct CreateTopicRequest {
        /// Its name; checked by the broker, so that a bad one gets a clear answer.
        1 name: String,
        /// How many partitions; absent means the broker's default.
        1 partitions: Option<u32>,
        /// How many replicas of each; absent means the broker's default.
        1 replication_factor: Option<u16>,
        /// What differs from the defaults.
        1 configs: Vec<ConfigEntry>,
        /// Only check, create nothing.
        1 validate_only: bool,
    }
}

message! {
    /// The topic exists.
    pub struct CreateTopicResponse {
        /// Its identity.
        1 topic_id: TopicId,
        /// How many partitions it has.
        1 partitions: u32,
    }
}
