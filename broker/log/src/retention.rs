//! Moving the start of a log: by age, by size, by request. Only whole segments are unlinked, and never the active one.
//!
//! The new start is durable in the checkpoint (and noted once more, see [`crate::noted_start`]) before the first unlink, so a crash leaves leftovers below it, never a gap; what a disk refused
//! is made up for by the next call, whatever it asks for, or by the upkeep. Readers that
//! hold slices of an unlinked segment keep them. Needs no writer, so it runs on any thread that may block. Knows nothing of
//! clocks: the caller says what time it is.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::{Offset, Timestamp};

use crate::append_error::AppendError;
use crate::checkpoint::Shutdown;
use crate::disk::is_full;
use crate::log::Log;
use crate::segment::Segment;
use crate::segment_files;
use crate::state::{LogState, Upkeep};
use crate::storage_error::{Context, StorageError};

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
        // Where it stands already behind that, nothing was moved.
        let _ = self.move_start(before)?;
        Ok(self.state.log_start())
    }

    /// Moves it if `start` lies behind it, and finishes what an earlier call could not.
    fn move_start(&self, start: Offset) -> Result<Deleted, DeleteError> {
        let state = &self.state;
        let mut upkeep = state.upkeep.lock();
        // A truncation may have come in between.
        let start = start.min(state.written_end());
        // The active segment of a log that was emptied is sealed only later.
        let sealed_since =
            state.segments().iter().rev().skip(1).any(|segment| segment.end_offset() <= state.log_start());
        if start <= state.log_start() && !sealed_since && !upkeep.has_unfinished_work() {
            return Ok(Deleted::default());
        }
        if let Some(error) = state.poisoned() {
            return Err(DeleteError::Poisoned(error));
        }
        if start > state.log_start() || sealed_since {
            self.publish(start.max(state.log_start()), &mut upkeep);
        }
        if !upkeep.is_start_stored {
            self.checkpoint(&mut upkeep)?;
        }
        Ok(state.unlink_gone(&mut upkeep)?)
    }

    fn publish(&self, start: Offset, upkeep: &mut Upkeep) {
        let state = &self.state;
        upkeep.is_start_stored = false;
        state.publish_log_start(start);
        state.change_segments(|segments| {
            let last = segments.len() - 1;
            let kept = segments[..last].iter().position(|segment| segment.end_offset() > start).unwrap_or(last);
            upkeep.gone.extend(segments.drain(..kept));
        });
        state.drop_holes_outside(state.first_base()..state.written_end());
        let change = state.epochs.lock().forget_before(start);
        state.note_epoch_change(change);
    }

    /// On a full disk the checkpoint that lets segments go may itself find no room: the next segment's reserve makes some, or the one that is
    /// kept for that.
    fn checkpoint(&self, upkeep: &mut Upkeep) -> Result<(), StorageError> {
        let full = match self.state.checkpoint(upkeep, Shutdown::Running) {
            Err(error) if is_full(&error.source) => error,
            result => return result,
        };
        let prepared = self.state.prepared.lock().take();
        let full = match prepared {
            None => full,
            Some(prepared) => {
                prepared.discard(&self.state.place)?;
                match self.state.checkpoint(upkeep, Shutdown::Running) {
                    Err(error) if is_full(&error.source) => error,
                    result => return result,
                }
            }
        };
        if !self.state.flusher.lend_reserve() {
            return Err(full);
        }
        self.state.checkpoint(upkeep, Shutdown::Running)
    }
}

impl Log {
    /// As [`Log::roll`], where every record was deleted: what is sealed can be unlinked ([`Retention::delete_records`]). Takes no blocks,
    /// since that is wanted most where there are none. True where a segment was begun.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn roll_if_emptied(&mut self) -> Result<bool, AppendError> {
        self.check()?;
        if self.active.end_bytes() == 0 || self.state.log_start() < self.end() {
            return Ok(false);
        }
        self.begin_segment(0)?;
        Ok(true)
    }
}

impl LogState {
    /// Unlinks segments that left the list, once the start is stored. What the disk refuses to unlink, all of it waits for the next call.
    pub(crate) fn unlink_gone(&self, upkeep: &mut Upkeep) -> Result<Deleted, StorageError> {
        let mut deleted = Deleted::default();
        for segment in &upkeep.gone {
            segment_files::remove(&self.place, segment.base())?;
            deleted.segments += 1;
            deleted.bytes += segment.end_bytes();
        }
        if !upkeep.gone.is_empty() {
            // The first of those that stay says where the log begins, whatever becomes of the checkpoint.
            self.place.disk.sync_dir(&self.place.dir).context("flush", &self.place.dir)?;
            upkeep.gone.clear();
        }
        Ok(deleted)
    }
}

fn is_older(segment: &Segment, now: Timestamp, age: Duration) -> bool {
    let largest = segment.record().end.largest;
    let age = i64::try_from(age.as_millis()).unwrap_or(i64::MAX);
    largest != Timestamp::NONE && now.0.saturating_sub(largest.0) > age
}
