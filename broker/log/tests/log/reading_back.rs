//! What was whole once may rot later: it is read back from the disk by a walk that comes by now and then, and where it is to mend another replica.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

use tidelog_log::{Log, ReadError, ReadOutcome, Scrub};
use tidelog_protocol::Offset;

use crate::support::{append, open, segment};

const BATCHES: u64 = 20;
const BATCH_BYTES: u64 = 61 + 200;

/// A log of a sealed segment and the one that is written to, each of whose batches has one record. It stays open while it rots.
fn written(dir: &Path) -> Log {
    let (mut log, _) = open(dir);
    for number in 0..BATCHES {
        append(&mut log, 1, &[number as u8; 200]);
    }
    log.flush().unwrap();
    let segments = log.reader().segments();
    assert!(segments.len() == 2 && segments[1].end > segments[1].base.plus(3), "{segments:?}");
    log
}

/// Flips a bit of the batch at `offset`, where it lies.
fn rot(dir: &Path, log: &Log, offset: u64) {
    let held = log.reader().segments().into_iter().rfind(|held| held.base <= Offset(offset)).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(segment(dir, held.base.0)).unwrap();
    let at = (offset - held.base.0) * BATCH_BYTES + 100;
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 4], at).unwrap();
}

/// Walks over these offsets in steps of about two batches.
fn walk(log: &Log, range: std::ops::Range<u64>) -> (Vec<(u64, u64)>, u64) {
    let mut scrub = Scrub::between(log.reader(), Offset(range.start)..Offset(range.end));
    let (mut found, mut bytes) = (Vec::new(), 0);
    for _ in 0..100 {
        let step = scrub.step(400).unwrap();
        found.extend(step.found.iter().map(|hole| (hole.from.0, hole.to.0)));
        bytes += step.bytes;
        if step.is_complete {
            return (found, bytes);
        }
        // Whoever walks may forget in between all but how far he is.
        scrub = Scrub::between(log.reader(), scrub.next_offset()..Offset(range.end));
    }
    panic!("the walk does not end at {}", scrub.next_offset());
}

#[test]
fn a_walk_between_two_offsets_finds_what_rots_there_in_the_segment_that_is_written_to_as_well() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let log = written(&dir);
    let last = BATCHES - 2;
    [4, last].into_iter().for_each(|offset| rot(&dir, &log, offset));
    assert_eq!(walk(&log, 5..last), (vec![], (last - 5) * BATCH_BYTES), "nothing else is looked at");
    assert_eq!(walk(&log, last..BATCHES).0, [(last, last + 1)]);
    assert_eq!(walk(&log, 0..BATCHES).0, [(4, 5)], "known damage is not news");
    assert_eq!(walk(&log, 4..5), (vec![], 0), "and is passed over");
    assert!(matches!(log.reader().read(Offset(last), Offset::MAX, 100), Err(ReadError::Corrupt { .. })));
}

#[test]
fn what_rots_under_an_open_log_is_found_by_whoever_reads_it_back() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let log = written(&dir);
    let reader = log.reader();
    let sent = |outcome: Result<ReadOutcome, ReadError>| match outcome.unwrap() {
        ReadOutcome::Batches(batches) => batches,
        other => panic!("{other:?}"),
    };
    let all = 1 << 20;
    assert!(sent(reader.read_blocking(Offset(0), Offset::MAX, all)).are_whole());
    assert_eq!(sent(reader.read_back(Offset(0), Offset(4), all)).next, Offset(4));
    rot(&dir, &log, 4);
    // Written by this very process, and so believed.
    assert!(!sent(reader.read_blocking(Offset(0), Offset::MAX, all)).are_whole());
    assert!(reader.holes().is_empty());
    let whole = sent(reader.read_back(Offset(0), Offset::MAX, all));
    assert!(whole.are_whole() && whole.next == Offset(4), "up to the damage");
    assert_eq!(reader.holes().iter().map(|hole| (hole.from.0, hole.to.0)).collect::<Vec<_>>(), [(4, 5)]);
    let refused = reader.read_back(Offset(4), Offset::MAX, all);
    assert!(matches!(refused, Err(ReadError::Corrupt { from: Offset(4), to: Offset(5) })), "{refused:?}");
    assert!(sent(reader.read_back(Offset(5), Offset::MAX, all)).are_whole());
}
