//! What a log knows of its producers is what its batches say, whatever became of the log since: retention, cuts, restarts, losses of power,
//! damaged snapshots.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::support::{batch, open, options};
use tidelog_log::fault::{Fault, FaultDisk, Operation};
use tidelog_log::{Group, Log, OsDisk};
use tidelog_protocol::records::{BatchHeader, ControlRecord, control_batch, stamp};
use tidelog_protocol::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use tidelog_replication::{Outcome, Producers};

/// Numbers from a seed.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// A batch as it stands in a log, and what it says if it is a marker.
#[derive(Clone)]
struct Stood {
    header: BatchHeader,
    bytes: Vec<u8>,
    outcome: Option<Outcome>,
}

impl Stood {
    fn is_of(&self, producer: ProducerId) -> bool {
        let attributes = self.header.attributes;
        self.header.producer_id == producer && attributes.is_transactional() && !attributes.is_control()
    }
}

/// A log, and all batches that it took since offset 0 and was not cut of.
struct Known {
    log: Option<Log>,
    batches: Vec<Stood>,
    next: [(i16, i32); 4],
}

impl Known {
    fn new(log: Log) -> Self {
        Self { log: Some(log), batches: Vec::new(), next: [(0, 0); 4] }
    }

    fn log(&mut self) -> &mut Log {
        self.log.as_mut().unwrap()
    }

    /// One batch of a producer, or of nobody, or a marker.
    fn append(&mut self, random: &mut Random) {
        if random.below(5) == 0 {
            return self.end_transaction(random);
        }
        let records = 1 + random.below(3) as u32;
        let (header, _) = batch(records, 1_000, &[]);
        let who = random.below(5) as usize;
        let mut header = BatchHeader { batch_length: 49 + 60, ..header };
        if let Some((epoch, sequence)) = self.next.get_mut(who) {
            if random.below(20) == 0 {
                (*epoch, *sequence) = (*epoch + 1, 0);
            }
            // Two of them have transactions.
            if who < 2 {
                header.attributes = header.attributes.transactional();
            }
            header.producer_id = ProducerId(who as i64);
            header.producer_epoch = ProducerEpoch(*epoch);
            header.base_sequence = Sequence(*sequence);
            *sequence += records as i32;
        }
        let mut bytes = header.encode().to_vec();
        bytes.resize(header.total_bytes(), 7);
        header.crc = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
        self.write(header, bytes, None);
    }

    /// A marker for one that has transactions, whether one is open or not; sometimes one that stands already.
    fn end_transaction(&mut self, random: &mut Random) {
        let who = random.below(3) as usize;
        if random.below(4) > 0 {
            self.next[who] = (self.next[who].0 + 1, 0);
        }
        let (outcome, record) = match random.below(2) {
            0 => (Outcome::Committed, ControlRecord::Commit { coordinator_epoch: 3 }),
            _ => (Outcome::Aborted, ControlRecord::Abort { coordinator_epoch: 3 }),
        };
        let epoch = ProducerEpoch(self.next[who].0);
        let bytes = control_batch(record, ProducerId(who as i64), epoch, Timestamp(1_000)).to_vec();
        self.write(BatchHeader::parse(&bytes).unwrap(), bytes, Some(outcome));
    }

    fn write(&mut self, header: BatchHeader, mut bytes: Vec<u8>, outcome: Option<Outcome>) {
        if let Ok(appended) = self.log().append(&[Group::new(&bytes, &[header])], LeaderEpoch(1)) {
            stamp(&mut bytes, appended.base_offset, LeaderEpoch(1));
            let header = BatchHeader::parse(&bytes).unwrap();
            self.batches.push(Stood { header, bytes, outcome });
        }
    }

    /// What the batches say that the log still ends with.
    fn cut(&mut self, end: Offset) {
        self.batches.retain(|stood| stood.header.next_offset() <= end);
    }

    fn expected(&self) -> Producers {
        let mut expected = Producers::new(Offset::ZERO);
        for stood in &self.batches {
            match stood.outcome {
                Some(outcome) => expected.note_marker(&stood.header, outcome),
                None => expected.note(&stood.header),
            }
        }
        expected
    }

    /// What was undone of what the log still holds, as it knows and as its batches say. Says how many that are.
    fn assert_undone(&mut self, when: &str) -> usize {
        let whole = self.log().reader().log_start()..self.log().end();
        let mut expected = self.expected().aborted_within(whole.clone()).unwrap();
        let reader = self.log().reader();
        assert_eq!(reader.aborted_known(whole.clone()).as_ref(), Some(&expected), "{when}");
        // Its first record may be gone, or all of them.
        expected.retain_mut(|aborted| {
            let reaches = aborted.first_offset.max(whole.start)..aborted.marker_offset;
            let mut left = self.batches.iter().filter(|stood| stood.is_of(aborted.producer_id));
            let first = left.find(|stood| stood.header.next_offset() > reaches.start);
            aborted.first_offset = first.map_or(Offset::MAX, |stood| stood.header.base_offset);
            aborted.first_offset <= aborted.marker_offset
        });
        let found = reader.aborted_found(whole.clone(), usize::MAX).unwrap();
        assert_eq!((&found.aborted, found.complete_to), (&expected, whole.end), "{when}");
        let some = reader.aborted_found(whole.clone(), 2).unwrap();
        assert!(some.aborted.len() <= 2 && some.complete_to <= whole.end, "{when}");
        let missed = expected.iter().find(|aborted| !some.aborted.contains(aborted));
        assert!(missed.is_none_or(|missed| missed.first_offset >= some.complete_to), "{when}: {missed:?} {some:?}");
        expected.len()
    }

    fn assert_known(&mut self, when: &str) {
        let expected = self.expected();
        self.log().with_producers(|known| assert_eq!(*known, expected, "{when}"));
    }
}

fn snapshots(dir: &Path) -> Vec<PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "producers"));
    found.sort();
    found
}

#[test]
fn whatever_becomes_of_a_log_it_knows_of_its_producers_what_its_batches_said() {
    let (mut cuts, mut losses, mut incomplete, mut undone) = (0, 0, 0, 0);
    for seed in 0..250 {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let disk = FaultDisk::new();
        let reopen = |known: &mut Known| known.log = Some(Log::open(options(&dir, disk.clone())).unwrap().0);
        let mut random = Random(seed);
        let mut known = Known::new(Log::open(options(&dir, disk.clone())).unwrap().0);
        for step in 0..120 {
            let when = format!("seed {seed} step {step}");
            match random.below(24) {
                0..15 => known.append(&mut random),
                15 => known.log().flush().unwrap(),
                16 => known.log().tidy().unwrap(),
                17 => known.log().roll().unwrap(),
                18 => {
                    let (start, end) = (known.log().reader().log_start().0, known.log().end().0);
                    let before = Offset(start + random.below(end - start + 1));
                    known.log().retention().delete_records(before).unwrap();
                }
                19 => {
                    let (start, end) = (known.log().reader().log_start(), known.log().end());
                    let back = random.below(20).min(end.since(start));
                    let cut = known.log().truncate_to(Offset(end.0 - back)).unwrap();
                    known.cut(cut);
                    cuts += 1;
                    if !known.log().with_producers(|known| known.is_complete()) {
                        assert!(start > Offset::ZERO, "{when}: a log that is all there tells everything");
                        incomplete += 1;
                        break;
                    }
                }
                20 => {
                    known.log.take().unwrap().close().unwrap();
                    reopen(&mut known);
                }
                21 => {
                    // As kill -9 leaves it.
                    drop(known.log.take());
                    reopen(&mut known);
                }
                22 => {
                    drop(known.log.take());
                    disk.lose_power(seed * 1_000 + step).unwrap();
                    reopen(&mut known);
                    let end = known.log().end();
                    known.cut(end);
                    losses += 1;
                    if !known.log().reader().holes().is_empty() {
                        // A sector was torn out of the block that flushed and unflushed batches share: whose they were is unknown.
                        assert!(!known.log().with_producers(|known| known.is_complete()), "{when}");
                        break;
                    }
                }
                _ => {
                    // Everything is deleted, and the producers stay.
                    known.log().flush().unwrap();
                    known.log().roll().unwrap();
                    let end = known.log().end();
                    known.log().retention().delete_records(end).unwrap();
                }
            }
            known.assert_known(&when);
            undone += known.assert_undone(&when);
        }
    }
    assert!(undone > 2_000, "{undone} undone transactions were looked for");
    assert!(cuts > 100 && losses > 100, "{cuts} cuts, {losses} losses of power");
    assert!(
        incomplete * 10 < cuts,
        "{incomplete} of {cuts} cuts went below all snapshots of a log that had lost its beginning"
    );
}

#[test]
fn a_disk_that_refuses_any_one_operation_leaves_no_wrong_knowledge() {
    let mut refused = 0;
    for operation in [Operation::Create, Operation::Write, Operation::SyncData, Operation::Rename, Operation::SyncDir] {
        for nth in 0..40 {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("t-0");
            let disk = FaultDisk::new();
            let mut random = Random(nth);
            let mut known = Known::new(Log::open(options(&dir, disk.clone())).unwrap().0);
            (0..10).for_each(|_| known.append(&mut random));
            disk.arm(operation, nth, Fault::Error(std::io::ErrorKind::Other));
            for _ in 0..4 {
                (0..10).for_each(|_| known.append(&mut random));
                refused += u32::from(known.log().tidy().is_err());
                let end = known.log().end();
                refused += u32::from(known.log().retention().delete_records(Offset(end.0 / 2)).is_err());
            }
            drop(known.log.take());
            disk.lose_power(nth).unwrap();
            let log = Log::open(options(&dir, disk.clone())).unwrap().0;
            known.cut(log.end());
            known.log = Some(log);
            let expected = known.expected();
            let fault = format!("{operation:?} {nth}");
            known.log().with_producers(|known| {
                assert_eq!(known.end(), expected.end(), "{fault}");
                if known.is_complete() {
                    assert_eq!(*known, expected, "{fault}");
                }
            });
        }
    }
    assert!(refused > 50, "{refused} refusals");
}

#[test]
fn a_damaged_snapshot_gives_way_to_an_older_one_and_at_last_to_the_log_itself() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let mut random = Random(1);
    let mut known = Known::new(open(&dir).0);
    for _ in 0..3 {
        (0..20).for_each(|_| known.append(&mut random));
        known.log().tidy().unwrap();
    }
    known.log.take().unwrap().close().unwrap();
    let mut left = snapshots(&dir).len();
    assert!(left >= 2, "{left}");
    while left > 0 {
        let path = snapshots(&dir).pop().unwrap();
        let mut bytes = fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, &bytes).unwrap();
        known.log = Some(open(&dir).0);
        known.assert_known("after damage");
        // Without a last word: nothing is written anew.
        known.log = None;
        left -= 1;
        assert_eq!(snapshots(&dir).len(), left, "the damaged one is gone");
    }
}

#[test]
fn a_log_that_lost_its_beginning_and_all_snapshots_does_not_pretend_to_know() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let mut random = Random(3);
    let mut known = Known::new(open(&dir).0);
    (0..40).for_each(|_| known.append(&mut random));
    known.log().roll().unwrap();
    let end = known.log().end();
    known.log().retention().delete_records(end).unwrap();
    known.log.take().unwrap().close().unwrap();
    snapshots(&dir).iter().for_each(|path| fs::remove_file(path).unwrap());
    let (log, _) = open(&dir);
    log.with_producers(|known| {
        assert!(!known.is_complete() && known.is_empty());
        assert!(!known.never_wrote(ProducerId(77)), "nothing is proven of anybody");
    });
}

#[test]
fn a_follower_that_begins_behind_deleted_records_learns_of_their_producers_and_keeps_that() {
    let temp = tempfile::tempdir().unwrap();
    let mut random = Random(5);
    let mut leader = Known::new(open(&temp.path().join("leader-0")).0);
    (0..40).for_each(|_| leader.append(&mut random));
    let start = leader.log().end();
    (0..3).for_each(|_| leader.append(&mut random));
    let dir = temp.path().join("follower-0");
    let mut follower = open(&dir).0;
    follower.restart_at(start).unwrap();
    assert!(!follower.with_producers(|known| known.is_complete()));
    let told = leader.log().with_producers(|known| known.snapshot());
    assert!(follower.adopt_producers(&told));
    // As `kill -9` would leave it: no batch says it again.
    drop(follower);
    let mut follower = open(&dir).0;
    assert!(follower.with_producers(|known| known.is_complete()));
    for stood in leader.batches.iter().filter(|stood| stood.header.base_offset >= start) {
        let _ = follower.append_exact(&[Group::new(&stood.bytes, &[stood.header])]).unwrap();
    }
    let expected = leader.expected();
    let knows = |log: &Log| {
        log.with_producers(|known| {
            (0..4).for_each(|id| assert_eq!(known.standing(ProducerId(id)), expected.standing(ProducerId(id)), "{id}"));
            known.is_complete()
        })
    };
    assert!(knows(&follower));
    follower.close().unwrap();
    assert!(knows(&open(&dir).0), "also after a restart");
}

#[test]
fn no_more_snapshots_are_kept_than_a_cut_may_need() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let mut random = Random(9);
    let disk: Arc<dyn tidelog_log::Disk> = OsDisk::shared();
    let mut known = Known::new(Log::open(options(&dir, disk)).unwrap().0);
    for _ in 0..30 {
        (0..10).for_each(|_| known.append(&mut random));
        known.log().tidy().unwrap();
    }
    let kept = snapshots(&dir).len();
    assert!((2..=7).contains(&kept), "{kept}");
}

#[test]
fn snapshots_of_releases_without_transactions_and_from_before_producers_were_forgotten_early_are_read() {
    for (version, form) in [(1, 3), (2, 4)] {
        an_older_snapshot_is_read(version, form);
    }
}

fn an_older_snapshot_is_read(version: u16, form: u16) {
    use bytes::BytesMut;
    use tidelog_protocol::{Message, ProtocolVersion};

    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let mut random = Random(11);
    let mut known = Known::new(open(&dir).0);
    // Nobody had any.
    while known.log().end() < Offset(60) {
        let before = known.next;
        known.append(&mut random);
        if known.batches.iter().any(|stood| stood.header.attributes.is_transactional()) {
            let end = known.batches.pop().unwrap().header.base_offset;
            known.next = before;
            known.log().truncate_to(end).unwrap();
        }
    }
    known.log.take().unwrap().close().unwrap();
    let path = snapshots(&dir).pop().unwrap();
    let mut body = BytesMut::new();
    known.expected().snapshot().encode(&mut body, ProtocolVersion(form));
    tidelog_log::small_file::replace(&OsDisk, &path, tidelog_log::small_file::Kind { magic: *b"TLpr", version }, &body)
        .unwrap();
    let (log, report) = open(&dir);
    assert_eq!(report.scanned_bytes, 0);
    known.log = Some(log);
    known.assert_known("from an older form");
    assert_eq!(snapshots(&dir), [path], "it was believed");
}
