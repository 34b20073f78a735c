//! Bugs that can be planted in the rules of the groups, so that tests prove that they would be caught. Knows nothing of the rules.

use crate::planted::Planted;

/// A bug that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum GroupFlaw {
    /// A commit is taken whatever the member's epoch.
    CommitUnfenced,
    /// A partition is given before who had it has let go of it.
    GivenTooEarly,
    /// What an old heartbeat does not name counts as let go of.
    LateHeartbeatBelieved,
    /// Offsets of a transaction are noted though it has ended meanwhile.
    LateOffsetsTaken,
    /// The end of a transaction ends whatever its producer has noted, also when it comes late.
    EndUnfenced,
    /// A member whose partitions change lets go of all of them first (stop the world, before KIP-429).
    EverythingRevoked,
    /// A commit of a classic group's member is taken whatever its generation.
    ClassicCommitUnfenced,
    /// A leader of a classic group may say anew who does what.
    AssignedTwice,
    /// Any member of a classic group may say who does what.
    FollowerAssigns,
    /// An id goes on serving though another has its instance id.
    InstanceUnfenced,
}

/// Which of them is planted, if any.
pub type GroupFlaws = Planted<GroupFlaw>;
