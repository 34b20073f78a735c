//! DeleteTopic: by name, so that a person can say it.

use crate::ids::TopicId;
use crate::message;

message! {
    /// Deletes a topic and its data.
    pub struct DeleteTopicRequest {
        /// Its name.
        1 name: String,
    }
}

message! {
    /// The topic is gone.
    pub struct DeleteTopicResponse {
        /// What it was.
        1 topic_id: TopicId,
    }
}
