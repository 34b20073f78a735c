//! Cutting a log where it diverged from its leader's, under live readers.
//!
//! No file that may be mapped is ever shortened. Segments behind the cut are unlinked; of the one that holds it, what stays is copied into
//! a new file that takes its name, so readers keep what they hold and never see it change. A crash at any step leaves a log that ends
//! somewhere between the cut and the old end, and the follower cuts again.
//!
//! Below what compaction has looked at nothing can be cut: a record there may be missing because of a later one that would go. All of it goes,
//! and the follower fetches it anew.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_protocol::Offset;
use tidelog_replication::Producers;

use crate::append_error::AppendError;
use crate::checkpoint::{Checkpoint, Marks, SegmentEnd, Shutdown};
use crate::compaction::cleaned::{self, Cleaned};
use crate::disk::{DiskFile, is_full, read_full_at, write_all_at};
use crate::log::Log;
use crate::lookup::{Lookup, Miss, Patience};
use crate::segment::{Scanned, Segment};
use crate::segment_files::{self, INDEX, LOG, Prepared, TIME_INDEX};
use crate::segment_index::{SegmentIndex, rebuild_index};
use crate::state::{LogState, Upkeep};
use crate::storage_error::{Context, StorageError};
use crate::verified::Verified;

/// Where to cut: a batch boundary.
#[derive(Clone, Copy, Debug)]
struct Cut {
    offset: Offset,
    position: u64,
}

impl Log {
    /// Forgets everything at and after `offset` (the whole batch, if it lies inside one), durably. The answer is the new end, which
    /// lies at or below `offset` unless that is below the log start. Where a pass of compaction has looked beyond `offset`, everything
    /// goes. Blocks.
    ///
    /// # Errors
    /// One that is transient, with nothing changed; [`AppendError::Poisoned`] if the disk failed half way: what opens then is
    /// a log that ends between the cut and the old end.
    pub fn truncate_to(&mut self, offset: Offset) -> Result<Offset, AppendError> {
        // Bookkeeping below counts on everything that stays being durable.
        self.flush()?;
        let offset = offset.max(self.state.log_start());
        if offset >= self.end() {
            return Ok(self.end());
        }
        loop {
            let Some(segment) = self.state.segment_of(offset) else {
                // The first segment was lost, and nothing that is there lies before `offset`.
                let log_start = self.state.log_start();
                let producers = Producers::unknown(log_start);
                self.replace_all(log_start, producers).map_err(|error| self.stop(error))?;
                return Ok(log_start);
            };
            let cut = self.find_cut(&segment, offset).map_err(|error| self.refuse_error(error))?;
            let log_start = self.state.log_start();
            if cut.offset <= log_start || cut.offset < self.state.cleaned.lock().seen_to {
                // Inside the first batch, say: nothing that is served stays.
                let producers =
                    self.state.producers_as_of(cut.offset, log_start).map_err(|error| self.refuse_error(error))?;
                self.replace_all(log_start, producers).map_err(|error| self.stop(error))?;
                return Ok(log_start);
            }
            let shortened = self.copy_front(&segment, cut);
            let shortened = shortened.map_err(|error| self.refuse_error(error))?;
            if self.swap(&segment, cut, shortened).map_err(|error| self.stop(error))? {
                return Ok(cut.offset);
            }
        }
    }

    /// Forgets everything and goes on at `offset`: for a follower whose leader's log begins behind its own end. Blocks.
    ///
    /// # Errors
    /// As [`Log::truncate_to`].
    pub fn restart_at(&mut self, offset: Offset) -> Result<(), AppendError> {
        self.flush()?;
        let producers = if offset == Offset::ZERO { Producers::new(offset) } else { Producers::unknown(offset) };
        self.replace_all(offset, producers).map_err(|error| self.stop(error))
    }

    fn stop(&self, error: StorageError) -> AppendError {
        if is_full(&error.source) && self.state.poisoned().is_none() {
            AppendError::StorageFull
        } else {
            AppendError::Poisoned(self.state.poison(error))
        }
    }

    fn find_cut(&self, segment: &Arc<Segment>, offset: Offset) -> Result<Cut, StorageError> {
        if offset >= segment.end_offset() {
            return Ok(Cut { offset: segment.end_offset(), position: segment.end_bytes() });
        }
        loop {
            let holes = self.state.holes();
            if let Some(hole) = holes.next_after(offset).filter(|hole| hole.from <= offset) {
                let position = if hole.segment == segment.base() { hole.bytes.start } else { 0 };
                return Ok(Cut { offset: hole.from.max(segment.base()), position });
            }
            let lookup = Lookup { state: &self.state, segment, holes: &holes, patience: Patience::Block };
            match lookup.batch_of(offset) {
                Ok((position, header)) => return Ok(Cut { offset: header.base_offset, position }),
                Err(Miss::Damage(hole)) => self.state.add_hole(hole),
                Err(Miss::Storage(error)) => return Err(error),
                Err(Miss::Cold) => {
                    let error = io::Error::from(io::ErrorKind::WouldBlock);
                    return Err(error).context("search", &segment.path());
                }
            }
        }
    }

    /// A file with the bytes before the cut, flushed, not named yet.
    fn copy_front(&self, segment: &Segment, cut: Cut) -> Result<Prepared, StorageError> {
        let place = &self.state.place;
        let allocated = cut.position.max(u64::from(place.options.first_allocation_bytes));
        let mut slot = self.state.prepared.lock();
        if let Some(prepared) = slot.take() {
            prepared.discard(place)?;
        }
        let copy = Prepared::make(place, allocated)?;
        let copied = (|| {
            let (from, to) = (segment.file()?, copy.file());
            let mut buffer = vec![0; 1 << 20];
            let mut position = 0;
            while position < cut.position {
                let count = buffer.len().min((cut.position - position) as usize);
                let filled = read_full_at(&*from, &mut buffer[..count], position)?;
                if filled < count {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                let parts = &mut [IoSlice::new(&buffer[..count])];
                write_all_at(&**to, parts, position).map_err(|partial| partial.error)?;
                position += count as u64;
            }
            to.sync_data()
        })();
        if let Err(error) = copied {
            copy.discard(place)?;
            return Err(error).context("copy the front of", &segment.path());
        }
        Ok(copy)
    }

    /// False, and nothing is done, where compaction was faster and looked at what was to be cut.
    fn swap(&mut self, segment: &Arc<Segment>, cut: Cut, copy: Prepared) -> Result<bool, StorageError> {
        let state = Arc::clone(&self.state);
        let place = &state.place;
        let mut upkeep = state.upkeep.lock();
        state.settle_swaps(&mut upkeep)?;
        let _no_flush = state.flushing.lock();
        let segments = state.segments();
        let is_there = segments.iter().any(|there| Arc::ptr_eq(there, segment));
        if !is_there || cut.offset < state.cleaned.lock().seen_to {
            copy.discard(place)?;
            return Ok(false);
        }
        let before: Vec<_> = segments.iter().filter(|other| other.base() < segment.base()).cloned().collect();

        // Before anything else can stand where they say what stands.
        state.drop_snapshots_behind(&mut upkeep, cut.offset)?;
        // First the promise is taken back, so that what is cut is a tail to recovery, not a loss.
        let log_start = state.log_start();
        let holes = state.holes().within(state.first_base()..segment.base()).all().to_vec();
        let records = before.iter().map(|segment| segment.record()).collect();
        let recovery_point = segment.base();
        // The file that is there still may be shorter than a new one.
        let reserved_bytes = 0;
        Checkpoint { log_start, recovery_point, shutdown: Shutdown::Running, reserved_bytes, segments: records, holes }
            .write(&*place.disk, &place.dir)?;
        upkeep.recovery_point = Some(recovery_point);

        for later in segments.iter().rev().take_while(|later| later.base() > segment.base()) {
            segment_files::remove(place, later.base())?;
        }
        for extension in [INDEX, TIME_INDEX] {
            segment_files::remove_if_there(&*place.disk, &place.path(segment.base(), extension))?;
        }
        let (file, allocated) = copy.name(place, segment.base())?;
        place.disk.sync_dir(&place.dir).context("flush", &place.dir)?;
        let shortened = Arc::new(self.shortened(segment, cut, file, allocated)?);

        state.publish_truncated(cut.offset);
        state.change_segments(|list| {
            *list = before;
            list.push(Arc::clone(&shortened));
        });
        state.drop_holes_outside(state.first_base()..cut.offset);
        let epochs = {
            let mut epochs = state.epochs.lock();
            // Written below, whether it changed or not.
            let _ = epochs.truncate_to(cut.offset);
            epochs.clone()
        };
        epochs.write(&*place.disk, &place.dir)?;
        state.epochs_dirty.store(false, Ordering::Release);
        self.active = shortened;
        let _ = state.rebuild_producers(&mut upkeep, cut.offset)?;
        Self::renew_checkpoint(&state, &mut upkeep);
        Ok(true)
    }

    fn shortened(
        &self,
        segment: &Segment,
        cut: Cut,
        file: Arc<dyn DiskFile>,
        allocated: u64,
    ) -> Result<Segment, StorageError> {
        let place = &self.state.place;
        let base = segment.base();
        let interval = place.options.index_interval_bytes;
        let (index, found) = rebuild_index(Arc::clone(&file), base, cut.position, &self.state.holes(), interval)
            .context("read", &place.path(base, LOG))?;
        // Damage that nobody knew ends the walk early; a read finds it. Only what the walk saw is known to be whole.
        let end = SegmentEnd { offset: cut.offset, bytes: cut.position, ..found };
        let verified = Verified::from(cut.position);
        verified.add(0..found.bytes.min(cut.position));
        Ok(Segment::scanned(
            &self.state.next_place(),
            base,
            end,
            Scanned { file, index, marks: Marks::default(), verified, allocated },
        ))
    }

    fn replace_all(&mut self, offset: Offset, producers: Producers) -> Result<(), StorageError> {
        let state = Arc::clone(&self.state);
        let place = &state.place;
        let mut upkeep = state.upkeep.lock();
        state.settle_swaps(&mut upkeep)?;
        let _no_flush = state.flushing.lock();
        state.replace_producers(&mut upkeep, producers)?;
        let prepared = match state.prepared.lock().take() {
            Some(prepared) => prepared,
            None => Prepared::make(place, u64::from(place.options.first_allocation_bytes))?,
        };
        // The start may move back. Until the checkpoint is written, the one before it still says where the log began.
        upkeep.noted_start.remove(&*place.disk, &place.dir)?;
        // Nothing before `offset` is promised any more; what a crash leaves below it is deleted at the next opening.
        let checkpoint = Checkpoint {
            log_start: offset,
            recovery_point: offset,
            shutdown: Shutdown::Running,
            reserved_bytes: 0,
            segments: Vec::new(),
            holes: Vec::new(),
        };
        checkpoint.write(&*place.disk, &place.dir)?;
        upkeep.recovery_point = Some(offset);
        for segment in upkeep.gone.drain(..) {
            segment_files::remove(place, segment.base())?;
        }
        for segment in state.segments().iter().rev() {
            segment_files::remove(place, segment.base())?;
        }
        let (file, allocated) = prepared.name(place, offset)?;
        place.disk.sync_dir(&place.dir).context("flush", &place.dir)?;
        let record = SegmentEnd::empty(offset);
        let found = Scanned {
            file,
            index: SegmentIndex::default(),
            marks: Marks::default(),
            verified: Verified::from(0),
            allocated,
        };
        let fresh = Arc::new(Segment::scanned(&state.next_place(), offset, record, found));
        state.publish_restarted(offset);
        state.change_segments(|list| *list = vec![Arc::clone(&fresh)]);
        state.drop_holes_outside(offset..offset);
        let epochs = {
            let mut epochs = state.epochs.lock();
            // Written below, whether it changed or not.
            let _ = epochs.truncate_to(Offset::ZERO);
            epochs.clone()
        };
        epochs.write(&*place.disk, &place.dir)?;
        state.epochs_dirty.store(false, Ordering::Release);
        self.active = fresh;
        // Last: as long as anything of the old log can come back, what was thinned in it must be known.
        // A file that stays for a crash is cut to the new log's end when it opens.
        {
            let mut cleaned = state.cleaned.lock();
            *cleaned = Cleaned { restarts: cleaned.restarts + 1, ..Cleaned::default() };
        }
        segment_files::remove_if_there(&*place.disk, &place.dir.join(cleaned::FILE_NAME))?;
        Self::renew_checkpoint(&state, &mut upkeep);
        Ok(())
    }

    /// Soon: until it knows the segment that is there now, the loss of that one would look like a cut that was interrupted.
    fn renew_checkpoint(state: &Arc<LogState>, upkeep: &mut Upkeep) {
        upkeep.recovery_point = None;
        state.flusher.request_upkeep(state);
    }
}
