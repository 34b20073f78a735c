//! The headers of a segment's batches, one after the other, and the few batches of which the record counts. Reads what lies between them only where
//! batches are small. Knows nothing of what the headers are for.

use std::io;

use tidelog_protocol::Offset;
use tidelog_protocol::records::{BatchHeader, ControlRecord, HEADER_BYTES, RawBatch, Scratch};
use tidelog_replication::Outcome;

use crate::disk::{DiskFile, read_full_at};
use crate::segment::Segment;

/// Headers are read in pieces of this size; batches are often larger.
const CHUNK_BYTES: usize = 64 << 10;

/// A batch at or before `offset`, by the index if it is at hand: where it stands, and its offset.
pub(crate) fn near(segment: &Segment, offset: Offset, headers: &mut Headers<'_>) -> io::Result<(u64, Offset)> {
    let base = segment.base();
    let start = (0, base);
    if offset <= base || !segment.load_index()? {
        return Ok(start);
    }
    let entry = segment.search(|index| {
        let count = index.offsets.count_up_to(offset.since(base));
        count.checked_sub(1).and_then(|last| index.offsets.entries().get(last).copied())
    });
    let Some(entry) = entry.flatten() else { return Ok(start) };
    let position = u64::from(entry.position);
    let header = headers.at(position)?;
    let header = header.filter(|header| header.last_offset().since(base) == u64::from(entry.relative));
    // An entry that does not describe a batch is passed over: the log is right.
    Ok(header.filter(|header| header.base_offset <= offset).map_or(start, |header| (position, header.base_offset)))
}

/// What a marker says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Marker {
    /// How a transaction ended.
    Ends(Outcome),
    /// Something that this release does not know.
    Unknown,
    /// It is damaged.
    Damaged,
}

impl Marker {
    /// Of a whole control batch. Its checksum is not looked at.
    pub(crate) fn of(batch: &[u8]) -> Self {
        let Ok(batch) = RawBatch::parse_compacted(batch) else { return Self::Damaged };
        let mut scratch = Scratch::new();
        let Ok(mut records) = batch.records(&mut scratch) else { return Self::Damaged };
        // One to a batch; none where compaction took it.
        match records.next().map(|record| record.and_then(|record| ControlRecord::parse(&record))) {
            Some(Ok(ControlRecord::Commit { .. })) => Self::Ends(Outcome::Committed),
            Some(Ok(ControlRecord::Abort { .. })) => Self::Ends(Outcome::Aborted),
            Some(Ok(ControlRecord::Unknown { .. })) | None => Self::Unknown,
            Some(Err(_)) => Self::Damaged,
        }
    }
}

/// Reads headers.
pub(crate) struct Headers<'a> {
    file: &'a dyn DiskFile,
    pub(crate) limit: u64,
    start: u64,
    filled: Vec<u8>,
}

impl<'a> Headers<'a> {
    /// Of the first `limit` bytes of a file.
    pub(crate) const fn new(file: &'a dyn DiskFile, limit: u64) -> Self {
        Self { file, limit, start: 0, filled: Vec::new() }
    }

    /// What the control batch at `position` says.
    pub(crate) fn marker(&mut self, position: u64, header: &BatchHeader) -> io::Result<Marker> {
        let total = header.total_bytes();
        if total > CHUNK_BYTES {
            return Ok(Marker::Damaged);
        }
        let bytes = self.bytes(position, total)?;
        let is_whole = RawBatch::parse_compacted(bytes).is_ok_and(|batch| batch.verify_crc().is_ok());
        Ok(if is_whole { Marker::of(bytes) } else { Marker::Damaged })
    }

    pub(crate) fn at(&mut self, position: u64) -> io::Result<Option<BatchHeader>> {
        Ok(BatchHeader::parse_compacted(self.bytes(position, HEADER_BYTES)?).ok())
    }

    /// So many bytes; fewer where the file ends before.
    fn bytes(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let held = self.start + self.filled.len() as u64;
        if position < self.start || position + wanted as u64 > held {
            let count = CHUNK_BYTES.min(self.limit.saturating_sub(position) as usize);
            self.filled.resize(count, 0);
            let filled = read_full_at(self.file, &mut self.filled, position)?;
            self.filled.truncate(filled);
            self.start = position;
        }
        let from = (position - self.start) as usize;
        let to = self.filled.len().min(from + wanted);
        Ok(self.filled.get(from..to).unwrap_or_default())
    }
}
