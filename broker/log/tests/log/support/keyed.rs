//! Logs of real records with keys, and what must hold of them whatever compaction did.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::time::Duration;

use tidelog_log::{Compacted, CompactionDriver, CompactionError, CompactionRules, Group, Log, LogReader, ReadOutcome};
use tidelog_protocol::records::{
    Attributes, BatchBuilder, BatchHeader, Batches, Compression, NO_HEADERS, Producer, Scratch, control_batch,
};
use tidelog_protocol::{Offset, Timestamp};

use super::EPOCH;

/// One record: key and value as they were given.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Kept {
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
    pub timestamp: i64,
}

/// Key and value.
pub type Pair<'a> = (Option<&'a [u8]>, Option<&'a [u8]>);

/// Everything that was appended.
#[derive(Clone, Default)]
pub struct Model {
    pub records: BTreeMap<u64, Kept>,
}

/// What a batch is made of.
#[derive(Clone, Copy)]
pub struct Shape {
    pub codec: Compression,
    pub producer: Producer,
    pub attributes: Attributes,
    pub timestamp: i64,
}

impl Default for Shape {
    fn default() -> Self {
        Self { codec: Compression::None, producer: Producer::NONE, attributes: Attributes::default(), timestamp: 1_000 }
    }
}

impl Model {
    /// Appends a batch of records to `log`; the answer is its base offset.
    pub fn append(&mut self, log: &mut Log, shape: Shape, records: &[Pair<'_>]) -> u64 {
        let mut builder = BatchBuilder::new(1 << 20);
        builder.set_attributes(shape.attributes);
        builder.set_producer(shape.producer);
        for (index, (key, value)) in records.iter().enumerate() {
            builder.append(Timestamp(shape.timestamp + index as i64), *key, *value, NO_HEADERS).unwrap();
        }
        let bytes = builder.finish(shape.codec).unwrap();
        let base = append_bytes(log, &bytes);
        for (index, (key, value)) in records.iter().enumerate() {
            let timestamp = shape.timestamp + index as i64;
            let kept = Kept { key: key.map(<[u8]>::to_vec), value: value.map(<[u8]>::to_vec), timestamp };
            self.records.insert(base + index as u64, kept);
        }
        base
    }

    /// The last offset of every key.
    pub fn last(&self) -> BTreeMap<Vec<u8>, u64> {
        self.records.iter().filter_map(|(offset, kept)| Some((kept.key.clone()?, *offset))).collect()
    }

    /// Asserts what must hold of a log that holds these records up to `end`, all of it whatever passes were run on it: it is a chain without
    /// gaps, every record in it is one of the model's, the last value of every key is there, and a key that was deleted is not back.
    pub fn check(&self, reader: &LogReader, context: &str) -> BTreeMap<u64, Kept> {
        let found = read_records(reader, reader.log_start());
        for (offset, kept) in &found {
            assert_eq!(Some(kept), self.records.get(offset), "{context}: offset {offset}");
        }
        let mut seen: BTreeMap<&[u8], u64> = BTreeMap::new();
        for (offset, kept) in &found {
            if let Some(key) = &kept.key {
                seen.insert(key, *offset);
            }
        }
        for (key, last) in self.last() {
            let is_tombstone = self.records[&last].value.is_none();
            match seen.get(&key[..]) {
                Some(at) => {
                    assert_eq!(*at, last, "{context}: key {key:?}: what stands last is not what was written last")
                }
                None => assert!(is_tombstone, "{context}: key {key:?} is lost, its last value stood at {last}"),
            }
        }
        for (offset, kept) in self.records.iter().filter(|(_, kept)| kept.key.is_none()) {
            assert_eq!(found.get(offset), Some(kept), "{context}: a record without key is lost");
        }
        // Whichever offset a reader begins at, it comes to the same records.
        for offset in found.keys().step_by(7) {
            let from_there = read_batch(reader, *offset);
            assert!(from_there.contains_key(offset), "{context}: {offset} is not in what a read at it begins with");
        }
        found
    }
}

/// A marker of a transaction.
pub fn append_marker(log: &mut Log, marker: tidelog_protocol::records::ControlRecord, producer: Producer) -> u64 {
    append_bytes(log, &control_batch(marker, producer.id, producer.epoch, Timestamp(1_000)))
}

pub fn append_bytes(log: &mut Log, bytes: &[u8]) -> u64 {
    let header = BatchHeader::parse(bytes).unwrap();
    log.append(&[Group::new(bytes, &[header])], EPOCH).unwrap().base_offset.0
}

/// Every header from `from` on; asserts that each begins where the one before ends.
pub fn headers(reader: &LogReader, from: Offset) -> Vec<BatchHeader> {
    let mut found = Vec::new();
    let mut next = from;
    // Others may append while this reads.
    let end = reader.written_end();
    walk(reader, from, |batch| {
        let header = *batch.header();
        // Neighbours may become one under a reader: one that begins before where it stands has nothing for it there.
        let rest = header.empty_within(next..Offset::MAX);
        found.push(rest.filter(|_| header.base_offset < next).unwrap_or(header));
        next = header.next_offset();
    });
    for pair in found.windows(2) {
        assert_eq!(pair[0].next_offset(), pair[1].base_offset, "a gap");
    }
    if let Some(last) = found.last() {
        assert!(last.next_offset() >= end, "the end at {end} is missing: {last:?}");
    }
    found
}

/// Every record of an application from `from` on, by offset; asserts that the batches are a chain.
pub fn read_records(reader: &LogReader, from: Offset) -> BTreeMap<u64, Kept> {
    let _ = headers(reader, from);
    let mut found = BTreeMap::new();
    walk(reader, from, |batch| take(batch, &mut found));
    found
}

fn read_batch(reader: &LogReader, offset: u64) -> BTreeMap<u64, Kept> {
    let mut found = BTreeMap::new();
    let outcome = reader.read_blocking(Offset(offset), Offset::MAX, 1).unwrap();
    let ReadOutcome::Batches(batches) = outcome else { panic!("{offset}: {outcome:?}") };
    Batches::compacted(&batches.bytes).for_each(|batch| take(&batch.unwrap(), &mut found));
    found
}

fn take(batch: &tidelog_protocol::records::RawBatch<'_>, found: &mut BTreeMap<u64, Kept>) {
    if batch.header().attributes.is_control() {
        return;
    }
    let mut scratch = Scratch::new();
    for record in batch.records(&mut scratch).unwrap() {
        let record = record.unwrap();
        let kept = Kept {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            timestamp: record.timestamp.0,
        };
        assert!(found.insert(record.offset.0, kept).is_none(), "offset {} is served twice", record.offset);
    }
}

fn walk(reader: &LogReader, from: Offset, mut look: impl FnMut(&tidelog_protocol::records::RawBatch<'_>)) {
    let mut at = from;
    loop {
        match reader.read_blocking(at, Offset::MAX, 900).unwrap() {
            ReadOutcome::Batches(batches) => {
                for batch in Batches::compacted(&batches.bytes) {
                    let batch = batch.unwrap();
                    batch.verify_crc().unwrap();
                    look(&batch);
                }
                assert!(batches.next > at, "a read makes progress");
                at = batches.next;
            }
            ReadOutcome::UpToDate => return,
            ReadOutcome::Cold(_) => panic!("a blocking read is never cold"),
        }
    }
}

/// Rules that let everything go that may go, at time `now`.
pub fn rules(now: i64) -> CompactionRules<'static> {
    CompactionRules {
        now: Timestamp(now),
        below: Offset::MAX,
        tombstones_below: Offset::MAX,
        tombstone_grace: Duration::from_millis(100),
        lag: Duration::ZERO,
        map_bytes: 1 << 20,
        aborted: &[],
    }
}

/// One pass at full speed.
pub fn compact(log: &Log, rules: &CompactionRules<'_>) -> Result<Compacted, CompactionError> {
    log.compaction().run(rules, &mut Driven { pieces: u64::MAX, tombstones_below: rules.tombstones_below })
}

/// Runs passes in tests.
pub struct Driven {
    /// A pass ends after so many.
    pub pieces: u64,
    /// What it answers when it is asked again.
    pub tombstones_below: Offset,
}

impl CompactionDriver for Driven {
    fn pace(&mut self, _bytes: u64) -> ControlFlow<()> {
        let Some(left) = self.pieces.checked_sub(1) else { return ControlFlow::Break(()) };
        self.pieces = left;
        ControlFlow::Continue(())
    }

    fn tombstones_below(&mut self) -> Offset {
        self.tombstones_below
    }
}
