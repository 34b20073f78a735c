//! AlterTopic: sets and resets configuration keys of a topic.

use super::create_topic::ConfigEntry;
use crate::message;

message! {
    /// Changes the configuration of a topic; all of it or nothing.
    pub struct AlterTopicRequest {
        /// Its name.
        1 name: String,
        /// Keys to set.
        1 set: Vec<ConfigEntry>,
        /// Keys to put back to their default.
        1 reset: Vec<String>,
    }
}

message! {
    /// The configuration that holds now.
    pub struct AlterTopicResponse {
        /// What differs from the defaults.
        1 configs: Vec<ConfigEntry>,
    }
}
