//! The journal and the snapshot over a disk that dies at every step, with and without its unflushed bytes, and over files that were
//! damaged while nobody looked.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use openraft::EntryPayload;
use tidelog_coordination::ClusterImage;
use tidelog_log::fault::{Fault, FaultDisk, Operation};
use tidelog_log::{Disk, FlusherHandle, OsDisk, ReadOutcome};
use tidelog_protocol::{BrokerId, IncarnationId, MetadataIndex, Offset};

use super::entry_batch;
use super::journal::{Journal, JournalError, JournalOptions, WriteError};
use super::raft_types::{Ballot, Member, Position, Proposal, RaftEntry, StoredMembers, position};
use super::snapshot;

const ME: Member = Member { broker: BrokerId(1), incarnation: IncarnationId([1; 16]) };

fn entry(term: u64, index: u64) -> RaftEntry {
    let records = Bytes::from(vec![index as u8; 40 * index as usize % 300]);
    let proposal = Proposal { decided_on: MetadataIndex(index), records };
    RaftEntry { log_id: position(term, index), payload: EntryPayload::Normal(proposal) }
}

fn batches(term: u64, indexes: std::ops::Range<u64>) -> Bytes {
    let mut out = BytesMut::new();
    let first = indexes.start;
    indexes.for_each(|index| out.extend_from_slice(&entry_batch::encode(&entry(term, index), first).unwrap()));
    out.freeze()
}

fn open(dir: &Path, disk: &Arc<dyn Disk>) -> Result<Journal, JournalError> {
    let options =
        JournalOptions { disk: disk.clone(), flusher: FlusherHandle::detached(), incarnation: IncarnationId([1; 16]) };
    Journal::open(dir, &options)
}

fn entries(journal: &Journal) -> Vec<RaftEntry> {
    let reader = journal.reader();
    let mut found = Vec::new();
    let mut next = reader.log_start();
    while let ReadOutcome::Batches(batches) = reader.read_blocking(next, Offset::MAX, 1 << 20).unwrap() {
        found.extend(entry_batch::decode_all(&batches.bytes).unwrap());
        next = batches.next;
    }
    found
}

/// What a journal must remember.
#[derive(Clone, PartialEq, Debug, Default)]
struct Memory {
    vote: Option<Ballot>,
    purged: Option<Position>,
    entries: Vec<RaftEntry>,
}

#[derive(Clone, Debug)]
enum Step {
    Vote(Ballot),
    Append(u64, std::ops::Range<u64>),
    Truncate(u64),
    Purge(Position),
}

impl Step {
    fn life() -> Vec<Self> {
        vec![
            Self::Append(0, 0..1),
            Self::Vote(Ballot::new(1, ME)),
            Self::Vote(Ballot::new_committed(1, ME)),
            Self::Append(1, 1..4),
            Self::Append(1, 4..5),
            Self::Vote(Ballot::new(2, ME)),
            Self::Truncate(3),
            Self::Append(2, 3..9),
            Self::Purge(position(2, 5)),
            Self::Append(2, 9..10),
            Self::Vote(Ballot::new(3, ME)),
            // A snapshot came that reaches further than the log.
            Self::Purge(position(3, 20)),
            Self::Append(3, 21..25),
        ]
    }

    fn take(&self, journal: &mut Journal) -> Result<(), WriteError> {
        match self {
            Self::Vote(vote) => journal.save_vote(vote),
            Self::Append(term, indexes) => journal.append(&batches(*term, indexes.clone()), None),
            Self::Truncate(index) => journal.truncate(*index),
            Self::Purge(last) => journal.purge(last),
        }
    }

    fn note(&self, memory: &mut Memory) {
        match self {
            Self::Vote(vote) => memory.vote = Some(*vote),
            Self::Append(term, indexes) => memory.entries.extend(indexes.clone().map(|index| entry(*term, index))),
            Self::Truncate(index) => memory.entries.retain(|entry| entry.log_id.index < *index),
            Self::Purge(last) => {
                memory.purged = Some(*last);
                memory.entries.retain(|entry| entry.log_id.index > last.index);
            }
        }
    }
}

fn remembered(journal: &Journal) -> Memory {
    Memory { vote: journal.vote(), purged: journal.purged(), entries: entries(journal) }
}

/// What was answered is there; what was under way is there whole, in part from its front, or not at all.
fn check(found: &Memory, answered: &Memory, under_way: Option<&Step>, case: &str) {
    let mut after = answered.clone();
    under_way.inspect(|step| step.note(&mut after));
    assert!([&answered.vote, &after.vote].contains(&&found.vote), "{case}: {found:?}");
    assert!([&answered.purged, &after.purged].contains(&&found.purged), "{case}: {found:?}");
    match under_way {
        Some(Step::Append(..) | Step::Truncate(_)) => {
            let (short, long) = match answered.entries.len() < after.entries.len() {
                true => (&answered.entries, &after.entries),
                false => (&after.entries, &answered.entries),
            };
            assert!(found.entries.starts_with(short) && long.starts_with(&found.entries), "{case}: {found:?}");
        }
        // The note comes first, and an opening finishes what it says.
        Some(Step::Purge(_)) if found.purged == after.purged => assert_eq!(found.entries, after.entries, "{case}"),
        _ => assert_eq!(found.entries, answered.entries, "{case}"),
    }
}

/// Lives through all steps, dying at change number `skip` if there is one; true where it died.
fn live_and_die(skip: u64, power_seed: Option<u64>) -> bool {
    let case = format!("change {skip}, power {power_seed:?}");
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("journal");
    let faulty = FaultDisk::new();
    let disk: Arc<dyn Disk> = faulty.clone();
    drop(open(&dir, &disk).unwrap());
    faulty.arm(Operation::Change, skip, Fault::Crash);
    let mut answered = Memory::default();
    let mut under_way = None;
    if let Ok(mut journal) = open(&dir, &disk) {
        for step in Step::life() {
            if step.take(&mut journal).is_err() {
                under_way = Some(step);
                break;
            }
            step.note(&mut answered);
        }
    }
    let died = faulty.fired() > 0;
    match power_seed {
        Some(seed) => faulty.lose_power(seed).unwrap(),
        None => faulty.restart(),
    }
    let mut journal = open(&dir, &disk).unwrap_or_else(|error| panic!("{case}, under way {under_way:?}: {error}"));
    let found = remembered(&journal);
    check(&found, &answered, under_way.as_ref(), &case);
    // It goes on where it was.
    let next = journal.last().map_or(0, |last| last.index + 1);
    journal.save_vote(&Ballot::new(9, ME)).unwrap();
    journal.append(&batches(9, next..next + 2), None).unwrap();
    faulty.lose_power(7).unwrap();
    let again = remembered(&open(&dir, &disk).unwrap());
    assert_eq!(again.entries.len(), found.entries.len() + 2, "{case}");
    died
}

#[test]
fn what_was_answered_survives_a_death_at_every_step() {
    let deaths = (0..).take_while(|skip| live_and_die(*skip, None)).count();
    assert!(deaths > 60, "only {deaths} steps");
}

#[test]
fn what_was_answered_survives_loss_of_power_at_every_step() {
    for seed in 0..2 {
        let deaths = (0..).take_while(|skip| live_and_die(*skip, Some(seed))).count();
        assert!(deaths > 60, "only {deaths} steps");
    }
}

#[test]
fn a_full_disk_is_waited_for_and_nothing_is_answered_meanwhile() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("journal");
    let faulty = FaultDisk::new();
    let disk: Arc<dyn Disk> = faulty.clone();
    let mut journal = open(&dir, &disk).unwrap();
    for operation in [Operation::Write, Operation::Create, Operation::Allocate] {
        faulty.arm(operation, 0, Fault::Error(ErrorKind::StorageFull));
    }
    for step in Step::life() {
        step.take(&mut journal).unwrap();
    }
    assert!(faulty.fired() >= 2, "the disk was full {} times", faulty.fired());
    assert_eq!(journal.last(), Some(position(3, 24)));
}

#[test]
fn a_failed_flush_is_final() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("journal");
    let faulty = FaultDisk::new();
    let disk: Arc<dyn Disk> = faulty.clone();
    let mut journal = open(&dir, &disk).unwrap();
    journal.append(&batches(0, 0..1), None).unwrap();
    faulty.arm(Operation::SyncData, 0, Fault::Error(ErrorKind::Other));
    assert!(journal.append(&batches(0, 1..2), None).is_err());
    assert!(journal.append(&batches(0, 2..3), None).is_err(), "a flush that failed is not tried again");
}

#[test]
fn a_hole_in_what_was_answered_is_no_torn_write() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("journal");
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let mut journal = open(&dir, &disk).unwrap();
    for index in 0..3 {
        journal.append(&batches(0, index..index + 1), None).unwrap();
    }
    let middle = batches(0, 0..1).len() + 30;
    // Killed: nothing says that the log was closed cleanly, so everything is looked at.
    drop(journal);
    let log = dir.join("00000000000000000000.log");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[middle] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let error = open(&dir, &disk).unwrap_err();
    assert!(matches!(error, JournalError::Damaged { from: Offset(1), to: Offset(2) }), "{error}");
}

/// A folder with a vote, a purged range and a snapshot.
fn lived_in(dir: &Path) -> Arc<dyn Disk> {
    let disk: Arc<dyn Disk> = Arc::new(OsDisk);
    let mut journal = open(dir, &disk).unwrap();
    for step in Step::life() {
        step.take(&mut journal).unwrap();
    }
    journal.close().unwrap();
    disk
}

#[test]
fn a_torn_vote_is_never_taken_for_none() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("journal");
    let disk = lived_in(&dir);
    for name in ["vote", "purged"] {
        let whole = std::fs::read(dir.join(name)).unwrap();
        for cut in 0..whole.len() {
            std::fs::write(dir.join(name), &whole[..cut]).unwrap();
            let error = open(&dir, &disk).unwrap_err();
            assert!(matches!(error, JournalError::Mark(_)), "{name} cut at {cut}: {error}");
        }
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(dir.join(name), &flipped).unwrap();
            assert!(open(&dir, &disk).is_err(), "{name} with bit {bit} flipped");
        }
        std::fs::write(dir.join(name), whole).unwrap();
    }
    std::fs::remove_file(dir.join("vote")).unwrap();
    let error = open(&dir, &disk).unwrap_err();
    assert!(matches!(error, JournalError::VoteLost { term: 3 }), "{error}");
}

#[test]
fn a_torn_note_of_what_is_settled_only_knows_less() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("journal");
    let disk = lived_in(&dir);
    let mut journal = open(&dir, &disk).unwrap();
    journal.note_settled(&position(3, 22));
    assert_eq!(journal.settled(), Some(position(3, 22)));
    drop(journal);
    let whole = std::fs::read(dir.join("settled")).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(dir.join("settled"), &whole[..cut]).unwrap();
        assert_eq!(open(&dir, &disk).unwrap().settled(), None, "cut at {cut}");
    }
}

#[test]
fn a_snapshot_is_replaced_whole_or_not_at_all() {
    let (old, new) = (position(1, 4), position(2, 9));
    let body = |last| snapshot::encode(Some(last), &StoredMembers::default(), &ClusterImage::default());
    let mut deaths = 0;
    loop {
        let temp = tempfile::tempdir().unwrap();
        let faulty = FaultDisk::new();
        snapshot::save(&*faulty, temp.path(), &body(&old)).unwrap();
        faulty.arm(Operation::Change, deaths, Fault::Crash);
        let saved = snapshot::save(&*faulty, temp.path(), &body(&new));
        let died = faulty.fired() > 0;
        faulty.lose_power(deaths).unwrap();
        let found = snapshot::decode(&snapshot::load(&*faulty, temp.path()).unwrap().unwrap()).unwrap();
        let last = found.meta.last_log_id.unwrap();
        assert!(last == new || (last == old && saved.is_err()), "death {deaths}: {last}");
        if !died {
            break;
        }
        deaths += 1;
    }
    assert!(deaths >= 4, "only {deaths} steps");
}

#[test]
fn a_damaged_snapshot_is_refused_with_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    let body = snapshot::encode(Some(&position(1, 4)), &StoredMembers::default(), &ClusterImage::default());
    snapshot::save(&OsDisk, temp.path(), &body).unwrap();
    let whole = std::fs::read(temp.path().join("snapshot")).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut flipped = whole.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        std::fs::write(temp.path().join("snapshot"), &flipped).unwrap();
        let error = snapshot::load(&OsDisk, temp.path()).unwrap_err().to_string();
        assert!(error.contains("start this broker with an empty data folder"), "bit {bit}: {error}");
    }
}
