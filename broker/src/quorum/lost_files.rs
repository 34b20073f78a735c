//! Any of the files of the metadata folder may be gone: nothing of the metadata is forgotten then without a word.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use openraft::EntryPayload;
use tidelog_coordination::ClusterImage;
use tidelog_log::{DataDir, DataDirError, FlusherHandle, OsDisk};
use tidelog_protocol::{BrokerId, MetadataIndex};

use super::entry_batch;
use super::journal::{FOLDER, Journal, JournalOptions};
use super::raft_types::{Address, Ballot, Member, Members, Proposal, RaftEntry, StoredMembers, position};
use super::snapshot;
use super::storage::{QuorumStorage, StorageOptions};

/// The last entry; its index is one less than where the metadata end.
const LAST: u64 = 20;
const TERM: u64 = 3;
const LIMIT: Duration = Duration::from_secs(60);
/// Files without which nobody knows everything that was settled, or voted.
const NEEDED: [&str; 4] = ["identity", "00000000000000000000.log", "vote", "snapshot"];

fn entry(index: u64) -> Bytes {
    let proposal = Proposal { decided_on: MetadataIndex(index), records: Bytes::new() };
    let entry = RaftEntry { log_id: position(TERM, index), payload: EntryPayload::Normal(proposal) };
    entry_batch::encode(&entry, index).unwrap()
}

/// A data folder that has lived: entries, of which those up to `purged` went into a snapshot, and a vote. The metadata log was closed, or not.
fn lived_in(root: &Path, purged: u64, closed: bool) -> PathBuf {
    let data = Arc::new(DataDir::open(OsDisk::shared(), root, None).unwrap());
    let dir = root.join(FOLDER);
    let member = Member { broker: BrokerId(1), incarnation: data.format().incarnation };
    let options =
        JournalOptions { disk: data.disk(), flusher: FlusherHandle::detached(), incarnation: member.incarnation };
    let mut journal = Journal::open(&dir, &options).unwrap();
    journal.save_vote(&Ballot::new_committed(TERM, member)).unwrap();
    for index in 0..=LAST {
        journal.append(&entry(index), None).unwrap();
    }
    let at = position(TERM, purged);
    let address = Address { host: "localhost".into(), port: 1 };
    let voters = Members::new(vec![[member].into()], BTreeMap::from([(member, address)]));
    let membership = StoredMembers::new(Some(position(TERM, 0)), voters);
    let body = snapshot::encode(Some(&at), &membership, &ClusterImage::default());
    snapshot::save(&*data.disk(), &dir, &body).unwrap();
    journal.purge(&at).unwrap();
    journal.note_settled(&position(TERM, LAST));
    if closed {
        journal.close().unwrap()
    } else {
        drop(journal)
    }
    dir
}

/// The data folder, once the thread of the storage that was opened last has let go of it.
fn lock(root: &Path) -> Arc<DataDir> {
    let give_up_at = Instant::now() + LIMIT;
    loop {
        match DataDir::open(OsDisk::shared(), root, None) {
            Err(DataDirError::InUse { .. }) => assert!(Instant::now() < give_up_at, "never let go of"),
            opened => return Arc::new(opened.unwrap()),
        }
        std::thread::yield_now();
    }
}

fn open(data: Arc<DataDir>) -> Result<QuorumStorage, String> {
    let options = StorageOptions {
        data,
        flusher: FlusherHandle::detached(),
        broker: BrokerId(1),
        address: Address { host: "localhost".into(), port: 1 },
    };
    QuorumStorage::open(options).map_err(|error| error.to_string())
}

#[test]
fn whichever_files_are_gone_the_metadata_are_whole_or_refused() {
    for closed in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("data");
        let dir = lived_in(&root, LAST / 2, closed);
        let names: Vec<String> =
            fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        for needed in NEEDED.iter().chain(&["checkpoint", "purged", "log-start", "settled"]) {
            assert!(names.iter().any(|name| name == needed), "{needed} in {names:?}");
        }
        let files: Vec<(String, Vec<u8>)> =
            names.iter().map(|name| (name.clone(), fs::read(dir.join(name)).unwrap())).collect();
        let (mut whole, mut refused) = (0, 0);
        // Not all of them: such a folder is new, and the partitions beside it, or the owner's mark, say otherwise.
        for lost in 0..(1_u32 << files.len()) - 1 {
            let data = lock(&root);
            fs::remove_dir_all(&dir).unwrap();
            fs::create_dir(&dir).unwrap();
            let is_lost = |index: usize| lost & (1 << index) != 0;
            let mut gone = BTreeSet::new();
            for (index, (name, bytes)) in files.iter().enumerate() {
                if is_lost(index) {
                    gone.insert(name.as_str());
                } else {
                    fs::write(dir.join(name), bytes).unwrap();
                }
            }
            let opened = open(data);
            // Nothing says then that the first half was purged, and it is still there.
            let from_the_log = ["checkpoint", "log-start", "purged"].iter().all(|name| gone.contains(name));
            let is_needed = |name: &&&str| **name != "snapshot" || !from_the_log;
            if NEEDED.iter().filter(is_needed).any(|needed| gone.contains(needed)) {
                let error = opened.err().unwrap_or_else(|| panic!("{gone:?}, and nobody minds"));
                assert!(error.contains(FOLDER) && error.contains("--join"), "{gone:?}: {error}");
                refused += 1;
            } else {
                let storage = opened.unwrap_or_else(|error| panic!("{gone:?}: {error}"));
                assert!(!storage.is_fresh(), "{gone:?}");
                assert_eq!(storage.end(), MetadataIndex(LAST + 1), "{gone:?}");
                let snapshot = (!gone.contains("snapshot")).then_some(LAST / 2);
                assert_eq!(storage.machine.last().map(|last| last.index), snapshot, "{gone:?}");
                whole += 1;
            }
        }
        assert!(whole >= 16 && refused > whole, "{whole} {refused}");
    }
}

/// There is no entry then whose term would tell.
#[test]
fn a_vote_is_missed_where_everything_went_into_the_snapshot() {
    for gone in [&["vote"][..], &["vote", "purged"], &["vote", "purged", "checkpoint", "log-start"]] {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().join("data");
        let dir = lived_in(&root, LAST, true);
        for name in gone {
            // A log that begins with its first segment has no note of that.
            let removed = fs::remove_file(dir.join(name));
            assert!(removed.is_ok() || *name == "log-start", "{name}");
        }
        let error = open(lock(&root)).expect_err(&format!("{gone:?}, and nobody minds"));
        assert!(error.contains("no vote of it") && error.contains("--join"), "{gone:?}: {error}");
    }
}
