//! What can go wrong with transactions, split by who must act. Knows nothing of how it came about.

use std::time::Duration;

use tidelog_protocol::WireError;
use tidelog_protocol::error::Actor;

use crate::{ClientError, GroupError, SendError};

/// Why a transaction does not hold, or is not known to, or cannot begin. [`TransactionError::actor`] says what to do:
///
/// - [`Actor::ClientAborts`]: the transaction is undone. Begin another and do the work anew.
/// - [`Actor::ClientRejoins`]: it is undone, and others may have the partitions whose offsets it was to commit: read on as the group says.
/// - [`Actor::ClientBacksOff`], [`Actor::ClientRefreshes`]: the same call may succeed later; see each for what is known until then.
/// - [`Actor::ClientStops`]: another producer has the id. Nothing of this one will ever hold.
/// - [`Actor::Programmer`], [`Actor::Operator`]: a person must.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TransactionError {
    /// A record of the transaction was not written, so that it was undone.
    #[error("the transaction is undone, as a record of it was not written: {cause}")]
    NotWritten {
        /// What the first such record failed with.
        cause: SendError,
    },
    /// The coordinator has undone the transaction: it was open for longer than its timeout, or an operator aborted it.
    #[error("the transaction is undone: {0}")]
    Undone(WireError),
    /// It was dropped, or aborted, before its commit was asked for: [`TransactionalProducer::settle`](super::TransactionalProducer::settle) says so
    /// where the future of a commit was.
    #[error("the transaction is undone: it was dropped or aborted before its commit was asked for")]
    Dropped,
    /// It was begun while the one before was being [committed in the background](super::Transaction::commit_in_background), and that does not
    /// hold, or is not known to: so this one does not, and nothing of it was written.
    #[error("the transaction is undone, as the one before it was not committed: {cause}")]
    Follows {
        /// What became of that one.
        cause: Box<Self>,
    },
    /// The offsets could not be committed with it, or the member could not read on, so that it was undone.
    #[error("the transaction is undone, as the member of the group cannot go on with it: {0}")]
    Group(#[from] GroupError),
    /// It was to be committed, and no answer came in time: whether it holds is unknown.
    /// [`TransactionalProducer::settle`](super::TransactionalProducer::settle) asks for the same commit again, and tells. To begin another
    /// transaction instead undoes this one, unless it is committed already, and does not tell which.
    #[error(
        "whether the transaction is committed is unknown: its coordinator did not answer within {after:?}; the last failure was: {cause}"
    )]
    InDoubt {
        /// How long it was asked.
        after: Duration,
        /// What stood in the way last.
        cause: Box<ClientError>,
    },
    /// It was to be committed, the answer was lost, and now nobody can tell any more whether it holds: its id has not been used for so long that
    /// it was forgotten, or the coordinator refuses the question for good. If it does not hold it is undone by now, or as its timeout is over.
    /// Look for what it wrote among what is committed before the work is done anew; where it committed offsets of a group, the group's offsets
    /// tell. [`TransactionalProducer::begin`](super::TransactionalProducer::begin) goes on with the next transaction.
    #[error(
        "whether the transaction is committed is unknown, and nobody can tell any more: look for what it wrote before doing it anew: {cause}"
    )]
    FateUnknown {
        /// Why.
        cause: Box<ClientError>,
    },
    /// Another producer was built under the same id. Nothing of this one will ever hold that does not now; stop it.
    #[error(
        "another producer has taken over the transactional id{}: {error}",
        if *.in_doubt { ", and whether the transaction was committed before that is unknown" } else { "" }
    )]
    Fenced {
        /// What the coordinator says.
        error: WireError,
        /// The transaction was to be committed, an answer was lost, and the other came before the next: it holds or not, and nobody can tell
        /// any more. Else it is undone.
        in_doubt: bool,
    },
    /// A question to the cluster failed, or the coordinator refused for good. A transaction that was to be ended is undone, now or as its
    /// timeout is over.
    #[error(transparent)]
    Client(#[from] ClientError),
}

impl TransactionError {
    /// Who must act.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        match self {
            Self::NotWritten { cause } => match cause {
                SendError::TooLarge { .. } => Actor::Programmer,
                SendError::Client(error) if !error.is_retriable() => error.actor(),
                SendError::Rejected(error) if matches!(error.code.actor(), Actor::Operator | Actor::Programmer) => {
                    error.code.actor()
                }
                // Also one of a later epoch: by a timeout, an operator, or who else has the id. To begin tells.
                _ => Actor::ClientAborts,
            },
            Self::Undone(_) | Self::Dropped => Actor::ClientAborts,
            Self::Follows { cause } => match &**cause {
                Self::Fenced { .. } => Actor::ClientStops,
                _ => Actor::ClientAborts,
            },
            Self::Group(error) => error.actor(),
            Self::InDoubt { .. } => Actor::ClientBacksOff,
            Self::FateUnknown { .. } => Actor::Programmer,
            Self::Fenced { .. } => Actor::ClientStops,
            Self::Client(error) => error.actor(),
        }
    }

    /// True where the transaction does not hold, and never will.
    #[must_use]
    pub const fn is_undone(&self) -> bool {
        matches!(
            self,
            Self::NotWritten { .. }
                | Self::Undone(_)
                | Self::Dropped
                | Self::Follows { .. }
                | Self::Group(_)
                | Self::Fenced { in_doubt: false, .. }
        )
    }
}
