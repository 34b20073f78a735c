//! What groups are asked for, what comes back, and the limits. Knows nothing of how it is decided; the messages are the wire's own.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::{
    DeleteGroupRequest, DescribeGroupRequest, DescribeGroupResponse, GroupHeartbeatRequest, GroupHeartbeatResponse,
    ListGroupsResponse, OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse, ProducerIdentity,
};

use super::classic::{ClassicCommand, ClassicError, ClassicReply};
use super::records::GroupRecord;

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupCommand {
    /// A member joins, stays or leaves.
    Heartbeat(GroupHeartbeatRequest),
    /// A group has come further.
    Commit(OffsetCommitRequest),
    /// The same within a transaction, once that one's coordinator has taken the group in: asked for by [`GroupReply::TakeInFirst`].
    CommitTakenIn(OffsetCommitRequest),
    /// A transaction has ended: what it has noted counts, or is gone.
    EndTransaction {
        /// The group.
        group: String,
        /// The producer, under the epoch after the transaction's, or under its own.
        identity: ProducerIdentity,
        /// It holds; otherwise it is undone.
        commit: bool,
        /// The epoch is the transaction's own: its producer goes on under it.
        own_epoch: bool,
    },
    /// Where did it stop?
    Fetch(OffsetFetchRequest),
    /// Which groups are there?
    List,
    /// How is one?
    Describe(DescribeGroupRequest),
    /// A group, or single offsets of it, shall be forgotten.
    Delete(DeleteGroupRequest),
    /// A call of Kafka's protocol.
    Classic(ClassicCommand),
}

/// What an accepted command gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum GroupReply {
    /// What the member owns.
    Heartbeat(GroupHeartbeatResponse),
    /// The offsets are noted.
    Committed,
    /// The coordinator of the transaction is to take the group in first: the same commit then, as one that is taken in. Nothing was decided.
    TakeInFirst,
    /// The group knows that the transaction has ended.
    Ended,
    /// Where the group stopped.
    Fetched(OffsetFetchResponse),
    /// The groups, by name.
    Listed(ListGroupsResponse),
    /// How the group is.
    Described(DescribeGroupResponse),
    /// It is forgotten.
    Deleted,
    /// What a call of Kafka's protocol gives, or why it is refused.
    Classic(Box<Result<ClassicReply, ClassicError>>),
}

/// What is answered to an accepted command. Nothing durable has changed until the records are stored; the reply may leave once they
/// are, and all records before them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct GroupDecision {
    /// To be stored all together or not at all, in this order.
    pub records: Vec<GroupRecord>,
    /// For whoever asked.
    pub reply: GroupReply,
}

/// What a duration may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds {
    /// The shortest, in milliseconds.
    pub min: u32,
    /// Where nobody asks for another, in milliseconds.
    pub default: u32,
    /// The longest, in milliseconds.
    pub max: u32,
}

/// The limits of groups.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GroupLimits {
    /// How long a member may be silent.
    pub session_ms: Bounds,
    /// How long a member may take to let go. Never shorter than its session: until that ends, one that hears no answers does not
    /// know that it shall.
    pub rebalance_ms: Bounds,
    /// How long a member of a classic group may be silent.
    pub classic_session_ms: Bounds,
    /// How long the first generation of a classic group waits for members that come together with the first, in milliseconds.
    pub classic_hold_ms: u32,
    /// How often a member shall be heard of, in milliseconds.
    pub heartbeat_ms: u32,
    /// Members of one group.
    pub members_max: usize,
    /// Groups in all.
    pub groups_max: usize,
    /// Names in one subscription.
    pub topics_max: usize,
    /// Bytes that a program may note with an offset.
    pub metadata_bytes_max: usize,
    /// Bytes that the offsets of one transaction take in one group: all of them are made to count by one batch of records.
    pub transaction_bytes_max: usize,
}

impl Default for GroupLimits {
    fn default() -> Self {
        Self {
            session_ms: Bounds { min: 1_000, default: 45_000, max: 600_000 },
            rebalance_ms: Bounds { min: 1_000, default: 300_000, max: 3_600_000 },
            classic_session_ms: Bounds { min: 1_000, default: 45_000, max: 1_800_000 },
            classic_hold_ms: 500,
            heartbeat_ms: 3_000,
            members_max: 1_000,
            groups_max: 10_000,
            topics_max: 1_000,
            metadata_bytes_max: 4_096,
            transaction_bytes_max: 2 << 20,
        }
    }
}
