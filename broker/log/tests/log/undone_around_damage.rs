//! What became of a transaction whose marker may lie in a damaged range: what a marker behind it says, and else nothing is claimed.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::path::Path;

use crate::support::{batch, options};
use tidelog_log::{Group, Log, OsDisk, ReadError, Witness};
use tidelog_protocol::records::{BatchHeader, ControlRecord, control_batch};
use tidelog_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

const P: ProducerId = ProducerId(7);

/// What a log takes.
#[derive(Clone, Copy)]
enum Step {
    /// A record of a transaction under this epoch, with this sequence.
    Record(i16, i32),
    /// Its end, under the epoch after; or under its own.
    Ends { epoch: i16, commit: bool },
}
use Step::{Ends, Record};

fn bytes_of(step: Step) -> Vec<u8> {
    match step {
        Record(epoch, sequence) => {
            let mut header = BatchHeader { batch_length: 49 + 60, ..batch(1, 1_000, &[]).0 };
            header.attributes = header.attributes.transactional();
            header.producer_id = P;
            header.producer_epoch = ProducerEpoch(epoch);
            header.base_sequence = Sequence(sequence);
            let mut bytes = header.encode().to_vec();
            bytes.resize(header.total_bytes(), 7);
            let crc = crc32c::crc32c(&bytes[21..]);
            bytes[17..21].copy_from_slice(&crc.to_be_bytes());
            bytes
        }
        Ends { epoch, commit } => {
            let record = match commit {
                true => ControlRecord::Commit { coordinator_epoch: 3 },
                false => ControlRecord::Abort { coordinator_epoch: 3 },
            };
            control_batch(record, P, ProducerEpoch(epoch), Timestamp(1_000)).to_vec()
        }
    }
}

/// A log of these, of which the one at offset 1 is damaged, which is noted.
fn damaged(dir: &Path, steps: &[Step]) -> Log {
    let (mut log, _) = Log::open(options(dir, OsDisk::shared())).unwrap();
    let mut place = 0..0;
    for (index, step) in steps.iter().enumerate() {
        let bytes = bytes_of(*step);
        let header = BatchHeader::parse(&bytes).unwrap();
        let _ = log.append(&[Group::new(&bytes, &[header])], LeaderEpoch(1)).unwrap();
        match index {
            0 => place = bytes.len()..bytes.len(),
            1 => place.end += bytes.len(),
            _ => {}
        }
    }
    log.close().unwrap();
    let file = dir.join(format!("{:020}.log", 0));
    let mut bytes = std::fs::read(&file).unwrap();
    bytes[place.end - 1] ^= 1;
    std::fs::write(file, bytes).unwrap();
    let (log, _) = Log::open(options(dir, OsDisk::shared())).unwrap();
    let read = log.reader().read_blocking(Offset(1), log.end(), 1);
    assert!(matches!(read, Err(ReadError::Corrupt { from: Offset(1), to: Offset(2) })), "{read:?}");
    log
}

/// First offsets of what was undone of the first record's transaction; `None` where the damage leaves that open.
fn undone(steps: &[Step]) -> Option<Vec<u64>> {
    let temp = tempfile::tempdir().unwrap();
    let log = damaged(&temp.path().join("t-0"), steps);
    match log.reader().aborted_found(Offset(0)..Offset(1), usize::MAX) {
        Ok(found) => Some(found.aborted.iter().map(|aborted| aborted.first_offset.0).collect()),
        Err(ReadError::Corrupt { from: Offset(1), to: Offset(2) }) => None,
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_marker_that_was_written_again_behind_the_damage_says_what_the_lost_one_said() {
    let lost = [Record(0, 0), Ends { epoch: 1, commit: true }];
    assert_eq!(undone(&lost), None, "nothing tells");
    assert_eq!(undone(&[&lost[..], &[Ends { epoch: 1, commit: true }]].concat()), Some(vec![]));
    assert_eq!(undone(&[&lost[..], &[Ends { epoch: 1, commit: false }]].concat()), Some(vec![0]));
}

#[test]
fn what_only_a_later_transaction_stands_behind_is_undone() {
    let lost = [Record(0, 0), Ends { epoch: 1, commit: true }, Record(1, 0)];
    assert_eq!(undone(&lost), Some(vec![0]), "nobody knew any more, or it would have been written again first");
    assert_eq!(undone(&[&lost[..], &[Ends { epoch: 2, commit: true }]].concat()), Some(vec![0]));
}

#[test]
fn a_transaction_that_goes_on_behind_the_damage_did_not_end_there() {
    let more = [Record(0, 0), Record(0, 1), Record(0, 2)];
    assert_eq!(undone(&more), Some(vec![]), "it is open");
    assert_eq!(undone(&[&more[..], &[Ends { epoch: 1, commit: true }]].concat()), Some(vec![]));
    assert_eq!(undone(&[&more[..], &[Ends { epoch: 1, commit: false }]].concat()), Some(vec![0]));
}

#[test]
fn where_a_producer_keeps_its_epoch_a_marker_behind_the_damage_may_be_of_a_later_transaction() {
    let lost = [Record(0, 0), Ends { epoch: 0, commit: false }];
    let next = [Record(0, 1), Ends { epoch: 0, commit: true }];
    assert_eq!(undone(&[&lost[..], &next[..]].concat()), None);
    assert_eq!(undone(&[&lost[..], &next[1..]].concat()), None);
    assert_eq!(undone(&[&lost[..], &[Record(0, 1), Ends { epoch: 1, commit: false }]].concat()), Some(vec![0]));
}

#[test]
fn each_transaction_of_one_epoch_ends_with_its_own_marker() {
    let temp = tempfile::tempdir().unwrap();
    let (mut log, _) = Log::open(options(&temp.path().join("t-0"), OsDisk::shared())).unwrap();
    for turn in 0..6 {
        append(&mut log, Record(0, turn));
        append(&mut log, Ends { epoch: 0, commit: turn % 2 == 0 });
    }
    let found = log.reader().aborted_found(Offset(0)..log.end(), usize::MAX).unwrap().aborted;
    assert_eq!(log.reader().aborted_known(Offset(0)..log.end()), Some(found.clone()));
    let places: Vec<_> = found.iter().map(|aborted| (aborted.first_offset.0, aborted.marker_offset.0)).collect();
    assert_eq!(places, [(2, 3), (6, 7), (10, 11)]);
    append(&mut log, Record(0, 6));
    assert_eq!(log.reader().open_transactions().count, 1);
    log.flush().unwrap();
    drop(log);
    let (log, _) = Log::open(options(&temp.path().join("t-0"), OsDisk::shared())).unwrap();
    assert_eq!(log.reader().open_transactions().count, 1, "after a crash");
    assert_eq!(log.reader().aborted_known(Offset(0)..log.end()), Some(found));
}

#[test]
fn bytes_that_are_missing_altogether_are_looked_behind_likewise_also_after_a_crash() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = Log::open(options(&dir, OsDisk::shared())).unwrap();
    append(&mut log, Record(0, 0));
    append(&mut log, Ends { epoch: 1, commit: true });
    assert_eq!(log.truncate_to(Offset(1)).unwrap(), Offset(1));
    log.close().unwrap();
    let noted = Witness::Note(Offset(2));
    let (mut log, report) = Log::open_with(options(&dir, OsDisk::shared()), noted).unwrap();
    assert_eq!((report.holes.len(), log.end()), (1, Offset(2)), "{report:?}");
    assert_eq!(log.reader().open_transactions().count, 1);
    append(&mut log, Ends { epoch: 1, commit: true });
    assert_eq!(log.reader().open_transactions().count, 0);
    let check = |log: &Log, when: &str| {
        assert_eq!(log.reader().aborted_known(Offset(0)..Offset(1)), None, "{when}");
        let found = log.reader().aborted_found(Offset(0)..Offset(1), usize::MAX).unwrap();
        assert_eq!(found.aborted, [], "{when}");
    };
    check(&log, "at once");
    log.flush().unwrap();
    drop(log);
    let (log, _) = Log::open_with(options(&dir, OsDisk::shared()), noted).unwrap();
    assert_eq!((log.end(), log.reader().open_transactions().count), (Offset(3), 0), "after a crash");
    check(&log, "after a crash");
}

fn append(log: &mut Log, step: Step) {
    let bytes = bytes_of(step);
    let header = BatchHeader::parse(&bytes).unwrap();
    let _ = log.append(&[Group::new(&bytes, &[header])], LeaderEpoch(1)).unwrap();
}
