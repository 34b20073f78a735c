//! How far a log was compacted, and since when its tombstones are the last word on their keys: a small file beside the segments.
//!
//! Without the file a log counts as never compacted: everything is cleaned once more and every tombstone's grace begins anew. Knows nothing of
//! what a pass does.

use std::path::Path;

use tidelog_protocol::{Offset, Timestamp};

use crate::disk::Disk;
use crate::small_file::{self, Fields, Kind, SmallFileError};
use crate::storage_error::StorageError;

/// Name of the file in the partition folder.
pub(crate) const FILE_NAME: &str = "compaction";
pub(crate) const KIND: Kind = Kind { magic: *b"TLcm", version: 1 };
/// Spans above this many are put together, the oldest first.
const SPANS_MAX: usize = 64;

/// What one pass, or several put together, cleaned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Span {
    /// It reaches from the end of the span before to here.
    pub(crate) upto: Offset,
    /// When it was clean: from here on the grace of its tombstones counts.
    pub(crate) at: Timestamp,
    /// Tombstones in it that are still there, and markers of transactions that have no records any more.
    pub(crate) tombstones: u64,
}

/// The state of a log's compaction.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Cleaned {
    /// No pass has looked at records from here on: what lies below may have been thinned because of something below this.
    pub(crate) seen_to: Offset,
    /// Tombstones may have been dropped below this, and none above.
    pub(crate) dropped_below: Offset,
    /// In order, never touching: of the last, and of those that hold tombstones.
    pub(crate) spans: Vec<Span>,
    /// Counts how often the log was begun anew. Not stored: a pass does not outlive the process.
    pub(crate) restarts: u64,
}

impl Cleaned {
    /// Of a key with a record at or above this, there may be older ones anywhere.
    pub(crate) fn cleaned_to(&self) -> Offset {
        self.spans.last().map_or(Offset::ZERO, |span| span.upto)
    }

    /// The span that `offset` lies in.
    pub(crate) fn span_of(&self, offset: Offset) -> Option<usize> {
        let index = self.spans.partition_point(|span| span.upto <= offset);
        (index < self.spans.len()).then_some(index)
    }

    /// A pass has cleaned everything below `upto`; `tombstones` counts those of each span that stayed, and those of the new one.
    pub(crate) fn finish(&mut self, upto: Offset, at: Timestamp, tombstones: &[u64]) {
        if upto > self.cleaned_to() {
            self.spans.push(Span { upto, at, tombstones: 0 });
        }
        for (span, count) in self.spans.iter_mut().zip(tombstones) {
            span.tombstones = *count;
        }
        let last = self.cleaned_to();
        self.spans.retain(|span| span.tombstones > 0 || span.upto == last);
        while self.spans.len() > SPANS_MAX {
            let oldest = self.spans.remove(0);
            self.spans[0].tombstones += oldest.tombstones;
        }
    }

    /// Records from `from` on are others now: they count as never cleaned. False where that changes nothing.
    pub(crate) fn forget_from(&mut self, from: Offset) -> bool {
        let before = self.spans.clone();
        self.spans.retain(|span| span.upto <= from);
        if let Some(cut) = before.get(self.spans.len())
            && self.spans.last().map_or(Offset::ZERO, |span| span.upto) < from
        {
            self.spans.push(Span { upto: from, ..*cut });
        }
        self.spans != before
    }

    /// The log ends at `end`. False where that changes nothing.
    pub(crate) fn clamp(&mut self, end: Offset) -> bool {
        let before = (self.seen_to, self.dropped_below);
        self.seen_to = self.seen_to.min(end);
        self.dropped_below = self.dropped_below.min(end);
        self.forget_from(end) || before != (self.seen_to, self.dropped_below)
    }

    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        small_file::replace(disk, &dir.join(FILE_NAME), KIND, &self.encode())
    }

    /// As the folder says. A damaged file is as none, but for what was seen: that may be anything.
    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, StorageError> {
        match small_file::read(disk, &dir.join(FILE_NAME), KIND) {
            Ok((_, body)) => Ok(Self::decode(&body).unwrap_or_else(Self::unknown)),
            Err(SmallFileError::Missing) => Ok(Self::default()),
            Err(SmallFileError::Storage(error)) => Err(error),
            Err(SmallFileError::Damaged(_) | SmallFileError::Newer { .. }) => Ok(Self::unknown()),
        }
    }

    fn unknown() -> Self {
        Self { seen_to: Offset::MAX, dropped_below: Offset::MAX, ..Self::default() }
    }

    fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20 + self.spans.len() * 24);
        out.extend(self.seen_to.0.to_be_bytes());
        out.extend(self.dropped_below.0.to_be_bytes());
        out.extend((self.spans.len() as u32).to_be_bytes());
        for span in &self.spans {
            out.extend(span.upto.0.to_be_bytes());
            out.extend(span.at.0.to_be_bytes());
            out.extend(span.tombstones.to_be_bytes());
        }
        out
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let (seen_to, dropped_below) = (Offset(fields.u64()?), Offset(fields.u64()?));
        let mut spans = Vec::new();
        for _ in 0..fields.u32()? {
            let (upto, at) = (Offset(fields.u64()?), Timestamp(fields.i64()?));
            spans.push(Span { upto, at, tombstones: fields.u64()? });
        }
        let in_order = spans.is_sorted_by(|earlier: &Span, later| earlier.upto < later.upto);
        (fields.0.is_empty() && in_order).then_some(Self { seen_to, dropped_below, spans, restarts: 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os_disk::OsDisk;

    fn cleaned(spans: &[(u64, i64, u64)]) -> Cleaned {
        let span = |&(upto, at, tombstones)| Span { upto: Offset(upto), at: Timestamp(at), tombstones };
        Cleaned { spans: spans.iter().map(span).collect(), ..Cleaned::default() }
    }

    #[test]
    fn the_file_reads_back_and_without_it_or_damaged_nothing_counts_as_clean() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Cleaned::read(&OsDisk, dir.path()).unwrap(), Cleaned::default());
        let stored = Cleaned { seen_to: Offset(9), dropped_below: Offset(4), ..cleaned(&[(5, 100, 2), (8, 200, 0)]) };
        stored.write(&OsDisk, dir.path()).unwrap();
        assert_eq!(Cleaned::read(&OsDisk, dir.path()).unwrap(), stored);
        std::fs::write(dir.path().join(FILE_NAME), b"garbage").unwrap();
        let mut unknown = Cleaned::read(&OsDisk, dir.path()).unwrap();
        assert_eq!((unknown.cleaned_to(), unknown.seen_to), (Offset::ZERO, Offset::MAX));
        assert!(unknown.clamp(Offset(70)));
        assert_eq!((unknown.seen_to, unknown.dropped_below), (Offset(70), Offset(70)));
    }

    #[test]
    fn a_span_lasts_as_long_as_it_holds_tombstones_or_is_the_last() {
        let mut state = cleaned(&[(5, 100, 2), (8, 200, 0)]);
        state.finish(Offset(20), Timestamp(300), &[2, 1, 7]);
        assert_eq!(state, cleaned(&[(5, 100, 2), (8, 200, 1), (20, 300, 7)]));
        assert_eq!(
            (state.span_of(Offset(5)), state.span_of(Offset(19)), state.span_of(Offset(20))),
            (Some(1), Some(2), None)
        );
        // A pass over nothing new leaves the last span as old as it was.
        state.finish(Offset(20), Timestamp(900), &[0, 1, 0]);
        assert_eq!(state, cleaned(&[(8, 200, 1), (20, 300, 0)]));
    }

    #[test]
    fn too_many_spans_become_fewer_and_no_tombstone_older_than_it_is() {
        let mut state = Cleaned::default();
        for pass in 1..=200u64 {
            let counts = vec![1; state.spans.len() + 1];
            state.finish(Offset(pass * 10), Timestamp(pass as i64), &counts);
        }
        assert_eq!(state.spans.len(), SPANS_MAX);
        assert_eq!(state.spans[0].at, Timestamp(200 - 63));
        assert_eq!(state.cleaned_to(), Offset(2_000));
    }

    #[test]
    fn what_is_forgotten_is_cleaned_anew() {
        let mut state = cleaned(&[(5, 100, 2), (8, 200, 1)]);
        assert!(!state.forget_from(Offset(8)));
        assert!(state.forget_from(Offset(6)));
        assert_eq!(state, cleaned(&[(5, 100, 2), (6, 200, 1)]));
        assert!(state.forget_from(Offset::ZERO));
        assert_eq!(state.cleaned_to(), Offset::ZERO);
    }
}
