//! A follower's log takes the leader's bytes as they are, is cut where it parts from another leader's, and holds that through losses of
//! power.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::path::Path;
use std::sync::Arc;

use crate::support::{batch, options, read_all};
use tidelog_log::fault::FaultDisk;
use tidelog_log::{Group, Log, LogReader, ReadOutcome};
use tidelog_protocol::records::{BatchHeader, Batches};
use tidelog_protocol::{LeaderEpoch, Offset};

fn open_on(dir: &Path, disk: &Arc<FaultDisk>) -> Log {
    Log::open(options(dir, disk.clone())).unwrap().0
}

/// One batch of `records` under `epoch`.
fn lead(log: &mut Log, epoch: u32, records: u32) {
    let (header, bytes) = batch(records, 1_000, &[epoch as u8; 300]);
    let _ = log.append(&[Group::new(&bytes, &[header])], LeaderEpoch(epoch)).unwrap();
}

/// All that the leader has and the follower lacks.
fn follow(follower: &mut Log, leader: &LogReader) {
    while follower.end() < leader.written_end() {
        let outcome = leader.read_blocking(follower.end(), Offset::MAX, 1_000).unwrap();
        let ReadOutcome::Batches(pushed) = outcome else { panic!("there is more: {outcome:?}") };
        let headers: Vec<BatchHeader> = Batches::new(&pushed.bytes).map(|batch| *batch.unwrap().header()).collect();
        let mut groups = Vec::new();
        let mut position = 0;
        for header in &headers {
            let end = position + header.total_bytes();
            groups.push(Group::new(&pushed.bytes[position..end], std::slice::from_ref(header)));
            position = end;
        }
        let mut taken = 0;
        while taken < groups.len() {
            taken += follower.append_exact(&groups[taken..]).unwrap().groups;
        }
    }
}

fn starts(log: &Log) -> Vec<(u32, u64)> {
    log.reader().leader_epochs().starts().iter().map(|entry| (entry.epoch.0, entry.start.0)).collect()
}

#[test]
fn a_follower_that_was_cut_and_followed_on_holds_its_new_leaders_log_after_any_loss_of_power() {
    let temp = tempfile::tempdir().unwrap();
    let leaders_disk = FaultDisk::new();
    // Both went on alone after epoch 1.
    let mut old = open_on(&temp.path().join("old-0"), &leaders_disk);
    let mut new = open_on(&temp.path().join("new-0"), &leaders_disk);
    for _ in 0..20 {
        lead(&mut old, 1, 2);
    }
    follow(&mut new, &old.reader());
    for _ in 0..9 {
        lead(&mut old, 2, 3);
    }
    for _ in 0..7 {
        lead(&mut new, 3, 2);
    }
    let expected = read_all(&new.reader(), Offset::ZERO).unwrap();
    for seed in 0..40 {
        let disk = FaultDisk::new();
        let dir = temp.path().join(format!("follower-{seed}"));
        let mut log = open_on(&dir, &disk);
        follow(&mut log, &old.reader());
        assert_eq!(starts(&log), [(1, 0), (2, 40)]);
        if seed % 2 == 0 {
            log.flush().unwrap();
        }
        assert_eq!(log.truncate_to(Offset(40)).unwrap(), Offset(40));
        assert_eq!((starts(&log), log.reader().flushed_end()), (vec![(1, 0)], Offset(40)));
        drop(log);
        disk.lose_power(seed).unwrap();

        let mut log = open_on(&dir, &disk);
        assert_eq!((starts(&log), log.end()), (vec![(1, 0)], Offset(40)), "seed {seed}: a cut is durable");
        follow(&mut log, &new.reader());
        log.flush().unwrap();
        drop(log);
        disk.lose_power(seed).unwrap();

        let log = open_on(&dir, &disk);
        assert_eq!(starts(&log), [(1, 0), (3, 40)], "seed {seed}");
        assert!(read_all(&log.reader(), Offset::ZERO).unwrap() == expected, "seed {seed}");
    }
}
