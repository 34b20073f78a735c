//! The event store over three real brokers while the leader of its partition is killed again and again: eight writers with clients of their
//! own on one hot aggregate, with commands that say which version they expect. No gap, no version twice, every conflict resolved, every
//! acknowledgement kept.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidelog_client::Client;
use tidelog_client::event_store::*;
use tidelog_tests::chance::{rounds, seeded};
use tidelog_tests::cluster::{Cluster, ClusterSettings, Evidence};
use tidelog_tests::patience::{wait_until, within_limit};

const TOPIC: &str = "hot";
const WRITERS: usize = 8;

/// What the writers share.
#[derive(Default)]
struct Course {
    made: AtomicU64,
    conflicts: AtomicU64,
    doubts: AtomicU64,
    is_over: AtomicBool,
}

/// Appends commands, each as often as it takes to know that it is done; what it was told, by version.
async fn write(store: EventStore, writer: usize, course: Arc<Course>) -> BTreeMap<u64, String> {
    let mut told = BTreeMap::new();
    let mut at = 0;
    while !course.is_over.load(Ordering::SeqCst) {
        let command = format!("{writer}-{at}");
        at += 1;
        let appended = loop {
            let version = match store.version("hot").await {
                Ok(version) => version,
                // Opening a partition takes a leader; a command that is under way is not given up for that.
                Err(error) if error.is_retriable() => continue,
                Err(error) => panic!("{error}"),
            };
            let event = vec![NewEvent::new("done", command.clone())];
            match store.append_once("hot", &command, version, event).await {
                Ok(appended) => break appended,
                Err(AppendError::Conflict { current, .. }) => {
                    assert!(current > version, "a conflict names a version that is newer than what was known");
                    course.conflicts.fetch_add(1, Ordering::SeqCst);
                }
                Err(AppendError::InDoubt(_)) => {
                    course.doubts.fetch_add(1, Ordering::SeqCst);
                }
                Err(AppendError::Store(error)) if error.is_retriable() => {}
                Err(error) => panic!("{error}"),
            }
        };
        course.made.fetch_add(1, Ordering::SeqCst);
        let before = told.insert(appended.version.0, command);
        assert_eq!(before, None, "two commands of writer {writer} were told version {}", appended.version);
    }
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_writers_on_a_hot_aggregate_survive_leaders_that_are_killed() {
    let mut rng = seeded("eight_writers_on_a_hot_aggregate_survive_leaders_that_are_killed");
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let servers = cluster.servers();
    let course = Arc::new(Course::default());
    let create = || async { Client::connect(&servers).await?.event_store(TOPIC).create(1, Some(3)).await };
    create().await.unwrap();
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        // Few seconds, so that some appends end in doubt and are sent again as commands.
        let client = Client::connect(&servers).await.unwrap();
        let store = client.event_store(TOPIC).append_timeout(Duration::from_secs(2)).open().await.unwrap();
        writers.push(tokio::spawn(write(store, writer, Arc::clone(&course))));
    }
    let progress = async |more: u64| {
        let from = course.made.load(Ordering::SeqCst);
        let is_there = async || (course.made.load(Ordering::SeqCst) >= from + more).then_some(());
        wait_until("appends to be made", is_there).await;
    };
    let mut evidence = Evidence::default();
    for _ in 0..rounds(4) {
        progress(50).await;
        tokio::time::sleep(Duration::from_micros(rng.u64(..200_000))).await;
        let (leader, _) = cluster.leader(TOPIC, 0).await;
        evidence.add(cluster.kill(leader));
        let next = cluster.next_leader(TOPIC, 0, leader).await;
        progress(50).await;
        cluster.restart(leader);
        cluster.wait_in_sync((TOPIC, 0), &[1, 2, 3], next).await;
    }
    course.is_over.store(true, Ordering::SeqCst);
    let mut acknowledged: BTreeMap<u64, String> = BTreeMap::new();
    for writer in writers {
        for (version, command) in within_limit("a writer", writer).await.unwrap() {
            let before = acknowledged.insert(version, command);
            assert_eq!(before, None, "two writers were told version {version}");
        }
    }
    evidence.assert_happened();
    assert!(course.conflicts.load(Ordering::SeqCst) > 0, "nobody got into anybody's way");

    // A store that has seen nothing of all this.
    let loaded = create().await.unwrap().load("hot").await.unwrap();
    let stored: Vec<String> =
        loaded.events.iter().map(|event| String::from_utf8(event.payload.to_vec()).unwrap()).collect();
    assert_eq!(loaded.version.0, stored.len() as u64);
    assert!(loaded.events.iter().zip(1..).all(|(event, version)| event.version.0 == version), "no gap");
    assert_eq!(stored.iter().collect::<BTreeSet<_>>().len(), stored.len(), "no command twice");
    let stored: BTreeMap<u64, String> = (1..).zip(stored).collect();
    assert_eq!(stored, acknowledged, "every command ended with an answer, and each is where it was said to be");
    println!(
        "{} appends, {} conflicts, {} in doubt",
        stored.len(),
        course.conflicts.load(Ordering::SeqCst),
        course.doubts.load(Ordering::SeqCst)
    );
}
