//! DeleteTopics: by name or by identity.

use super::codec::Uuid;
use crate::kafka_message;

kafka_message! {
    /// A topic to be removed.
    pub struct DeleteTopicState {
        /// By name.
        (6..) name: Option<String>, null (6..);
        /// By identity.
        (6..) topic_id: Uuid;
    }
}

kafka_message! {
    /// Removes topics.
    pub struct DeleteTopicsRequest {
        /// Them.
        (6..) topics: Vec<DeleteTopicState>;
        /// The same, in earlier versions.
        (0..=5) topic_names: Vec<String>;
        /// How long it may take, in milliseconds.
        (0..) timeout_ms: i32;
    }
}

kafka_message! {
    /// What became of a topic.
    pub struct DeletableTopicResult {
        /// Its name.
        (0..) name: Option<String>, null (6..);
        /// Its identity.
        (6..) topic_id: Uuid;
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (5..) error_message: Option<String>, null (5..);
    }
}

kafka_message! {
    /// What became of the topics.
    pub struct DeleteTopicsResponse {
        /// How long the client was held back, in milliseconds.
        (1..) throttle_time_ms: i32;
        /// Of each.
        (0..) responses: Vec<DeletableTopicResult>;
    }
}
