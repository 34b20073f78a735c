//! The writer of one partition: assigns offsets, writes everything that waits in one call, rolls segments.
//!
//! Exactly one [`Log`] exists per open partition and it is not shared: its owner appends, everybody else reads through a
//! [`LogReader`]. It waits for no flush: durability is requested here, reached on the flusher's thread and told to the
//! [`LogListener`]. Knows nothing of producers, fences or watermarks; what it is given has been validated.

use std::io::{self, IoSlice};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use smallvec::SmallVec;
use tidelog_protocol::records::{BatchHeader, PREFIX_BYTES, ValidBatches, stamped_prefix};
use tidelog_protocol::{Durability, LeaderEpoch, Offset};

use crate::append_error::AppendError;
use crate::checkpoint::Shutdown;
use crate::disk::Disk;
use crate::flusher::FlusherHandle;
use crate::identity::Identity;
use crate::open_error::OpenError;
use crate::reader::LogReader;
use crate::recovery::{Recovered, recover};
use crate::recovery_report::RecoveryReport;
use crate::retention::Retention;
use crate::segment::{Place, Segment, SegmentOptions};
use crate::segment_files::Prepared;
use crate::state::{LogListener, LogState, Parts};
use crate::storage_error::{Context, StorageError};
use crate::witness::Witness;

/// What a log is opened with.
#[derive(Clone)]
pub struct LogOptions {
    /// Folder of the partition; created if its parent exists.
    pub dir: PathBuf,
    /// The disk it lies on.
    pub disk: Arc<dyn Disk>,
    /// Whose data it is.
    pub identity: Identity,
    /// How it is cut into segments.
    pub segment: SegmentOptions,
    /// Who flushes it.
    pub flusher: FlusherHandle,
    /// Who is told about flushes and poison.
    pub listener: Arc<dyn LogListener>,
}

/// The writer.
#[derive(Debug)]
pub struct Log {
    pub(crate) state: Arc<LogState>,
    /// The segment that takes the next batch; the last of the published list.
    pub(crate) active: Arc<Segment>,
}

/// Batches back to back with their headers, borrowed: one produce request, say.
#[derive(Clone, Copy, Debug)]
pub struct Group<'a> {
    payload: &'a [u8],
    headers: &'a [BatchHeader],
}

impl<'a> Group<'a> {
    /// `payload` is exactly the batches that `headers` describe, in order, already validated; at least one.
    #[must_use]
    pub fn new(payload: &'a [u8], headers: &'a [BatchHeader]) -> Self {
        let bytes: usize = headers.iter().map(BatchHeader::total_bytes).sum();
        assert!(bytes == payload.len() && !headers.is_empty(), "{bytes} bytes of batches in {} bytes", payload.len());
        Self { payload, headers }
    }

    /// How many offsets it takes.
    #[must_use]
    pub fn offsets(&self) -> u64 {
        self.headers.iter().map(|header| u64::from(header.last_offset_delta) + 1).sum()
    }

    fn bytes(&self) -> u64 {
        self.payload.len() as u64
    }

    /// Header and bytes of each batch, in order.
    pub(crate) fn batches(&self) -> impl Iterator<Item = (&'a BatchHeader, &'a [u8])> + use<'a> {
        let mut rest = self.payload;
        self.headers.iter().map(move |header| {
            let (batch, behind) = rest.split_at(header.total_bytes());
            rest = behind;
            (header, batch)
        })
    }
}

impl<'a> From<&'a ValidBatches> for Group<'a> {
    fn from(batches: &'a ValidBatches) -> Self {
        Self { payload: batches.payload(), headers: batches.headers() }
    }
}

/// What an append did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub struct Appended {
    /// Offset of the first record of the first group.
    pub base_offset: Offset,
    /// Offset after the last record: the new end of the log.
    pub next_offset: Offset,
    /// How many groups were taken, from the front, at least one. Fewer than given where the segment is full: append the rest again.
    pub groups: usize,
}

impl Log {
    /// Opens the partition folder, creating it if need be, and recovers what a crash left.
    ///
    /// # Errors
    /// [`OpenError`]; damage that can be fenced is in the [`RecoveryReport`] instead.
    pub fn open(options: LogOptions) -> Result<(Self, RecoveryReport), OpenError> {
        Self::open_with(options, Witness::Nobody)
    }

    /// As [`Log::open`], with somebody who knows more of the log's end than a folder that lost files may.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_with(options: LogOptions, witness: Witness) -> Result<(Self, RecoveryReport), OpenError> {
        let LogOptions { dir, disk, identity, segment, flusher, listener } = options;
        let place = Place { dir: dir.into(), disk, options: segment };
        let Recovered { holdings, snapshots, report } = recover(&place, &identity, witness)?;
        let was_closed = report.shutdown == Shutdown::Clean;
        let parts = Parts { place, identity, flusher: flusher.clone(), listener, holdings, was_closed };
        let state = Arc::new(LogState::new(parts));
        let has_replayed = state.recover_producers(snapshots)?;
        flusher.register(&state);
        if report.scanned_bytes > 0 || has_replayed || !report.holes.is_empty() {
            flusher.request_upkeep(&state);
        }
        let active = state.active();
        Ok((Self { state, active }, report))
    }

    /// A handle for reading, for any thread.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader::new(Arc::clone(&self.state))
    }

    /// Offset of the next record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.state.written_end()
    }

    /// Says what acks of records appended from here on wait for. Until then a log goes on as its folder says, a new one with
    /// [`Durability::Flushed`]. What nobody was promised to find after a power loss, recovery may cut where it has gaps. Does not
    /// touch the disk: the next flush does.
    pub fn set_durability(&self, durability: Durability) {
        let mut since = self.state.written_since.lock();
        since.now = match durability {
            Durability::Flushed => None,
            Durability::Written => Some(since.now.unwrap_or_else(|| self.end())),
        };
    }

    /// Cuts the segments from the next one that takes its first batch on at this size (see [`SegmentOptions::segment_bytes`]).
    pub fn set_segment_bytes(&self, bytes: u32) {
        self.state.set_segment_bytes(bytes);
    }

    /// Asks the flusher to make what was appended durable; the listener is told when it is. Never waits.
    pub fn request_flush(&self) {
        self.state.flusher.request_flush(&self.state);
    }

    /// The same for the sake of nobody who waits: behind all that are waited for.
    pub fn request_unawaited_flush(&self) {
        self.state.flusher.request_unawaited_flush(&self.state);
    }

    /// Makes everything appended durable, here and now, and tells the listener. For closing and for tests: it blocks.
    ///
    /// # Errors
    /// [`AppendError::Poisoned`] if the flush fails, now or earlier; [`AppendError::OutOfDescriptors`] if it could not be tried.
    pub fn flush(&self) -> Result<(), AppendError> {
        let _waiting = self.state.waits.flush_here();
        self.state.flush().map(drop).map_err(AppendError::from)
    }

    /// As the leader: assigns the next offsets to the groups, stamps them and `epoch` into the batches, and writes as many groups as fit
    /// into the segment with one call, straight from the buffers they were received in.
    ///
    /// # Errors
    /// [`AppendError`]; then nothing was taken.
    ///
    /// # Panics
    /// Without groups, or with an epoch older than the log's newest: the owner fences those.
    pub fn append(&mut self, groups: &[Group<'_>], epoch: LeaderEpoch) -> Result<Appended, AppendError> {
        let _waiting = self.state.waits.write();
        let base_offset = self.end();
        let taken = self.make_room(groups)?;
        let groups = &groups[..taken];
        let change = self.state.epochs.lock().assign(epoch, base_offset);
        self.state.note_epoch_change(change);

        let mut prefixes: SmallVec<[[u8; PREFIX_BYTES]; 16]> = SmallVec::new();
        let mut next = base_offset;
        for header in groups.iter().flat_map(|group| group.headers) {
            prefixes.push(stamped_prefix(header, next, epoch));
            next = next.plus(u64::from(header.last_offset_delta) + 1);
        }
        let mut parts: SmallVec<[IoSlice<'_>; 32]> = SmallVec::with_capacity(prefixes.len() * 2);
        let mut prefix = prefixes.iter();
        for group in groups {
            let mut position = 0;
            for header in group.headers {
                let end = position + header.total_bytes();
                parts.extend(prefix.next().map(|prefix| IoSlice::new(prefix)));
                parts.push(IoSlice::new(&group.payload[position + PREFIX_BYTES..end]));
                position = end;
            }
        }
        self.write(&mut parts)?;

        let mut next = base_offset;
        self.active.publish(groups.iter().flat_map(|group| group.headers).map(|header| {
            let stamped = BatchHeader { base_offset: next, ..*header };
            next = stamped.next_offset();
            stamped
        }));
        let appended = self.publish(base_offset, taken);
        self.state.note_producers(groups.iter(), base_offset);
        Ok(appended)
    }

    /// As a follower: takes batches whose offsets and epochs a leader has stamped, byte for byte. The caller has verified
    /// their CRCs.
    ///
    /// # Errors
    /// [`AppendError::BrokenChain`] unless they continue this log, else as [`Log::append`]; then nothing was taken.
    pub fn append_exact(&mut self, groups: &[Group<'_>]) -> Result<Appended, AppendError> {
        let base_offset = self.end();
        let mut expected = base_offset;
        let mut newest = self.state.epochs.lock().latest();
        for header in groups.iter().flat_map(|group| group.headers) {
            let epoch = header.leader_epoch;
            if header.base_offset != expected || epoch.is_none() || epoch < newest {
                return Err(AppendError::BrokenChain { expected, found: header.base_offset, epoch });
            }
            newest = epoch;
            expected = header.next_offset();
        }
        let _waiting = self.state.waits.write();
        let taken = self.make_room(groups)?;
        let groups = &groups[..taken];
        for header in groups.iter().flat_map(|group| group.headers) {
            if let Some(epoch) = header.leader_epoch {
                let change = self.state.epochs.lock().assign(epoch, header.base_offset);
                self.state.note_epoch_change(change);
            }
        }
        let mut parts: SmallVec<[IoSlice<'_>; 32]> = groups.iter().map(|group| IoSlice::new(group.payload)).collect();
        self.write(&mut parts)?;
        self.active.publish(groups.iter().flat_map(|group| group.headers).copied());
        let appended = self.publish(base_offset, taken);
        self.state.note_producers(groups.iter(), base_offset);
        Ok(appended)
    }

    /// Makes sure that the disk has room for `bytes` more bytes of batches, so that an append of them is not refused for want of space.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn reserve(&mut self, bytes: u64) -> Result<(), AppendError> {
        self.check()?;
        if !self.state.flusher.has_space() {
            return Err(AppendError::StorageFull);
        }
        let _waiting = self.state.waits.write();
        let segment_bytes = self.state.place.options.segment_bytes;
        if bytes > u64::from(segment_bytes) {
            return Err(AppendError::TooLarge { bytes, segment_bytes });
        }
        if !self.active.has_room(bytes, self.end().plus(1)) {
            self.begin_segment(u64::from(segment_bytes))?;
        }
        self.grow(bytes)
    }

    /// Seals the active segment and begins a new one. Nothing happens to an empty one.
    ///
    /// # Errors
    /// As [`Log::append`].
    pub fn roll(&mut self) -> Result<(), AppendError> {
        self.check()?;
        if self.active.end_bytes() == 0 {
            return Ok(());
        }
        let _waiting = self.state.waits.write();
        self.begin_segment(u64::from(self.state.place.options.first_allocation_bytes))
    }

    /// Flushes, saves what the next opening would have to search for, and leaves the mark of a clean shutdown. Blocks.
    ///
    /// # Errors
    /// [`AppendError::Poisoned`], or one that is transient; the log is closed nonetheless, and the next opening scans its tail.
    pub fn close(self) -> Result<(), AppendError> {
        self.flush()?;
        self.state.close().map_err(AppendError::of_storage)
    }

    /// Grows ahead, prepares the next segment and renews the checkpoint, here and now; the flusher's second thread does so by itself.
    /// For tests and for logs with a detached flusher: it blocks.
    ///
    /// # Errors
    /// As [`Log::close`]; nothing is lost, recovery would scan more.
    pub fn tidy(&self) -> Result<(), AppendError> {
        self.state.tidy(0).map_err(AppendError::of_storage)
    }

    /// Lets go of the files without a last word: the partition is about to be deleted.
    pub fn discard(self) {
        let _upkeep = self.state.upkeep.lock();
        let _no_flush = self.state.flushing.lock();
        self.state.retired.store(true, Ordering::Release);
    }

    /// A handle that moves the start of the log, for any thread that may block.
    #[must_use]
    pub fn retention(&self) -> Retention {
        Retention { state: Arc::clone(&self.state) }
    }

    pub(crate) fn check(&self) -> Result<(), AppendError> {
        self.state.poisoned().map_or(Ok(()), |error| Err(AppendError::Poisoned(error)))
    }

    /// Checks that something may be appended, rolls if the segment is full, reserves blocks. The answer is how many groups fit.
    fn make_room(&mut self, groups: &[Group<'_>]) -> Result<usize, AppendError> {
        self.check()?;
        if !self.state.flusher.has_space() {
            return Err(AppendError::StorageFull);
        }
        let first = groups.first().expect("an append has at least one group");
        let segment_bytes = self.state.segment_bytes();
        if first.bytes() > u64::from(segment_bytes) {
            return Err(AppendError::TooLarge { bytes: first.bytes(), segment_bytes });
        }
        let mut next = self.end().plus(first.offsets());
        if self.active.end_bytes() == 0 {
            // Another segment would have the same name.
            self.active.adopt_full_bytes(segment_bytes);
        } else if !self.active.has_room(first.bytes(), next) {
            self.begin_segment(u64::from(segment_bytes))?;
        }
        let mut bytes = first.bytes();
        let mut taken = 1;
        for group in &groups[1..] {
            next = next.plus(group.offsets());
            if !self.active.has_room(bytes + group.bytes(), next) {
                break;
            }
            bytes += group.bytes();
            taken += 1;
        }
        self.grow(bytes)?;
        if !self.active.is_indexed() {
            self.load_index()?;
        }
        Ok(taken)
    }

    /// Reserves blocks for so many more bytes.
    fn grow(&self, bytes: u64) -> Result<(), AppendError> {
        let flusher = &self.state.flusher;
        let grown = self.active.grow(self.active.end_bytes() + bytes, flusher.spare_bytes());
        flusher.note_taken(grown.map_err(|error| self.refuse("allocate", error))?);
        Ok(())
    }

    fn load_index(&self) -> Result<(), AppendError> {
        let loaded = self.state.index_segment(&self.active);
        loaded.map_err(|error| self.refuse("read the index of", error))
    }

    pub(crate) fn begin_segment(&mut self, allocation: u64) -> Result<(), AppendError> {
        let base = self.end();
        let mut slot = self.state.prepared.lock();
        let prepared = self.take_prepared(&mut slot, allocation);
        let named = prepared.and_then(|prepared| prepared.name(&self.state.place, base));
        drop(slot);
        let (file, allocated) = named.map_err(|error| self.refuse_error(error))?;
        self.state.folder_dirty.store(true, Ordering::Release);
        let segment = Arc::new(Segment::born(&self.state.next_place(), base, file, allocated));
        self.state.change_segments(|segments| segments.push(Arc::clone(&segment)));
        self.active = segment;
        self.state.flusher.request_upkeep(&self.state);
        Ok(())
    }

    /// The file of the next segment: the prepared one, or else one of so many bytes, or less where there is little room. The slot stays locked
    /// until it has its name: the upkeep would make another, under the temporary name that this one still has.
    pub(crate) fn take_prepared(&self, slot: &mut Option<Prepared>, allocation: u64) -> Result<Prepared, StorageError> {
        let place = &self.state.place;
        if let Some(prepared) = slot.take() {
            return Ok(prepared);
        }
        // The upkeep was not fast enough, or there was no room when it tried.
        let least = allocation.min(u64::from(place.options.first_allocation_bytes));
        let wanted = if self.state.flusher.spare_bytes() < allocation { least } else { allocation };
        let made = Prepared::make(place, wanted).or_else(|_| Prepared::make(place, least));
        made.inspect(|prepared| self.state.flusher.note_taken(prepared.allocated()))
    }

    fn write(&self, parts: &mut [IoSlice<'_>]) -> Result<(), AppendError> {
        let Err(partial) = self.active.write(parts) else { return Ok(()) };
        // Whole batches that nobody was told about must not come back to life after a crash.
        if partial.written > 0 && self.active.erase_unpublished(partial.written).is_err() {
            let error = io::Error::from(partial.error.kind());
            // The caller gets the first error; this one is what the log is poisoned with.
            let _ = self.state.poison(StorageError { operation: "write", path: self.active.path(), source: error });
        }
        Err(self.refuse("write", partial.error))
    }

    fn publish(&mut self, base_offset: Offset, groups: usize) -> Appended {
        let next_offset = self.active.end_offset();
        self.state.publish_written(next_offset);
        self.state.flusher.note_written(&self.state, &self.active);
        Appended { base_offset, next_offset, groups }
    }

    fn refuse(&self, operation: &'static str, error: io::Error) -> AppendError {
        match Err::<(), _>(error).context(operation, &self.active.path()) {
            Err(error) => self.refuse_error(error),
            Ok(()) => AppendError::StorageFull,
        }
    }

    /// What freeing space or descriptors heals is for the client to retry; anything else is the end of this replica.
    pub(crate) fn refuse_error(&self, error: StorageError) -> AppendError {
        if error.is_transient() && self.state.poisoned().is_none() {
            AppendError::of_storage(error)
        } else {
            AppendError::Poisoned(self.state.poison(error))
        }
    }
}
