//! Why an append was refused, by who must act. Knows nothing of how a log is written.

use std::sync::Arc;

use tidelog_protocol::{LeaderEpoch, Offset};

use crate::disk::{is_full, is_out_of_descriptors};
use crate::state::FlushError;
use crate::storage_error::StorageError;

/// Why nothing of an append was taken. The log is as it was before.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// There is no room. The client may try again: freeing space heals it.
    #[error("the disk is full (or below its low-space watermark): free space, nothing else is needed")]
    StorageFull,
    /// There is no file descriptor left. The client may try again: closing some, or a higher limit, heals it.
    #[error(
        "there is no file descriptor left ({0}): raise the limit of open files, or have fewer connections and partitions"
    )]
    OutOfDescriptors(StorageError),
    /// A write or a flush failed earlier, or did now. This replica takes nothing any more until it is opened anew.
    #[error("this replica stopped after a disk error: {0}")]
    Poisoned(Arc<StorageError>),
    /// The group can never fit. The client must send less, or the topic needs larger segments.
    #[error("{bytes} bytes of batches do not fit into a segment of {segment_bytes} bytes")]
    TooLarge {
        /// Size of the group.
        bytes: u64,
        /// Size of a whole segment.
        segment_bytes: u32,
    },
    /// A follower was given batches that do not continue its log.
    #[error("the batch begins at offset {found} in epoch {epoch:?}, but the log continues at {expected}")]
    BrokenChain {
        /// Where the log ends.
        expected: Offset,
        /// Where the batch begins.
        found: Offset,
        /// The epoch the batch carries; it must not be older than the log's newest.
        epoch: Option<LeaderEpoch>,
    },
}

impl AppendError {
    /// Whether the same call may succeed later, on the same log.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(self, Self::StorageFull | Self::OutOfDescriptors(_))
    }

    /// Of an operation that left the log as it was.
    pub(crate) fn of_storage(error: StorageError) -> Self {
        if is_full(&error.source) {
            Self::StorageFull
        } else if is_out_of_descriptors(&error.source) {
            Self::OutOfDescriptors(error)
        } else {
            Self::Poisoned(Arc::new(error))
        }
    }
}

impl From<FlushError> for AppendError {
    fn from(error: FlushError) -> Self {
        match error {
            FlushError::Poisoned(error) => Self::Poisoned(error),
            FlushError::NotTried(error) => Self::OutOfDescriptors(error),
        }
    }
}
