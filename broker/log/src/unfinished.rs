//! Proof that a flush never finished: what tells a tail that lost power in the middle of being written from rot.
//!
//! A kernel writes pages back in any order, so a power loss may leave a later piece of the unflushed tail on the disk without an earlier one: a
//! gap with whole batches behind it. Nothing at or after such a gap was ever acknowledged as flushed, for a flush covers everything
//! before its end. Rot looks the same to a checksum, and to cut there loses acknowledged records. What tells them apart costs nothing to keep:
//! - **A block that the file system never wrote.** Segments live in reserved blocks, which the file system's journal marks as unwritten until the
//!   first write-back of each has reached the disk; `fdatasync` does not succeed before. A batch with such a block in it was never flushed.
//!   Rot cannot bring the mark back: a block that was zeroed, or whose content was lost, still counts as written. How far a batch reaches is
//!   taken from its header only where a whole batch lies at or behind that end, and where no shorter length satisfies its CRC.
//! - **A block that is as it was before.** The first batch of a flush mostly begins in the middle of a block, even of a sector, that was written
//!   already. If the bytes from its beginning to the end of the block are zeros, and not those before it in its sector, the block was not
//!   written since: rot takes bits or whole sectors. Only a disk that confirms a flush and drops it leaves the same, and no flush
//!   means anything to it.
//!
//! Anything else stays ambiguous, and what is ambiguous is fenced, never cut. A mark of how far acks have gone would decide those cases too, but
//! it must be durable before each ack and after the flush: a second flush per group commit (0.15 to 0.2 ms on top of 0.15 to 0.9 measured on
//! ext4; 0.05 to 0.15 in parallel to the first, where it proves nothing, since either may finish alone).
//!
//! Knows nothing of what recovery does with the answer.

use std::io;
use std::ops::Range;

use tidelog_protocol::Offset;
use tidelog_protocol::records::{BatchHeader, HEADER_BYTES};

use crate::disk::DiskFile;
use crate::scan::Window;

/// The least that a disk writes as a whole.
const SECTOR: u64 = 512;
/// What a file system writes as a whole. Where its blocks are smaller, less is proven.
const BLOCK: u64 = 4096;
/// No batch has only zeros in its first bytes, up to and with the magic byte; fewer zeros than that say nothing.
const TELLING_ZEROS: u64 = 17;
/// Where in a batch the bytes begin that its CRC covers.
const COVERED_FROM: usize = 21;

/// The ranges of a file that are reserved and were never written.
#[derive(Clone, Default, Debug)]
pub(crate) struct Unwritten(Vec<Range<u64>>);

impl Unwritten {
    /// Those within `range`. To be asked before the range is read: pages of zeros in the page cache count as written.
    pub(crate) fn within(file: &dyn DiskFile, range: Range<u64>) -> io::Result<Self> {
        let mut found = Vec::new();
        let mut at = range.start;
        while at < range.end {
            let from = file.next_hole(at)?;
            if from >= range.end {
                break;
            }
            let to = file.next_data(from)?.unwrap_or(range.end).min(range.end);
            if to <= from {
                // Somebody writes to it meanwhile; fewer ranges prove less.
                break;
            }
            found.push(from..to);
            at = to;
        }
        Ok(Self(found))
    }

    /// Where the range ends that `position` lies in.
    pub(crate) fn end_around(&self, position: u64) -> Option<u64> {
        self.0.iter().find(|unwritten| unwritten.contains(&position)).map(|unwritten| unwritten.end)
    }

    /// The first unwritten byte of `range`.
    fn first_in(&self, range: &Range<u64>) -> Option<u64> {
        let touching = self.0.iter().find(|unwritten| unwritten.start < range.end && range.start < unwritten.end);
        touching.map(|unwritten| unwritten.start.max(range.start))
    }

    /// Whether the batch of offset `expected`, which begins at `position` of this file (a later one, or remains, lie behind it), is certainly
    /// one that no flush has ever covered. `behind` is where the next whole batch of this file begins.
    pub(crate) fn proves(
        &self,
        window: &mut Window,
        position: u64,
        expected: Offset,
        behind: Option<u64>,
    ) -> io::Result<bool> {
        if self.first_in(&(position..position + HEADER_BYTES as u64)).is_some() {
            return Ok(true);
        }
        let within = (position % SECTOR) as usize;
        if within > 0 && SECTOR - position % SECTOR >= TELLING_ZEROS {
            let start = position - within as u64;
            let wanted = position.next_multiple_of(BLOCK) - start;
            let bytes = window.bytes(start, wanted as usize)?;
            let is_zero = |bytes: &[u8]| bytes.iter().all(|&byte| byte == 0);
            // What stands before is looked at, too: where it is gone as well, the sector is lost.
            if bytes.len() as u64 == wanted && !is_zero(&bytes[..within]) && is_zero(&bytes[within..]) {
                return Ok(true);
            }
        }
        let header = BatchHeader::parse_compacted(window.bytes(position, HEADER_BYTES)?).ok();
        let Some(header) = header.filter(|header| header.base_offset == expected) else { return Ok(false) };
        let claimed = position..position + header.total_bytes() as u64;
        // The length lies outside the CRC. A claim that nothing behind it confirms may reach into blocks that were never its own.
        if behind.is_none_or(|behind| claimed.end > behind) {
            return Ok(false);
        }
        let Some(unwritten_at) = self.first_in(&claimed) else { return Ok(false) };
        Ok(!is_whole_before(window, position, unwritten_at, &header)?)
    }
}

/// Whether the batch at `position` ends before `limit`, whatever its length says: its CRC tells where.
fn is_whole_before(window: &mut Window, position: u64, limit: u64, header: &BatchHeader) -> io::Result<bool> {
    let bytes = window.bytes(position, limit.saturating_sub(position) as usize)?;
    let covered = bytes.get(COVERED_FROM..).unwrap_or_default();
    let mut crc = 0;
    Ok(covered.iter().any(|byte| {
        crc = crc32c::crc32c_append(crc, &[*byte]);
        crc == header.crc
    }))
}
