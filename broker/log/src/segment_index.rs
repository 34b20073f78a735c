//! Both sparse indexes of one segment, in memory while they are used, and their files.
//!
//! The memory is what a reader searches; the files exist so that a restart need not scan, and are written off the append path. A file
//! counts only as far as its checkpointed mark (entries and CRC32C) confirms it; otherwise the index is rebuilt from the log.

use std::io::{self, IoSlice};
use std::path::Path;
use std::sync::Arc;

use tidelog_protocol::{Offset, Timestamp, records::BatchHeader};

use crate::checkpoint::{FileMark, Marks, SegmentEnd, SegmentRecord};
use crate::disk::{Disk, DiskFile, read_full_at, write_all_at};
use crate::hole::Holes;
use crate::offset_index::{self, OffsetEntry, OffsetIndex};
use crate::scan::Window;
use crate::time_index::{self, TimeEntry, TimeIndex};

/// The indexes of a segment.
#[derive(Clone, Debug, Default)]
pub(crate) struct SegmentIndex {
    pub(crate) offsets: OffsetIndex,
    pub(crate) times: TimeIndex,
    /// Where the log stood when the last entry was made.
    indexed_to: u64,
}

/// The largest timestamp of some batches, and an offset in the first batch that has it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Mark {
    pub(crate) timestamp: Timestamp,
    pub(crate) at: Offset,
}

impl SegmentIndex {
    /// The mark of the batches up to an index entry below `upper`, and the offset where the batches begin that it says nothing about.
    pub(crate) fn mark_below(&self, base: Offset, upper: Offset) -> Option<(Mark, Offset)> {
        let covered = self.offsets.count_up_to(upper.since(base).checked_sub(1)?).checked_sub(1)?;
        let last = self.offsets.entries()[covered].relative;
        // An entry that points there was made there or later: nothing up to there is newer.
        let times = self.times.entries();
        let entry = times[times.partition_point(|entry| entry.relative <= last).checked_sub(1)?];
        let mark = Mark { timestamp: entry.timestamp, at: base.plus(u64::from(entry.relative)) };
        Some((mark, base.plus(u64::from(last) + 1)))
    }

    /// What it knows of the batches that begin before `position`.
    pub(crate) fn front(&self, position: u64) -> Self {
        let offsets = self.offsets.before(position);
        let last = offsets.entries().last().copied();
        // An entry that points further was made there or later.
        let times = last.map_or_else(TimeIndex::default, |last| self.times.up_to(last.relative));
        Self { offsets, times, indexed_to: last.map_or(0, |last| u64::from(last.position)) }
    }

    /// Where the last batch begins that has an entry, and the mark of the batches up to it.
    pub(crate) fn last_entry(&self, base: Offset) -> Option<(u64, Mark)> {
        let last = self.offsets.entries().last()?;
        let time = self.times.entries().last()?;
        let mark = Mark { timestamp: time.timestamp, at: base.plus(u64::from(time.relative)) };
        Some((u64::from(last.position), mark))
    }

    /// Takes note of the batch that begins at `end.bytes`, and moves `end` behind it.
    pub(crate) fn note(&mut self, base: Offset, end: &mut SegmentEnd, header: &BatchHeader, interval: u32) {
        let position = end.bytes;
        let relative = header.last_offset().since(base) as u32;
        advance(end, header);
        if position >= self.indexed_to + u64::from(interval) {
            self.offsets.push(OffsetEntry { relative, position: position as u32 });
            self.times.push(TimeEntry { timestamp: end.largest, relative: end.largest_at.since(base) as u32 });
            self.indexed_to = position;
        }
    }

    /// Reads both files back as far as `marks` vouch for them; `None` where they do not agree.
    pub(crate) fn load(disk: &dyn Disk, offsets: &Path, times: &Path, marks: &Marks) -> io::Result<Option<Self>> {
        let Some(offsets) = read_marked(disk, offsets, marks.offsets, offset_index::ENTRY_BYTES)? else {
            return Ok(None);
        };
        let Some(times) = read_marked(disk, times, marks.times, time_index::ENTRY_BYTES)? else { return Ok(None) };
        let (Some(offsets), Some(times)) = (OffsetIndex::decode(&offsets), TimeIndex::decode(&times)) else {
            return Ok(None);
        };
        let indexed_to = offsets.entries().last().map_or(0, |entry| u64::from(entry.position));
        Ok(Some(Self { offsets, times, indexed_to }))
    }

    /// The entries after `marks` that the segment had as `as_of` describes it, as file bytes, with the marks they lead to.
    pub(crate) fn unwritten(&self, marks: &Marks, as_of: &SegmentRecord) -> (Vec<u8>, Vec<u8>, Marks) {
        let mut offsets = Vec::new();
        for entry in self.offsets.entries().iter().skip(marks.offsets.entries as usize) {
            if u64::from(entry.position) < as_of.end.bytes {
                offsets.extend(entry.encode());
            }
        }
        let mut times = Vec::new();
        for entry in self.times.entries().iter().skip(marks.times.entries as usize) {
            if as_of.base.plus(u64::from(entry.relative)) < as_of.end.offset {
                times.extend(entry.encode());
            }
        }
        let next = Marks {
            offsets: marks.offsets.after(&offsets, offset_index::ENTRY_BYTES),
            times: marks.times.after(&times, time_index::ENTRY_BYTES),
        };
        (offsets, times, next)
    }
}

/// The index of the first `limit` bytes of a segment from the batches alone, and where they end.
pub(crate) fn rebuild_index(
    file: Arc<dyn DiskFile>,
    base: Offset,
    limit: u64,
    holes: &Holes,
    interval: u32,
) -> io::Result<(SegmentIndex, SegmentEnd)> {
    let mut index = SegmentIndex::default();
    let mut end = SegmentEnd::empty(base);
    let mut window = Window::new(file, limit);
    while end.bytes < limit {
        if let Some(hole) = holes.starting_at(base, end.bytes) {
            end.bytes = hole.bytes.end;
            continue;
        }
        // Only what is believed becomes an entry; damage that nobody knew yet is found when it is read.
        let Some(header) = window.batch(end.bytes)? else { break };
        index.note(base, &mut end, &header, interval);
    }
    Ok((index, end))
}

/// Moves the end of a segment behind the batch.
pub(crate) fn advance(end: &mut SegmentEnd, header: &BatchHeader) {
    end.bytes += header.total_bytes() as u64;
    end.offset = header.next_offset();
    if header.max_timestamp > end.largest {
        end.largest = header.max_timestamp;
        end.largest_at = header.last_offset();
    }
}

/// Writes `bytes` behind the `mark`ed prefix of an index file, durably.
pub(crate) fn extend_file(
    disk: &dyn Disk,
    path: &Path,
    mark: FileMark,
    entry_bytes: usize,
    bytes: &[u8],
) -> io::Result<()> {
    let file = match disk.open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.create(path)?,
        opened => opened?,
    };
    let position = u64::from(mark.entries) * entry_bytes as u64;
    write_all_at(&*file, &mut [IoSlice::new(bytes)], position).map_err(|partial| partial.error)?;
    // What an earlier life wrote behind would look like entries to a dump. Index files are never mapped.
    file.set_bytes(position + bytes.len() as u64)?;
    file.sync_data()
}

impl FileMark {
    fn after(self, bytes: &[u8], entry_bytes: usize) -> Self {
        Self { entries: self.entries + (bytes.len() / entry_bytes) as u32, crc: crc32c::crc32c_append(self.crc, bytes) }
    }
}

fn read_marked(disk: &dyn Disk, path: &Path, mark: FileMark, entry_bytes: usize) -> io::Result<Option<Vec<u8>>> {
    if mark.entries == 0 {
        return Ok(Some(Vec::new()));
    }
    let file = match disk.open_read_only(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    let mut bytes = vec![0; mark.entries as usize * entry_bytes];
    let whole = read_full_at(&*file, &mut bytes, 0)? == bytes.len();
    Ok((whole && crc32c::crc32c(&bytes) == mark.crc).then_some(bytes))
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::records::Attributes;
    use tidelog_protocol::{ProducerEpoch, ProducerId, Sequence};

    use super::*;

    fn header(offset: u64, timestamp: i64) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(offset),
            batch_length: 88,
            leader_epoch: None,
            crc: 0,
            attributes: Attributes::default(),
            last_offset_delta: 1,
            base_timestamp: Timestamp(timestamp),
            max_timestamp: Timestamp(timestamp),
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            record_count: 2,
        }
    }

    /// The index of so many batches from offset 1,000 on, and where they end.
    fn of(batches: u64) -> (SegmentIndex, SegmentEnd) {
        let base = Offset(1_000);
        let (mut index, mut end) = (SegmentIndex::default(), SegmentEnd::empty(base));
        for number in 0..batches {
            index.note(base, &mut end, &header(1_000 + 2 * number, (number * 37 % 101) as i64), 256);
        }
        (index, end)
    }

    #[test]
    fn the_front_of_an_index_is_that_of_a_segment_that_was_never_longer() {
        let (whole, _) = of(90);
        for batches in 0..=90 {
            let (shorter, end) = of(batches);
            let front = whole.front(end.bytes);
            assert_eq!(format!("{front:?}"), format!("{shorter:?}"), "{batches} batches");
            let Some((position, mark)) = front.last_entry(Offset(1_000)) else {
                assert!(front.offsets.entries().is_empty(), "{batches} batches");
                continue;
            };
            let (_, up_to_it) = of(position / u64::from(header(0, 0).total_bytes() as u32) + 1);
            assert_eq!((mark.timestamp, mark.at), (up_to_it.largest, up_to_it.largest_at), "{batches} batches");
        }
    }
}
