//! Bugs that were planted on purpose, so that tests prove they would be caught. Without the feature `planted-bugs` there is no way
//! to plant one, and the questions below are constants. Knows nothing of what the rules are; each rule asks here whether to break.

/// A bug that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionFlaw {
    /// An end is taken whatever the producer's epoch.
    EndUnfenced,
    /// Markers carry the epoch of the transaction that they end, not the next (before KIP-890).
    MarkersUnbumped,
}

/// Which bug is planted, if any.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct TransactionFlaws {
    #[cfg(feature = "planted-bugs")]
    planted: Option<TransactionFlaw>,
}

impl TransactionFlaws {
    /// None: what every broker runs with.
    #[cfg(not(feature = "planted-bugs"))]
    pub const NONE: Self = Self {};
    /// None: what every broker runs with.
    #[cfg(feature = "planted-bugs")]
    pub const NONE: Self = Self { planted: None };

    /// This one.
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub const fn planted(flaw: TransactionFlaw) -> Self {
        Self { planted: Some(flaw) }
    }

    /// Is it this one?
    #[cfg(feature = "planted-bugs")]
    #[must_use]
    pub fn has(self, flaw: TransactionFlaw) -> bool {
        self.planted == Some(flaw)
    }

    /// Is it this one? Never.
    #[cfg(not(feature = "planted-bugs"))]
    #[must_use]
    pub const fn has(self, _flaw: TransactionFlaw) -> bool {
        false
    }
}
