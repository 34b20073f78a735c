//! Compaction: of a log that keeps the latest value of each key, everything older is taken out, under live readers.
//!
//! A pass ([`Compaction::run`]) learns the last offset of each key in what was written since the pass before (as much of it as its memory
//! takes), then walks all sealed segments from the oldest on and writes those anew in which something goes, small ones together. Offsets stay as
//! they are; batches keep the offsets they name, so the log stays a chain without gaps. Files are exchanged one for one or more, and a crash at
//! any step leaves the old or the new ([`crate::state`] and `swap` say how). Needs no writer, so it runs on any thread that may block. Knows
//! nothing of clocks, topics, or how far other replicas are: the caller says.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tidelog_protocol::records::BatchError;
use tidelog_protocol::{Offset, Timestamp};

use crate::log::Log;
use crate::segment::Segment;
use crate::state::LogState;
use crate::storage_error::StorageError;

pub(crate) mod cleaned;
mod offset_map;
mod pass;
pub(crate) mod rewrite;
mod survival;

pub use survival::AbortedTransaction;
use survival::is_over;

/// Least memory for the offset map of a pass: with less, a pass would hardly get anywhere.
pub const MAP_BYTES_MIN: usize = 4 << 10;

/// What a pass may do, as of now.
#[derive(Clone, Copy, Debug)]
pub struct CompactionRules<'a> {
    /// What time it is.
    pub now: Timestamp,
    /// Nothing at or above is touched: the high watermark, or the last stable offset where that is below.
    pub below: Offset,
    /// No tombstone at or above is dropped, however old: where the replica ends that is furthest behind. One that never saw the tombstone would
    /// keep the value, and could bring it back.
    pub tombstones_below: Offset,
    /// How long a tombstone stays at least once it is the last word on its key (Kafka's `delete.retention.ms`).
    pub tombstone_grace: Duration,
    /// Records stay as they are for so long after they were written (Kafka's `min.compaction.lag.ms`), by the largest timestamp of their segment.
    pub lag: Duration,
    /// Memory for the offset map, in bytes; at least [`MAP_BYTES_MIN`] is taken for it. Beside it, a pass holds a few buffers of the size of
    /// the largest batch.
    pub map_bytes: usize,
    /// Transactions that were aborted, all that have records below `below`.
    pub aborted: &'a [AbortedTransaction],
}

/// Where a pass is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CompactionStep {
    /// It learns the last offset of each key from a segment.
    Learns {
        /// Which, from 1 on.
        segment: usize,
        /// Of so many that are dirty.
        of: usize,
    },
    /// It writes segments anew, or finds that they stay as they are.
    Rewrites {
        /// The first of them, from 1 on.
        segment: usize,
        /// Of so many that the pass walks.
        of: usize,
    },
}

/// What a pass asks of whoever runs it.
pub trait CompactionDriver {
    /// Here it is now.
    fn steps(&mut self, _to: CompactionStep) {}

    /// So many bytes more were read or written. May wait; may end the pass.
    fn pace(&mut self, bytes: u64) -> ControlFlow<()>;

    /// As [`CompactionRules::tombstones_below`], once more. Asked after [`Compaction::dropped_below`] tells what the pass may drop: a
    /// replica that begins to follow in between hears of it, or counts here.
    fn tombstones_below(&mut self) -> Offset;
}

/// How much there is to do in a log.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Backlog {
    /// Bytes that were cleaned.
    pub clean_bytes: u64,
    /// Bytes that could be cleaned and were not.
    pub dirty_bytes: u64,
    /// There are tombstones whose grace is over.
    pub has_due_tombstones: bool,
}

impl Backlog {
    /// What part of it is dirty, from 0 to 1.
    #[must_use]
    pub fn dirty_ratio(&self) -> f64 {
        let all = self.clean_bytes + self.dirty_bytes;
        if all == 0 { 0.0 } else { self.dirty_bytes as f64 / all as f64 }
    }
}

/// What a pass did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Compacted {
    /// Everything below is clean now.
    pub upto: Offset,
    /// Bytes that were read.
    pub read_bytes: u64,
    /// Bytes of segments that were written anew, before.
    pub replaced_bytes: u64,
    /// And after.
    pub written_bytes: u64,
    /// Segments that were replaced.
    pub replaced_segments: usize,
    /// Segments that they became.
    pub written_segments: usize,
    /// Different keys in what was dirty.
    pub keys: usize,
    /// Memory that the offset map took.
    pub map_bytes: usize,
    /// The map was full before the dirty part was over: another pass is due.
    pub is_partial: bool,
}

/// Why a pass ended before its end. What it has done by then holds, and nothing is lost: the next begins anew.
#[derive(Debug, thiserror::Error)]
pub enum CompactionError {
    /// A range is damaged, and what is in it unknown: it must be repaired first.
    #[error("the log is damaged at offset {0}: nothing is compacted before that is repaired")]
    Damaged(Offset),
    /// A batch's checksum matches and its records do not parse.
    #[error("the batch at offset {offset} cannot be compacted: {error}")]
    Batch {
        /// Where it begins.
        offset: Offset,
        /// What is wrong with it.
        error: BatchError,
    },
    /// More is left than a segment can hold.
    #[error("what is left of the segment at offset {0} does not fit into one: its batches have grown")]
    TooLarge(Offset),
    /// The log was truncated, deleted from or closed meanwhile.
    #[error("the log changed while it was compacted")]
    Changed,
    /// The caller's pace said so.
    #[error("compaction was stopped")]
    Stopped,
    /// A write or a flush failed earlier.
    #[error("this replica stopped after a disk error: {0}")]
    Poisoned(Arc<StorageError>),
    /// The disk refused.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

/// A handle that compacts one log. One pass at a time; for any thread that may block.
#[derive(Clone, Debug)]
pub struct Compaction {
    state: Arc<LogState>,
}

impl Log {
    /// A handle that compacts this log.
    #[must_use]
    pub fn compaction(&self) -> Compaction {
        Compaction { state: Arc::clone(&self.state) }
    }
}

/// The segments that a pass may touch, oldest first, and where the dirty part begins.
struct Cleanable {
    segments: Vec<Arc<Segment>>,
    from: Offset,
}

impl Cleanable {
    fn end(&self) -> Offset {
        self.segments.last().map_or(self.from, |segment| segment.end_offset())
    }

    fn is_dirty(&self, segment: &Segment) -> bool {
        segment.end_offset() > self.from
    }
}

impl Compaction {
    /// What there is to do. Cheap.
    #[must_use]
    pub fn backlog(&self, rules: &CompactionRules<'_>) -> Backlog {
        let cleanable = self.cleanable(rules);
        let bytes = |dirty: bool| {
            let of_kind = cleanable.segments.iter().filter(|segment| cleanable.is_dirty(segment) == dirty);
            of_kind.map(|segment| segment.end_bytes()).sum()
        };
        Backlog {
            clean_bytes: bytes(false),
            dirty_bytes: bytes(true),
            has_due_tombstones: self.has_due_tombstones(rules),
        }
    }

    /// Everything below was cleaned.
    #[must_use]
    pub fn cleaned_to(&self) -> Offset {
        self.state.cleaned.lock().cleaned_to()
    }

    /// When a pass cleaned something last that was dirty; `None` where that is not known.
    #[must_use]
    pub fn cleaned_at(&self) -> Option<Timestamp> {
        self.state.cleaned.lock().spans.last().map(|span| span.at)
    }

    /// Tombstones may have been dropped below this. Whoever has a part of the log that ends before it, and not from this replica alone, may
    /// have values whose tombstones he will never see.
    #[must_use]
    pub fn dropped_below(&self) -> Offset {
        self.state.cleaned.lock().dropped_below
    }

    /// One pass over the whole log. **Blocks**.
    ///
    /// # Errors
    /// [`CompactionError`].
    pub fn run(
        &self,
        rules: &CompactionRules<'_>,
        driver: &mut dyn CompactionDriver,
    ) -> Result<Compacted, CompactionError> {
        self.check()?;
        let cleanable = self.cleanable(rules);
        let has_work = cleanable.end() > cleanable.from || self.has_due_tombstones(rules);
        // The caller's bound may be lower than it was: what lies above is clean, and not to be touched now.
        if cleanable.end() < cleanable.from || !has_work {
            return Ok(Compacted { upto: self.cleaned_to(), ..Compacted::default() });
        }
        let ended = pass::Pass::new(&self.state, rules, cleanable, driver).run();
        // Whatever the disk says of files that are another's by now.
        if self.state.retired.load(Ordering::Acquire) { Err(CompactionError::Changed) } else { ended }
    }

    fn check(&self) -> Result<(), CompactionError> {
        if let Some(error) = self.state.poisoned() {
            return Err(CompactionError::Poisoned(error));
        }
        if self.state.retired.load(Ordering::Acquire) {
            return Err(CompactionError::Changed);
        }
        // What a damaged range held may be the last word on any key.
        let holes = self.state.holes();
        holes.all().first().map_or(Ok(()), |hole| Err(CompactionError::Damaged(hole.from)))
    }

    fn cleanable(&self, rules: &CompactionRules<'_>) -> Cleanable {
        let cleaned_to = self.state.cleaned.lock().cleaned_to();
        let below = rules.below.min(self.state.flushed_end());
        let segments = self.state.segments();
        let sealed = &segments[..segments.len() - 1];
        let is_ripe = |segment: &Segment| {
            let largest = segment.record().end.largest;
            // Without a lag no clock matters: a record from the future must not stop everything.
            rules.lag.is_zero() || largest == Timestamp::NONE || is_over(largest, rules.lag, rules.now)
        };
        let is_cleanable = |segment: &&Arc<Segment>| {
            segment.end_offset() <= below
                && segment.end_bytes() > 0
                && segment.dirty_bytes() == 0
                && (segment.end_offset() <= cleaned_to || is_ripe(segment))
        };
        let segments: Vec<_> = sealed.iter().take_while(is_cleanable).cloned().collect();
        let first = segments.first().map_or(cleaned_to, |segment| segment.base());
        Cleanable { segments, from: cleaned_to.max(first) }
    }

    fn has_due_tombstones(&self, rules: &CompactionRules<'_>) -> bool {
        let cleaned = self.state.cleaned.lock();
        let is_due = |at: Timestamp| is_over(at, rules.tombstone_grace, rules.now);
        cleaned
            .spans
            .iter()
            .any(|span| span.tombstones > 0 && is_due(span.at) && span.upto <= rules.tombstones_below.min(rules.below))
    }
}
