//! CreateTopics: names, partitions, replicas, and what differs from the defaults.

use super::codec::Uuid;
use crate::kafka_message;

kafka_message! {
    /// Which brokers are to hold a partition.
    pub struct CreatableReplicaAssignment {
        /// The partition.
        (0..) partition_index: i32;
        /// The brokers.
        (0..) broker_ids: Vec<i32>;
    }
}

kafka_message! {
    /// One configuration value.
    pub struct CreatableTopicConfig {
        /// Its key.
        (0..) name: String;
        /// Its value; null means the default.
        (0..) value: Option<String>, null (0..);
    }
}

kafka_message! {
    /// A topic to be made.
    pub struct CreatableTopic {
        /// Its name.
        (0..) name: String;
        /// How many partitions; -1 means the broker's default, or as the assignments say.
        (0..) num_partitions: i32;
        /// How many replicas of each; -1 likewise.
        (0..) replication_factor: i16;
        /// Which brokers are to hold them; empty lets the controller choose.
        (0..) assignments: Vec<CreatableReplicaAssignment>;
        /// What differs from the defaults.
        (0..) configs: Vec<CreatableTopicConfig>;
    }
}

kafka_message! {
    /// Makes topics.
    pub struct CreateTopicsRequest {
        /// Them.
        (0..) topics: Vec<CreatableTopic>;
        /// How long it may take, in milliseconds.
        (0..) timeout_ms: i32 = 60_000;
        /// Only check, create nothing.
        (1..) validate_only: bool;
    }
}

kafka_message! {
    /// One configuration value of a topic that was made.
    pub struct CreatableTopicConfigs {
        /// Its key.
        (5..) name: String;
        /// Its value.
        (5..) value: Option<String>, null (5..);
        /// Whether it cannot be changed.
        (5..) read_only: bool;
        /// Where it comes from: 1 the topic itself, 5 the defaults.
        (5..) config_source: i8 = -1;
        /// Whether it is a secret.
        (5..) is_sensitive: bool;
    }
}

kafka_message! {
    /// What became of a topic.
    pub struct CreatableTopicResult {
        /// Its name.
        (0..) name: String;
        /// Its identity.
        (7..) topic_id: Uuid;
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (1..) error_message: Option<String>, null (0..);
        /// Why its configuration is not told.
        (5..) topic_config_error_code: i16, tag 0;
        /// How many partitions it has.
        (5..) num_partitions: i32 = -1;
        /// How many replicas each has.
        (5..) replication_factor: i16 = -1;
        /// Its configuration.
        (5..) configs: Option<Vec<CreatableTopicConfigs>>, null (5..) = Some(Vec::new());
    }
}

kafka_message! {
    /// What became of the topics.
    pub struct CreateTopicsResponse {
        /// How long the client was held back, in milliseconds.
        (2..) throttle_time_ms: i32;
        /// Of each.
        (0..) topics: Vec<CreatableTopicResult>;
    }
}
