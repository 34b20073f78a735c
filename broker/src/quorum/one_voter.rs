//! A quorum of one broker as a whole: what holds, what is left out, snapshots, restarts, and what it refuses.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::MetadataRecord;
use tidelog_coordination::confirmation::FAITHFUL_MS;
use tidelog_coordination::records::{BrokerRegistered, FeatureLevel};
use tidelog_log::fault::{Fault, FaultDisk, Operation};
use tidelog_log::{DataDir, Disk, FlusherHandle, OsDisk};
use tidelog_protocol::messages::{RaftPosition, RaftVoteRequest};
use tidelog_protocol::{BrokerEpoch, BrokerId, ErrorCode, IncarnationId, MetadataIndex};

use super::journal::FOLDER;
use super::raft_types::{Ballot, ballot_message};
use super::{Beginning, Quorum, QuorumError, QuorumStorage, StorageOptions};
use crate::member::{Address, Member};
use crate::peer::{PeerIdentity, Peers};

async fn start(folder: &Path, disk: Arc<dyn Disk>) -> Quorum {
    let quorum = begin(folder, disk).await;
    quorum.leads().await.unwrap();
    quorum
}

async fn begin(folder: &Path, disk: Arc<dyn Disk>) -> Quorum {
    let data = loop {
        // The quorum before may still be letting go of the folder.
        match DataDir::open(disk.clone(), folder, None) {
            Ok(data) => break Arc::new(data),
            Err(_) => tokio::task::yield_now().await,
        }
    };
    let address = Address { host: "localhost".into(), port: 9092 };
    let member = Member { broker: BrokerId(1), incarnation: data.format().incarnation };
    let peers = Peers::new(PeerIdentity { cluster: data.format().cluster, member });
    let options = StorageOptions { data, flusher: FlusherHandle::detached(), broker: BrokerId(1), address };
    Quorum::start(QuorumStorage::open(options).unwrap(), peers, Beginning::Found).await.unwrap()
}

fn as_of(quorum: &Quorum) -> MetadataIndex {
    quorum.image().borrow().as_of()
}

fn registered(epoch: u64, host_bytes: usize) -> Vec<MetadataRecord> {
    let host = "h".repeat(host_bytes);
    let incarnation = IncarnationId([1; 16]);
    let record = BrokerRegistered {
        broker_id: BrokerId(1),
        epoch: BrokerEpoch(epoch),
        incarnation,
        host,
        port: 1,
        rack: None,
        fenced: false,
        leaving: false,
        draining: false,
        stamp: None,
        copy: None,
    };
    vec![record.into()]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_settled_is_there_after_any_end() {
    let temp = tempfile::tempdir().unwrap();
    let mut quorum = start(temp.path(), Arc::new(OsDisk)).await;
    let mut epoch = 0;
    for end in 0..6 {
        for _ in 0..10 {
            epoch += 1;
            let decided_on = as_of(&quorum);
            let index = quorum.propose(decided_on, registered(epoch, 10)).await.unwrap();
            assert!(index > decided_on && as_of(&quorum) == index);
        }
        let before = quorum.image().borrow().clone();
        if end % 2 == 0 {
            quorum.close().await.unwrap();
        }
        drop(quorum);
        quorum = start(temp.path(), Arc::new(OsDisk)).await;
        assert_eq!(*quorum.image().borrow(), before);
    }
}

/// On one thread, where nothing runs ahead of whom is asked.
#[tokio::test]
async fn a_restarted_broker_knows_at_once_that_it_is_alone() {
    let temp = tempfile::tempdir().unwrap();
    start(temp.path(), Arc::new(OsDisk)).await.close().await.unwrap();
    for _ in 0..3 {
        let quorum = begin(temp.path(), Arc::new(OsDisk)).await;
        assert!(quorum.is_alone());
        quorum.leads().await.unwrap();
        quorum.close().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_decided_on_an_older_image_never_holds() {
    let temp = tempfile::tempdir().unwrap();
    let quorum = start(temp.path(), Arc::new(OsDisk)).await;
    let older = as_of(&quorum);
    let level = vec![FeatureLevel { level: 1 }.into()];
    let (one, other) = tokio::join!(quorum.propose(older, registered(1, 5)), quorum.propose(older, level));
    let refused = match (one, other) {
        (Ok(_), Err(refused)) | (Err(refused), Ok(_)) => refused,
        both => panic!("{both:?}"),
    };
    assert!(matches!(refused, QuorumError::Superseded), "{refused}");
    let image = quorum.image().borrow().clone();
    assert_eq!(image.feature_level() == 1, image.brokers().len() == 0, "one of both holds: {image:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_cut_behind_snapshots() {
    let temp = tempfile::tempdir().unwrap();
    let mut quorum = start(temp.path(), Arc::new(OsDisk)).await;
    // Large records: what a start has to apply again is bounded in bytes as well as in entries.
    for epoch in 1..=300 {
        quorum.propose(as_of(&quorum), registered(epoch, 100_000)).await.unwrap();
    }
    let dir = temp.path().join(FOLDER);
    let purged = async {
        while !dir.join("purged").exists() {
            quorum
                .propose(as_of(&quorum), registered(quorum.image().borrow().last_broker_epoch().0 + 1, 10))
                .await
                .unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(60), purged).await.expect("the log is purged behind a snapshot");
    let before = quorum.image().borrow().clone();
    quorum.close().await.unwrap();
    drop(quorum);
    let bytes: u64 = std::fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().metadata().unwrap().len()).sum();
    assert!(bytes < 60 << 20, "{bytes} bytes in the folder");
    quorum = start(temp.path(), Arc::new(OsDisk)).await;
    assert_eq!(*quorum.image().borrow(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_a_proposal_and_heals() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let quorum = start(temp.path(), disk.clone()).await;
    quorum.propose(as_of(&quorum), registered(1, 10)).await.unwrap();
    disk.arm(Operation::Allocate, 0, Fault::Stuck(std::io::ErrorKind::StorageFull));
    let error = quorum.propose(as_of(&quorum), registered(2, 200_000)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageFull, "{error}");
    disk.disarm();
    quorum.propose(as_of(&quorum), registered(2, 200_000)).await.unwrap();
    assert!(disk.fired() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_fits_no_entry_is_refused_and_nothing_else_is() {
    let temp = tempfile::tempdir().unwrap();
    let quorum = start(temp.path(), Arc::new(OsDisk)).await;
    let error = quorum.propose(as_of(&quorum), registered(1, 40 << 20)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::TooLarge, "{error}");
    quorum.propose(as_of(&quorum), registered(1, 20 << 20)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_flush_nothing_is_proposed_any_more() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let quorum = start(temp.path(), disk.clone()).await;
    disk.arm(Operation::SyncData, 0, Fault::Error(std::io::ErrorKind::Other));
    let error = quorum.propose(as_of(&quorum), registered(1, 10)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::StorageFailed, "{error}");
    let error = quorum.propose(as_of(&quorum), registered(1, 10)).await.unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutOfService, "{error}");
    assert!(quorum.failure().is_some() && disk.fired() > 0);
}

/// The votes of the others last as long; a lease that was given by this one's word must not end before another can have been elected.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_confirmed_gives_its_vote_to_nobody_for_a_while() {
    let temp = tempfile::tempdir().unwrap();
    let quorum = start(temp.path(), Arc::new(OsDisk)).await;
    // From here on nothing but the confirmation stands in the way: it votes for others as soon as it hears of none itself.
    let led_since = Instant::now();
    while led_since.elapsed() < Duration::from_millis(FAITHFUL_MS + 300) {
        assert!(quorum.confirm().await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let rival = Member { broker: BrokerId(2), incarnation: IncarnationId([2; 16]) };
    let mut term = 1_000;
    let mut ask = async || {
        term += 1;
        let last = Some(RaftPosition { term: 1_000, index: 1_000 });
        let request = RaftVoteRequest { ballot: ballot_message(&Ballot::new(term, rival)), last };
        quorum.vote(rival, request).await.unwrap().granted
    };
    let confirmed = Instant::now();
    assert!(quorum.confirm().await);
    let granted = ask().await;
    assert!(!granted || confirmed.elapsed() > Duration::from_millis(FAITHFUL_MS), "it gave its vote away");
    assert!(quorum.confirm().await, "and leads on");
    let given = async {
        while !ask().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), given).await.expect("nobody confirms it any more");
}
