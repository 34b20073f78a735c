//! What the writer publishes about one log and everybody else reads: ends, segments, holes, poison.
//!
//! Offsets are published with release and read with acquire; below them nothing changes any more, so readers need no lock of the
//! writer's. Knows how a log is flushed and poisoned; knows nothing of how it is appended to (see [`crate::log`]) or searched (see
//! [`crate::reader`]).

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tidelog_protocol::Offset;
use tidelog_replication::Producers;
use tracing::warn;

use crate::compaction::cleaned::Cleaned;
use crate::complaint::Complaint;
use crate::disk::is_out_of_descriptors;
use crate::flusher::FlusherHandle;
use crate::hole::{Hole, Holes};
use crate::identity::Identity;
use crate::leader_epochs::{Change, LeaderEpochs};
use crate::noted_start::NotedStart;
use crate::recovery::Holdings;
use crate::segment::{Place, Segment};
use crate::segment_files::Prepared;
use crate::storage_error::{Context, StorageError};
use crate::swap::Swap;
use crate::waits::LogWaits;
use crate::written_since::WrittenSince;

/// Told what happens to a log, from the flusher's thread (or the writer's): it must not block and must not call back into the writer.
pub trait LogListener: Send + Sync {
    /// Every record below `end` is durable. Ends never go down between two truncations.
    fn flushed(&self, end: Offset);

    /// A write or a flush failed, which is final: nothing is served, appended or acked from this log any more. Told once.
    fn poisoned(&self, error: &Arc<StorageError>);
}

/// Why a flush made nothing durable.
#[derive(Debug)]
pub(crate) enum FlushError {
    /// It failed, now or earlier, and is never tried again.
    Poisoned(Arc<StorageError>),
    /// It could not be tried for want of a descriptor; nothing is lost by trying again.
    NotTried(StorageError),
}

/// Listens to nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unheard;

impl LogListener for Unheard {
    fn flushed(&self, _end: Offset) {}
    fn poisoned(&self, _error: &Arc<StorageError>) {}
}

/// One log as its readers, the flusher and the upkeep see it.
pub(crate) struct LogState {
    pub(crate) place: Place,
    pub(crate) identity: Identity,
    pub(crate) flusher: FlusherHandle,
    listener: Arc<dyn LogListener>,
    pub(crate) waits: Arc<LogWaits>,
    /// Size of the segments to come; those there are keep theirs.
    segment_bytes: AtomicU32,
    /// Invariant: log start ≤ flushed end ≤ written end, but for the instant of a truncation.
    log_start: AtomicU64,
    flushed_end: AtomicU64,
    written_end: AtomicU64,
    /// Oldest first, never empty; replaced as a whole.
    segments: RwLock<Arc<[Arc<Segment>]>>,
    holes: RwLock<Arc<Holes>>,
    complaint: Mutex<Complaint>,
    poison: OnceLock<Arc<StorageError>>,
    pub(crate) epochs: Mutex<LeaderEpochs>,
    /// The history has entries that its file lacks. Written before the checkpoint that would let recovery pass over their records.
    pub(crate) epochs_dirty: AtomicBool,
    /// Held while the file is replaced: the flusher and the upkeep may both have to, and neither may go on before the other is done.
    epochs_writing: Mutex<()>,
    pub(crate) written_since: Mutex<WrittenSince>,
    /// Changed, and written, under the upkeep lock.
    pub(crate) cleaned: Mutex<Cleaned>,
    /// As of the batches that were published; the writer notes them, the upkeep stores them.
    pub(crate) producers: Mutex<Producers>,
    /// A leader has told of them what no snapshot says.
    pub(crate) producers_adopted: AtomicBool,
    /// A segment got its name since the last fsync of the folder.
    pub(crate) folder_dirty: AtomicBool,
    /// Held while the ends are moved by anything but an append: a flush, a truncation.
    pub(crate) flushing: Mutex<()>,
    /// Held while files other than the active segment's are changed: checkpoint, deletion, truncation.
    pub(crate) upkeep: Mutex<Upkeep>,
    pub(crate) prepared: Mutex<Option<Prepared>>,
    pub(crate) flush_queued: AtomicBool,
    pub(crate) background_queued: AtomicBool,
    /// One of the flusher's threads has it. Changed under the lock of its queue.
    pub(crate) in_flushers_hands: AtomicBool,
    pub(crate) upkeep_queued: AtomicBool,
    /// Closed or discarded: the files are no longer this log's to change. Set under the upkeep lock.
    pub(crate) retired: AtomicBool,
    pub(crate) dirty_noted: AtomicBool,
    /// Waits for a quiet moment to be checkpointed.
    pub(crate) settling: AtomicBool,
    /// The flushed end at the last look, by which a quiet log is known.
    pub(crate) seen_flushed_end: AtomicU64,
    /// Bytes flushed since the last checkpoint.
    pub(crate) flushed_bytes: AtomicU64,
    /// The checkpoint on disk says that the log was closed right after, which the next flush makes untrue.
    pub(crate) says_closed: AtomicBool,
}

/// What the upkeep remembers between two visits.
#[derive(Debug)]
pub(crate) struct Upkeep {
    /// The recovery point of the checkpoint on disk, if this process knows it.
    pub(crate) recovery_point: Option<Offset>,
    /// The start as it stands beside the checkpoint.
    pub(crate) noted_start: NotedStart,
    /// The checkpoint on disk has the log start offset that is published.
    pub(crate) is_start_stored: bool,
    /// Segments that left the list; their files go once the start is stored.
    pub(crate) gone: VecDeque<Arc<Segment>>,
    /// Segments that were exchanged and whose files do not have their names yet.
    pub(crate) swaps: Vec<Swap>,
    /// Offsets of the snapshots of producers that are on disk, in order.
    pub(crate) snapshots: Vec<Offset>,
}

impl Upkeep {
    /// Of a log that was just opened: its start comes from its files.
    const fn new(noted_start: NotedStart) -> Self {
        Self {
            recovery_point: None,
            noted_start,
            is_start_stored: true,
            gone: VecDeque::new(),
            swaps: Vec::new(),
            snapshots: Vec::new(),
        }
    }
}

impl Upkeep {
    /// A disk that refused has left the start undurable, or files to unlink or to rename.
    pub(crate) fn has_unfinished_work(&self) -> bool {
        !self.is_start_stored || !self.gone.is_empty() || !self.swaps.is_empty()
    }
}

/// The ends a log opens with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    pub(crate) log_start: Offset,
    pub(crate) end: Offset,
}

/// Everything a state is made of.
pub(crate) struct Parts {
    pub(crate) place: Place,
    pub(crate) identity: Identity,
    pub(crate) flusher: FlusherHandle,
    pub(crate) listener: Arc<dyn LogListener>,
    pub(crate) holdings: Holdings,
    /// It was, and nothing has been done to it since.
    pub(crate) was_closed: bool,
}

impl LogState {
    pub(crate) fn new(parts: Parts) -> Self {
        let Holdings { segments, holes, epochs, epochs_dirty, written_since, cleaned, noted_start, ends } =
            parts.holdings;
        assert!(ends.log_start <= ends.end && !segments.is_empty(), "{ends:?}");
        Self {
            segment_bytes: AtomicU32::new(parts.place.options.segment_bytes),
            waits: LogWaits::of(&parts.place.dir),
            place: parts.place,
            identity: parts.identity,
            flusher: parts.flusher,
            listener: parts.listener,
            log_start: AtomicU64::new(ends.log_start.0),
            flushed_end: AtomicU64::new(ends.end.0),
            written_end: AtomicU64::new(ends.end.0),
            segments: RwLock::new(segments.into()),
            holes: RwLock::new(Arc::new(holes)),
            complaint: Mutex::default(),
            poison: OnceLock::new(),
            epochs: Mutex::new(epochs),
            epochs_dirty: AtomicBool::new(epochs_dirty),
            epochs_writing: Mutex::new(()),
            written_since: Mutex::new(written_since),
            cleaned: Mutex::new(cleaned),
            producers: Mutex::new(Producers::unknown(ends.end)),
            producers_adopted: AtomicBool::new(false),
            folder_dirty: AtomicBool::new(false),
            flushing: Mutex::new(()),
            upkeep: Mutex::new(Upkeep::new(noted_start)),
            prepared: Mutex::new(None),
            flush_queued: AtomicBool::new(false),
            background_queued: AtomicBool::new(false),
            in_flushers_hands: AtomicBool::new(false),
            upkeep_queued: AtomicBool::new(false),
            retired: AtomicBool::new(false),
            dirty_noted: AtomicBool::new(false),
            settling: AtomicBool::new(false),
            seen_flushed_end: AtomicU64::new(ends.end.0),
            flushed_bytes: AtomicU64::new(0),
            says_closed: AtomicBool::new(parts.was_closed),
        }
    }

    pub(crate) fn segment_bytes(&self) -> u32 {
        self.segment_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn set_segment_bytes(&self, bytes: u32) {
        self.segment_bytes.store(bytes, Ordering::Relaxed);
    }

    /// Where the next segment lives and how it is cut.
    pub(crate) fn next_place(&self) -> Place {
        let mut place = self.place.clone();
        place.options.segment_bytes = self.segment_bytes();
        place
    }

    pub(crate) fn log_start(&self) -> Offset {
        Offset(self.log_start.load(Ordering::Acquire))
    }

    pub(crate) fn flushed_end(&self) -> Offset {
        Offset(self.flushed_end.load(Ordering::Acquire))
    }

    pub(crate) fn written_end(&self) -> Offset {
        Offset(self.written_end.load(Ordering::Acquire))
    }

    /// By the writer only.
    pub(crate) fn publish_written(&self, end: Offset) {
        self.written_end.store(end.0, Ordering::Release);
    }

    /// By the holder of `flushing` only, when the log was cut at `end`.
    pub(crate) fn publish_truncated(&self, end: Offset) {
        self.written_end.store(end.0, Ordering::Release);
        self.flushed_end.store(end.0, Ordering::Release);
    }

    /// By the holder of `flushing` only, when the log begins anew at `start`.
    pub(crate) fn publish_restarted(&self, start: Offset) {
        for end in [&self.log_start, &self.flushed_end, &self.written_end] {
            end.store(start.0, Ordering::Release);
        }
    }

    pub(crate) fn publish_log_start(&self, start: Offset) {
        self.log_start.fetch_max(start.0, Ordering::AcqRel);
    }

    pub(crate) fn segments(&self) -> Arc<[Arc<Segment>]> {
        Arc::clone(&self.segments.read())
    }

    pub(crate) fn active(&self) -> Arc<Segment> {
        Arc::clone(self.segments.read().last().expect("a log has a segment from its opening on"))
    }

    /// The segment that `offset` would lie in: the last whose base is at or below it.
    pub(crate) fn segment_of(&self, offset: Offset) -> Option<Arc<Segment>> {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.base() <= offset);
        after.checked_sub(1).map(|index| Arc::clone(&segments[index]))
    }

    /// Replaces the list by what `change` makes of it.
    pub(crate) fn change_segments(&self, change: impl FnOnce(&mut Vec<Arc<Segment>>)) {
        let mut segments = self.segments.write();
        let mut list = segments.to_vec();
        change(&mut list);
        assert!(!list.is_empty(), "a log has a segment from its opening on");
        let rises = list.is_sorted_by(|earlier, later| earlier.base() < later.base());
        assert!(rises, "two segments of {} would have one name: {list:?}", self.place.dir.display());
        *segments = list.into();
    }

    pub(crate) fn holes(&self) -> Arc<Holes> {
        Arc::clone(&self.holes.read())
    }

    /// Remembers damage that was found in a segment, unless that was exchanged meanwhile for one that was written anew from whole batches.
    pub(crate) fn add_hole_in(&self, segment: &Arc<Segment>, hole: Hole) -> bool {
        let mut holes = self.holes.write();
        let is_there = self.segments.read().iter().any(|there| Arc::ptr_eq(there, segment));
        if is_there {
            self.note_hole(&mut holes, hole);
        }
        is_there
    }

    /// Remembers damage that was found while the log is open.
    pub(crate) fn add_hole(&self, hole: Hole) {
        self.note_hole(&mut self.holes.write(), hole);
    }

    /// Damage is told where it is found, whoever came upon it, and once.
    fn note_hole(&self, holes: &mut Arc<Holes>, hole: Hole) {
        if !holes.all().contains(&hole) {
            let (dir, from, to) = (self.place.dir.display(), hole.from, hole.to);
            warn!(log = %dir, %from, %to, "damaged: this range is not served, the rest is");
        }
        *holes = Arc::new(holes.with(hole));
    }

    /// Damage of which no range can be remembered, so that whoever comes there comes upon it again.
    pub(crate) fn complain_of_damage(&self, from: Offset, to: Offset) {
        if let Some(untold) = self.complaint.lock().again(Instant::now()) {
            warn!(log = %self.place.dir.display(), %from, %to, untold, "damaged: nothing can be read between these offsets");
        }
    }

    /// A damaged range is whole again.
    pub(crate) fn remove_hole(&self, hole: &Hole) {
        let mut holes = self.holes.write();
        *holes = Arc::new(holes.without(hole));
    }

    /// Where the first segment begins. Holes of it count below the log start, too: whoever looks for a batch hops over their bytes.
    pub(crate) fn first_base(&self) -> Offset {
        self.segments.read().first().map_or(self.log_start(), |first| first.base().min(self.log_start()))
    }

    pub(crate) fn drop_holes_outside(&self, range: std::ops::Range<Offset>) {
        let mut holes = self.holes.write();
        *holes = Arc::new(holes.within(range));
    }

    pub(crate) fn poisoned(&self) -> Option<Arc<StorageError>> {
        self.poison.get().cloned()
    }

    /// Ends the life of this replica, once.
    pub(crate) fn poison(&self, error: StorageError) -> Arc<StorageError> {
        let error = Arc::new(error);
        let first = self.poison.get_or_init(|| Arc::clone(&error));
        if Arc::ptr_eq(first, &error) {
            self.listener.poisoned(&error);
        }
        Arc::clone(first)
    }

    pub(crate) fn note_epoch_change(&self, change: Change) {
        if change == Change::Some {
            self.epochs_dirty.store(true, Ordering::Release);
        }
    }

    /// Makes everything written before the call durable, and tells the listener. The answer is the bytes that took.
    ///
    /// Any error of the flush itself poisons the log: the kernel forgets a failed write-back once it was reported, so trying again would
    /// succeed and mean nothing.
    pub(crate) fn flush(&self) -> Result<u64, FlushError> {
        let _one_at_a_time = self.flushing.lock();
        if let Some(error) = self.poisoned() {
            return Err(FlushError::Poisoned(error));
        }
        let end = self.written_end();
        if end == self.flushed_end() || self.retired.load(Ordering::Acquire) {
            return Ok(0);
        }
        // Where there is no room for the bookkeeping, records are made durable all the same: no checkpoint is written past them before
        // their epochs are, so recovery finds those in the records. To wait for room would leave acks hanging.
        if let Err(error) = self.write_epochs()
            && !error.is_transient()
        {
            return Err(FlushError::Poisoned(self.poison(error)));
        }
        // After the end was read: what is below it was appended under a durability that is known here.
        self.store_written_since().map_err(|error| self.fail_flush(error))?;
        self.sync_folder().map_err(|error| self.fail_flush(error))?;
        let began = Instant::now();
        let bytes = self.sync_dirty().map_err(|error| self.fail_flush(error))?;
        self.flusher.count_flush(bytes, began.elapsed());
        self.flushed_end.store(end.0, Ordering::Release);
        self.flushed_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.listener.flushed(end);
        Ok(bytes)
    }

    /// As [`LogState::flush`], of the length of a segment's file.
    pub(crate) fn sync_length(&self, segment: &Segment) -> Result<(), FlushError> {
        let _one_at_a_time = self.flushing.lock();
        let synced = segment.sync_length().context("flush", &segment.path());
        synced.map_err(|error| self.fail_flush(error))
    }

    fn fail_flush(&self, error: StorageError) -> FlushError {
        // Only opening a file says so; nothing was handed to the disk yet that could have been lost.
        if is_out_of_descriptors(&error.source) {
            return FlushError::NotTried(error);
        }
        self.flusher.count_failure();
        FlushError::Poisoned(self.poison(error))
    }

    /// An epoch must be durable before a checkpoint lies behind the first record that it wrote.
    pub(crate) fn write_epochs(&self) -> Result<(), StorageError> {
        let _one_at_a_time = self.epochs_writing.lock();
        if self.epochs_dirty.swap(false, Ordering::AcqRel) {
            let epochs = self.epochs.lock().clone();
            epochs.write(&*self.place.disk, &self.place.dir).inspect_err(|_| {
                self.epochs_dirty.store(true, Ordering::Release);
            })?;
        }
        Ok(())
    }

    fn store_written_since(&self) -> Result<(), StorageError> {
        self.written_since.lock().store(&*self.place.disk, &self.place.dir)
    }

    /// A segment's name must be durable before the first record in it.
    pub(crate) fn sync_folder(&self) -> Result<(), StorageError> {
        let Place { disk, dir, .. } = &self.place;
        if self.folder_dirty.swap(false, Ordering::AcqRel) {
            disk.sync_dir(dir).context("flush", dir).inspect_err(|_| {
                self.folder_dirty.store(true, Ordering::Release);
            })?;
        }
        Ok(())
    }

    /// What was made durable must be there for the next start. What is no segment of the log any more has gone the way of them all.
    fn find_again(&self, segment: &Arc<Segment>) -> Result<(), StorageError> {
        let is_there = || self.segments().iter().any(|there| Arc::ptr_eq(there, segment));
        segment.find_again().or_else(|error| {
            if !is_there() || error.is_transient() {
                return Ok(());
            }
            // Nor is what was once seen to be whole so now.
            segment.verified.forget(segment.end_bytes());
            Err(error)
        })
    }

    fn sync_dirty(&self) -> Result<u64, StorageError> {
        let segments = self.segments();
        // Segments fill one after the other: before a clean one that was written to, all are clean.
        let is_settled = |segment: &Arc<Segment>| segment.dirty_bytes() == 0 && segment.end_bytes() > 0;
        let first_dirty = segments.iter().rposition(is_settled).map_or(0, |settled| settled + 1);
        let mut bytes = 0;
        // The oldest first: what a power loss leaves of a later segment then has all of the earlier ones before it.
        for segment in &segments[first_dirty..] {
            bytes += segment.sync().context("flush", &segment.path())?;
            self.find_again(segment)?;
        }
        Ok(bytes)
    }
}

impl fmt::Debug for LogState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Log")
            .field("dir", &self.place.dir)
            .field("identity", &self.identity)
            .field("log_start", &self.log_start())
            .field("flushed_end", &self.flushed_end())
            .field("written_end", &self.written_end())
            .finish_non_exhaustive()
    }
}
