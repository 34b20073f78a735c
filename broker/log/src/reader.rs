//! Reading one partition from any thread, without its writer: whole batches as slices of a read-only map.
//!
//! A read never waits for the disk: where pages may be cold, or were never verified by this process, it answers
//! [`ReadOutcome::Cold`], whose [`PendingRead::complete`] belongs on a blocking thread. Nothing is copied. Knows nothing of watermarks: the
//! caller says up to where a consumer may see.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_protocol::records::Batches as Walk;
use tidelog_protocol::{LeaderEpoch, Offset};

use crate::flush_metrics::FlushMetrics;
use crate::hole::Hole;
use crate::identity::Identity;
use crate::leader_epochs::LeaderEpochs;
use crate::lookup::{Lookup, Miss, Patience, Wanted};
use crate::state::LogState;
use crate::storage_error::StorageError;

/// A handle for reading; cheap to clone.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(crate) state: Arc<LogState>,
}

/// What a read gave.
#[derive(Debug)]
#[must_use]
pub enum ReadOutcome {
    /// Whole batches.
    Batches(Batches),
    /// Nothing yet: `from` is the upper bound.
    UpToDate,
    /// The bytes must come from the disk, or be verified first: finish on a thread that may block.
    Cold(PendingRead),
}

/// Whole batches back to back, as they are on disk; a slice of the map, kept alive by it.
#[derive(Clone, Debug)]
pub struct Batches {
    /// The bytes. The first batch holds the offset asked for; it may begin before it.
    pub bytes: Bytes,
    /// Offset after the last record: where to go on reading.
    pub next: Offset,
}

impl Batches {
    /// Whether the checksums hold of what was read, and one batch continues the other up to [`Batches::next`]. Bytes that were whole once may
    /// have rotted since on the disk, and been read in again.
    #[must_use]
    pub fn are_whole(&self) -> bool {
        let mut expected = None;
        for batch in Walk::compacted(&self.bytes) {
            let Ok(batch) = batch else { return false };
            let header = batch.header();
            if expected.is_some_and(|expected| header.base_offset != expected) || batch.verify_crc().is_err() {
                return false;
            }
            expected = Some(header.next_offset());
        }
        expected == Some(self.next)
    }
}

/// Why a read gives nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The offset is not in the log. Retention or deletion took it, or it was never written.
    #[error("offset {from} is not in the log, which holds {log_start} to {end} (exclusive)")]
    OutOfRange {
        /// What was asked for.
        from: Offset,
        /// The first offset there is.
        log_start: Offset,
        /// The offset after the last.
        end: Offset,
    },
    /// The bytes of these offsets are damaged here. Offsets from `to` on are served; another replica may have the rest.
    #[error("offsets {from} to {to} (exclusive) are damaged on this replica's disk; reading can go on at {to}")]
    Corrupt {
        /// First offset that cannot be served.
        from: Offset,
        /// First offset after it that can.
        to: Offset,
    },
    /// A write or a flush failed earlier: nothing of this log can be believed until it is opened anew.
    #[error("this replica stopped after a disk error: {0}")]
    Poisoned(Arc<StorageError>),
    /// The disk refused this read.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A read that has to wait for the disk.
#[derive(Debug)]
#[must_use]
pub struct PendingRead {
    state: Arc<LogState>,
    wanted: Wanted,
}

impl PendingRead {
    /// Reads and verifies, **blocking**. Never answers [`ReadOutcome::Cold`].
    ///
    /// # Errors
    /// As [`LogReader::read`]; an unreadable page is an error, not a signal.
    pub fn complete(self) -> Result<ReadOutcome, ReadError> {
        attempt(&self.state, self.wanted, Patience::Block)
    }
}

/// One segment, for display.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentSummary {
    /// Its first offset.
    pub base: Offset,
    /// Offset after its last record.
    pub end: Offset,
    /// Bytes of batches in it.
    pub bytes: u64,
    /// Bytes it reserves on the disk.
    pub allocated_bytes: u64,
}

impl LogReader {
    pub(crate) fn new(state: Arc<LogState>) -> Self {
        Self { state }
    }

    /// Whose data it is.
    #[must_use]
    pub fn identity(&self) -> Identity {
        self.state.identity
    }

    /// Offset after the last record written (not necessarily durable).
    #[must_use]
    pub fn written_end(&self) -> Offset {
        self.state.written_end()
    }

    /// Every record below is durable.
    #[must_use]
    pub fn flushed_end(&self) -> Offset {
        self.state.flushed_end()
    }

    /// The first offset that is served.
    #[must_use]
    pub fn log_start(&self) -> Offset {
        self.state.log_start()
    }

    /// The error that ended this replica, if one did.
    #[must_use]
    pub fn poisoned(&self) -> Option<Arc<StorageError>> {
        self.state.poisoned()
    }

    /// Asks the flusher to make everything written durable; the listener is told when it is.
    pub fn request_flush(&self) {
        self.state.flusher.request_flush(&self.state);
    }

    /// What the flusher of this log has done so far, over all its logs.
    #[must_use]
    pub fn flush_metrics(&self) -> FlushMetrics {
        self.state.flusher.metrics()
    }

    /// Ranges that cannot be served, as far as known, oldest first.
    #[must_use]
    pub fn holes(&self) -> Vec<Hole> {
        self.state.holes().within(self.state.log_start()..Offset::MAX).all().to_vec()
    }

    /// True where there is a range that cannot be served.
    #[must_use]
    pub fn is_damaged(&self) -> bool {
        !self.state.holes().within(self.state.log_start()..Offset::MAX).all().is_empty()
    }

    /// Which leadership wrote what.
    #[must_use]
    pub fn leader_epochs(&self) -> LeaderEpochs {
        self.state.epochs.lock().clone()
    }

    /// The newest epoch in the log.
    #[must_use]
    pub fn latest_epoch(&self) -> Option<LeaderEpoch> {
        self.state.epochs.lock().latest()
    }

    /// Bytes of batches in all segments.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.state.segments().iter().map(|segment| segment.end_bytes()).sum()
    }

    /// True where every record was deleted and their bytes are there still: the segment that takes the next one is to be sealed.
    #[must_use]
    pub fn is_emptied(&self) -> bool {
        self.state.log_start() == self.state.written_end() && self.state.active().end_bytes() > 0
    }

    /// All segments, oldest first.
    #[must_use]
    pub fn segments(&self) -> Vec<SegmentSummary> {
        let summary = |segment: &Arc<crate::segment::Segment>| SegmentSummary {
            base: segment.base(),
            end: segment.end_offset(),
            bytes: segment.end_bytes(),
            allocated_bytes: segment.allocated(),
        };
        self.state.segments().iter().map(summary).collect()
    }

    /// Whole batches from the one that holds `from`, all below `upper` (exclusive), about `max_bytes` of them: the first is
    /// given even if it is larger. Ends at the end of a segment: read on at [`Batches::next`]. Never blocks.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read(&self, from: Offset, upper: Offset, max_bytes: u32) -> Result<ReadOutcome, ReadError> {
        attempt(&self.state, Wanted { from, upper, max_bytes }, Patience::Never)
    }

    /// As [`LogReader::read`], but blocks where the disk is needed. Not for network threads.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_blocking(&self, from: Offset, upper: Offset, max_bytes: u32) -> Result<ReadOutcome, ReadError> {
        attempt(&self.state, Wanted { from, upper, max_bytes }, Patience::Block)
    }

    /// As [`LogReader::read_blocking`], but reads back all that it gives and verifies it, whatever was seen of it before. Damage that nobody
    /// knew is known from then on.
    ///
    /// # Errors
    /// [`ReadError`].
    pub fn read_back(&self, from: Offset, upper: Offset, max_bytes: u32) -> Result<ReadOutcome, ReadError> {
        attempt(&self.state, Wanted { from, upper, max_bytes }, Patience::Doubt)
    }
}

fn attempt(state: &Arc<LogState>, wanted: Wanted, patience: Patience) -> Result<ReadOutcome, ReadError> {
    loop {
        if let Some(error) = state.poisoned() {
            return Err(ReadError::Poisoned(error));
        }
        let (log_start, end) = (state.log_start(), state.written_end());
        if wanted.from < log_start || wanted.from > end {
            return Err(ReadError::OutOfRange { from: wanted.from, log_start, end });
        }
        let mut upper = wanted.upper.min(end);
        if wanted.from >= upper {
            return Ok(ReadOutcome::UpToDate);
        }
        let holes = state.holes();
        if let Some(hole) = holes.next_after(wanted.from) {
            if hole.from <= wanted.from {
                return Err(ReadError::Corrupt { from: hole.from, to: hole.to });
            }
            upper = upper.min(hole.from);
        }
        let Some(segment) = state.segment_of(wanted.from) else {
            // Retention was faster than the look at the log start.
            return Err(ReadError::OutOfRange { from: wanted.from, log_start: state.log_start(), end });
        };
        if segment.end_offset() <= wanted.from {
            let segments = state.segments();
            if let Some(next) = segments.iter().find(|next| next.base() > wanted.from) {
                // A gap that no recovery has named must not be passed over in silence.
                state.complain_of_damage(wanted.from, next.base());
                return Err(ReadError::Corrupt { from: wanted.from, to: next.base() });
            }
            // A truncation between two looks; the next one sees it whole.
            continue;
        }
        let wanted_now = Wanted { upper, ..wanted };
        match (Lookup { state, segment: &segment, holes: &holes, patience }).read(wanted_now) {
            Ok(Some(batches)) => return Ok(ReadOutcome::Batches(batches)),
            Ok(None) => return Ok(ReadOutcome::UpToDate),
            Err(Miss::Cold) => return Ok(ReadOutcome::Cold(PendingRead { state: Arc::clone(state), wanted })),
            Err(Miss::Damage(hole)) if hole.from < hole.to => {
                state.add_hole_in(&segment, hole);
            }
            // The segment's batches are whole but are not those it was known to hold: no range of them is to blame.
            Err(Miss::Damage(_)) => {
                state.complain_of_damage(wanted.from, segment.end_offset());
                return Err(ReadError::Corrupt { from: wanted.from, to: segment.end_offset() });
            }
            Err(Miss::Storage(error)) => return Err(error.into()),
        }
    }
}
