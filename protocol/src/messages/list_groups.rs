//! ListGroups: the groups that a broker coordinates.

use super::unread_shard::UnreadShard;
use crate::{message, wire_enum};

wire_enum! {
    /// How a group is.
    pub enum GroupState {
        /// It has no members.
        0 Empty,
        /// What its members own is being changed.
        1 Reconciling,
        /// Every member owns what it should.
        2 Stable,
    }
}

message! {
    /// Asks one broker for the groups that it coordinates.
    pub struct ListGroupsRequest {}
}

message! {
    /// A group in short.
    pub struct GroupListing {
        /// Its name.
        1 group: String,
        /// How it is.
        1 state: GroupState,
        /// How many members it has.
        1 members: u32,
    }
}

message! {
    /// The groups that this broker coordinates, by name.
    pub struct ListGroupsResponse {
        /// The groups.
        1 groups: Vec<GroupListing>,
        /// Shards that this broker coordinates and cannot read, whose groups are not among them. On a connection of an earlier version the whole
        /// request is refused instead.
        6 unread: Vec<UnreadShard>,
    }
}
