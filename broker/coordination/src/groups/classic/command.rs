//! What classic groups are asked for, and what comes back, in words of Kafka's protocol. Knows nothing of how it is decided, nor of the wire.

use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::codec::Bytes;
use tidelog_protocol::messages::{CommitTransaction, CommittedOffset};

use crate::groups::records::{ClassicPhase, ClassicProtocol};

/// A command.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClassicCommand {
    /// A member takes part in the next generation.
    Join(ClassicJoin),
    /// A member asks for its part; the leader says who does what.
    Sync(ClassicSync),
    /// A member lives.
    Heartbeat(ClassicCaller),
    /// Members go.
    Leave {
        /// The group.
        group: String,
        /// Those members.
        members: Vec<ClassicIdentity>,
    },
    /// The group has come further. The caller may be a member of a group of either kind, or nobody.
    Commit {
        /// Who commits.
        caller: ClassicCaller,
        /// How far.
        offsets: Vec<CommittedOffset>,
    },
    /// The same as part of a transaction, which counts once that is committed.
    CommitInTransaction(ClassicTransactionCommit),
    /// Which groups are there, of either kind?
    List,
    /// How is one?
    Describe {
        /// The group.
        group: String,
    },
}

/// A commit that is part of a transaction.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicTransactionCommit {
    /// Who commits.
    pub caller: ClassicCaller,
    /// How far.
    pub offsets: Vec<CommittedOffset>,
    /// Whose transaction.
    pub transaction: CommitTransaction,
    /// Its coordinator has said that it knows of the group, and was asked when [`ClassicReply::AskFirst`] said so.
    pub asked: Option<u64>,
}

/// A member that takes part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicJoin {
    /// The group.
    pub group: String,
    /// Its id; empty where it has none yet.
    pub member_id: String,
    /// The name that outlives its process.
    pub instance_id: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// How long it may be silent, in milliseconds.
    pub session_ms: i32,
    /// How long it may take to join again, in milliseconds; as long as it may be silent where this is not above 0.
    pub rebalance_ms: i32,
    /// What kind of work is shared.
    pub protocol_type: String,
    /// The ways to share it that it knows, the one that it likes best first.
    pub protocols: Vec<ClassicProtocol>,
    /// An id that nobody ever had.
    pub fresh_id: String,
    /// What its version of the protocol can say.
    pub speaks: ClassicSpeech,
}

/// What a version of JoinGroup can say.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum ClassicSpeech {
    /// A member without an id is taken in at once.
    First,
    /// It is given an id first, with which it joins (KIP-394).
    IdFirst,
    /// Besides, a leader can be told to leave the parts as they are (KIP-814).
    SkipsAssignment,
}

/// A member that asks for its part.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicSync {
    /// Who asks.
    pub caller: ClassicCaller,
    /// What kind of work is shared, as it was told; `None`: not checked.
    pub protocol_type: Option<String>,
    /// The way to share it, as it was told; `None`: not checked.
    pub protocol: Option<String>,
    /// From the leader: every member's part.
    pub parts: Vec<(String, Bytes)>,
}

/// Who calls, and what it knows of the group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicCaller {
    /// The group.
    pub group: String,
    /// The generation that it knows; below 0 from who is no member.
    pub generation: i32,
    /// Its id; empty from who is no member.
    pub member_id: String,
    /// The name that outlives its process.
    pub instance_id: Option<String>,
}

impl ClassicCaller {
    /// It does not say that it is a member.
    #[must_use]
    pub const fn is_nobody(&self) -> bool {
        self.generation < 0 && self.member_id.is_empty() && self.instance_id.is_none()
    }
}

/// A member that goes: by its id, by the name that outlives its process, or by both.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicIdentity {
    /// Its id; may be empty.
    pub member_id: String,
    /// The name that outlives its process.
    pub instance_id: Option<String>,
}

/// What an accepted command gives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClassicReply {
    /// It takes part: [`super::super::Groups::classic_joined`] tells once the generation after `after` has begun.
    JoinLater {
        /// Its id.
        member_id: String,
        /// The generation before.
        after: i32,
    },
    /// It is part of this generation.
    Joined(ClassicJoined),
    /// [`super::super::Groups::classic_synced`] tells once the leader has said who does what.
    SyncLater,
    /// Its part.
    Synced(ClassicPart),
    /// It was heard of.
    Alive,
    /// What came of each that was to go.
    Left(Vec<Result<(), ClassicError>>),
    /// The offsets are noted.
    Committed,
    /// The transaction's coordinator is to be asked first whether it knows of the group: the same commit then, with this number. Nothing was
    /// decided.
    AskFirst(u64),
    /// The groups, by name.
    Listed(Vec<ClassicListing>),
    /// How the group is.
    Described(ClassicDescription),
}

/// A generation has begun.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicJoined {
    /// Whose answer this is.
    pub member_id: String,
    /// The generation.
    pub generation: i32,
    /// What kind of work is shared.
    pub protocol_type: String,
    /// How.
    pub protocol: String,
    /// Who shares it out.
    pub leader: String,
    /// The leader leaves the parts as they are.
    pub skips_assignment: bool,
    /// All members, for the leader alone.
    pub members: Vec<ClassicJoinedMember>,
}

/// A member, as the leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicJoinedMember {
    /// Its id.
    pub member_id: String,
    /// The name that outlives its process.
    pub instance_id: Option<String>,
    /// What it said for the protocol that was chosen.
    pub metadata: Bytes,
}

/// What a member is to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicPart {
    /// What kind of work is shared.
    pub protocol_type: String,
    /// How.
    pub protocol: String,
    /// Its part.
    pub assignment: Bytes,
}

/// A group in short.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicListing {
    /// Its name.
    pub group: String,
    /// The broker assigns its partitions; otherwise its members do.
    pub is_native: bool,
    /// What kind of work is shared; empty where it only holds offsets.
    pub protocol_type: String,
    /// Its state, as Kafka names it.
    pub state: &'static str,
}

/// A group.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicDescription {
    /// How far its members are.
    pub phase: ClassicPhase,
    /// What kind of work is shared.
    pub protocol_type: String,
    /// How; empty where nothing is chosen.
    pub protocol: String,
    /// Its members, by id.
    pub members: Vec<ClassicMemberDescription>,
}

/// A member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ClassicMemberDescription {
    /// Its id.
    pub member_id: String,
    /// The name that outlives its process.
    pub instance_id: Option<String>,
    /// What it calls itself.
    pub client_id: String,
    /// Where it is.
    pub client_host: String,
    /// What it said for the protocol that was chosen.
    pub metadata: Bytes,
    /// Its part.
    pub assignment: Bytes,
}

/// Why something was refused, as Kafka tells it apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClassicError {
    /// A group's or a member's name breaks a rule.
    InvalidGroup,
    /// The session timeout is out of range.
    InvalidSession,
    /// No such group, or it is of the other kind.
    UnknownGroup,
    /// The group has no such member.
    UnknownMember,
    /// The member's generation is not the group's.
    IllegalGeneration,
    /// The member is to join again.
    RebalanceInProgress,
    /// The group shares other work, or in other ways, or its members are of the other kind.
    InconsistentProtocol,
    /// It is to join with this id.
    MemberIdRequired(String),
    /// Another member has its instance id.
    FencedInstance,
    /// A limit is reached.
    GroupFull,
}

impl ClassicPhase {
    /// As Kafka names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Preparing => "PreparingRebalance",
            Self::Completing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}
