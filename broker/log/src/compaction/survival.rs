//! Which records stay: the rules of compaction. Pure.
//!
//! - The last record of a key stays, older ones go; of what lies at or above the end of the pass nothing is known, so it stays. A record
//!   without a key is superseded by none.
//! - A tombstone (no value) stays until its grace is over. The grace begins when the pass is done that made it the last word on its key,
//!   so whoever read the key before has that long to come and see it.
//! - A record of an aborted transaction goes, and supersedes nothing.
//! - A marker stays as long as records of its transaction do, then it is as a tombstone.
//!
//! Knows nothing of files or bytes.

use std::collections::HashMap;
use std::time::Duration;

use tidelog_protocol::records::{BatchHeader, Record};
use tidelog_protocol::{Offset, ProducerId, Timestamp};

use super::cleaned::Cleaned;
use super::offset_map::OffsetMap;

/// A transaction whose records do not count.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct AbortedTransaction {
    /// Who wrote it.
    pub producer: ProducerId,
    /// Its first offset in the partition.
    pub first: Offset,
    /// Offset of the marker that aborted it.
    pub last: Offset,
}

/// The aborted transactions of a log, for looking up.
#[derive(Clone, Debug, Default)]
pub(crate) struct Aborted(Vec<AbortedTransaction>);

impl Aborted {
    pub(crate) fn new(transactions: &[AbortedTransaction]) -> Self {
        let mut sorted = transactions.to_vec();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// Whether the batch belongs to one of them.
    pub(crate) fn holds(&self, header: &BatchHeader) -> bool {
        if !header.attributes.is_transactional() || header.attributes.is_control() {
            return false;
        }
        let key = (header.producer_id, header.base_offset);
        let after = self.0.partition_point(|aborted| (aborted.producer, aborted.first) <= key);
        let before = after.checked_sub(1).map(|index| self.0[index]);
        before.is_some_and(|aborted| aborted.producer == header.producer_id && header.base_offset <= aborted.last)
    }
}

/// What is to be done with a batch that has records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It stays as it is.
    Stays,
    /// None of its records stays.
    Goes,
    /// Each record is asked about.
    EachRecord,
}

/// When a tombstone may go.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Grace {
    pub(crate) now: Timestamp,
    pub(crate) lasts: Duration,
    /// Those at or above stay, however old.
    pub(crate) below: Offset,
}

/// Judges batches and records, which come in the order of their offsets.
#[derive(Clone)]
pub(crate) struct Survival<'a> {
    map: &'a OffsetMap,
    aborted: &'a Aborted,
    cleaned: &'a Cleaned,
    /// The map knows everything below that is not in the clean part.
    upto: Offset,
    grace: Grace,
    /// Transactions with records since their last marker, and whether any of those stays. A marker takes its entry, and no open transaction lies below the end
    /// of a pass, so these are no more than were ever open at once.
    open: HashMap<ProducerId, bool>,
    /// Whose records are asked about.
    transaction: Option<ProducerId>,
    /// Tombstones, and markers of transactions without records, that stay, by span; the last is that of this pass.
    tombstones: Vec<u64>,
}

impl<'a> Survival<'a> {
    pub(crate) fn new(
        map: &'a OffsetMap,
        aborted: &'a Aborted,
        cleaned: &'a Cleaned,
        upto: Offset,
        grace: Grace,
    ) -> Self {
        Self {
            map,
            aborted,
            cleaned,
            upto,
            grace,
            open: HashMap::new(),
            transaction: None,
            tombstones: vec![0; cleaned.spans.len() + 1],
        }
    }

    /// What becomes of a batch.
    pub(crate) fn batch(&mut self, header: &BatchHeader) -> Fate {
        if header.base_offset >= self.upto {
            return Fate::Stays;
        }
        if header.attributes.is_control() {
            // As they were before this pass: a marker outlives the last record of its transaction by a pass at least.
            let had_records = self.open.remove(&header.producer_id);
            if had_records.is_none() && self.is_past_grace(header.base_offset) {
                return Fate::Goes;
            }
            if had_records != Some(true) {
                self.count(header.base_offset);
            }
            return Fate::Stays;
        }
        self.transaction = header.attributes.is_transactional().then_some(header.producer_id);
        if let Some(producer) = self.transaction {
            self.open.entry(producer).or_insert(false);
        }
        if self.aborted.holds(header) { Fate::Goes } else { Fate::EachRecord }
    }

    /// Whether a record stays.
    pub(crate) fn keeps(&mut self, record: &Record<'_>) -> bool {
        let stays = self.is_kept(record);
        if stays && let Some(producer) = self.transaction {
            self.open.insert(producer, true);
        }
        stays
    }

    fn is_kept(&mut self, record: &Record<'_>) -> bool {
        let Some(key) = record.key.filter(|_| record.offset < self.upto) else { return true };
        if self.map.last(key).is_some_and(|last| record.offset < last) {
            return false;
        }
        if record.value.is_none() {
            if self.is_past_grace(record.offset) {
                return false;
            }
            self.count(record.offset);
        }
        true
    }

    /// Tombstones and markers that stayed, by span.
    pub(crate) fn tombstones(&self) -> &[u64] {
        &self.tombstones
    }

    fn is_past_grace(&self, offset: Offset) -> bool {
        let Some(span) = self.cleaned.span_of(offset).filter(|_| offset < self.grace.below) else { return false };
        is_over(self.cleaned.spans[span].at, self.grace.lasts, self.grace.now)
    }

    fn count(&mut self, offset: Offset) {
        let span = self.cleaned.span_of(offset).unwrap_or(self.tombstones.len() - 1);
        self.tombstones[span] += 1;
    }
}

/// Whether so much time has passed since.
pub(crate) fn is_over(since: Timestamp, grace: Duration, now: Timestamp) -> bool {
    let grace = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
    now.0.saturating_sub(since.0) >= grace
}

#[cfg(test)]
mod tests {
    use super::super::cleaned::Span;
    use super::*;
    use tidelog_protocol::records::{BatchBuilder, Headers, NO_HEADERS, Producer};
    use tidelog_protocol::{ProducerEpoch, Sequence};

    fn record<'r>(offset: u64, key: Option<&'r str>, value: Option<&'r str>) -> Record<'r> {
        let headers = Headers::default();
        let (key, value) = (key.map(str::as_bytes), value.map(str::as_bytes));
        Record { offset: Offset(offset), timestamp: Timestamp(0), key, value, headers }
    }

    fn header(producer: i64, offset: u64, control: bool) -> BatchHeader {
        let mut builder = BatchBuilder::new(1 << 10);
        let attributes = builder.attributes().transactional();
        builder.set_attributes(if control { attributes.control() } else { attributes });
        let id = ProducerId(producer);
        builder.set_producer(Producer { id, epoch: ProducerEpoch(0), base_sequence: Sequence(0) });
        builder.append(Timestamp(0), Some(b"k"), None, NO_HEADERS).unwrap();
        let bytes = builder.finish(tidelog_protocol::records::Compression::None).unwrap();
        BatchHeader { base_offset: Offset(offset), ..BatchHeader::parse(&bytes).unwrap() }
    }

    fn grace(now: i64, below: u64) -> Grace {
        Grace { now: Timestamp(now), lasts: Duration::from_millis(500), below: Offset(below) }
    }

    fn clean(upto: u64, at: i64) -> Cleaned {
        Cleaned { spans: vec![Span { upto: Offset(upto), at: Timestamp(at), tombstones: 1 }], ..Cleaned::default() }
    }

    fn map(keys: &[(&str, u64)]) -> OffsetMap {
        let mut map = OffsetMap::new(1 << 16, 1_000);
        assert!(keys.iter().all(|(key, offset)| map.note(key.as_bytes(), Offset(*offset))));
        map
    }

    #[test]
    fn the_last_of_a_key_stays_and_what_the_map_knows_nothing_of() {
        let (map, aborted, cleaned) = (map(&[("a", 12), ("b", 13)]), Aborted::default(), clean(10, 0));
        let mut survival = Survival::new(&map, &aborted, &cleaned, Offset(20), grace(0, 0));
        for (offset, key, stays) in [
            (3, Some("a"), false),
            (11, Some("a"), false),
            (12, Some("a"), true),
            (20, Some("a"), true),
            (4, Some("c"), true),
            (5, None, true),
        ] {
            assert_eq!(survival.keeps(&record(offset, key, Some("v"))), stays, "{offset} {key:?}");
        }
    }

    #[test]
    fn a_tombstone_stays_for_its_grace_from_when_it_was_clean() {
        let (map, aborted, cleaned) = (map(&[("a", 12)]), Aborted::default(), clean(10, 1_000));
        let at = |now, below| Survival::new(&map, &aborted, &cleaned, Offset(20), grace(now, below));
        let tombstone = record(5, Some("dead"), None);
        assert!(at(1_499, 20).keeps(&tombstone));
        assert!(!at(1_500, 20).keeps(&tombstone));
        assert!(at(1_500, 5).keeps(&tombstone), "a replica may not have seen it");
        // One that this pass makes clean has its grace before it, however old it is.
        let mut late = at(i64::MAX, 20);
        assert!(late.keeps(&record(12, Some("a"), None)));
        assert!(!late.keeps(&record(11, Some("a"), None)), "superseded, as any other");
        assert_eq!(late.tombstones(), [0, 1]);
    }

    #[test]
    fn records_of_aborted_transactions_go_and_of_others_in_between_stay() {
        let transaction = |producer, first, last| AbortedTransaction {
            producer: ProducerId(producer),
            first: Offset(first),
            last: Offset(last),
        };
        let aborted = Aborted::new(&[transaction(7, 30, 40), transaction(7, 5, 9), transaction(8, 6, 20)]);
        for (producer, offset, held) in
            [(7, 4, false), (7, 5, true), (7, 9, true), (7, 10, false), (7, 35, true), (8, 10, true), (9, 7, false)]
        {
            assert_eq!(aborted.holds(&header(producer, offset, false)), held, "{producer} at {offset}");
        }
        assert!(!aborted.holds(&header(7, 9, true)), "the marker is no record of it");
        let (map, cleaned) = (map(&[]), Cleaned::default());
        let mut survival = Survival::new(&map, &aborted, &cleaned, Offset(50), grace(0, 0));
        assert_eq!(survival.batch(&header(7, 6, false)), Fate::Goes);
        assert_eq!(survival.batch(&header(9, 7, false)), Fate::EachRecord);
        assert_eq!(survival.batch(&header(7, 60, false)), Fate::Stays);
    }

    #[test]
    fn a_marker_stays_while_records_of_its_transaction_do_and_for_its_grace() {
        let (map, aborted, cleaned) = (map(&[]), Aborted::default(), clean(10, 1_000));
        let at = |now| Survival::new(&map, &aborted, &cleaned, Offset(50), grace(now, 50));
        let mut with_records = at(9_000);
        assert_eq!(with_records.batch(&header(7, 3, false)), Fate::EachRecord);
        assert_eq!(with_records.batch(&header(7, 4, true)), Fate::Stays);
        assert_eq!(with_records.batch(&header(7, 6, true)), Fate::Goes, "of a transaction that is gone altogether");
        assert_eq!(at(1_499).batch(&header(7, 4, true)), Fate::Stays);
        assert_eq!(at(9_000).batch(&header(7, 12, true)), Fate::Stays, "not clean before");
    }
}
