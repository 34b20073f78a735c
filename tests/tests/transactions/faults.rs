//! Transactions over several partitions and brokers, step by step by hand: all of one is seen or nothing, whoever dies in between, and none stays
//! open for ever.

use std::collections::BTreeSet;

use tidelog_client::Record;
use tidelog_protocol::messages::TransactionEnder;
use tidelog_protocol::{ErrorCode, PartitionId};
use tidelog_tests::contents::read_all;
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_transactions::{RawProducer, SHARDS, Scene, codes, create, ends, nothing_open};

const PARTITIONS: u32 = 3;
const LONG: u32 = 900_000;
/// Long enough to be open for a test that kills somebody meanwhile.
const SHORT: u32 = 4_000;

/// What these tests do in the scene, and see there.
trait Everywhere {
    /// One batch to each partition.
    async fn send_everywhere(&self, producer: &RawProducer, first: i32, value: &str);
    async fn nothing_open(&self);
    /// It was undone after its timeout, and nothing stays behind.
    async fn undone_and_over(&self, producer: &RawProducer);
    /// What is written from now on can be read everywhere.
    async fn goes_on(&self);
    /// What is committed, in each partition.
    async fn committed(&self) -> Vec<Vec<String>>;
    /// A transactional id that is coordinated by another broker than this one, and by which.
    async fn coordinated_elsewhere(&self, than: u32) -> (String, u32);
}

impl Everywhere for Scene {
    async fn send_everywhere(&self, producer: &RawProducer, first: i32, value: &str) {
        for partition in 0..PARTITIONS {
            producer.send((self.orders, partition), first, &[value]).await.unwrap();
        }
    }

    async fn nothing_open(&self) {
        for partition in 0..PARTITIONS {
            nothing_open(&self.addresses, self.orders, partition).await;
        }
    }

    async fn undone_and_over(&self, producer: &RawProducer) {
        wait_until("the timeout", async || {
            let ended = producer.describe().await.ended.filter(|ended| ended.identity == producer.identity)?;
            assert_eq!((ended.by, ended.committed), (TransactionEnder::Timeout, false));
            Some(())
        })
        .await;
        self.settled(producer).await;
        self.goes_on().await;
    }

    async fn goes_on(&self) {
        let plain = self.client.producer().build().unwrap();
        for partition in 0..PARTITIONS {
            let record = Record::to("orders").partition(PartitionId(partition)).value("kept");
            let written = plain.send(record).await.unwrap().await.unwrap().offset.unwrap();
            wait_until("it to be read", async || {
                let (stable, _) = ends(&self.addresses, self.orders, partition).await;
                (stable > written).then_some(())
            })
            .await;
        }
    }

    async fn committed(&self) -> Vec<Vec<String>> {
        let contents = read_all(&self.cluster.servers(), "orders").await;
        contents.into_iter().map(|part| part.records.into_iter().map(|(_, value)| value).collect()).collect()
    }

    async fn coordinated_elsewhere(&self, than: u32) -> (String, u32) {
        // Somebody has to ask first.
        self.producer("first", LONG).await;
        for number in 0..SHARDS {
            let id = format!("tx-{number}");
            let coordinator = self.coordinator_of(&id).await;
            if coordinator != than {
                return (id, coordinator);
            }
        }
        panic!("broker {than} coordinates everything");
    }
}

fn everywhere(values: &[&str]) -> Vec<Vec<String>> {
    (0..PARTITIONS).map(|_| values.iter().map(|value| (*value).to_owned()).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_over_three_partitions_is_seen_whole_or_not_at_all() {
    let scene = Scene::set().await;
    let mut producer = scene.producer("tx", LONG).await;
    for (value, commit) in [("one", true), ("two", false), ("three", true)] {
        scene.send_everywhere(&producer, 0, value).await;
        scene.send_everywhere(&producer, 1, value).await;
        for partition in 0..PARTITIONS {
            let (stable, end) = ends(&scene.addresses, scene.orders, partition).await;
            assert_eq!(stable.0 + 2, end.0, "it is open in partition {partition}");
        }
        producer.end(commit).await.unwrap();
        scene.nothing_open().await;
    }
    assert_eq!(scene.committed().await, everywhere(&["one", "one", "three", "three"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn markers_arrive_though_the_coordinator_dies_after_it_has_decided() {
    for commit in [true, false] {
        let mut scene = Scene::set().await;
        // One that leads a partition hears nothing until the coordinator is gone.
        let (led, _) = scene.cluster.leader("orders", 0).await;
        let (id, coordinator) = scene.coordinated_elsewhere(led).await;
        let mut producer = scene.producer(&id, LONG).await;
        scene.send_everywhere(&producer, 0, "whole").await;
        let _ = scene.cluster.pause(led);
        producer.end(commit).await.unwrap();
        let _ = scene.cluster.kill(coordinator);
        scene.cluster.resume(led);
        scene.settled(&producer).await;
        scene.goes_on().await;
        assert!(scene.cluster.is_down(coordinator), "all of that went on without it");
        let expected: &[&str] = if commit { &["whole", "kept"] } else { &["kept"] };
        assert_eq!(scene.committed().await, everywhere(expected));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zombie_is_fenced_on_every_partition() {
    let scene = Scene::set().await;
    let zombie = scene.producer("tx", LONG).await;
    // The last partition is one that it has never written to.
    for partition in 0..PARTITIONS - 1 {
        zombie.send((scene.orders, partition), 0, &["zombie"]).await.unwrap();
    }
    let mut successor = scene.producer("tx", LONG).await;
    scene.nothing_open().await;
    for partition in 0..PARTITIONS {
        let first = if partition == PARTITIONS - 1 { 0 } else { 1 };
        let refused = zombie.send((scene.orders, partition), first, &["zombie"]).await.unwrap_err();
        // Where the marker stands, the partition says that it is over; who has its place, the coordinator.
        let fenced = [ErrorCode::TransactionFenced, ErrorCode::InvalidTransactionState];
        assert!(fenced.contains(&refused.code), "partition {partition}: {refused}");
    }
    assert_eq!(zombie.clone().ask_again().await.unwrap_err().code, ErrorCode::TransactionFenced);
    assert_eq!(zombie.clone().end(true).await.unwrap_err().code, ErrorCode::TransactionFenced);
    scene.send_everywhere(&successor, 0, "successor").await;
    successor.end(true).await.unwrap();
    scene.nothing_open().await;
    assert_eq!(scene.committed().await, everywhere(&["successor"]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_nobody_ends_is_undone_everywhere_after_its_timeout() {
    let scene = Scene::set().await;
    let producer = scene.producer("tx", 1_500).await;
    scene.send_everywhere(&producer, 0, "lost").await;
    scene.nothing_open().await;
    assert_eq!(producer.describe().await.ended.unwrap().by, TransactionEnder::Timeout);
    // Behind what it sent, and once more what it sent.
    for (partition, first) in (0..PARTITIONS).flat_map(|partition| [(partition, 1), (partition, 0)]) {
        let late = producer.send((scene.orders, partition), first, &["late"]).await.unwrap_err();
        assert!(!late.code.is_retriable(), "partition {partition}, sequence {first}: {late}");
    }
    assert_eq!(codes(producer.clone().end(true).await), Some(ErrorCode::InvalidTransactionState), "it was undone");
    scene.nothing_open().await;
    assert_eq!(scene.committed().await, everywhere(&[]));
    let mut next = producer.clone();
    next.ask_again().await.unwrap();
    scene.send_everywhere(&next, 0, "kept").await;
    next.end(true).await.unwrap();
    scene.nothing_open().await;
    assert_eq!(scene.committed().await, everywhere(&["kept"]));
}

/// Whatever is lost while one is open: its producer, who never comes back, and somebody else besides.
#[tokio::test(flavor = "multi_thread")]
async fn no_transaction_hangs_whoever_is_lost_while_it_is_open() {
    let mut scene = Scene::set().await;
    // The leader of a partition, after the first batch.
    let producer = scene.producer("leader-lost", SHORT).await;
    producer.send((scene.orders, 0), 0, &["lost"]).await.unwrap();
    let (leader, _) = scene.cluster.leader("orders", 0).await;
    let _ = scene.cluster.kill(leader);
    scene.undone_and_over(&producer).await;
    assert!(scene.cluster.is_down(leader));
    scene.cluster.restart(leader);
    scene.cluster.wait_healed("orders").await;

    // The coordinator.
    let producer = scene.producer("coordinator-lost", SHORT).await;
    scene.send_everywhere(&producer, 0, "lost").await;
    let coordinator = scene.coordinator_of("coordinator-lost").await;
    let _ = scene.cluster.kill(coordinator);
    scene.undone_and_over(&producer).await;
    assert!(scene.cluster.is_down(coordinator));
    scene.cluster.restart(coordinator);
    scene.cluster.wait_healed("orders").await;

    // All brokers at once.
    let producer = scene.producer("all-lost", SHORT).await;
    scene.send_everywhere(&producer, 0, "lost").await;
    for id in 1..=3 {
        let _ = scene.cluster.kill(id);
    }
    scene.cluster.restart_all(&[1, 2, 3]);
    scene.undone_and_over(&producer).await;

    // A topic that it has written to is deleted: the other one goes on, and so does the producer.
    let doomed = create(&scene.client, scene.addresses[0], "doomed").await;
    let mut producer = scene.producer("topic-lost", SHORT).await;
    producer.send((scene.orders, 1), 0, &["kept"]).await.unwrap();
    producer.send((doomed, 1), 0, &["gone"]).await.unwrap();
    scene.client.admin().delete_topic("doomed").await.unwrap();
    producer.end(true).await.unwrap();
    scene.settled(&producer).await;
    producer.send((scene.orders, 1), 0, &["lost"]).await.unwrap();
    scene.undone_and_over(&producer).await;
    let committed: BTreeSet<String> = scene.committed().await.into_iter().flatten().collect();
    assert_eq!(committed, BTreeSet::from(["kept".to_owned()]));
}
