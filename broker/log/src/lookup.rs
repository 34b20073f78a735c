//! Finding batches in one segment: index, a few headers, and proof that the bytes are whole.
//!
//! Touches nothing beyond the index and the headers of one index interval at each end, so the cost does not depend on how much is
//! read. Headers are read with system calls, not through the map: an unreadable page is then an error and a cold one is known before
//! it is touched. Knows nothing of the log's ends; the caller has bounded what is wanted.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_protocol::Offset;
use tidelog_protocol::records::{BatchHeader, HEADER_BYTES};

use crate::disk::{DiskFile, read_full_at};
use crate::hole::{Hole, Holes};
use crate::offset_index::OffsetEntry;
use crate::reader::Batches;
use crate::scan::{Next, Window, epoch_matches};
use crate::segment::Segment;
use crate::state::LogState;
use crate::storage_error::{Context, StorageError};

/// Headers are looked for in pieces of this size: about one index interval.
const HOP_BYTES: usize = 4096;

/// What a reader asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) from: Offset,
    pub(crate) upper: Offset,
    pub(crate) max_bytes: u32,
}

/// Whether the calling thread may wait for the disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Patience {
    Never,
    Block,
    /// As `Block`, and nothing is believed that was seen before: everything is read back past the page cache, as far as nobody has it mapped.
    Doubt,
}

/// Why nothing was found.
#[derive(Debug)]
pub(crate) enum Miss {
    /// The disk is needed, and the caller must not wait.
    Cold,
    /// Damage that nobody knew; looking again takes it into account.
    Damage(Hole),
    Storage(StorageError),
}

/// One search.
#[derive(Clone, Copy)]
pub(crate) struct Lookup<'a> {
    pub(crate) state: &'a Arc<LogState>,
    pub(crate) segment: &'a Arc<Segment>,
    pub(crate) holes: &'a Holes,
    pub(crate) patience: Patience,
}

/// A place where a batch begins, with the offset it begins at.
#[derive(Clone, Copy, Debug)]
struct Place {
    position: u64,
    offset: Offset,
}

impl Lookup<'_> {
    /// The batches wanted; `None` if even the first does not lie below `upper`.
    pub(crate) fn read(&self, wanted: Wanted) -> Result<Option<Batches>, Miss> {
        let segment = self.segment;
        segment.touched.store(true, Ordering::Relaxed);
        self.need_index()?;
        let limit = segment.end_bytes();
        let segment_end = segment.end_offset();
        let file = self.file()?;
        let mut seen = self.look(wanted.from, u64::from(wanted.max_bytes), limit)?;
        let mut hops =
            Hops { file: &*file, limit, patience: self.patience, start: 0, filled: 0, buffer: [0; HOP_BYTES] };

        let origin = self.origin(&mut hops, wanted.from)?;
        let Some((first, header)) = self.find(&mut hops, origin, wanted.from)? else { return Err(self.lost(origin)) };
        let first_end = Place { position: first.position + header.total_bytes() as u64, offset: header.next_offset() };
        if first_end.offset > wanted.upper {
            // Or so it says: "nothing yet" must not be the answer of a flipped bit.
            self.prove(origin, first_end)?;
            return Ok(None);
        }
        let budget_end = first.position + u64::from(wanted.max_bytes);
        self.look_on(&mut seen, budget_end.max(first_end.position + HOP_BYTES as u64), limit)?;
        let mut end = first_end;
        if wanted.upper >= segment_end && limit <= budget_end && !self.crosses_hole(end.offset, segment_end) {
            end = Place { position: limit, offset: segment_end };
        } else {
            end = self.last_within(&mut hops, end, wanted.upper, budget_end)?;
        }
        let range = first.position..end.position;
        // Proved after all looks at the page cache, which may say that nothing is known to be whole any more.
        self.prove(origin, end)?;
        match self.patience {
            Patience::Never if hops.hold(&range) || self.reaches_end(&*file, &range)? => {}
            Patience::Never => return Err(Miss::Cold),
            Patience::Block | Patience::Doubt => self.hold_pages(&*file, &range, origin, end)?,
        }
        let map = segment.map(end.position).map_err(|error| self.storage("map", error))?;
        Ok(Some(Batches { bytes: map.slice(range), next: end.offset }))
    }

    /// Where the batch that holds `offset` begins, with its header.
    pub(crate) fn batch_of(&self, offset: Offset) -> Result<(u64, BatchHeader), Miss> {
        self.need_index()?;
        let file = self.file()?;
        let limit = self.segment.end_bytes();
        self.look(offset, 0, limit)?;
        let mut hops =
            Hops { file: &*file, limit, patience: self.patience, start: 0, filled: 0, buffer: [0; HOP_BYTES] };
        let origin = self.origin(&mut hops, offset)?;
        let Some((place, header)) = self.find(&mut hops, origin, offset)? else { return Err(self.lost(origin)) };
        self.prove(
            origin,
            Place { position: place.position + header.total_bytes() as u64, offset: header.next_offset() },
        )?;
        Ok((place.position, header))
    }

    /// Looks whether the page cache holds what is likely to be read: from the last index entry on, before anything reads it in. The answer is
    /// the end of what was looked at.
    fn look(&self, from: Offset, bytes: u64, limit: u64) -> Result<u64, Miss> {
        let relative = from.since(self.segment.base());
        let entry = self.segment.search(|index| {
            let before = index.offsets.count_up_to(relative).checked_sub(1)?;
            index.offsets.entries().get(before).map(|entry| u64::from(entry.position))
        });
        let mut seen = entry.flatten().unwrap_or(0).min(limit);
        let wanted = seen.saturating_add(bytes).saturating_add(2 * HOP_BYTES as u64);
        self.look_on(&mut seen, wanted, limit)?;
        Ok(seen)
    }

    /// As [`Lookup::look`], from where that has ended.
    fn look_on(&self, seen: &mut u64, end: u64, limit: u64) -> Result<(), Miss> {
        let range = *seen..end.min(limit);
        if range.is_empty() {
            return Ok(());
        }
        *seen = range.end;
        let held = self.segment.is_resident(range).map_err(|error| self.storage("map", error))?;
        if held || self.patience != Patience::Never { Ok(()) } else { Err(Miss::Cold) }
    }

    fn need_index(&self) -> Result<(), Miss> {
        match self.patience {
            _ if self.segment.is_indexed() => Ok(()),
            Patience::Never => Err(Miss::Cold),
            Patience::Block | Patience::Doubt => {
                let indexed = self.state.index_segment(self.segment);
                indexed.map_err(|error| self.unopened("read the index of", error))
            }
        }
    }

    fn file(&self) -> Result<Arc<dyn DiskFile>, Miss> {
        match (self.segment.opened(), self.patience) {
            (Some(file), _) => Ok(file),
            (None, Patience::Never) => Err(Miss::Cold),
            (None, Patience::Block | Patience::Doubt) => {
                self.segment.file().map_err(|error| self.unopened("open", error))
            }
        }
    }

    /// A segment of the log that has no file any more is lost as a whole.
    fn unopened(&self, operation: &'static str, error: std::io::Error) -> Miss {
        let is_there = || self.state.segments().iter().any(|there| Arc::ptr_eq(there, self.segment));
        if error.kind() != std::io::ErrorKind::NotFound || !is_there() {
            return self.storage(operation, error);
        }
        let (base, end) = (self.segment.base(), self.segment.end_offset());
        Miss::Damage(Hole { from: base, to: end, segment: base, bytes: 0..self.segment.end_bytes() })
    }

    /// The last known batch at or before `offset`. An index entry that does not describe a batch is passed over: the log is right.
    fn origin(&self, hops: &mut Hops<'_>, offset: Offset) -> Result<Place, Miss> {
        let base = self.segment.base();
        let mut count = self.segment.search(|index| index.offsets.count_up_to(offset.since(base))).ok_or(Miss::Cold)?;
        loop {
            let entry =
                |index: usize| self.segment.search(|found| found.offsets.entries().get(index).copied()).flatten();
            let Some(OffsetEntry { relative, position }) = count.checked_sub(1).and_then(entry) else {
                return Ok(Place { position: 0, offset: base });
            };
            let header = hops.header(u64::from(position)).map_err(|miss| self.hop_miss(miss))?;
            if let Some(header) = header.filter(|header| header.last_offset().since(base) == u64::from(relative)) {
                return Ok(Place { position: u64::from(position), offset: header.base_offset });
            }
            count -= 1;
        }
    }

    /// Hops from `place` to the batch that holds `offset`.
    fn find(
        &self,
        hops: &mut Hops<'_>,
        mut place: Place,
        offset: Offset,
    ) -> Result<Option<(Place, BatchHeader)>, Miss> {
        loop {
            if let Some(hole) = self.holes.starting_at(self.segment.base(), place.position) {
                place = Place { position: hole.bytes.end, offset: hole.to };
            }
            let header = hops.header(place.position).map_err(|miss| self.hop_miss(miss))?;
            let Some(header) = header.filter(|header| header.base_offset == place.offset) else { return Ok(None) };
            if header.next_offset() > offset {
                return Ok((header.base_offset <= offset).then_some((place, header)));
            }
            place = Place { position: place.position + header.total_bytes() as u64, offset: header.next_offset() };
        }
    }

    /// The end of the last batch that lies below `upper` and ends at or before `budget_end`; at least `end`.
    fn last_within(&self, hops: &mut Hops<'_>, mut end: Place, upper: Offset, budget_end: u64) -> Result<Place, Miss> {
        let base = self.segment.base();
        let entry = self.segment.search(|index| index.offsets.last_within(budget_end, upper.since(base))).flatten();
        if let Some(entry) = entry.filter(|entry| u64::from(entry.position) > end.position) {
            let position = u64::from(entry.position);
            if let Some(header) = hops.header(position).map_err(|miss| self.hop_miss(miss))?
                && header.last_offset().since(base) == u64::from(entry.relative)
            {
                end = Place { position, offset: header.base_offset };
            }
        }
        while end.offset < upper && end.position < hops.limit {
            let header = hops.header(end.position).map_err(|miss| self.hop_miss(miss))?;
            let Some(header) = header.filter(|header| header.base_offset == end.offset) else { break };
            let next = Place { position: end.position + header.total_bytes() as u64, offset: header.next_offset() };
            if next.offset > upper || next.position > budget_end {
                break;
            }
            end = next;
        }
        Ok(end)
    }

    fn crosses_hole(&self, from: Offset, to: Offset) -> bool {
        self.holes.next_after(from).is_some_and(|hole| hole.from < to)
    }

    /// Makes sure that this process has seen every byte from `origin` to `end` to be whole.
    fn prove(&self, origin: Place, end: Place) -> Result<(), Miss> {
        let verified = &self.segment.verified;
        if self.patience != Patience::Doubt && verified.covers(&(origin.position..end.position)) {
            return Ok(());
        }
        if self.patience == Patience::Never {
            return Err(Miss::Cold);
        }
        let file = self.file()?;
        if self.patience == Patience::Doubt {
            let evicted = file.evict(origin.position..end.position);
            evicted.map_err(|error| self.storage("read past the cache", error))?;
            let held = self.segment.is_resident(origin.position..self.segment.end_bytes());
            held.map_err(|error| self.storage("map", error))?;
        }
        // What cannot be brought in is told by the reads below, which know where.
        let brought_in = self.fault_in(origin.position..end.position);
        let mut window = Window::new(file, self.segment.end_bytes());
        let mut at = origin;
        while at.position < end.position {
            if let Some(hole) = self.holes.starting_at(self.segment.base(), at.position) {
                verified.add(at.position..hole.bytes.end);
                at = Place { position: hole.bytes.end, offset: hole.to };
                continue;
            }
            let header = window.batch(at.position).map_err(|error| self.storage("read", error))?;
            let fits = |header: &BatchHeader| epoch_matches(&self.state.epochs.lock(), header);
            let Some(header) = header.filter(|header| header.base_offset == at.offset && fits(header)) else {
                return Err(self.damage(&mut window, at));
            };
            let next = at.position + header.total_bytes() as u64;
            verified.add(at.position..next);
            at = Place { position: next, offset: header.next_offset() };
        }
        brought_in
    }

    /// Has the pages of what was seen to be whole there, so that nobody who sends them meets the disk. Where that cannot be, the file is not
    /// what it was any more: somebody has cut it short, or the disk fails.
    fn hold_pages(
        &self,
        file: &dyn DiskFile,
        range: &std::ops::Range<u64>,
        origin: Place,
        end: Place,
    ) -> Result<(), Miss> {
        let brought_in = self.fault_in(range.clone());
        // Behind its end the last page of a file reads as zeros.
        let is_short = file.bytes().map_err(|error| self.storage("read the length of", error))? < range.end;
        if brought_in.is_ok() && !is_short {
            return Ok(());
        }
        self.segment.verified.forget(self.segment.end_bytes());
        self.prove(origin, end).and(brought_in)
    }

    /// Brings the pages in while an error can still be an error.
    fn fault_in(&self, range: std::ops::Range<u64>) -> Result<(), Miss> {
        let map = self.segment.map(range.end).map_err(|error| self.storage("map", error))?;
        match map.populate(range) {
            // Old kernels: the verification reads every byte anyway, and says so if it cannot.
            Err(error) if error.kind() == std::io::ErrorKind::Unsupported => Ok(()),
            populated => populated.map_err(|error| self.storage("read", error)),
        }
    }

    /// The headers before the wanted batch do not lead to it: find out where they break.
    fn lost(&self, origin: Place) -> Miss {
        if self.patience == Patience::Never {
            return Miss::Cold;
        }
        let end = Place { position: self.segment.end_bytes(), offset: self.segment.end_offset() };
        let start = Place { position: 0, offset: self.segment.base() };
        // From the entry first: it is near. From the start if that batch itself is what is damaged.
        let proved = self.prove(origin, end).and_then(|()| self.prove(start, end));
        // All was whole once: then the file is not what it was any more.
        match proved.and_then(|()| {
            self.segment.verified.forget(end.position);
            self.prove(start, end)
        }) {
            Err(miss) => miss,
            Ok(()) => {
                let error =
                    std::io::Error::new(std::io::ErrorKind::InvalidData, "its index does not lead to its batches");
                self.storage("search", error)
            }
        }
    }

    /// Measures damage at `at` and makes it a hole.
    fn damage(&self, window: &mut Window, at: Place) -> Miss {
        let epochs = self.state.epochs.lock().clone();
        let end = self.segment.end_offset();
        let fits = |header: &BatchHeader| header.next_offset() <= end && epoch_matches(&epochs, header);
        let next = match window.batch_after(at.position, at.offset, &fits) {
            Ok(next) => next,
            Err(error) => return self.storage("read", error),
        };
        let (position, to) = match next {
            Next::Batch(position, header) => (position, header.base_offset),
            Next::Zeros | Next::Garbage => (self.segment.end_bytes(), self.segment.end_offset()),
        };
        Miss::Damage(Hole { from: at.offset, to, segment: self.segment.base(), bytes: at.position..position })
    }

    /// Whether the file is as long as it should be: behind its end its last page reads as zeros.
    fn reaches_end(&self, file: &dyn DiskFile, range: &std::ops::Range<u64>) -> Result<bool, Miss> {
        // Written just now, unless the disk has failed since.
        if range.start >= self.segment.synced_bytes() && self.state.poisoned().is_none() {
            return Ok(true);
        }
        // Nothing where it ends before: whoever may block finds out.
        let last = file.read_cached_at(&mut [0], range.end - 1);
        Ok(last.map_err(|error| self.storage("read", error))? == Some(1))
    }

    fn hop_miss(&self, error: HopError) -> Miss {
        match error {
            HopError::Cold => Miss::Cold,
            HopError::Io(error) => self.storage("read", error),
        }
    }

    fn storage(&self, operation: &'static str, error: std::io::Error) -> Miss {
        match Err::<(), _>(error).context(operation, &self.segment.path()) {
            Err(error) => Miss::Storage(error),
            Ok(()) => Miss::Cold,
        }
    }
}

/// Reads headers here and there in a file.
struct Hops<'a> {
    file: &'a dyn DiskFile,
    limit: u64,
    patience: Patience,
    start: u64,
    filled: usize,
    buffer: [u8; HOP_BYTES],
}

enum HopError {
    Cold,
    Io(std::io::Error),
}

impl Hops<'_> {
    /// Whether the whole range was read just now, so that its pages are there.
    fn hold(&self, range: &std::ops::Range<u64>) -> bool {
        self.start <= range.start && range.end <= self.start + self.filled as u64
    }

    /// The header at `position`; `None` if there is none.
    fn header(&mut self, position: u64) -> Result<Option<BatchHeader>, HopError> {
        if position + HEADER_BYTES as u64 > self.limit {
            return Ok(None);
        }
        let held = self.start <= position && position + HEADER_BYTES as u64 <= self.start + self.filled as u64;
        if !held {
            let wanted = HOP_BYTES.min((self.limit - position) as usize);
            let buffer = &mut self.buffer[..wanted];
            self.filled = match self.patience {
                Patience::Block | Patience::Doubt => read_full_at(self.file, buffer, position).map_err(HopError::Io)?,
                Patience::Never => {
                    self.file.read_cached_at(buffer, position).map_err(HopError::Io)?.ok_or(HopError::Cold)?
                }
            };
            self.start = position;
            if self.filled < HEADER_BYTES {
                // Half a header in the cache, or (blocking) a file that ends before it should.
                return if self.patience == Patience::Never { Err(HopError::Cold) } else { Ok(None) };
            }
        }
        let from = (position - self.start) as usize;
        let header = BatchHeader::parse_compacted(&self.buffer[from..self.filled]).ok();
        Ok(header.filter(|header| header.total_bytes() as u64 <= self.limit - position))
    }
}
