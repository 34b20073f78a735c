//! A damaged range is made whole from a copy of the same log, byte for byte; what does not belong there is never put there.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use crate::support;
use std::fs;
use std::path::Path;

use crate::support::{append, open, segment};
use tidelog_log::{Hole, Log, LogReader, ReadOutcome, Repair, RepairError, Scrub};
use tidelog_protocol::Offset;

const BATCHES: u8 = 60;

/// Two replicas of one log of several segments.
fn replicas(home: &Path) -> (Log, Log) {
    let logs = ["here", "there"].map(|name| {
        let (mut log, _) = open(&home.join(name));
        for number in 0..BATCHES {
            append(&mut log, 2, &[number; 200]);
        }
        log
    });
    let [here, there] = logs;
    (here, there)
}

/// Flips a bit of the batch at `at`, and lets the scrub find it.
fn damage(home: &Path, log: &Log, at: u64) -> Hole {
    let path = segment(&home.join("here"), 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[at as usize] ^= 4;
    fs::write(&path, bytes).unwrap();
    let found = Scrub::new(log.reader()).step(u64::MAX).unwrap().found;
    let [hole] = &found[..] else { panic!("{found:?}") };
    hole.clone()
}

/// Everything that can be read.
fn read_all(reader: &LogReader) -> Vec<(u64, Vec<u8>)> {
    support::read_all(reader, Offset::ZERO).unwrap()
}

/// Whole batches from the one that holds `from`.
fn batches(reader: &LogReader, from: Offset, bytes: u32) -> Vec<u8> {
    let mut outcome = reader.read(from, reader.written_end(), bytes).unwrap();
    loop {
        match outcome {
            ReadOutcome::Batches(batches) => return batches.bytes.to_vec(),
            ReadOutcome::Cold(cold) => outcome = cold.complete().unwrap(),
            ReadOutcome::UpToDate => panic!("there is something at {from}"),
        }
    }
}

#[test]
fn a_damaged_range_is_whole_again_with_what_a_replica_has() {
    let temp = tempfile::tempdir().unwrap();
    let (here, there) = replicas(temp.path());
    let hole = damage(temp.path(), &here, 1_000);
    let mut repair = Repair::begin(here.reader(), hole.clone()).unwrap();
    // In pieces, and from a little before.
    let mut pieces = 0;
    while !repair.take(&batches(&there.reader(), repair.next_offset(), 1)).unwrap() {
        pieces += 1;
        assert!(pieces < 100);
    }
    assert_eq!(here.reader().holes(), []);
    assert_eq!(read_all(&here.reader()), read_all(&there.reader()));
    let file = |name: &str| fs::read(segment(&temp.path().join(name), 0)).unwrap();
    let written = hole.bytes.end as usize;
    assert!(file("here")[..written] == file("there")[..written]);
    // What was repaired is whole on the disk, too.
    drop(here);
    assert_eq!(read_all(&open(&temp.path().join("here")).0.reader()), read_all(&there.reader()));
}

#[test]
fn what_was_not_there_is_not_put_there() {
    let temp = tempfile::tempdir().unwrap();
    let (here, there) = replicas(temp.path());
    let hole = damage(temp.path(), &here, 1_000);
    let mut good = batches(&there.reader(), hole.from, 1);
    let mut repair = Repair::begin(here.reader(), hole.clone()).unwrap();
    let later = batches(&there.reader(), hole.to, 1);
    assert!(matches!(repair.take(&later), Err(RepairError::Differs { .. })), "another offset");
    let last = good.len() - 1;
    good[last] ^= 1;
    assert!(matches!(repair.take(&good), Err(RepairError::Damaged(_))), "damaged on the way");
    good[last] ^= 1;
    // The same offsets under another leadership.
    good[15] ^= 8;
    assert!(matches!(repair.take(&good), Err(RepairError::Differs { .. })), "another epoch");
    assert_eq!(here.reader().holes(), [hole]);
}
