//! What is known of the aggregates of one partition: the version of each and where its latest event and snapshot stand. Made of nothing but
//! the records of the partition, in their order; knows nothing of how they are read.
//!
//! Invariant: after the record at offset n - 1 the entry of every aggregate is what its events below n say, and `end` is n. A record that
//! does not follow from them is a fault, and nothing is changed by it: two events of one version cannot stand in the same log.
//!
//! An aggregate that was retired has no entry, and what stands under its id behind that is another. As that follows from the log, too, all
//! processes agree on it. Two readers of the log come by the events of an aggregate that the index has forgotten already, and take them for
//! what they are: one that reads again what was written here, and one that begins behind a checkpoint.

use foldhash::{HashMap, HashMapExt};
use tidelog_protocol::Offset;

use super::commands::{CommandWindow, Seen};
use super::envelope::EventEnvelope;
use super::event::Version;

/// The aggregates are kept in so many parts, so that one of them can be written down at a time.
pub(super) const BUCKETS: usize = 256;
/// What an aggregate takes besides its id, in bytes: its entry, the table around it, the allocation of its id.
const ENTRY_BYTES: usize = 112;

/// The index of a partition.
#[derive(Debug)]
pub(super) struct Index {
    buckets: Vec<HashMap<Box<[u8]>, Entry>>,
    /// The first offset that is not looked at yet.
    end: Offset,
    commands: CommandWindow,
    bytes: usize,
    bytes_max: usize,
    /// The latest event: with it a checkpoint proves that it belongs to this log.
    witness: Option<Witness>,
    /// Aggregates that were retired, and where, for as long as their events may be read again.
    retired: HashMap<Box<[u8]>, Offset>,
    /// Below this, what was retired may be missing although its retirement is yet to be read: a checkpoint was written of later moments.
    sure_from: Offset,
    /// Events below that which nothing explains but a retirement that was not read yet, the first of each aggregate.
    unexplained: HashMap<Box<[u8]>, (Offset, IndexFault)>,
    is_warned: bool,
}

/// What is known of one aggregate. Offsets are raw with [`u64::MAX`] for none, as there may be millions of these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Entry {
    pub(super) version: Version,
    latest: u64,
    snapshot: u64,
    pub(super) snapshot_version: Version,
}

/// An event that stands in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Witness {
    pub(super) offset: Offset,
    pub(super) append: [u8; 16],
}

/// Why a record is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum IndexFault {
    #[error(
        "it is version {found} of its aggregate after {after:?}, where version {known} after {latest:?} was the latest: it was not \
         written by way of the store, or the store without its condition"
    )]
    Discontinuity { found: Version, after: Option<Offset>, known: Version, latest: Option<Offset> },
    #[error(
        "the index of the partition would be larger than {bytes_max} bytes: raise index_bytes_max, or spread the aggregates over more partitions"
    )]
    Full { bytes_max: usize },
}

impl Entry {
    const NEW: Self =
        Self { version: Version::NONE, latest: u64::MAX, snapshot: u64::MAX, snapshot_version: Version::NONE };

    pub(super) fn of(version: Version, latest: Option<Offset>, snapshot: Option<(Version, Offset)>) -> Self {
        let (snapshot_version, snapshot) = snapshot.map_or((Version::NONE, u64::MAX), |(at, offset)| (at, offset.0));
        Self { version, latest: latest.map_or(u64::MAX, |latest| latest.0), snapshot, snapshot_version }
    }

    /// Where its latest event stands.
    pub(super) fn latest(&self) -> Option<Offset> {
        (self.latest != u64::MAX).then_some(Offset(self.latest))
    }

    /// Whether the event of this version can stand at `offset` where the entry is of that moment or later.
    const fn knows(&self, version: Version, offset: Offset) -> bool {
        if version.0 == self.version.0 {
            offset.0 == self.latest
        } else {
            version.0 < self.version.0 && offset.0 < self.latest
        }
    }

    /// Where its latest snapshot stands among the snapshots.
    pub(super) fn snapshot(&self) -> Option<Offset> {
        (self.snapshot != u64::MAX).then_some(Offset(self.snapshot))
    }
}

impl Index {
    /// Of a partition of which nothing was read.
    pub(super) fn new(command_span: u64, bytes_max: usize) -> Self {
        Self {
            buckets: (0..BUCKETS).map(|_| HashMap::new()).collect(),
            end: Offset::ZERO,
            commands: CommandWindow::new(command_span),
            bytes: 0,
            bytes_max,
            witness: None,
            retired: HashMap::new(),
            sure_from: Offset::ZERO,
            unexplained: HashMap::new(),
            is_warned: false,
        }
    }

    pub(super) const fn end(&self) -> Offset {
        self.end
    }

    pub(super) const fn witness(&self) -> Option<Witness> {
        self.witness
    }

    pub(super) fn aggregates(&self) -> usize {
        self.buckets.iter().map(HashMap::len).sum()
    }

    /// An aggregate; that of one without events where it has none.
    pub(super) fn entry(&self, id: &[u8]) -> Entry {
        self.buckets[bucket(id)].get(id).copied().unwrap_or(Entry::NEW)
    }

    /// What came of a command.
    pub(super) fn command(&self, id: &[u8], command: &[u8]) -> Option<Seen> {
        self.commands.find(id, command)
    }

    /// Takes the event at `offset`; one below the end is known already, and has to be the one that is known.
    pub(super) fn take(&mut self, offset: Offset, id: &[u8], event: &EventEnvelope) -> Result<(), IndexFault> {
        let known = self.entry(id);
        let found = Version(event.version);
        // Of a checkpoint that was written while events came, an entry may be ahead of the place where reading goes on.
        let is_known = offset < self.end || known.latest().is_some_and(|latest| offset <= latest);
        let follows = if is_known {
            known.knows(found, offset)
        } else {
            found == known.version.plus(1) && event.previous == known.latest()
        };
        if !follows {
            let (after, latest) = (event.previous, known.latest());
            let fault = IndexFault::Discontinuity { found, after, known: known.version, latest };
            self.explain(offset, id, event, fault)?;
        }
        if offset < self.end {
            return Ok(());
        }
        if !is_known && follows && event.is_retirement() {
            self.retire(offset, id);
        } else if !is_known && follows {
            self.set(id, Entry { version: found, latest: offset.0, ..known })?;
        }
        if let Some(command) = &event.command {
            self.commands.note(id, command, Version(event.version), offset);
        }
        self.witness = Some(Witness { offset, append: event.append });
        self.advance(offset.plus(1));
        Ok(())
    }

    /// An event that does not follow from what is known may be one of an aggregate that was retired since.
    fn explain(
        &mut self,
        offset: Offset,
        id: &[u8],
        event: &EventEnvelope,
        fault: IndexFault,
    ) -> Result<(), IndexFault> {
        if self.retired.get(id).is_some_and(|retired| offset <= *retired) {
            return Ok(());
        }
        if offset >= self.sure_from {
            return Err(fault);
        }
        if event.is_retirement() {
            self.unexplained.remove(id);
        } else if !self.unexplained.contains_key(id) {
            self.unexplained.insert(id.into(), (offset, fault));
        }
        Ok(())
    }

    fn retire(&mut self, offset: Offset, id: &[u8]) {
        if self.buckets[bucket(id)].remove(id).is_some() {
            self.bytes -= ENTRY_BYTES + id.len();
        }
        self.retired.insert(id.into(), offset);
    }

    /// The log was read up to `position`, and will not be read below that again. Fails where it held an event that nothing explains.
    pub(super) fn read_to(&mut self, position: Offset) -> Result<(), (Offset, IndexFault)> {
        if position >= self.sure_from
            && let Some((_, unexplained)) = self.unexplained.drain().next()
        {
            return Err(unexplained);
        }
        self.retired.retain(|_, retired| *retired >= position);
        Ok(())
    }

    /// There is something that [`Index::read_to`] has to look at.
    pub(super) fn is_unsettled(&self) -> bool {
        !self.retired.is_empty() || !self.unexplained.is_empty()
    }

    /// There is nothing more to see below `end`.
    pub(super) fn advance(&mut self, end: Offset) {
        self.end = self.end.max(end);
        self.commands.advance(self.end);
    }

    /// A snapshot of this version stands at `offset` among the snapshots. The latest version counts, whatever came last.
    pub(super) fn take_snapshot(&mut self, offset: Offset, id: &[u8], version: Version) -> Result<(), IndexFault> {
        let known = self.entry(id);
        if version < known.snapshot_version || version == Version::NONE {
            return Ok(());
        }
        self.set(id, Entry { snapshot: offset.0, snapshot_version: version, ..known })
    }

    /// Puts an entry of a checkpoint in place.
    pub(super) fn set(&mut self, id: &[u8], entry: Entry) -> Result<(), IndexFault> {
        let bucket = &mut self.buckets[bucket(id)];
        if let Some(known) = bucket.get_mut(id) {
            *known = entry;
            return Ok(());
        }
        let bytes = self.bytes + ENTRY_BYTES + id.len();
        if bytes > self.bytes_max {
            return Err(IndexFault::Full { bytes_max: self.bytes_max });
        }
        self.bytes = bytes;
        bucket.insert(id.into(), entry);
        self.warn_if_nearly_full();
        Ok(())
    }

    /// Said once, while there is time to act.
    fn warn_if_nearly_full(&mut self) {
        if !self.is_warned && self.is_nearly_full() {
            self.is_warned = true;
            let (aggregates, bytes, bytes_max) = (self.aggregates(), self.bytes, self.bytes_max);
            tracing::warn!(
                aggregates,
                bytes,
                bytes_max,
                "the index of a partition of an event store is four fifths full: raise index_bytes_max in every process that uses it, \
                 before it stops"
            );
        }
    }

    /// Four fifths of the memory for aggregates are used.
    const fn is_nearly_full(&self) -> bool {
        self.bytes / 4 >= self.bytes_max / 5
    }

    /// Begins to read the log at `from` although entries are ahead of it: those of a checkpoint, whose witness is known to be there, and
    /// which tells of no moment behind `sure_from`.
    pub(super) const fn begin_at(&mut self, from: Offset, sure_from: Offset, witness: Option<Witness>) {
        self.end = from;
        self.sure_from = sure_from;
        self.witness = witness;
    }

    /// One part of the aggregates.
    pub(super) fn bucket(&self, at: usize) -> impl Iterator<Item = (&[u8], &Entry)> {
        self.buckets.get(at).into_iter().flatten().map(|(id, entry)| (&**id, entry))
    }
}

/// Other bits of the hash than those that chose the partition.
fn bucket(id: &[u8]) -> usize {
    crate::producer::murmur2(id) as usize >> 20 & (BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event_store::envelope::RETIRED_KIND;
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    pub(in crate::event_store) fn event(version: u64, previous: Option<u64>) -> EventEnvelope {
        EventEnvelope {
            version,
            previous: previous.map(Offset),
            append: [version as u8; 16],
            place: 0,
            count: 1,
            kind: "k".into(),
            schema: 1,
            command: Some(Bytes::from(format!("c{version}"))),
        }
    }

    #[test]
    fn versions_follow_each_other_and_anything_else_changes_nothing() {
        let mut index = Index::new(100, 1 << 20);
        index.take(Offset(3), b"a", &event(1, None)).unwrap();
        index.take(Offset(4), b"b", &event(1, None)).unwrap();
        index.take(Offset(9), b"a", &event(2, Some(3))).unwrap();
        assert_eq!(index.entry(b"a"), Entry::of(Version(2), Some(Offset(9)), None));
        for wrong in [event(2, Some(9)), event(4, Some(9)), event(3, Some(3)), event(3, None), event(1, None)] {
            let fault = index.take(Offset(10), b"a", &wrong).unwrap_err();
            assert!(matches!(fault, IndexFault::Discontinuity { known: Version(2), .. }), "{fault}");
        }
        assert_eq!((index.end(), index.entry(b"a").version), (Offset(10), Version(2)));
        index.take(Offset(9), b"a", &event(2, Some(3))).unwrap();
        assert_eq!(index.entry(b"a").version, Version(2), "what is known is not counted twice");
        // Read anew, the log is another: what was known of it is not so any more.
        for (offset, wrong) in [(9, event(3, Some(3))), (8, event(2, Some(3))), (9, event(1, None))] {
            assert!(index.take(Offset(offset), b"a", &wrong).is_err(), "version {} at {offset}", wrong.version);
        }
        assert_eq!(index.command(b"a", b"c2").map(|seen| seen.offset), Some(Offset(9)));
        assert_eq!(index.entry(b"nobody"), Entry::NEW);
    }

    #[test]
    fn an_index_that_would_outgrow_its_limit_says_so() {
        let mut index = Index::new(1, 2 * (ENTRY_BYTES + 1));
        for (at, id) in ["a", "b"].iter().enumerate() {
            index.take(Offset(at as u64), id.as_bytes(), &event(1, None)).unwrap();
        }
        let fault = index.take(Offset(2), b"c", &event(1, None)).unwrap_err();
        assert!(fault.to_string().contains("raise index_bytes_max"), "{fault}");
        index.take(Offset(2), b"a", &event(2, Some(0))).unwrap();
    }

    #[test]
    fn the_latest_version_of_a_snapshot_counts_not_the_last_written() {
        let mut index = Index::new(1, 1 << 20);
        index.take_snapshot(Offset(7), b"a", Version(20)).unwrap();
        index.take_snapshot(Offset(8), b"a", Version(10)).unwrap();
        assert_eq!((index.entry(b"a").snapshot(), index.entry(b"a").snapshot_version), (Some(Offset(7)), Version(20)));
        assert_eq!(index.entry(b"a").version, Version::NONE, "its events may be read later");
    }

    fn retirement(version: u64, previous: u64) -> EventEnvelope {
        EventEnvelope { kind: RETIRED_KIND.into(), ..event(version, Some(previous)) }
    }

    #[test]
    fn what_was_retired_takes_no_memory_and_another_may_begin_under_its_id() {
        let mut index = Index::new(1, 2 * (ENTRY_BYTES + 1));
        for (at, id) in ["a", "b"].iter().enumerate() {
            index.take(Offset(at as u64), id.as_bytes(), &event(1, None)).unwrap();
        }
        assert!(index.is_nearly_full());
        index.take(Offset(2), b"a", &retirement(2, 0)).unwrap();
        assert_eq!((index.entry(b"a"), index.aggregates()), (Entry::NEW, 1));
        index.take(Offset(3), b"c", &event(1, None)).unwrap();
        index.take(Offset(4), b"b", &retirement(2, 1)).unwrap();
        index.take(Offset(5), b"a", &event(1, None)).unwrap();
        // What was written here is read again.
        for (offset, id, again) in [(0, b"a", event(1, None)), (2, b"a", retirement(2, 0)), (5, b"a", event(1, None))] {
            index.take(Offset(offset), id, &again).unwrap();
        }
        assert_eq!(index.entry(b"a"), Entry::of(Version(1), Some(Offset(5)), None));
        index.read_to(Offset(6)).unwrap();
        assert!(!index.is_unsettled());
        let fault = index.take(Offset(0), b"b", &event(1, None));
        assert!(fault.is_err(), "it is not read again, so this is another log");
        assert!(index.take(Offset(6), b"b", &event(3, Some(4))).is_err(), "it goes on with what was retired");
    }

    #[test]
    fn what_only_a_retirement_explains_is_a_fault_where_there_is_none() {
        let resumed = || {
            let mut index = Index::new(1, 1 << 20);
            index.begin_at(Offset(10), Offset(20), None);
            index.take(Offset(12), b"a", &event(5, Some(3))).unwrap();
            assert!(index.is_unsettled());
            index
        };
        let mut index = resumed();
        index.take(Offset(14), b"a", &retirement(6, 12)).unwrap();
        assert_eq!((index.read_to(Offset(20)), index.entry(b"a")), (Ok(()), Entry::NEW));
        let mut index = resumed();
        index.read_to(Offset(19)).unwrap();
        let (offset, fault) = index.read_to(Offset(20)).unwrap_err();
        assert_eq!(offset, Offset(12));
        assert!(matches!(fault, IndexFault::Discontinuity { found: Version(5), .. }), "{fault}");
    }

    proptest! {
        /// A checkpoint whose entries are of any moments after its place, read on from there, gives what the whole log gives.
        #[test]
        fn entries_ahead_of_the_log_do_no_harm(
            ids in proptest::collection::vec((0u8..5, 0u8..4), 1..60),
            place in 0usize..60,
            moments in proptest::collection::vec(0usize..60, 5),
        ) {
            let place = place.min(ids.len());
            let mut latest: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
            let log: Vec<(u8, EventEnvelope)> = ids.iter().enumerate().map(|(at, (id, what))| {
                let known = latest.get(id).copied();
                let version = known.map_or(0, |(version, _)| version) + 1;
                if let (0, Some((_, offset))) = (what, known) {
                    latest.remove(id);
                    return (*id, retirement(version, offset));
                }
                latest.insert(*id, (version, at as u64));
                (*id, event(version, known.map(|(_, offset)| offset)))
            }).collect();
            let as_of = |end: usize| {
                let mut index = Index::new(1_000, 1 << 20);
                for (at, (id, event)) in log[..end].iter().enumerate() {
                    index.take(Offset(at as u64), &[*id], event).unwrap();
                }
                index
            };
            let mut resumed = Index::new(1_000, 1 << 20);
            for id in 0u8..5 {
                let moment = moments[id as usize].clamp(place, log.len());
                let entry = as_of(moment).entry(&[id]);
                if entry != Entry::NEW {
                    resumed.set(&[id], entry).unwrap();
                }
            }
            resumed.begin_at(Offset(place as u64), Offset(log.len() as u64), None);
            for (at, (id, event)) in log.iter().enumerate().skip(place) {
                prop_assert_eq!(resumed.take(Offset(at as u64), &[*id], event), Ok(()));
            }
            prop_assert_eq!(resumed.read_to(Offset(log.len() as u64)), Ok(()));
            for id in 0u8..5 {
                prop_assert_eq!(resumed.entry(&[id]), as_of(log.len()).entry(&[id]));
            }
        }
    }
}
