//! What is known of the aggregates of one partition: the version of each and where its latest event and snapshot stand. Made of nothing but
//! the records of the partition, in their order; knows nothing of how they are read.
//!
//! Invariant: after the record at offset n - 1 the entry of every aggregate is what its events below n say, and `end` is n. A record that
//! does not follow from them is a fault, and nothing is changed by it: two events of one version cannot stand in the same log.

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
        "the index of the partition would be larger than {bytes_max} bytes: raise the limit, or spread the aggregates over more partitions"
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
            return Err(IndexFault::Discontinuity { found, after, known: known.version, latest });
        }
        if offset < self.end {
            return Ok(());
        }
        if !is_known {
            self.set(id, Entry { version: found, latest: offset.0, ..known })?;
        }
        if let Some(command) = &event.command {
            self.commands.note(id, command, Version(event.version), offset);
        }
        self.witness = Some(Witness { offset, append: event.append });
        self.advance(offset.plus(1));
        Ok(())
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
        Ok(())
    }

    /// Begins to read the log at `from` although entries are ahead of it: those of a checkpoint, whose witness is known to be there.
    pub(super) const fn begin_at(&mut self, from: Offset, witness: Option<Witness>) {
        self.end = from;
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
        assert!(fault.to_string().contains("raise the limit"), "{fault}");
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

    proptest! {
        /// A checkpoint whose entries are of any moments after its place, read on from there, gives what the whole log gives.
        #[test]
        fn entries_ahead_of_the_log_do_no_harm(
            ids in proptest::collection::vec(0u8..5, 1..60),
            place in 0usize..60,
            moments in proptest::collection::vec(0usize..60, 5),
        ) {
            let place = place.min(ids.len());
            let mut latest: BTreeMap<u8, (u64, u64)> = BTreeMap::new();
            let log: Vec<(u8, EventEnvelope)> = ids.iter().enumerate().map(|(at, id)| {
                let known = latest.get(id).copied();
                let version = known.map_or(0, |(version, _)| version) + 1;
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
            resumed.begin_at(Offset(place as u64), None);
            for (at, (id, event)) in log.iter().enumerate().skip(place) {
                prop_assert_eq!(resumed.take(Offset(at as u64), &[*id], event), Ok(()));
            }
            for id in 0u8..5 {
                prop_assert_eq!(resumed.entry(&[id]), as_of(log.len()).entry(&[id]));
            }
        }
    }
}
