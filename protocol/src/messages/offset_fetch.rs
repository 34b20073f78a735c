//! OffsetFetch: where a group stopped.

use super::group_heartbeat::TopicPartitions;
use super::offset_commit::CommittedOffset;
use crate::message;

message! {
    /// Asks where a group stopped.
    pub struct OffsetFetchRequest {
        /// The group; one that does not exist has committed nothing.
        1 group: String,
        /// The member that asks, if one does: it is refused where it is none any more, so that nobody starts from what another moves on.
        1 member_id: Option<String>,
        /// Its epoch. Looked at only with a member.
        1 member_epoch: i32,
        /// The partitions asked for; absent means all.
        1 partitions: Option<Vec<TopicPartitions>>,
        /// Refuse with UnstableOffset, retriably, while a transaction that commits one of them is open. A member is always answered so: it would
        /// do once more what the transaction has done.
        1 require_stable: bool,
    }
}

message! {
    /// Where the group stopped. A partition that was never committed is left out.
    pub struct OffsetFetchResponse {
        /// By topic and partition.
        1 offsets: Vec<CommittedOffset>,
    }
}
