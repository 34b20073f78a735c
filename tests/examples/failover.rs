//! How long a partition is without a leader, and how long a producer and a consumer with default settings go without one, when the broker that
//! leads it is killed or hangs, and when that broker runs the controller as well: three brokers as processes, again and again, and the
//! spread of all. Figures, not a test.
//!
//! `cargo run --release -p tidelog-tests --example failover -- [ROUNDS] [CASE]` (20 of each of the four if none are given; about ten minutes).
//! CASE, from 1 to 4, is one of them alone.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement that goes wrong is none")]

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tidelog_client::{Client, NewTopic, PartitionId, Record, Start};
use tidelog_tests::cluster::sight::{metadata, partitions_of};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::patience::wait_until;

const TOPIC: &str = "failover";
const PARTITIONS: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fault {
    Kill,
    Hang,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Victim {
    Leader,
    LeaderAndController,
}

/// When something came last, for each partition, in microseconds since the beginning.
struct Pulse {
    began: Instant,
    at: Vec<AtomicU64>,
}

impl Pulse {
    fn new() -> Arc<Self> {
        let at = (0..PARTITIONS).map(|_| AtomicU64::new(0)).collect();
        Arc::new(Self { began: Instant::now(), at })
    }

    fn beat(&self, partition: u32) {
        self.at[partition as usize].store(self.began.elapsed().as_micros() as u64, Ordering::SeqCst);
    }

    /// Waits until something came later than `done`; says how long after `fault` that was.
    async fn after(&self, partition: u32, fault: Instant, done: Instant) -> Duration {
        loop {
            let at = self.began + Duration::from_micros(self.at[partition as usize].load(Ordering::SeqCst));
            if at > done {
                return at - fault;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rounds: u32 = std::env::args().nth(1).map_or(20, |rounds| rounds.parse().expect("a number of rounds"));
    let case: Option<usize> = std::env::args().nth(2).map(|case| case.parse().expect("a number from 1 to 4"));
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    let topic = NewTopic::named(TOPIC).partitions(PARTITIONS).replication_factor(3).config("min.insync.replicas", "2");
    client.admin().create_topic(&topic).await.unwrap();
    cluster.wait_healed(TOPIC).await;
    let (acked, read) = (Pulse::new(), Pulse::new());
    for partition in 0..PARTITIONS {
        tokio::spawn(produce(cluster.servers(), partition, acked.clone()));
    }
    tokio::spawn(consume(cluster.servers(), read.clone()));
    println!("| fault | of the leader | led by another ms | acknowledged again ms | read again ms |");
    println!("|---|---|---|---|---|");
    let cases = [
        (Fault::Kill, Victim::Leader),
        (Fault::Kill, Victim::LeaderAndController),
        (Fault::Hang, Victim::Leader),
        (Fault::Hang, Victim::LeaderAndController),
    ];
    for (_, (fault, victim)) in (1..).zip(cases).filter(|(number, _)| case.is_none_or(|case| case == *number)) {
        let (mut led, mut acks, mut reads) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..rounds {
            let (partition, broker) = target(&cluster, &client, victim).await;
            // Not always at the same moment of a heartbeat.
            tokio::time::sleep(Duration::from_millis(fastrand::u64(200..600))).await;
            let began = Instant::now();
            let _ = match fault {
                Fault::Kill => cluster.kill(broker),
                Fault::Hang => cluster.pause(broker),
            };
            // What was on its way already is no sign of another leader.
            let done = Instant::now() + Duration::from_millis(5);
            let (took, acked, read) = tokio::join!(
                led_by_another(&cluster, partition, broker, began),
                acked.after(partition, began, done),
                read.after(partition, began, done),
            );
            led.push(took);
            acks.push(acked);
            reads.push(read);
            match fault {
                Fault::Kill => cluster.restart(broker),
                Fault::Hang => cluster.resume(broker),
            }
            cluster.wait_healed(TOPIC).await;
        }
        let of = match victim {
            Victim::Leader => "alone",
            Victim::LeaderAndController => "which runs the controller",
        };
        println!("| {fault:?} | {of} | {} | {} | {} |", spread(led), spread(acks), spread(reads));
    }
}

/// A partition and the broker that leads it and does, or does not, run the controller.
async fn target(cluster: &Cluster, client: &Client, victim: Victim) -> (u32, u32) {
    wait_until("a broker that leads", async || {
        let controller = cluster.controller().await;
        // Each broker leads one.
        client.admin().elect_preferred(None).await.ok()?;
        let known = metadata(cluster.address(controller)).await.ok()?;
        let leaders: Vec<u32> =
            partitions_of(&known, TOPIC)?.iter().filter_map(|state| Some(state.leader?.0)).collect();
        if HashSet::<&u32>::from_iter(&leaders).len() < PARTITIONS as usize {
            return None;
        }
        let wanted = |leader: &u32| (*leader == controller) == (victim == Victim::LeaderAndController);
        let partition = leaders.iter().position(wanted)?;
        Some((partition as u32, leaders[partition]))
    })
    .await
}

/// Until any other broker names another leader.
async fn led_by_another(cluster: &Cluster, partition: u32, before: u32, fault: Instant) -> Duration {
    let others: Vec<_> = (1..=cluster.brokers()).filter(|id| *id != before).map(|id| cluster.address(id)).collect();
    loop {
        for other in &others {
            let Ok(known) = metadata(*other).await else { continue };
            let state = partitions_of(&known, TOPIC).and_then(|all| all.get(partition as usize));
            if state.and_then(|state| state.leader).is_some_and(|leader| leader.0 != before) {
                return fault.elapsed();
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One record after the other, as an application with default settings would.
async fn produce(servers: String, partition: u32, acked: Arc<Pulse>) {
    let client = Client::connect(&servers).await.unwrap();
    let producer = client.producer().build().unwrap();
    loop {
        let record = Record::to(TOPIC).value(b"x".as_slice()).partition(PartitionId(partition));
        if producer.send(record).await.expect("it is taken").await.is_ok() {
            acked.beat(partition);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn consume(servers: String, read: Arc<Pulse>) {
    let client = Client::connect(&servers).await.unwrap();
    let mut consumer = client.consumer().topic(TOPIC).start(Start::End).build().await.unwrap();
    loop {
        match consumer.next_batch().await {
            Ok(Some(batch)) => read.beat(batch.partition().0),
            Ok(None) => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// p50 / p99 / max.
fn spread(mut took: Vec<Duration>) -> String {
    took.sort();
    let at = |percent: usize| took[(took.len() * percent / 100).min(took.len() - 1)].as_millis();
    format!("{} / {} / {}", at(50), at(99), at(100))
}
