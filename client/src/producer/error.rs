//! Why a record was not delivered, split by what is known of its fate. Knows nothing of batches.

use std::time::Duration;

use tidelog_protocol::WireError;

use crate::ClientError;

/// Why a record was not delivered, or not known to be.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// Only from `try_send`: the producer's memory is full. Wait for deliveries, or use `send`, which does.
    #[error("the producer's memory is full of records that are not acknowledged yet")]
    Full,
    /// The record alone makes a batch larger than the topic, or the producer's memory, allows. Send it in parts, or raise the limit. Comes
    /// with the delivery where the topic's limit was lowered after the record was taken.
    #[error("the record makes a batch of {bytes} bytes, over the limit of {limit}")]
    TooLarge {
        /// Bytes of the batch that would hold it alone.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// The topic or partition could not be found, or the producer was not able to ask. Nothing was sent.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The broker refused it. It was not written.
    #[error("refused: {0}")]
    Rejected(WireError),
    /// The delivery timeout passed, and it was not written: it never left, or whenever it did, the broker said so.
    #[error("not written within the delivery timeout of {after:?}; the last failure was: {cause}")]
    Expired {
        /// The delivery timeout.
        after: Duration,
        /// What stood in the way last.
        cause: Box<ClientError>,
    },
    /// It was sent, and no answer came in time, or a later try was refused, or the broker's disk failed under it: it may be
    /// written or not. To send it again may write it twice.
    #[error(
        "sent, and not acknowledged when it was given up after {after:?}: whether it was written is unknown; the last failure was: {cause}"
    )]
    Unknown {
        /// How long it was tried.
        after: Duration,
        /// What stood in the way last.
        cause: Box<ClientError>,
    },
    /// The producer was closed before the record was taken. It was not written.
    #[error("the producer was closed")]
    Closed,
    /// The transaction that it was for is undone: it was aborted, or another record of it was not written. Whatever of it stands in a log is
    /// nobody's who reads what is committed.
    #[error("the transaction is undone")]
    Undone,
    /// The transaction that it was for has ended. It was not written.
    #[error("the transaction has ended")]
    TransactionEnded,
}

impl SendError {
    /// True where the record may have been written although nothing says so.
    #[must_use]
    pub const fn may_be_written(&self) -> bool {
        matches!(self, Self::Unknown { .. })
    }

    /// True where the same record may be delivered later without anyone changing it.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Full | Self::Expired { .. } | Self::Unknown { .. } => true,
            Self::Client(error) => error.is_retriable(),
            Self::Rejected(error) => error.code.is_retriable(),
            Self::TooLarge { .. } | Self::Closed | Self::Undone | Self::TransactionEnded => false,
        }
    }
}
