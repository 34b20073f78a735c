//! Cutting a log where it diverged from its leader's, under live readers.
//!
//! No file that may be mapped is ever shortened. Segments behind the cut are unlinked; the one that holds it is sealed there and keeps its file,
//! and a new segment begins at the cut. So nothing is copied, and readers keep what they hold and never see it change: what lies behind the
//! seal goes once nobody can look at it any more ([`Segment::trim`]), at once if that can be, and until then no batch counts that reaches beyond the next
//! segment's base. Only where a file is cut again before that, what stays of it is copied. A crash at any step leaves a log that ends somewhere between the cut and the old end, and the follower cuts again.
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
use crate::disk::{DiskFile, read_full_at, write_all_at};
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

/// What stays of the segment that is cut.
#[derive(Debug)]
enum Front {
    /// Nothing.
    None,
    /// This, in the same file.
    Stays(Segment),
    /// So much, in a file of its own.
    Moves(SegmentEnd, SegmentIndex),
}

impl Log {
    /// Forgets everything at and after `offset` (the whole batch, if it lies inside one), durably. The answer is the new end, which
    /// lies at or below `offset` unless that is below the log start. Where a pass of compaction has looked beyond `offset`, everything
    /// goes. Blocks.
    ///
    /// # Errors
    /// One that is transient: nothing that is served has changed, and it can be asked again. [`AppendError::Poisoned`] if the disk failed half way:
    /// what opens then is a log that ends between the cut and the old end.
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
                self.replace_all(log_start, producers)?;
                return Ok(log_start);
            };
            let cut = self.find_cut(&segment, offset).map_err(|error| self.refuse_error(error))?;
            let log_start = self.state.log_start();
            if cut.offset <= log_start || cut.offset < self.state.cleaned.lock().seen_to {
                // Inside the first batch, say: nothing that is served stays.
                let producers =
                    self.state.producers_as_of(cut.offset, log_start).map_err(|error| self.refuse_error(error))?;
                self.replace_all(log_start, producers)?;
                return Ok(log_start);
            }
            // While nothing has changed: what only a lack of space refuses can be asked again.
            let front = self.front_of(&segment, cut).map_err(|error| self.refuse_error(error))?;
            if self.swap(&segment, cut, front)? {
                drop(segment);
                self.give_back_cut_off().map_err(|error| self.refuse_error(error))?;
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
        self.replace_all(offset, producers)
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

    /// What stays of the segment that is cut.
    fn front_of(&self, segment: &Arc<Segment>, cut: Cut) -> Result<Front, StorageError> {
        if cut.offset <= segment.base() {
            return Ok(Front::None);
        }
        let path = segment.path();
        // Nothing but the segment behind it keeps what an earlier cut left in its file from coming back in a crash, and that one goes.
        let is_last = segment.base() == self.active.base();
        if !is_last && segment.has_spare_room() {
            segment.trim().context("trim", &path)?;
        }
        self.state.index_segment(segment).context("read the index of", &path)?;
        let file = segment.file().context("open", &path)?;
        let index = segment.search(|index| index.front(cut.position)).unwrap_or_default();
        let end = end_of_front(&file, segment.base(), &index, cut, &self.state.holes()).context("read", &path)?;
        let must_move = !is_last && segment.has_spare_room();
        Ok(if must_move { Front::Moves(end, index) } else { Front::Stays(segment.sealed_at(end, index)) })
    }

    /// A file with the bytes before the cut, flushed. It takes the temporary name of a prepared one, which must be free.
    fn copy_front(&self, segment: &Segment, cut: Cut) -> Result<Prepared, StorageError> {
        let place = &self.state.place;
        let copy = Prepared::make(place, cut.position.max(u64::from(place.options.first_allocation_bytes)))?;
        let copied = (|| {
            let (from, to) = (segment.file()?, copy.file());
            let mut buffer = vec![0; 1 << 20];
            let mut position = 0;
            while position < cut.position {
                let count = buffer.len().min((cut.position - position) as usize);
                if read_full_at(&*from, &mut buffer[..count], position)? < count {
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
    fn swap(&mut self, segment: &Arc<Segment>, cut: Cut, front: Front) -> Result<bool, AppendError> {
        let state = Arc::clone(&self.state);
        let mut upkeep = state.upkeep.lock();
        state.settle_swaps(&mut upkeep).map_err(|error| self.refuse_error(error))?;
        let _no_flush = state.flushing.lock();
        let segments = state.segments();
        let is_there = segments.iter().any(|there| Arc::ptr_eq(there, segment));
        if !is_there || cut.offset < state.cleaned.lock().seen_to {
            return Ok(false);
        }
        let mut slot = state.prepared.lock();
        let allocation = u64::from(state.place.options.first_allocation_bytes);
        let next = self.take_prepared(&mut slot, allocation);
        let placed = next.and_then(|next| self.place(&mut upkeep, (segment, cut), (front, next)));
        let (list, active) = placed.map_err(|error| self.refuse_error(error))?;
        state.publish_truncated(cut.offset);
        let gone_on = self.go_on(list, active, cut.offset);
        let gone_on = gone_on.and_then(|()| state.rebuild_producers(&mut upkeep, cut.offset).map(drop));
        // The log ends there for all who look: nobody may take it for one that was not cut.
        gone_on.map_err(|error| AppendError::Poisoned(state.poison(error)))?;
        Self::renew_checkpoint(&state, &mut upkeep);
        Ok(true)
    }

    /// Puts the files where they belong. The segments that there are then, and the last of them.
    fn place(
        &self,
        upkeep: &mut Upkeep,
        (segment, cut): (&Segment, Cut),
        (front, next): (Front, Prepared),
    ) -> Result<(Vec<Arc<Segment>>, Arc<Segment>), StorageError> {
        let state = &self.state;
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

        let later = &segments[segments.partition_point(|other| other.base() <= segment.base())..];
        let moves = matches!(front, Front::Moves(..));
        let bound = later.first().filter(|_| moves);
        for later in later.iter().skip(usize::from(bound.is_some())).rev() {
            segment_files::remove(place, later.base())?;
        }
        self.remove_indexes(segment)?;
        let base = if moves { segment.base() } else { cut.offset };
        let (file, allocated) = match bound {
            None => next.name(place, base)?,
            Some(bound) => {
                // Empty, so that nothing behind the cut counts, and there until then, so that nothing of an earlier cut does.
                self.remove_indexes(bound)?;
                next.name(place, bound.base())?;
                place.disk.sync_dir(&place.dir).context("flush", &place.dir)?;
                let named = self.copy_front(segment, cut)?.name(place, base)?;
                place.disk.sync_dir(&place.dir).context("flush", &place.dir)?;
                segment_files::remove(place, bound.base())?;
                named
            }
        };
        place.disk.sync_dir(&place.dir).context("flush", &place.dir)?;
        let next_place = state.next_place();
        let active = Arc::new(match front {
            Front::Moves(end, index) => {
                // Whether the copy is whole is seen when it is read.
                let verified = Verified::from(cut.position);
                let found = Scanned { file, index, marks: Marks::default(), verified, allocated };
                Segment::scanned(&next_place, base, end, found)
            }
            Front::None => Segment::born(&next_place, base, file, allocated),
            Front::Stays(sealed) => {
                list.push(Arc::new(sealed));
                Segment::born(&next_place, base, file, allocated)
            }
        });
        list.push(Arc::clone(&active));
        Ok((list, active))
    }

    fn remove_indexes(&self, segment: &Segment) -> Result<(), StorageError> {
        let place = &self.state.place;
        let remove = |extension| segment_files::remove_if_there(&*place.disk, &place.path(segment.base(), extension));
        [INDEX, TIME_INDEX].into_iter().try_for_each(remove)
    }

    /// Makes others the segments of this log, after its ends were published.
    fn go_on(&mut self, list: Vec<Arc<Segment>>, active: Arc<Segment>, end: Offset) -> Result<(), StorageError> {
        let state = &self.state;
        state.change_segments(|segments| *segments = list);
        self.active = active;
        state.drop_holes_outside(state.first_base()..end);
        // Written below, whether they changed or not.
        let _ = state.epochs.lock().truncate_to(end);
        state.epochs_dirty.store(true, Ordering::Release);
        // Where there is no room, the next flush writes them.
        state.write_epochs().or_else(|error| if error.is_transient() { Ok(()) } else { Err(error) })
    }

    /// Gives back what was cut off at once, unless somebody looks at it: then no crash can bring it back.
    fn give_back_cut_off(&self) -> Result<(), StorageError> {
        let _upkeep = self.state.upkeep.lock();
        let segments = self.state.segments();
        let [.., sealed, _] = &segments[..] else { return Ok(()) };
        if sealed.has_spare_room() {
            let trimmed = sealed.trim().context("trim", &sealed.path());
            // The upkeep tries it again.
            return trimmed.or_else(|error| if error.is_transient() { Ok(()) } else { Err(error) });
        }
        Ok(())
    }

    fn replace_all(&mut self, offset: Offset, producers: Producers) -> Result<(), AppendError> {
        let state = Arc::clone(&self.state);
        let mut upkeep = state.upkeep.lock();
        state.settle_swaps(&mut upkeep).map_err(|error| self.refuse_error(error))?;
        let _no_flush = state.flushing.lock();
        let placed = self.place_anew(&mut upkeep, offset, producers);
        let fresh = placed.map_err(|error| self.refuse_error(error))?;
        state.publish_restarted(offset);
        let gone_on = self.go_on(vec![Arc::clone(&fresh)], fresh, Offset::ZERO);
        // Last: as long as anything of the old log can come back, what was thinned in it must be known.
        // A file that stays for a crash is cut to the new log's end when it opens.
        {
            let mut cleaned = state.cleaned.lock();
            *cleaned = Cleaned { restarts: cleaned.restarts + 1, ..Cleaned::default() };
        }
        let place = &state.place;
        let gone_on =
            gone_on.and_then(|()| segment_files::remove_if_there(&*place.disk, &place.dir.join(cleaned::FILE_NAME)));
        gone_on.map_err(|error| AppendError::Poisoned(state.poison(error)))?;
        Self::renew_checkpoint(&state, &mut upkeep);
        Ok(())
    }

    fn place_anew(
        &self,
        upkeep: &mut Upkeep,
        offset: Offset,
        producers: Producers,
    ) -> Result<Arc<Segment>, StorageError> {
        let state = &self.state;
        let place = &state.place;
        state.replace_producers(upkeep, producers)?;
        let mut slot = state.prepared.lock();
        let prepared = self.take_prepared(&mut slot, u64::from(place.options.first_allocation_bytes))?;
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
        Ok(Arc::new(Segment::born(&state.next_place(), offset, file, allocated)))
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
