//! A slow walk over a log that reads it back from the disk and verifies every checksum, so that rot is found before a consumer finds it:
//! over its sealed segments, or over what lies between two offsets.
//!
//! Works in steps with a budget of bytes; the caller decides the pace and the thread (it blocks). Past the page cache, as far as
//! nobody has the pages mapped: bytes in memory say nothing about the disk. Knows nothing of repair.

use std::ops::Range;
use std::sync::{Arc, Weak};

use tidelog_protocol::Offset;
use tidelog_protocol::records::BatchHeader;

use crate::checkpoint::SegmentEnd;
use crate::hole::Hole;
use crate::lookup::{Lookup, Miss, Patience};
use crate::reader::{LogReader, ReadError};
use crate::scan::{Next, Window, epoch_matches};
use crate::segment::Segment;
use crate::storage_error::Context;

/// A walk over one log, and then again.
#[derive(Debug)]
pub struct Scrub {
    reader: LogReader,
    from: Offset,
    /// Where it ends; `None` for the end of the newest sealed segment.
    until: Option<Offset>,
    at: Place,
    /// Where the position counts; another may take its place meanwhile.
    segment: Weak<Segment>,
}

#[derive(Clone, Copy, Debug)]
struct Place {
    offset: Offset,
    /// Position in the segment that `offset` lies in.
    position: u64,
}

/// What one step found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Scrubbed {
    /// Bytes read and verified.
    pub bytes: u64,
    /// Damage that nobody knew before; those offsets are answered with an error from now on.
    pub found: Vec<Hole>,
    /// Whether the walk came to its end; the next step begins again.
    pub is_complete: bool,
}

impl Scrub {
    /// Over all sealed segments, from the oldest on.
    #[must_use]
    pub fn new(reader: LogReader) -> Self {
        Self::from(reader, Offset::ZERO, None)
    }

    /// Over these offsets, as far as they are there; in the segment that is written to as well. Nothing before the end of `range` may be cut any
    /// more, as nothing is that is settled.
    #[must_use]
    pub fn between(reader: LogReader, range: Range<Offset>) -> Self {
        Self::from(reader, range.start, Some(range.end))
    }

    const fn from(reader: LogReader, from: Offset, until: Option<Offset>) -> Self {
        Self { reader, from, until, at: Place { offset: from, position: 0 }, segment: Weak::new() }
    }

    /// Where the next step goes on.
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.at.offset
    }

    /// Verifies about `budget_bytes`, at least one batch.
    ///
    /// # Errors
    /// [`ReadError::Poisoned`], or [`ReadError::Storage`] if the disk does not read: the next step tries there again.
    pub fn step(&mut self, budget_bytes: u64) -> Result<Scrubbed, ReadError> {
        let mut scrubbed = Scrubbed::default();
        while scrubbed.bytes < budget_bytes {
            if let Some(error) = self.reader.poisoned() {
                return Err(ReadError::Poisoned(error));
            }
            let segments = self.reader.state.segments();
            let sealed_end = segments[segments.len() - 1].base();
            let until = self.until.unwrap_or(sealed_end);
            let next = segments.iter().find(|segment| segment.end_offset() > self.at.offset);
            let Some(segment) = next.filter(|next| self.at.offset.max(next.base()) < until) else {
                self.at = Place { offset: self.from, position: 0 };
                self.segment = Weak::new();
                scrubbed.is_complete = true;
                break;
            };
            if self.at.offset <= segment.base() {
                // The beginning, the next segment, or retention went past the walk.
                self.at = Place { offset: segment.base(), position: 0 };
            } else if !std::ptr::eq(self.segment.as_ptr(), Arc::as_ptr(segment)) {
                // It begins in the midst of it, or compaction has replaced what it was in.
                self.at = self.place_of(segment)?;
            }
            self.segment = Arc::downgrade(segment);
            self.verify(segment, until, (budget_bytes, &mut scrubbed))?;
        }
        Ok(scrubbed)
    }

    /// Where in a segment the next offset lies. Where damage is in the way, the walk begins with the segment, and comes upon it.
    fn place_of(&self, segment: &Arc<Segment>) -> Result<Place, ReadError> {
        let offset = self.at.offset;
        let start = Place { offset: segment.base(), position: 0 };
        let holes = self.reader.state.holes();
        if let Some(hole) = holes.next_after(offset).filter(|hole| hole.from <= offset) {
            let is_here = hole.segment == segment.base() && !hole.bytes.is_empty();
            return Ok(if is_here { Place { offset: hole.to, position: hole.bytes.end } } else { start });
        }
        let lookup = Lookup { state: &self.reader.state, segment, holes: &holes, patience: Patience::Block };
        match lookup.batch_of(offset) {
            Ok((position, header)) => Ok(Place { offset: header.base_offset, position }),
            Err(Miss::Storage(error)) => Err(error.into()),
            Err(Miss::Damage(_) | Miss::Cold) => Ok(start),
        }
    }

    /// Position up to which the page cache may be emptied: what lies behind the walk's end was just written, and is read by everybody.
    fn evictable(&self, segment: &Arc<Segment>, end: SegmentEnd, until: Offset) -> u64 {
        if until >= end.offset {
            return end.bytes;
        }
        let holes = self.reader.state.holes();
        let lookup = Lookup { state: &self.reader.state, segment, holes: &holes, patience: Patience::Block };
        lookup.batch_of(until).map_or(0, |(position, _)| position)
    }

    /// Verifies one segment from where the walk stands to its end, or that of the walk, or until the budget is used up.
    fn verify(
        &mut self,
        segment: &Arc<Segment>,
        until: Offset,
        (budget, scrubbed): (u64, &mut Scrubbed),
    ) -> Result<(), ReadError> {
        let path = segment.path();
        let file = segment.file().context("open", &path)?;
        // Both of one moment, as the segment may be written to.
        let end = segment.record().end;
        let limit = end.bytes;
        let evictable = self.evictable(segment, end, until);
        let left = self.at.position..evictable.min(self.at.position.saturating_add(budget).saturating_add(1 << 20));
        let evict = |range: &Range<u64>| {
            // Of no length would mean all that follows.
            if range.is_empty() { Ok(()) } else { file.evict(range.clone()).context("read past the cache", &path) }
        };
        evict(&left)?;
        // From here on to the end, as reading ahead brings in more.
        segment.is_resident(self.at.position..limit).context("map", &path)?;
        let mut window = Window::new(Arc::clone(&file), limit);
        while self.at.position < limit && self.at.offset < until && scrubbed.bytes < budget {
            let holes = self.reader.state.holes();
            if let Some(hole) = holes.starting_at(segment.base(), self.at.position) {
                self.at = Place { offset: hole.to, position: hole.bytes.end };
                continue;
            }
            let epochs = self.reader.leader_epochs();
            let fits = |header: &BatchHeader| epoch_matches(&epochs, header);
            let header = window.batch(self.at.position).context("read", &path)?;
            let Some(header) = header.filter(|header| header.base_offset == self.at.offset && fits(header)) else {
                let fits = |header: &BatchHeader| header.next_offset() <= end.offset && fits(header);
                let next = window.batch_after(self.at.position, self.at.offset, &fits).context("read", &path)?;
                let (position, to) = match next {
                    Next::Batch(position, header) => (position, header.base_offset),
                    Next::Zeros | Next::Garbage => (limit, end.offset),
                };
                let bytes = self.at.position..position;
                let hole = Hole { from: self.at.offset, to, segment: segment.base(), bytes };
                scrubbed.bytes += position - self.at.position;
                self.at = Place { offset: to, position };
                if self.reader.state.add_hole_in(segment, hole.clone()) {
                    scrubbed.found.push(hole);
                }
                continue;
            };
            self.at.position += header.total_bytes() as u64;
            self.at.offset = header.next_offset();
            scrubbed.bytes += header.total_bytes() as u64;
        }
        if self.at.position >= limit {
            self.at = Place { offset: end.offset, position: limit };
        }
        // What was read for this only must not push out what consumers read.
        Ok(evict(&left)?)
    }
}
