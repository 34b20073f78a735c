//! From times to offsets, exact to the record: the index finds the segment and the place, the batch's own records decide.
//!
//! Blocks where the disk is needed, so it belongs on a thread that may. Knows nothing of who may see how far: the caller bounds the search.

use std::ops::Range;
use std::sync::Arc;

use tidelog_protocol::records::{BatchHeader, Batches, RawBatch, Scratch, TimestampType};
use tidelog_protocol::{Offset, Timestamp};

use crate::reader::{LogReader, ReadError, ReadOutcome};
use crate::segment::Segment;
use crate::segment_index::Mark;
use crate::storage_error::Context;

/// Bytes looked through at once.
const STEP_BYTES: u32 = 1 << 20;

/// A record's place in the log and in time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimedOffset {
    /// Its offset.
    pub offset: Offset,
    /// Its timestamp.
    pub timestamp: Timestamp,
}

impl LogReader {
    /// The first record below `upper` (exclusive) whose timestamp is at or after `timestamp`; damaged ranges are passed over.
    ///
    /// # Errors
    /// [`ReadError`], but never `Corrupt`.
    pub fn offset_for_timestamp(&self, timestamp: Timestamp, upper: Offset) -> Result<Option<TimedOffset>, ReadError> {
        let log_start = self.log_start();
        for segment in self.state.segments().iter() {
            let end = segment.record().end;
            if end.largest < timestamp || end.offset <= log_start {
                continue;
            }
            self.index(segment)?;
            let relative = segment.search(|index| index.times.search_from(timestamp)).unwrap_or(0);
            let from = segment.base().plus(u64::from(relative));
            let found =
                self.scan(from, end.offset.min(upper), |batch| first_at_or_after(batch, timestamp, log_start))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first of the records below `upper` (exclusive) with the largest timestamp there; `None` without records. Damaged ranges are passed
    /// over.
    ///
    /// # Errors
    /// [`ReadError`], but never `Corrupt`.
    pub fn max_timestamp(&self, upper: Offset) -> Result<Option<TimedOffset>, ReadError> {
        let log_start = self.log_start();
        let mut best: Option<TimedOffset> = None;
        // The newest first: what it has is mostly larger than what any other claims, and then those are not looked at.
        for segment in self.state.segments().iter().rev() {
            let end = segment.record().end;
            let is_beaten = best.is_some_and(|best| end.largest < best.timestamp);
            if is_beaten || end.bytes == 0 || end.offset <= log_start || segment.base() >= upper {
                continue;
            }
            if let Some(found) = self.newest_of(segment, log_start..upper)?
                && best.is_none_or(|best| found.timestamp >= best.timestamp)
            {
                best = Some(found);
            }
        }
        Ok(best)
    }

    /// As [`LogReader::max_timestamp`], of one segment.
    fn newest_of(&self, segment: &Arc<Segment>, range: Range<Offset>) -> Result<Option<TimedOffset>, ReadError> {
        let end = segment.record().end;
        let range = range.start.max(segment.base())..range.end.min(end.offset);
        let mark = Mark { timestamp: end.largest, at: end.largest_at };
        if range.contains(&mark.at)
            && let Some(found) = self.first_of(mark, &range)?
        {
            return Ok(Some(found));
        }
        // The mark is that of a record which is deleted, or which may not be seen yet: an older one, and the batches since.
        self.index(segment)?;
        let older = segment.search(|index| index.mark_below(segment.base(), range.end)).flatten();
        let (mut best, from) = match older {
            Some((mark, from)) if range.contains(&mark.at) && self.first_of(mark, &range)?.is_some() => {
                (Some(mark), from.max(range.start))
            }
            _ => (None, range.start),
        };
        self.scan(from, range.end, |batch| {
            let mark = newest_in(batch, range.start);
            if mark.is_some_and(|mark| best.is_none_or(|best| mark.timestamp > best.timestamp)) {
                best = mark;
            }
            None
        })?;
        best.map_or(Ok(None), |best| self.first_of(best, &range))
    }

    /// The first record with the timestamp of the mark, in the batch that it points to or behind it.
    fn first_of(&self, mark: Mark, range: &Range<Offset>) -> Result<Option<TimedOffset>, ReadError> {
        self.scan(mark.at, range.end, |batch| first_at_or_after(batch, mark.timestamp, range.start))
    }

    fn index(&self, segment: &Arc<Segment>) -> Result<(), ReadError> {
        let indexed = self.state.index_segment(segment);
        Ok(indexed.context("read the index of", &segment.path())?)
    }

    /// What `look` finds first in the batches of `from..upper`.
    fn scan(
        &self,
        from: Offset,
        upper: Offset,
        mut look: impl FnMut(&RawBatch<'_>) -> Option<TimedOffset>,
    ) -> Result<Option<TimedOffset>, ReadError> {
        let mut at = from.max(self.log_start());
        while at < upper {
            let batches = match self.read_blocking(at, upper, STEP_BYTES) {
                Ok(ReadOutcome::Batches(batches)) => batches,
                Ok(ReadOutcome::UpToDate | ReadOutcome::Cold(_)) => return Ok(None),
                Err(ReadError::Corrupt { to, .. }) => {
                    at = to;
                    continue;
                }
                Err(error) => return Err(error),
            };
            for batch in Batches::compacted(&batches.bytes).map_while(Result::ok) {
                if let Some(found) = look(&batch) {
                    return Ok(Some(found));
                }
            }
            at = batches.next;
        }
        Ok(None)
    }
}

/// The first record of `batch` at or after `timestamp`, of those from `start` on.
fn first_at_or_after(batch: &RawBatch<'_>, timestamp: Timestamp, start: Offset) -> Option<TimedOffset> {
    let BatchHeader { base_offset, max_timestamp, attributes, .. } = *batch.header();
    if max_timestamp < timestamp || batch.header().next_offset() <= start {
        return None;
    }
    if attributes.timestamp_type() == TimestampType::LogAppend && batch.header().is_whole() {
        return Some(TimedOffset { offset: base_offset.max(start), timestamp: max_timestamp });
    }
    let mut scratch = Scratch::new();
    let mut records = batch.records(&mut scratch).ok()?.map_while(Result::ok);
    records
        .find(|record| record.timestamp >= timestamp && record.offset >= start)
        .map(|record| TimedOffset { offset: record.offset, timestamp: record.timestamp })
}

/// The largest timestamp in `batch`, of the records from `start` on; only a batch that begins before it is looked into.
fn newest_in(batch: &RawBatch<'_>, start: Offset) -> Option<Mark> {
    let header = batch.header();
    if header.record_count == 0 {
        // Compaction left nothing of it but its offsets.
        return None;
    }
    let whole = Mark { timestamp: header.max_timestamp, at: header.last_offset() };
    if header.base_offset >= start || header.attributes.timestamp_type() == TimestampType::LogAppend {
        return (whole.at >= start).then_some(whole);
    }
    let mut scratch = Scratch::new();
    let records = batch.records(&mut scratch).ok()?.map_while(Result::ok);
    let timestamp = records.filter(|record| record.offset >= start).map(|record| record.timestamp).max()?;
    Some(Mark { timestamp, at: whole.at })
}
