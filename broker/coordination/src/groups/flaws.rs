//! Bugs that were planted on purpose, so that tests prove they would be caught. Without the feature `planted-bugs` there is no way
//! to plant one, and the questions below are constants. Knows nothing of what the rules are; each rule asks here whether to break.

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
}

/// Which bug is planted, if any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct GroupFlaws {
    #[cfg(feature = "planted-bugs")]
    planted: Option<GroupFlaw>,
}

impl GroupFlaws {
    /// None: what every broker runs with.
    #[cfg(not(feature = "planted-bugs"))]
    pub const NONE: Self = Self {};
    /// None: what every broker runs with.
    #[cfg(feature = "planted-bugs")]
    pub const NONE: Self = Self { planted: None };

    /// This one.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub const fn planted(flaw: GroupFlaw) -> Self {
        Self { planted: Some(flaw) }
    }

    /// Is it this one?
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn has(self, flaw: GroupFlaw) -> bool {
        self.planted == Some(flaw)
    }

    /// Is it this one? Never.
    #[cfg(not(feature = "planted-bugs"))]
    #[must_use]
    pub const fn has(self, _flaw: GroupFlaw) -> bool {
        false
    }
}
