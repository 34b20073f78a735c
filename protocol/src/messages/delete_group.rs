//! DeleteGroup: forgets a group, or single offsets of it.

use super::group_heartbeat::TopicPartitions;
use crate::message;

message! {
    /// Forgets a group without members and all its offsets, or only some of them.
    pub struct DeleteGroupRequest {
        /// The group.
        1 group: String,
        /// Forget only the offsets of these; absent: the whole group.
        1 partitions: Option<Vec<TopicPartitions>>,
    }
}

message! {
    /// It is forgotten.
    pub struct DeleteGroupResponse {}
}
