//! Cutting a log where it diverged from its leader's, under live readers.
//!
//! No file that may be mapped is ever shortened. Segments behind the cut are unlinked; the one that holds it is sealed there and keeps its file,
//! and a new segment begins at the cut. So nothing is copied, and readers keep what they hold and never see it change: what lies behind the
//! seal goes once nobody can look at it any more ([`Segment::trim`]), and until then no batch counts that reaches beyond the next segment's
//! base. A crash at any step leaves a log that ends somewhere between the cut and the old end, and the follower cuts again.
//!
//! Below what compaction has looked at nothing can be cut: a record there may be missing because of a later one that would go. All of it goes,
//! and the follower fetches it anew.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_protocol::Offset;
use tidelog_replication::Producers;

use crate::append_error::AppendError;
use crate::checkpoint::{Checkpoint, Marks, SegmentEnd, Shutdown};
use crate::compaction::cleaned::{self, Cleaned};
use crate::disk::{DiskFile, is_full};
use crate::hole::Holes;
use crate::log::Log;
use crate::lookup::{Lookup, Miss, Patience};
use crate::scan::Window;
use crate::segment::{Scanned, Segment};
use crate::segment_files::{self, INDEX, Prepared, TIME_INDEX};
use crate::segment_index::{SegmentIndex, advance};
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
            // While nothing has changed: what only a lack of space refuses can be asked again.
            let sealed = self.seal_at(&segment, cut).map_err(|error| self.refuse_error(error))?;
            if self.swap(&segment, cut, sealed)? {
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

    /// The segment as it is without what lies behind the cut; `None` where nothing stays of it.
    fn seal_at(&self, segment: &Arc<Segment>, cut: Cut) -> Result<Option<Segment>, StorageError> {
        if cut.offset <= segment.base() {
            return Ok(None);
        }
        let path = segment.path();
        self.state.index_segment(segment).context("read the index of", &path)?;
        let file = segment.file().context("open", &path)?;
        let front = segment.search(|index| index.front(cut.position)).unwrap_or_default();
        let end = end_of_front(&file, segment.base(), &front, cut, &self.state.holes()).context("read", &path)?;
        Ok(Some(segment.sealed_at(end, front)))
    }

    /// False, and nothing is done, where compaction was faster and looked at what was to be cut.
    fn swap(&mut self, segment: &Arc<Segment>, cut: Cut, sealed: Option<Segment>) -> Result<bool, AppendError> {
        let state = Arc::clone(&self.state);
        let mut upkeep = state.upkeep.lock();
        state.settle_swaps(&mut upkeep).map_err(|error| self.stop(error))?;
        let _no_flush = state.flushing.lock();
        let segments = state.segments();
        let is_there = segments.iter().any(|there| Arc::ptr_eq(there, segment));
        if !is_there || cut.offset < state.cleaned.lock().seen_to {
            return Ok(false);
        }
        let mut slot = state.prepared.lock();
        let allocation = u64::from(state.place.options.first_allocation_bytes);
        let next = self.take_prepared(&mut slot, allocation).map_err(|error| self.refuse_error(error))?;
        self.exchange(&mut upkeep, (segment, cut), (sealed, next)).map_err(|error| self.stop(error))?;
        Ok(true)
    }

    fn exchange(
        &mut self,
        upkeep: &mut Upkeep,
        (segment, cut): (&Segment, Cut),
        (sealed, next): (Option<Segment>, Prepared),
    ) -> Result<(), StorageError> {
        let state = Arc::clone(&self.state);
        let place = &state.place;
        let segments = state.segments();
        let mut list: Vec<_> = segments.iter().filter(|other| other.base() < segment.base()).cloned().collect();

        // Before anything else can stand where they say what stands.
        state.drop_snapshots_behind(upkeep, cut.offset)?;
        // First the promise is taken back, so that what is cut is a tail to recovery, not a loss.
        let log_start = state.log_start();
        let holes = state.holes().within(state.first_base()..segment.base()).all().to_vec();
        let records = list.iter().map(|segment| segment.record()).collect();
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
        let (file, allocated) = next.name(place, cut.offset)?;
        place.disk.sync_dir(&place.dir).context("flush", &place.dir)?;
        let active = Arc::new(Segment::born(&state.next_place(), cut.offset, file, allocated));
        list.extend(sealed.map(Arc::new));
        list.push(Arc::clone(&active));

        state.publish_truncated(cut.offset);
        state.change_segments(|segments| *segments = list);
        state.drop_holes_outside(state.first_base()..cut.offset);
        let epochs = {
            let mut epochs = state.epochs.lock();
            // Written below, whether it changed or not.
            let _ = epochs.truncate_to(cut.offset);
            epochs.clone()
        };
        epochs.write(&*place.disk, &place.dir)?;
        state.epochs_dirty.store(false, Ordering::Release);
        self.active = active;
        let _ = state.rebuild_producers(upkeep, cut.offset)?;
        Self::renew_checkpoint(&state, upkeep);
        Ok(())
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

/// The end of a segment that is cut, of which `front` is the index: what lies between its last entry and the cut is walked.
fn end_of_front(
    file: &Arc<dyn DiskFile>,
    base: Offset,
    front: &SegmentIndex,
    cut: Cut,
    holes: &Holes,
) -> io::Result<SegmentEnd> {
    let mut window = Window::new(Arc::clone(file), cut.position);
    let mut end = SegmentEnd::empty(base);
    if let Some((position, mark)) = front.last_entry(base) {
        end = SegmentEnd { bytes: position, largest: mark.timestamp, largest_at: mark.at, ..end };
    }
    while end.bytes < cut.position {
        if let Some(hole) = holes.starting_at(base, end.bytes) {
            end.bytes = hole.bytes.end;
            continue;
        }
        // Damage that nobody knew yet is found when it is read.
        let Some(header) = window.batch(end.bytes)? else { break };
        advance(&mut end, &header);
    }
    Ok(SegmentEnd { offset: cut.offset, bytes: cut.position, ..end })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os_disk::OsDisk;
    use crate::segment::{Place, SegmentOptions};

    #[test]
    fn as_long_as_anybody_has_the_segment_as_it_was_the_file_keeps_what_was_cut_off() {
        let temp = tempfile::tempdir().unwrap();
        let place = Place { dir: temp.path().into(), disk: OsDisk::shared(), options: SegmentOptions::default() };
        let (_, allocated) = Prepared::make(&place, 4096).unwrap().name(&place, Offset(0)).unwrap();
        let end = |bytes| SegmentEnd { bytes, offset: Offset(bytes), ..SegmentEnd::empty(Offset(0)) };
        let cut = |segment: &Arc<Segment>, bytes| Arc::new(segment.sealed_at(end(bytes), SegmentIndex::default()));
        let length = || std::fs::metadata(place.path(Offset(0), segment_files::LOG)).unwrap().len();

        let record = crate::checkpoint::SegmentRecord { base: Offset(0), end: end(4000), marks: Marks::default() };
        let uncut = Arc::new(Segment::known(&place, record, allocated));
        let once = cut(&uncut, 3000);
        let twice = cut(&once, 2000);
        drop(once);
        let before = length();
        twice.trim().unwrap();
        assert_eq!(length(), before, "the first of them may be about to map what it knows");
        drop(uncut);
        twice.trim().unwrap();
        assert_eq!(length(), 2000);
    }
}
