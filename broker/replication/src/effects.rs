//! What the leader machine asks its driver to do. Knows nothing of how it is done. One buffer is reused for every input, so
//! that an append allocates nothing.

use alloc::vec::Vec;

use tidelog_protocol::{ErrorCode, LeaderEpoch, Offset};

use crate::leader::InSyncProposal;

/// What became of one or more inputs. The driver publishes the watermark first, so that whoever hears of an ack can read what
/// was acknowledged; then answers; then [`Effects::clear`]s the buffer.
#[derive(Debug)]
pub struct Effects<T> {
    /// The high watermark moved here.
    pub high_watermark: Option<Offset>,
    /// Tickets whose promise is met, in the order of their offsets per kind of ack.
    pub released: Vec<Released<T>>,
    /// Tickets whose promise will not be met here.
    pub failed: Vec<Failed<T>>,
    /// Ask the controller for this in-sync set. What becomes of it is told by [`crate::Leader::membership_changed`] or
    /// [`crate::Leader::alteration_failed`].
    pub alter_in_sync: Option<InSyncProposal>,
}

/// A ticket whose promise is met, and what it was.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Released<T> {
    /// What was parked.
    pub ticket: T,
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset after its last record.
    pub next_offset: Offset,
    /// The leadership that wrote it.
    pub leader_epoch: LeaderEpoch,
    /// First offset that can be read.
    pub log_start: Offset,
    /// Replicas known to have written it, the leader included, in sync or not.
    pub replicas_written: u16,
    /// Replicas known to have flushed it, the leader included, in sync or not.
    pub replicas_flushed: u16,
}

/// A ticket whose promise will not be met here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Failed<T> {
    /// What was parked.
    pub ticket: T,
    /// Offset its first record was meant to have.
    pub base_offset: Offset,
    /// Offset after its last record.
    pub next_offset: Offset,
    /// Why.
    pub cause: AckFailure,
}

/// Why an ack will not come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AckFailure {
    /// The disk had no room: nothing of it was written, the offsets are free again.
    StorageFull,
    /// A write or flush failed: whether the records survive is unknown.
    StorageFailed,
    /// Another leadership began: whether the records survive is unknown.
    LeadershipEnded,
    /// Whoever waited does so no longer: the records are written, and may reach the promise later.
    DeadlinePassed,
}

impl AckFailure {
    /// How the wire says it.
    #[must_use]
    pub const fn code(self) -> ErrorCode {
        match self {
            Self::StorageFull => ErrorCode::StorageFull,
            Self::StorageFailed => ErrorCode::StorageFailed,
            Self::LeadershipEnded => ErrorCode::LeadershipEnded,
            Self::DeadlinePassed => ErrorCode::DeadlineExceeded,
        }
    }
}

impl<T> Default for Effects<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> Effects<T> {
    /// An empty buffer.
    #[must_use]
    pub const fn new() -> Self {
        Self { high_watermark: None, released: Vec::new(), failed: Vec::new(), alter_in_sync: None }
    }

    /// True where there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let nobody = self.released.is_empty() && self.failed.is_empty();
        nobody && self.high_watermark.is_none() && self.alter_in_sync.is_none()
    }

    /// Empties the buffer and keeps its memory.
    pub fn clear(&mut self) {
        self.high_watermark = None;
        self.released.clear();
        self.failed.clear();
        self.alter_in_sync = None;
    }
}
