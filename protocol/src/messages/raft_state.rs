//! The words of the metadata quorum: who is a member, where in its log something stands, who leads. The same shapes travel in Raft
//! messages and lie on disk. Knows nothing of the rules of Raft.

use crate::ids::{BrokerId, IncarnationId};
use crate::message;

message! {
    /// A member of the quorum: one life of a broker's data folder. A broker whose disk was wiped is another member.
    pub struct RaftMember {
        /// The broker.
        1 broker_id: BrokerId,
        /// Which life of its data folder.
        1 incarnation: IncarnationId,
    }
}

message! {
    /// Where in the metadata log an entry stands, and which leadership wrote it there.
    pub struct RaftPosition {
        /// The leadership.
        1 term: u64,
        /// The index.
        1 index: u64,
    }
}

message! {
    /// Whom a member votes for, or follows.
    pub struct RaftBallot {
        /// The leadership.
        1 term: u64,
        /// The one voted for; absent where nobody was yet.
        1 member: Option<RaftMember>,
        /// True once a majority made it the leader.
        1 elected: bool,
    }
}

message! {
    /// Members of which a majority must agree.
    pub struct RaftVoters {
        /// The members.
        1 members: Vec<RaftMember>,
    }
}

message! {
    /// A member and where it can be dialled.
    pub struct RaftMemberAddress {
        /// The member.
        1 member: RaftMember,
        /// Host name or IP address.
        1 host: String,
        /// TCP port.
        1 port: u16,
    }
}

message! {
    /// Who belongs to the quorum.
    pub struct RaftMembership {
        /// The voters; two sets while they are being changed, and then a majority of each must agree.
        1 voters: Vec<RaftVoters>,
        /// Every member, learners too.
        1 members: Vec<RaftMemberAddress>,
    }
}
