//! WaitFor: read your writes. Answers once a group has passed an offset.

use crate::ids::{Offset, PartitionId, TopicId};
use crate::message;

message! {
    /// Waits until a group has committed an offset beyond the one given, so until it is done with that record. The request's deadline bounds it.
    pub struct WaitForRequest {
        /// The group; one that has committed nothing yet is waited for.
        1 group: String,
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
        /// The record's offset.
        1 offset: Offset,
    }
}

message! {
    /// The group has passed it.
    pub struct WaitForResponse {
        /// The next offset that the group will read.
        1 committed: Offset,
    }
}
