//! From times to offsets, exact to the record: the index finds the segment and the place, the batch's own records decide.
//!
//! Blocks where the disk is needed, so it belongs on a thread that may. Knows nothing of who may see how far: the caller bounds the search.

use tidelog_protocol::records::{BatchHeader, Batches, RawBatch, Scratch, TimestampType};
use tidelog_protocol::{Offset, Timestamp};

use crate::reader::{LogReader, ReadError, ReadOutcome};

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
        for segment in self.state.segments().iter() {
            let end = segment.record().end;
            if end.largest < timestamp || end.offset <= self.log_start() {
                continue;
            }
            let index_error =
                |source| crate::StorageError { operation: "read the index of", path: segment.path(), source };
            self.state.index_segment(segment).map_err(index_error)?;
            let relative = segment.search(|index| index.times.search_from(timestamp)).unwrap_or(0);
            let from = segment.base().plus(u64::from(relative));
            let found = self.scan(from, end.offset.min(upper), |batch| first_at_or_after(batch, timestamp))?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    /// The first of the records with the largest timestamp of the log; `None` without records.
    ///
    /// # Errors
    /// [`ReadError`], but never `Corrupt`.
    pub fn max_timestamp(&self) -> Result<Option<TimedOffset>, ReadError> {
        let log_start = self.log_start();
        let ends = self.state.segments().iter().map(|segment| segment.record().end).collect::<Vec<_>>();
        let held = ends.iter().filter(|end| end.offset > log_start && end.largest_at >= log_start);
        let Some(best) = held.rev().max_by_key(|end| end.largest).filter(|end| end.bytes > 0) else { return Ok(None) };
        self.scan(best.largest_at, best.offset, |batch| first_at_or_after(batch, best.largest))
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

/// The first record of `batch` at or after `timestamp`.
fn first_at_or_after(batch: &RawBatch<'_>, timestamp: Timestamp) -> Option<TimedOffset> {
    let BatchHeader { base_offset, max_timestamp, attributes, .. } = *batch.header();
    if max_timestamp < timestamp {
        return None;
    }
    if attributes.timestamp_type() == TimestampType::LogAppend {
        return Some(TimedOffset { offset: base_offset, timestamp: max_timestamp });
    }
    let mut scratch = Scratch::new();
    let mut records = batch.records(&mut scratch).ok()?.map_while(Result::ok);
    records
        .find(|record| record.timestamp >= timestamp)
        .map(|record| TimedOffset { offset: record.offset, timestamp: record.timestamp })
}
