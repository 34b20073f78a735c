//! DescribeGroup: who is in a group, what each owns, and how far the group has come.

use super::group_heartbeat::{Subscription, TopicPartitions};
use super::list_groups::GroupState;
use super::offset_commit::CommittedOffset;
use crate::message;

message! {
    /// Asks the coordinator how a group is.
    pub struct DescribeGroupRequest {
        /// The group.
        1 group: String,
    }
}

message! {
    /// A member of a group.
    pub struct MemberDescription {
        /// Its id.
        1 member_id: String,
        /// The name that outlives its process, if it has one.
        1 instance_id: Option<String>,
        /// What it calls itself.
        1 client_name: Option<String>,
        /// Where it stands.
        1 rack: Option<String>,
        /// Its epoch: below the group's while it is being moved there, above it where it joined anew since, and -2 while it is gone and means to come back.
        1 member_epoch: i32,
        /// What it wants to read.
        1 subscription: Subscription,
        /// What it owns.
        1 owned: Vec<TopicPartitions>,
        /// What it is to let go of and has not yet.
        1 letting_go: Vec<TopicPartitions>,
        /// What it is to own in the end.
        1 target: Vec<TopicPartitions>,
        /// Milliseconds since it was last heard of.
        1 silent_ms: u32,
        /// Milliseconds since it took its oldest unfinished record, as it said last; absent where it has none.
        1 busy_ms: Option<u32>,
    }
}

message! {
    /// How a group is.
    pub struct DescribeGroupResponse {
        /// How it is.
        1 state: GroupState,
        /// Grows with every change of members, subscriptions or topics.
        1 epoch: i32,
        /// The epoch that the targets were made for.
        1 target_epoch: i32,
        /// How partitions are spread.
        1 assignor: String,
        /// Its members, by id.
        1 members: Vec<MemberDescription>,
        /// How far it has come, by topic and partition.
        1 offsets: Vec<CommittedOffset>,
    }
}
