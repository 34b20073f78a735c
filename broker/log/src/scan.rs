//! Walks the bytes of a segment and tells whole batches from everything else.
//!
//! Used where nothing may be taken for granted: recovery, scrub, a read of bytes that nobody has verified. It believes a batch when header,
//! chain (it begins at the offset the one before ended) and CRC agree, and looks for the next believable one where they do not. Knows
//! nothing of what is done about damage.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tidelog_protocol::Offset;
use tidelog_protocol::records::{BatchHeader, HEADER_BYTES, RawBatch};

use crate::disk::{Disk, DiskFile, read_full_at};
use crate::leader_epochs::LeaderEpochs;
use crate::segment::Place;
use crate::segment_files::LOG;
use crate::unfinished::Unwritten;

/// Bytes read at once; a batch that is larger is read as a whole.
const CHUNK_BYTES: usize = 1 << 20;
/// Offsets of a segment lie within this distance of its base, as the indexes hold them in 31 bits.
const RELATIVE_MAX: u64 = i32::MAX as u64;

/// A moving window over the first `limit` bytes of a file.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn DiskFile>,
    limit: u64,
    start: u64,
    filled: Vec<u8>,
    read_bytes: u64,
    unwritten: Unwritten,
}

/// What follows the last believable batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// A batch that fits, at this position.
    Batch(u64, BatchHeader),
    /// Nothing but zeros: reserved space, never written.
    Zeros,
    /// Bytes, but no batch in them.
    Garbage,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn DiskFile>, limit: u64) -> Self {
        Self { file, limit, start: 0, filled: Vec::new(), read_bytes: 0, unwritten: Unwritten::default() }
    }

    /// Over a whole file.
    pub(crate) fn open(disk: &dyn Disk, path: &Path) -> io::Result<Self> {
        let file = disk.open(path)?;
        let length = file.bytes()?;
        Ok(Self::new(file, length))
    }

    /// What was never written need not be looked at. Found before the first read: the file system takes zeros that are in the page cache for
    /// written, and reading ahead brings them there, all the way to the end of what is reserved.
    pub(crate) fn skipping(self, unwritten: &Unwritten) -> Self {
        Self { unwritten: unwritten.clone(), ..self }
    }

    /// Bytes read from the file so far.
    pub(crate) fn read_bytes(&self) -> u64 {
        self.read_bytes
    }

    /// The bytes from `position` on: `wanted` of them unless the file ends before.
    pub(crate) fn bytes(&mut self, position: u64, wanted: usize) -> io::Result<&[u8]> {
        let wanted = wanted.min(self.limit.saturating_sub(position) as usize);
        let held = position >= self.start && position + wanted as u64 <= self.start + self.filled.len() as u64;
        if !held {
            let count = wanted.max(CHUNK_BYTES).min(self.limit.saturating_sub(position) as usize);
            self.filled.resize(count, 0);
            let filled = read_full_at(&*self.file, &mut self.filled, position)?;
            self.filled.truncate(filled);
            self.start = position;
            self.read_bytes += filled as u64;
        }
        let from = (position - self.start) as usize;
        let to = (from + wanted).min(self.filled.len());
        Ok(&self.filled[from..to])
    }

    /// The first byte from `position` on that may be written.
    fn next_written(&self, position: u64) -> io::Result<Option<u64>> {
        let behind = self.unwritten.end_around(position).unwrap_or(position);
        let Some(data) = self.file.next_data(behind)? else { return Ok(None) };
        Ok(Some(self.unwritten.end_around(data).unwrap_or(data)))
    }

    /// The batch at `position`, if it is whole and its CRC matches.
    pub(crate) fn batch(&mut self, position: u64) -> io::Result<Option<BatchHeader>> {
        let limit = self.limit;
        let Ok(header) = BatchHeader::parse_compacted(self.bytes(position, HEADER_BYTES)?) else { return Ok(None) };
        if header.total_bytes() as u64 > limit - position {
            return Ok(None);
        }
        let bytes = self.bytes(position, header.total_bytes())?;
        let whole = RawBatch::parse_compacted(bytes).is_ok_and(|batch| batch.verify_crc().is_ok());
        Ok(whole.then_some(header))
    }

    /// The batch at `position` and the one behind it.
    pub(crate) fn batch_pair(&mut self, position: u64) -> io::Result<[Option<BatchHeader>; 2]> {
        let first = self.batch(position)?;
        let second = first.map_or(Ok(None), |first| self.batch(position + first.total_bytes() as u64))?;
        Ok([first, second])
    }

    /// The first believable batch after damage at `position`, where the offset `expected` should have begun.
    ///
    /// Where the damaged batch's own header is still in order, a batch before its end is believed only if it continues its offsets
    /// or is itself continued: what a producer put *into* a record may look like a batch, but the length may be what is damaged.
    pub(crate) fn batch_after(
        &mut self,
        position: u64,
        expected: Offset,
        fits: &dyn Fn(&BatchHeader) -> bool,
    ) -> io::Result<Next> {
        let claimed = BatchHeader::parse_compacted(self.bytes(position, HEADER_BYTES)?).ok();
        let claimed = claimed.filter(|header| header.base_offset == expected);
        let claimed_end = claimed.map_or(position, |header| position + header.total_bytes() as u64);
        if claimed.is_some()
            && claimed_end < self.limit
            && let Some(next) = self.batch(claimed_end)?.filter(|next| next.base_offset > expected && fits(next))
            && self.followers(claimed_end, &next, expected, fits)? != Followers::Differ
        {
            let swallowed = match &claimed {
                Some(claimed) if claimed.next_offset() < next.base_offset => {
                    self.swallowed(position, claimed.next_offset(), claimed_end, next.base_offset, fits)?
                }
                _ => None,
            };
            return Ok(swallowed.unwrap_or(Next::Batch(claimed_end, next)));
        }
        let mut rest = if claimed.is_some() { Next::Garbage } else { Next::Zeros };
        // Not the damaged batch itself: its offset lies outside the CRC and may be what is wrong with it.
        let mut at = position + 1;
        while at < self.limit {
            let Some(data) = self.next_written(at)?.filter(|&data| data < self.limit) else { break };
            at = at.max(data);
            let chunk = self.bytes(at, CHUNK_BYTES)?;
            if chunk.is_empty() {
                break;
            }
            if chunk.iter().any(|&byte| byte != 0) {
                rest = Next::Garbage;
            }
            let usable = chunk.len().saturating_sub(HEADER_BYTES - 1).max(1);
            let candidates = candidates(chunk, expected);
            for candidate in candidates {
                let found = at + candidate as u64;
                let Some(header) = self.batch(found)?.filter(|header| fits(header)) else { continue };
                // Within what may be one large record, a batch must connect to something.
                let is_free = found >= claimed_end || claimed.is_some_and(|c| c.next_offset() == header.base_offset);
                match self.followers(found, &header, expected, fits)? {
                    Followers::Agree => return Ok(Next::Batch(found, header)),
                    Followers::None if is_free => return Ok(Next::Batch(found, header)),
                    Followers::None | Followers::Differ => {}
                }
            }
            at += usable as u64;
        }
        Ok(rest)
    }
}

impl Window {
    /// Where the damaged batch's length reaches over whole batches and happens to end with one of them: the first of those. They begin at
    /// `expected`, where the damaged batch ends by its offsets, and lead without a gap to `next` at `end`, the batch behind its length.
    fn swallowed(
        &mut self,
        position: u64,
        expected: Offset,
        end: u64,
        next: Offset,
        fits: &dyn Fn(&BatchHeader) -> bool,
    ) -> io::Result<Option<Next>> {
        let mut at = position + HEADER_BYTES as u64;
        while at < end {
            let wanted = CHUNK_BYTES.min((end - at) as usize);
            let chunk = self.bytes(at, wanted)?;
            if chunk.len() < HEADER_BYTES {
                break;
            }
            let usable = (chunk.len() - (HEADER_BYTES - 1)) as u64;
            let starts = chunk.windows(8).enumerate().filter(|(_, bytes)| **bytes == expected.0.to_be_bytes());
            let starts: Vec<_> = starts.map(|(start, _)| at + start as u64).collect();
            for start in starts {
                if let Some(first) = self.chain(start, expected, end, next, fits)? {
                    return Ok(Some(Next::Batch(start, first)));
                }
            }
            at += usable;
        }
        Ok(None)
    }

    /// The first of the whole batches from `position` and `expected` on, if they lead to `next` at `end` without a gap.
    fn chain(
        &mut self,
        position: u64,
        expected: Offset,
        end: u64,
        next: Offset,
        fits: &dyn Fn(&BatchHeader) -> bool,
    ) -> io::Result<Option<BatchHeader>> {
        let (mut at, mut offset, mut first) = (position, expected, None);
        while at < end {
            let Some(header) = self.batch(at)?.filter(|h| h.base_offset == offset && fits(h)) else { return Ok(None) };
            at += header.total_bytes() as u64;
            offset = header.next_offset();
            first.get_or_insert(header);
        }
        Ok(first.filter(|_| at == end && offset == next))
    }
}

/// What the batches behind one say about its base offset, which lies outside the CRC.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Followers {
    /// There is no batch behind it.
    None,
    Agree,
    Differ,
}

impl Window {
    /// Where the batch behind disagrees, the one behind that decides. One whose own offset cannot be right has no say, only its length and
    /// its records count; `expected` and `fits` are those of [`Window::batch_after`].
    fn followers(
        &mut self,
        position: u64,
        header: &BatchHeader,
        expected: Offset,
        fits: &dyn Fn(&BatchHeader) -> bool,
    ) -> io::Result<Followers> {
        let has_say = |batch: &BatchHeader| is_within_reach(batch, expected) && fits(batch);
        let second_at = position + header.total_bytes() as u64;
        let Some(second) = self.batch(second_at)? else { return Ok(Followers::None) };
        if second.base_offset == header.next_offset() {
            return Ok(Followers::Agree);
        }
        let third = self.batch(second_at + second.total_bytes() as u64)?.filter(has_say);
        let third_expected = header.next_offset().plus(u64::from(second.last_offset_delta) + 1);
        Ok(match third {
            Some(third) if third.base_offset == third_expected => Followers::Agree,
            None if !has_say(&second) => Followers::None,
            _ => Followers::Differ,
        })
    }
}

/// Positions in `chunk` where a later batch of this segment might begin, judged by its header alone.
fn candidates(chunk: &[u8], expected: Offset) -> Vec<usize> {
    let mut found = Vec::new();
    for (position, window) in chunk.windows(HEADER_BYTES).enumerate() {
        if window[16] == 2
            && window[0] < 0x80
            && let Ok(header) = BatchHeader::parse_compacted(window)
            && is_within_reach(&header, expected)
        {
            found.push(position);
        }
    }
    found
}

/// Whether a segment in which `expected` is missing may hold the batch behind it.
fn is_within_reach(header: &BatchHeader, expected: Offset) -> bool {
    header.base_offset > expected && header.base_offset.since(expected) <= RELATIVE_MAX
}

/// Whether the epoch that a batch carries is the one the history has for it: the epoch lies outside the CRC, so a flipped bit in it
/// shows only here. For records of which everything is known, the history included.
pub(crate) fn epoch_matches(epochs: &LeaderEpochs, header: &BatchHeader) -> bool {
    header.leader_epoch.is_some_and(|epoch| epochs.epoch_at(header.base_offset).is_none_or(|known| epoch == known))
}

/// Whether a segment's file begins with a batch of before its base: it is a copy of another.
pub(crate) fn begins_before(place: &Place, base: Offset) -> io::Result<bool> {
    let first = Window::open(&*place.disk, &place.path(base, LOG))?.batch(0)?;
    Ok(first.is_some_and(|header| header.base_offset < base))
}

/// As [`epoch_matches`], for a tail that may be newer than the file of the history.
pub(crate) fn epoch_follows(epochs: &LeaderEpochs, header: &BatchHeader) -> bool {
    let Some(epoch) = header.leader_epoch else { return false };
    match epochs.epoch_at(header.base_offset) {
        Some(known) if Some(known) == epochs.latest() => epoch >= known,
        _ => epoch_matches(epochs, header),
    }
}

/// Whether nothing was ever written at or after `position`, found without reading reserved space.
pub(crate) fn is_untouched(file: &dyn DiskFile, position: u64, length: u64) -> io::Result<bool> {
    const BLOCK: u64 = 4096;
    if position >= length {
        return Ok(true);
    }
    let boundary = position.next_multiple_of(BLOCK).min(length);
    let mut block = [0; BLOCK as usize];
    let rest = &mut block[..(boundary - position) as usize];
    read_full_at(file, rest, position)?;
    Ok(rest.iter().all(|&byte| byte == 0) && file.next_data(boundary)?.is_none_or(|data| data >= length))
}
