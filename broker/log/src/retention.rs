//! Moving the start of a log: by age, by size, by request. Only whole segments are unlinked, and never the active one.
//!
//! The new start is durable in the checkpoint before the first unlink, so a crash leaves leftovers below it, never a gap. Readers that
//! hold slices of an unlinked segment keep them. Needs no writer, so it runs on any thread that may block. Knows nothing of
//! clocks: the caller says what time it is.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::{Offset, Timestamp};

use crate::checkpoint::Shutdown;
use crate::disk::is_full;
use crate::segment::Segment;
use crate::segment_files;
use crate::state::LogState;
use crate::storage_error::StorageError;

/// How much of a log is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetentionLimits {
    /// Keep about this many bytes of batches; `None` for all.
    pub bytes: Option<u64>,
    /// Keep records this long after their segment's largest timestamp; `None` for ever. A segment without timestamps has no age.
    pub age: Option<Duration>,
    /// Nothing at or above is deleted: the high watermark.
    pub below: Offset,
}

/// What a round of retention did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Deleted {
    /// Segments unlinked.
    pub segments: usize,
    /// Bytes of batches in them.
    pub bytes: u64,
}

/// Why the start of a log cannot be moved.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// The offset was never written.
    #[error("cannot delete records before offset {before}: the log ends at {end}")]
    OutOfRange {
        /// What was asked for.
        before: Offset,
        /// Where the log ends.
        end: Offset,
    },
    /// A write or a flush failed earlier.
    #[error("this replica stopped after a disk error: {0}")]
    Poisoned(Arc<StorageError>),
    /// The disk refused. Trying again is safe.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A handle that moves the start of one log; for any thread that may block.
#[derive(Clone, Debug)]
pub struct Retention {
    pub(crate) state: Arc<LogState>,
}

impl Retention {
    /// Unlinks the oldest segments that the limits no longer keep.
    ///
    /// # Errors
    /// [`DeleteError`].
    pub fn apply(&self, now: Timestamp, limits: &RetentionLimits) -> Result<Deleted, DeleteError> {
        let segments = self.state.segments();
        let mut excess = limits.bytes.map_or(0, |keep| {
            let held: u64 = segments.iter().map(|segment| segment.end_bytes()).sum();
            held.saturating_sub(keep)
        });
        let mut start = self.state.log_start();
        for segment in &segments[..segments.len() - 1] {
            let too_old = limits.age.is_some_and(|age| is_older(segment, now, age));
            let too_much = segment.end_bytes() > 0 && segment.end_bytes() <= excess;
            if !(too_old || too_much) || segment.end_offset() > limits.below {
                break;
            }
            excess = excess.saturating_sub(segment.end_bytes());
            start = start.max(segment.end_offset());
        }
        if start == self.state.log_start() {
            return Ok(Deleted::default());
        }
        self.move_start(start)
    }

    /// Makes `before` the first offset that is served, durably; the answer is the log start offset. Offsets below the present start
    /// change nothing.
    ///
    /// # Errors
    /// [`DeleteError`].
    pub fn delete_records(&self, before: Offset) -> Result<Offset, DeleteError> {
        let end = self.state.written_end();
        if before > end {
            return Err(DeleteError::OutOfRange { before, end });
        }
        if before > self.state.log_start() {
            self.move_start(before)?;
        }
        Ok(self.state.log_start())
    }

    fn move_start(&self, start: Offset) -> Result<Deleted, DeleteError> {
        let state = &self.state;
        let mut upkeep = state.upkeep.lock();
        if let Some(error) = state.poisoned() {
            return Err(DeleteError::Poisoned(error));
        }
        // A truncation may have come in between.
        let start = start.min(state.written_end());
        state.publish_log_start(start);
        let mut gone = Vec::new();
        state.change_segments(|segments| {
            let last = segments.len() - 1;
            let kept = segments[..last].iter().position(|segment| segment.end_offset() > start).unwrap_or(last);
            gone.extend(segments.drain(..kept));
        });
        state.drop_holes_outside(start..state.written_end());
        let change = state.epochs.lock().forget_before(start);
        state.note_epoch_change(change);
        self.checkpoint(&mut upkeep)?;
        let mut deleted = Deleted::default();
        for segment in gone {
            segment_files::remove(&state.place, segment.base())?;
            deleted.segments += 1;
            deleted.bytes += segment.end_bytes();
        }
        Ok(deleted)
    }

    /// On a full disk the checkpoint that lets segments go may itself find no room: the next segment's reserve makes some.
    fn checkpoint(&self, upkeep: &mut crate::state::Upkeep) -> Result<(), StorageError> {
        match self.state.checkpoint(upkeep, Shutdown::Running) {
            Err(error) if is_full(&error.source) => {
                let Some(prepared) = self.state.prepared.lock().take() else { return Err(error) };
                prepared.discard(&self.state.place)?;
                self.state.checkpoint(upkeep, Shutdown::Running)
            }
            result => result,
        }
    }
}

fn is_older(segment: &Segment, now: Timestamp, age: Duration) -> bool {
    let largest = segment.record().end.largest;
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    largest != Timestamp::NONE && now.0.saturating_sub(largest.0) > age
}
