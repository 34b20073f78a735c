//! An index as records, and back. Pure: knows neither who writes them nor when.
//!
//! A checkpoint is a row of records under one number, counted from 0, the last of which says so. They are written one after the other under
//! the condition that nothing came between, so a row is whole or ends early; the latest whole one counts. Its parts are of different
//! moments, none earlier than `events`: whoever reads on from there is right, as [`Index`] says.

use bytes::Bytes;
use tidelog_protocol::{Message, Offset, ProtocolVersion, message};

use super::envelope::{self, EnvelopeFault};
use super::event::Version;
use super::index::{BUCKETS, Entry, Index, IndexFault, Witness};

/// Bytes of entries from which on a part is full.
const PART_BYTES: usize = 256 << 10;
/// The form of the parts, as of headers.
const FORM: ProtocolVersion = ProtocolVersion(1);

message! {
    /// The header of a part of a checkpoint. The record's value has the entries.
    pub struct CheckpointEnvelope {
        /// The checkpoint: a number that is drawn anew for each.
        1 checkpoint: [u8; 16],
        /// Which part of it this is, from 0.
        1 place: u32,
        /// There are no more.
        1 is_last: bool,
        /// Everything below this offset of the events is in it.
        1 events: Offset,
        /// The same of the snapshots.
        1 snapshots: Offset,
        /// The latest event in it, to know the log by.
        1 witness: Option<Offset>,
        /// The append that this event belongs to.
        1 witness_append: [u8; 16],
    }
}

message! {
    /// An aggregate.
    pub struct CheckpointEntry {
        /// Its id.
        1 id: Bytes,
        /// Its version.
        1 version: u64,
        /// Where its latest event stands.
        1 latest: Option<Offset>,
        /// The version of its latest snapshot.
        1 snapshot_version: u64,
        /// Where that stands.
        1 snapshot: Option<Offset>,
    }
}

message! {
    /// The value of a part.
    pub struct CheckpointPart {
        /// Aggregates.
        1 entries: Vec<CheckpointEntry>,
    }
}

/// Where a checkpoint is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place {
    pub(super) events: Offset,
    pub(super) snapshots: Offset,
    pub(super) witness: Option<Witness>,
}

/// Takes an index apart, part by part, so that it can change in between.
#[derive(Debug)]
pub(super) struct Parts {
    checkpoint: [u8; 16],
    place: Place,
    count: u32,
    bucket: usize,
}

impl Parts {
    /// The parts of a checkpoint under this number, taken at `place`, which is of now or earlier.
    pub(super) const fn new(checkpoint: [u8; 16], place: Place) -> Self {
        Self { checkpoint, place, count: 0, bucket: 0 }
    }

    /// The next part: header and value.
    pub(super) fn next(&mut self, index: &Index) -> Option<(Bytes, Bytes)> {
        if self.bucket >= BUCKETS {
            return None;
        }
        let (mut entries, mut bytes) = (Vec::new(), 0);
        while self.bucket < BUCKETS && bytes < PART_BYTES {
            for (id, entry) in index.bucket(self.bucket) {
                bytes += id.len() + 48;
                entries.push(CheckpointEntry {
                    id: Bytes::copy_from_slice(id),
                    version: entry.version.0,
                    latest: entry.latest(),
                    snapshot_version: entry.snapshot_version.0,
                    snapshot: entry.snapshot(),
                });
            }
            self.bucket += 1;
        }
        let header = CheckpointEnvelope {
            checkpoint: self.checkpoint,
            place: self.count,
            is_last: self.bucket == BUCKETS,
            events: self.place.events,
            snapshots: self.place.snapshots,
            witness: self.place.witness.map(|witness| witness.offset),
            witness_append: self.place.witness.map_or([0; 16], |witness| witness.append),
        };
        self.count += 1;
        Some((envelope::encode(&header), CheckpointPart { entries }.to_body(FORM).freeze()))
    }
}

/// Puts checkpoints together from their parts.
pub(super) struct Assembly {
    empty: Box<dyn Fn() -> Index + Send>,
    growing: Option<(CheckpointEnvelope, Index)>,
    whole: Option<(Place, Index)>,
}

/// Why a part cannot be taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum PartFault {
    #[error(transparent)]
    Header(#[from] EnvelopeFault),
    #[error("its entries do not parse: {0}")]
    Entries(String),
    #[error(transparent)]
    Index(#[from] IndexFault),
}

impl Assembly {
    /// Of parts that are put into what `empty` makes.
    pub(super) fn new(empty: impl Fn() -> Index + Send + 'static) -> Self {
        Self { empty: Box::new(empty), growing: None, whole: None }
    }

    /// Takes the next record.
    pub(super) fn take(&mut self, header: &[u8], value: &[u8]) -> Result<(), PartFault> {
        let header: CheckpointEnvelope = envelope::decode(header)?;
        let growing = self.growing.take();
        let mut index = match growing {
            _ if header.place == 0 => (self.empty)(),
            Some((before, index))
                if before.checkpoint == header.checkpoint && before.place.checked_add(1) == Some(header.place) =>
            {
                index
            }
            // The row was broken off: its rest says nothing.
            _ => return Ok(()),
        };
        let part = CheckpointPart::from_body(value, FORM).map_err(|error| PartFault::Entries(error.to_string()))?;
        for entry in part.entries {
            let snapshot = entry.snapshot.map(|offset| (Version(entry.snapshot_version), offset));
            index.set(&entry.id, Entry::of(Version(entry.version), entry.latest, snapshot))?;
        }
        if header.is_last {
            let witness = header.witness.map(|offset| Witness { offset, append: header.witness_append });
            let place = Place { events: header.events, snapshots: header.snapshots, witness };
            self.whole = Some((place, index));
        } else {
            self.growing = Some((header, index));
        }
        Ok(())
    }

    /// The latest that is whole.
    pub(super) fn finish(self) -> Option<(Place, Index)> {
        self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(aggregates: u64) -> Index {
        let mut index = Index::new(10, 64 << 20);
        for at in 0..aggregates {
            let snapshot = (at % 3 == 0).then_some((Version(at), Offset(at)));
            index.set(at.to_string().as_bytes(), Entry::of(Version(at + 1), Some(Offset(at * 2)), snapshot)).unwrap();
        }
        index
    }

    fn place(at: u64) -> Place {
        let witness = Some(Witness { offset: Offset(at), append: [3; 16] });
        Place { events: Offset(at + 1), snapshots: Offset(5), witness }
    }

    fn parts(number: u8, index: &Index, place: Place) -> Vec<(Bytes, Bytes)> {
        let mut parts = Parts::new([number; 16], place);
        std::iter::from_fn(|| parts.next(index)).collect()
    }

    fn assembled<'p>(parts: impl IntoIterator<Item = &'p (Bytes, Bytes)>) -> Option<(Place, usize)> {
        let mut assembly = Assembly::new(|| Index::new(10, 64 << 20));
        parts.into_iter().for_each(|(header, value)| assembly.take(header, value).unwrap());
        assembly.finish().map(|(place, index)| (place, index.aggregates()))
    }

    #[test]
    fn an_index_comes_back_as_it_was() {
        for aggregates in [0, 1, 20_000] {
            let written = index(aggregates);
            let parts = parts(1, &written, place(7));
            assert_eq!(parts.len() > 1, aggregates > 1_000);
            let mut assembly = Assembly::new(|| Index::new(10, 64 << 20));
            parts.iter().for_each(|(header, value)| assembly.take(header, value).unwrap());
            let (at, read) = assembly.finish().unwrap();
            assert_eq!((at, read.aggregates()), (place(7), aggregates as usize));
            for id in (0..aggregates).map(|at| at.to_string()) {
                assert_eq!(read.entry(id.as_bytes()), written.entry(id.as_bytes()));
            }
        }
    }

    #[test]
    fn the_latest_whole_checkpoint_counts_and_a_broken_one_never_does() {
        let (old, new) = (parts(1, &index(20_000), place(1)), parts(2, &index(30_000), place(2)));
        assert!(new.len() > 2);
        let both: Vec<_> = old.iter().chain(&new).collect();
        assert_eq!(assembled(both), Some((place(2), 30_000)));
        for cut in 0..new.len() {
            // It ended early, or lost a part of its midst.
            let early = old.iter().chain(&new[..cut]);
            assert_eq!(assembled(early), Some((place(1), 20_000)), "{cut}");
            let holed = old.iter().chain(new.iter().enumerate().filter(|(at, _)| *at != cut).map(|(_, part)| part));
            assert_eq!(assembled(holed), Some((place(1), 20_000)), "{cut}");
        }
        assert_eq!(assembled(&new[1..]), None);
        let mixed = new[..1].iter().chain(&old[1..]);
        assert_eq!(assembled(mixed), None, "parts of two do not make one");
    }

    #[test]
    fn what_is_no_part_is_a_fault() {
        let mut assembly = Assembly::new(|| Index::new(10, 1 << 20));
        assert!(matches!(assembly.take(&[9, 1], b""), Err(PartFault::Header(EnvelopeFault::Form(9)))));
        let (header, _) = parts(1, &index(1), place(1)).remove(0);
        assert!(matches!(assembly.take(&header, &[255; 7]), Err(PartFault::Entries(_))));
    }
}
