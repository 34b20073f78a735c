//! A slow walk over sealed segments that reads them back from the disk and verifies every checksum, so that rot is found before a
//! consumer finds it.
//!
//! Works in steps with a budget of bytes; the caller decides the pace and the thread (it blocks). Past the page cache, as far as
//! nobody has the pages mapped: bytes in memory say nothing about the disk. Knows nothing of repair.

use std::sync::{Arc, Weak};

use tidelog_protocol::Offset;
use tidelog_protocol::records::BatchHeader;

use crate::hole::Hole;
use crate::reader::{LogReader, ReadError};
use crate::scan::{Next, Window, epoch_matches};
use crate::segment::Segment;
use crate::storage_error::Context;

/// A walk over one log, from its oldest sealed segment to its newest, and then again.
#[derive(Debug)]
pub struct Scrub {
    reader: LogReader,
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
    /// Begins at the oldest segment.
    #[must_use]
    pub fn new(reader: LogReader) -> Self {
        Self { reader, at: Place { offset: Offset::ZERO, position: 0 }, segment: Weak::new() }
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
            let sealed = &segments[..segments.len() - 1];
            let Some(segment) = sealed.iter().find(|segment| segment.end_offset() > self.at.offset) else {
                self.at = Place { offset: Offset::ZERO, position: 0 };
                scrubbed.is_complete = true;
                break;
            };
            let is_other = !std::ptr::eq(self.segment.as_ptr(), Arc::as_ptr(segment));
            if self.at.offset <= segment.base() || is_other {
                // The beginning, the next segment, retention went past the walk, or compaction has replaced what it was in.
                self.at = Place { offset: segment.base(), position: 0 };
            }
            self.segment = Arc::downgrade(segment);
            self.verify(segment, budget_bytes, &mut scrubbed)?;
        }
        Ok(scrubbed)
    }

    /// Verifies one segment from where the walk stands to its end, or until the budget is used up.
    fn verify(&mut self, segment: &Arc<Segment>, budget: u64, scrubbed: &mut Scrubbed) -> Result<(), ReadError> {
        let path = segment.path();
        let file = segment.file().context("open", &path)?;
        let limit = segment.end_bytes();
        let left = self.at.position..limit.min(self.at.position.saturating_add(budget).saturating_add(1 << 20));
        file.evict(left.clone()).context("read past the cache", &path)?;
        let mut window = Window::new(Arc::clone(&file), limit);
        while self.at.position < limit && scrubbed.bytes < budget {
            let holes = self.reader.state.holes();
            if let Some(hole) = holes.starting_at(segment.base(), self.at.position) {
                self.at = Place { offset: hole.to, position: hole.bytes.end };
                continue;
            }
            let epochs = self.reader.leader_epochs();
            let fits = |header: &BatchHeader| epoch_matches(&epochs, header);
            let header = window.batch(self.at.position).context("read", &path)?;
            let Some(header) = header.filter(|header| header.base_offset == self.at.offset && fits(header)) else {
                let end = segment.end_offset();
                let fits = |header: &BatchHeader| header.next_offset() <= end && fits(header);
                let next = window.batch_after(self.at.position, self.at.offset, &fits).context("read", &path)?;
                let (position, to) = match next {
                    Next::Batch(position, header) => (position, header.base_offset),
                    Next::Zeros | Next::Garbage => (limit, segment.end_offset()),
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
            self.at = Place { offset: segment.end_offset(), position: 0 };
        }
        // What was read for this only must not push out what consumers read.
        file.evict(left).context("read past the cache", &path)?;
        Ok(())
    }
}
