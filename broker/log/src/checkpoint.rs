//! What a partition needs not look at again when it opens: the recovery point, its segments as of then, the log start offset.
//!
//! Everything below the recovery point was flushed before the checkpoint was written, so recovery begins there and is bounded by the
//! tail that was not. Losing a checkpoint costs a full scan, never data. Knows nothing of when it is written (see [`crate::upkeep`]).

use std::path::Path;

use tidelog_protocol::{Offset, Timestamp};

use crate::disk::Disk;
use crate::hole::Hole;
use crate::small_file::{self, Fields, Kind, SmallFileError};
use crate::storage_error::StorageError;

/// Name of the file in the partition folder.
pub(crate) const FILE_NAME: &str = "checkpoint";
pub(crate) const KIND: Kind = Kind { magic: *b"TLcp", version: 1 };

/// One partition's checkpoint.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Checkpoint {
    /// The first offset that is served; segments wholly below it are leftovers.
    pub log_start: Offset,
    /// Every record below was durable when this was written.
    pub recovery_point: Offset,
    /// How the writer ended, as far as this file knows.
    pub shutdown: Shutdown,
    /// As long as the file of the log's last segment is at least, whatever happens until the next checkpoint: a shorter one has lost its end. A power
    /// of two; zero where nothing is said, as after a clean end, and by earlier releases.
    pub reserved_bytes: u64,
    /// The segments up to the recovery point, oldest first.
    pub segments: Vec<SegmentRecord>,
    /// Ranges known to be lost or damaged, oldest first.
    pub holes: Vec<Hole>,
}

/// Whether a checkpoint was the last thing its writer did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shutdown {
    /// The writer went on (or died).
    Running,
    /// The log was closed right after.
    Clean,
}

/// One segment as of the recovery point.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentRecord {
    /// Its first offset.
    pub base: Offset,
    /// Where it ended.
    pub end: SegmentEnd,
    /// What its index files held.
    pub marks: Marks,
}

/// Where a segment ends, and what it holds at most.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentEnd {
    /// Offset after its last record.
    pub offset: Offset,
    /// Bytes of batches.
    pub bytes: u64,
    /// Its largest timestamp, [`Timestamp::NONE`] without records.
    pub largest: Timestamp,
    /// Last offset of the first batch with that timestamp.
    pub largest_at: Offset,
}

impl SegmentEnd {
    /// The end of a segment without a batch.
    #[must_use]
    pub const fn empty(base: Offset) -> Self {
        Self { offset: base, bytes: 0, largest: Timestamp::NONE, largest_at: base }
    }
}

/// What was written to both index files of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Marks {
    /// The `.index` file.
    pub offsets: FileMark,
    /// The `.timeindex` file.
    pub times: FileMark,
}

/// A prefix of an index file, checksummed so that a flipped bit in it is noticed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FileMark {
    /// Entries in the prefix.
    pub entries: u32,
    /// CRC32C of the prefix.
    pub crc: u32,
}

/// The largest length not above `bytes` that a checkpoint can tell.
pub(crate) const fn tellable(bytes: u64) -> u64 {
    if bytes < 1 << RESERVED_LEAST { 0 } else { 1 << bytes.ilog2() }
}

/// The least power of two: what is below it says how the writer ended, and nothing of lengths.
const RESERVED_LEAST: u8 = 2;
const CLEAN: u8 = 1;

impl Checkpoint {
    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        small_file::replace(disk, &dir.join(FILE_NAME), KIND, &self.encode())
    }

    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, SmallFileError> {
        let (_, body) = small_file::read(disk, &dir.join(FILE_NAME), KIND)?;
        Self::decode(&body).ok_or(SmallFileError::Damaged("its fields do not fit"))
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(32 + self.segments.len() * 60);
        out.extend(self.log_start.0.to_be_bytes());
        out.extend(self.recovery_point.0.to_be_bytes());
        // Earlier releases look whether it is 1.
        out.push(match (self.shutdown, self.reserved_bytes) {
            (Shutdown::Clean, _) => CLEAN,
            (Shutdown::Running, reserved) if reserved < 1 << RESERVED_LEAST => 0,
            (Shutdown::Running, reserved) => reserved.ilog2() as u8,
        });
        out.extend((self.segments.len() as u32).to_be_bytes());
        for segment in &self.segments {
            out.extend(segment.base.0.to_be_bytes());
            out.extend(segment.end.offset.0.to_be_bytes());
            out.extend(segment.end.bytes.to_be_bytes());
            out.extend(segment.end.largest.0.to_be_bytes());
            out.extend(segment.end.largest_at.0.to_be_bytes());
            for mark in [segment.marks.offsets, segment.marks.times] {
                out.extend(mark.entries.to_be_bytes());
                out.extend(mark.crc.to_be_bytes());
            }
        }
        out.extend((self.holes.len() as u32).to_be_bytes());
        for hole in &self.holes {
            for number in [hole.from.0, hole.to.0, hole.segment.0, hole.bytes.start, hole.bytes.end] {
                out.extend(number.to_be_bytes());
            }
        }
        out
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let log_start = Offset(fields.u64()?);
        let recovery_point = Offset(fields.u64()?);
        let (shutdown, reserved_bytes) = match fields.u8()? {
            CLEAN => (Shutdown::Clean, 0),
            0 => (Shutdown::Running, 0),
            power => (Shutdown::Running, 1_u64.checked_shl(power.into())?),
        };
        let mut segments = Vec::new();
        for _ in 0..fields.u32()? {
            segments.push(SegmentRecord {
                base: Offset(fields.u64()?),
                end: SegmentEnd {
                    offset: Offset(fields.u64()?),
                    bytes: fields.u64()?,
                    largest: Timestamp(fields.i64()?),
                    largest_at: Offset(fields.u64()?),
                },
                marks: Marks {
                    offsets: FileMark { entries: fields.u32()?, crc: fields.u32()? },
                    times: FileMark { entries: fields.u32()?, crc: fields.u32()? },
                },
            });
        }
        let mut holes = Vec::new();
        for _ in 0..fields.u32()? {
            let (from, to) = (Offset(fields.u64()?), Offset(fields.u64()?));
            holes.push(Hole { from, to, segment: Offset(fields.u64()?), bytes: fields.u64()?..fields.u64()? });
        }
        let in_order = segments.is_sorted_by(|a, b| a.base < b.base && a.end.offset <= b.base);
        (fields.0.is_empty() && in_order).then_some(Self {
            log_start,
            recovery_point,
            shutdown,
            reserved_bytes,
            segments,
            holes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os_disk::OsDisk;

    #[test]
    fn a_checkpoint_reads_back() {
        let end = SegmentEnd { offset: Offset(9), bytes: 700, largest: Timestamp(5), largest_at: Offset(7) };
        let mark = FileMark { entries: 1, crc: 77 };
        let checkpoint = Checkpoint {
            log_start: Offset(3),
            recovery_point: Offset(9),
            shutdown: Shutdown::Clean,
            reserved_bytes: 0,
            segments: vec![SegmentRecord { base: Offset(1), end, marks: Marks { offsets: mark, times: mark } }],
            holes: vec![Hole { from: Offset(4), to: Offset(5), segment: Offset(1), bytes: 100..200 }],
        };
        let dir = tempfile::tempdir().unwrap();
        checkpoint.write(&OsDisk, dir.path()).unwrap();
        assert_eq!(Checkpoint::read(&OsDisk, dir.path()).unwrap(), checkpoint);
        for reserved_bytes in [0, 1, 3, 4, 5, 4096, 70_000, u64::MAX].map(tellable) {
            let running = Checkpoint { shutdown: Shutdown::Running, reserved_bytes, ..checkpoint.clone() };
            assert_eq!(Checkpoint::decode(&running.encode()), Some(running), "{reserved_bytes}");
        }
        assert_eq!([3, 4, 5, 70_000].map(tellable), [0, 4, 4, 65_536]);
    }
}
