//! Bugs that can be planted in the rules of transactions, so that tests prove that they would be caught. Knows nothing of the rules.

use crate::planted::Planted;

/// A bug that can be planted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TransactionFlaw {
    /// An end is taken whatever the producer's epoch.
    EndUnfenced,
    /// Markers carry the epoch of the transaction that they end, not the next (before KIP-890).
    MarkersUnbumped,
    /// A transaction that is still open is said to be undone.
    OngoingTakenForUndone,
    /// Nobody is told what became of a transaction.
    FatesUntold,
}

/// Which of them is planted, if any.
pub type TransactionFlaws = Planted<TransactionFlaw>;
