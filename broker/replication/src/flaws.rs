//! Bugs that were planted on purpose, so that tests prove they would be caught. Without the feature `planted-bugs` there is no way
//! to plant one, and the questions below are constants. Knows nothing of what the rules are; each rule asks here whether to break.

/// A bug that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flaw {
    /// A new follower cuts its log at its high watermark instead of searching for the divergence point (before KIP-101).
    TruncateToWatermark,
    /// The search for the divergence point stops at the first answer (before KIP-279).
    AskOnce,
    /// A follower does not search again where the same broker leads anew (KAFKA-7164).
    SameLeaderTrusted,
    /// A follower believes answers of an earlier leadership while it truncates (before KIP-320).
    AnswersUnfenced,
    /// A leader counts progress that was made under another leadership.
    ProgressUnfenced,
    /// A leader counts progress of an earlier life of a follower (before KIP-903).
    BrokerEpochIgnored,
    /// The watermark counts what is written where flushed was promised.
    AckBeforeFlush,
    /// A flush that succeeds after one that failed is believed.
    FailedFlushRetried,
    /// A lagging follower no longer counts as soon as its removal is proposed.
    PausedFollowerForgotten,
    /// A pending expansion of the in-sync set does not count yet (before KIP-497).
    PendingExpansionForgotten,
    /// A follower joins the in-sync set as soon as it has reached the watermark, even below the epoch's start.
    ExpandBelowEpochStart,
    /// The watermark moves with fewer replicas in sync than the topic asks for (before KIP-966).
    MinInSyncIgnored,
    /// A leader takes batches of a producer's epoch after a later one has written.
    FencedProducerAccepted,
    /// A leader takes batches of a producer though those before them are missing.
    ProducerGapAccepted,
    /// A new leader knows nothing of what producers wrote under the leaders before it.
    ProducersForgotten,
    /// A marker ends what a later epoch has open, too.
    MarkerEndsLaterTransaction,
    /// A transaction counts as ended when its marker is written, not when that is settled.
    UnsettledMarkersCount,
    /// A leader takes the first batch of a transaction without asking the coordinator.
    MembershipUnasked,
}

/// Which bug is planted, if any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flaws {
    #[cfg(feature = "planted-bugs")]
    planted: Option<Flaw>,
}

impl Flaws {
    /// None: what every broker runs with.
    #[cfg(not(feature = "planted-bugs"))]
    pub const NONE: Self = Self {};
    /// None: what every broker runs with.
    #[cfg(feature = "planted-bugs")]
    pub const NONE: Self = Self { planted: None };

    /// This one.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub const fn planted(flaw: Flaw) -> Self {
        Self { planted: Some(flaw) }
    }

    /// Is it this one?
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn has(self, flaw: Flaw) -> bool {
        self.planted == Some(flaw)
    }

    /// Is it this one? Never.
    #[cfg(not(feature = "planted-bugs"))]
    #[must_use]
    pub const fn has(self, _flaw: Flaw) -> bool {
        false
    }
}
