//! The types that the consensus library is used with, and how they look as messages. Knows nothing of files and sockets.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bytes::Bytes;
use openraft::{CommittedLeaderId, LogId, Membership, Vote};
use tidelog_protocol::messages::{RaftBallot, RaftMember, RaftMemberAddress, RaftMembership, RaftPosition, RaftVoters};
use tidelog_protocol::{MetadataIndex, ProtocolVersion};

pub use crate::member::{Address, Member};

/// The version at which everything is written to disk. A field that is added to what lies there raises it, and the readers
/// then tell old from new by what stands beside it.
pub(super) const ON_DISK: ProtocolVersion = ProtocolVersion(1);

/// What is proposed: metadata records that hold together or not at all, and the image that they were decided on. Where another
/// proposal came in between, they do not follow from what holds then, and are left out by every member alike.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Proposal {
    /// The image that the decision saw.
    pub decided_on: MetadataIndex,
    /// The records, each behind its length.
    pub records: Bytes,
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of records, decided on {}", self.records.len(), self.decided_on)
    }
}

/// What became of an entry.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It holds, as of this index.
    Applied(MetadataIndex),
    /// Another proposal came in between: it does not hold and never will.
    Superseded,
    /// It carried no proposal.
    Nothing,
}

openraft::declare_raft_types!(
    /// The types of this quorum.
    pub RaftTypes:
        D = Proposal,
        R = Outcome,
        NodeId = Member,
        Node = Address,
        Entry = openraft::Entry<RaftTypes>,
        SnapshotData = Bytes,
        AsyncRuntime = openraft::TokioRuntime,
);

/// An error of storage, as the library wants it.
pub type StorageFault = openraft::StorageError<Member>;
/// A membership of the quorum.
pub type Members = Membership<Member, Address>;
/// A membership and where it stands in the log.
pub type StoredMembers = openraft::StoredMembership<Member, Address>;
/// Where an entry stands.
pub type Position = LogId<Member>;
/// Whom a member votes for.
pub type Ballot = Vote<Member>;
/// An entry of the metadata log.
pub type RaftEntry = openraft::Entry<RaftTypes>;

/// Nobody leads or is elected in this term: whoever asks for a vote in it only asks whether it would be given.
pub(super) const NOBODYS_TERM: u64 = 0;

/// A position from its parts.
pub(super) fn position(term: u64, index: u64) -> Position {
    LogId::new(CommittedLeaderId::new(term, Member::default()), index)
}

/// The metadata index of an entry; 0 is "before the first".
pub(super) const fn metadata_index(index: u64) -> MetadataIndex {
    MetadataIndex(index + 1)
}

impl From<Member> for RaftMember {
    fn from(member: Member) -> Self {
        Self { broker_id: member.broker, incarnation: member.incarnation }
    }
}

impl From<RaftMember> for Member {
    fn from(member: RaftMember) -> Self {
        Self { broker: member.broker_id, incarnation: member.incarnation }
    }
}

/// As a message carries it.
pub(super) fn position_message(position: &Position) -> RaftPosition {
    RaftPosition { term: position.leader_id.term, index: position.index }
}

/// From a message.
pub(super) fn position_of(message: &RaftPosition) -> Position {
    position(message.term, message.index)
}

/// As a message carries it.
pub(super) fn ballot_message(ballot: &Ballot) -> RaftBallot {
    RaftBallot {
        term: ballot.leader_id.term,
        member: ballot.leader_id.voted_for.map(RaftMember::from),
        elected: ballot.committed,
    }
}

/// From a message.
pub(super) fn ballot_of(message: RaftBallot) -> Ballot {
    let mut ballot = Ballot::default();
    ballot.leader_id.term = message.term;
    ballot.leader_id.voted_for = message.member.map(Member::from);
    ballot.committed = message.elected;
    ballot
}

/// As a message carries it.
pub(super) fn membership_message(members: &Members) -> RaftMembership {
    let set =
        |voters: &BTreeSet<Member>| RaftVoters { members: voters.iter().copied().map(RaftMember::from).collect() };
    let at = |(member, address): (&Member, &Address)| RaftMemberAddress {
        member: (*member).into(),
        host: address.host.clone(),
        port: address.port,
    };
    RaftMembership {
        voters: members.get_joint_config().iter().map(set).collect(),
        members: members.nodes().map(at).collect(),
    }
}

/// From a message.
pub(super) fn membership_of(message: RaftMembership) -> Members {
    let set = |voters: RaftVoters| voters.members.into_iter().map(Member::from).collect::<BTreeSet<_>>();
    let at = |at: RaftMemberAddress| (Member::from(at.member), Address { host: at.host, port: at.port });
    let nodes: BTreeMap<_, _> = message.members.into_iter().map(at).collect();
    Membership::new(message.voters.into_iter().map(set).collect(), nodes)
}
