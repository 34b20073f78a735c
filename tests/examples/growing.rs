//! What producers feel of it when a cluster grows and an old broker leaves: three brokers as processes under an open-loop load, a fourth
//! joins, `balance` moves its share of the replicas to it, then `drain` empties an old one and it is removed. Figures, not a test.
//!
//! `cargo run --release -p tidelog-tests --example growing -- [ROUNDS]` (three if none are given, two minutes each). With `GROWING_SLOTS=1` each half
//! second has its line too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a measurement that goes wrong is none")]

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tidelog_client::{Client, NewTopic, Record};
use tidelog_protocol::BrokerId;
use tidelog_protocol::messages::VoterChange;
use tidelog_tests::cluster::sight::partitions_of;
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::patience::wait_until;
use tidelog_tools::perf::latency::Latencies;
use tokio::time::Instant;

const TOPIC: &str = "growing";
const PARTITIONS: u32 = 12;
const RECORD_BYTES: usize = 1_024;
/// What lies there before the load begins, in records.
const HELD: u64 = 1_000_000;
/// Records per second.
const RATE: u64 = 10_000;
const TICK: Duration = Duration::from_millis(1);
const SLOT: Duration = Duration::from_millis(500);
/// How long each phase without moves is looked at.
const LOOK: Duration = Duration::from_secs(10);

/// What a record took from the moment at which it should have been sent, by that moment.
struct Felt {
    began: Instant,
    latencies: Mutex<Vec<(Duration, Duration)>>,
    failed: AtomicU64,
}

impl Felt {
    fn between(&self, from: Duration, to: Duration) -> Latencies {
        let mut felt = Latencies::new();
        for (_, took) in self.latencies.lock().unwrap().iter().filter(|(at, ..)| (from..to).contains(at)) {
            felt.record(*took, 1);
        }
        felt
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let rounds: u32 = std::env::args().nth(1).map_or(3, |rounds| rounds.parse().expect("a number of rounds"));
    println!("| round | phase | seconds | p50 ms | p99 ms | p99.9 ms | most ms | p99 / p99 before |");
    println!("|---|---|---|---|---|---|---|---|");
    for number in 1..=rounds {
        round(number).await;
    }
}

async fn round(number: u32) {
    let settings = ClusterSettings::three();
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    let topic = NewTopic::named(TOPIC).partitions(PARTITIONS).replication_factor(3).config("min.insync.replicas", "2");
    client.admin().create_topic(&topic).await.unwrap();
    cluster.wait_healed(TOPIC).await;
    fill(&client).await;
    cluster.wait_healed(TOPIC).await;

    let felt = Arc::new(Felt { began: Instant::now(), latencies: Mutex::default(), failed: AtomicU64::new(0) });
    let stop = Arc::new(AtomicBool::new(false));
    let load = tokio::spawn(load(cluster.servers(), felt.clone(), stop.clone()));
    let leaders = tokio::spawn(watch_leaders(cluster.servers(), felt.clone(), stop.clone()));
    // The first connections, and memory that is touched for the first time.
    tokio::time::sleep(LOOK).await;

    let mut phases = Vec::new();
    let mut phase = |name: &'static str, from: Duration| phases.push((name, from, felt.began.elapsed()));
    let now = || felt.began.elapsed();
    for name in ["before", "before"] {
        let from = now();
        tokio::time::sleep(LOOK).await;
        phase(name, from);
    }
    let from = now();
    let fourth = BrokerId(cluster.add(&settings).await);
    phase("a fourth joins", from);
    let from = now();
    let moved = client.admin().balance(None).await.unwrap();
    settled(&client).await;
    phase("balance", from);
    let from = now();
    tokio::time::sleep(LOOK).await;
    phase("after it", from);
    let from = now();
    let drained = client.admin().drain(BrokerId(2)).await.unwrap();
    settled(&client).await;
    phase("drain", from);
    let from = now();
    tokio::time::sleep(LOOK).await;
    phase("after it", from);
    let from = now();
    cluster.change_voter(2, VoterChange::Demote).await;
    tokio::time::sleep(Duration::from_secs(5)).await;
    phase("it votes no more", from);
    let from = now();
    let _ = cluster.stop(2);
    tokio::time::sleep(Duration::from_secs(5)).await;
    phase("it is stopped", from);
    let from = now();
    wait_until("an empty broker to go", async || client.admin().remove_broker(BrokerId(2)).await.ok()).await;
    tokio::time::sleep(LOOK).await;
    phase("it is removed", from);
    stop.store(true, Ordering::SeqCst);
    load.await.unwrap();
    let changes = leaders.await.unwrap();

    let before = felt.between(phases[0].1, phases[1].2).millis().p99.unwrap();
    for (name, from, to) in &phases {
        let took = felt.between(*from, *to).millis();
        let [p50, p99, p99_9, most] = [took.p50, took.p99, took.p99_9, took.max].map(Option::unwrap);
        let seconds = (*to - *from).as_secs_f64();
        println!(
            "| {number} | {name} | {seconds:.1} | {p50:.2} | {p99:.1} | {p99_9:.1} | {most:.1} | {:.2} |",
            p99 / before
        );
    }
    println!(
        "round {number}: balance copied {} replicas to broker {fourth}, drain {}; {} records were sent, {} failed; leaders changed at {changes:?}",
        moved.copies,
        drained.copying,
        felt.latencies.lock().unwrap().len(),
        felt.failed.load(Ordering::SeqCst)
    );
    if std::env::var_os("GROWING_SLOTS").is_some() {
        let mut from = Duration::ZERO;
        while from < felt.began.elapsed() {
            let took = felt.between(from, from + SLOT).millis();
            if let (Some(p50), Some(p99), Some(most)) = (took.p50, took.p99, took.max) {
                println!("{:.1} s: p50 {p50:.2} p99 {p99:.1} most {most:.1}", from.as_secs_f64());
            }
            from += SLOT;
        }
    }
}

async fn fill(client: &Client) {
    let producer = client.producer().build().unwrap();
    let mut last = Vec::new();
    for number in 0..HELD {
        let sent = producer.send(record(number)).await.unwrap();
        if number + 20_000 >= HELD {
            last.push(sent);
        }
    }
    for sent in last {
        sent.await.unwrap();
    }
    producer.flush().await.unwrap();
}

fn record(number: u64) -> Record {
    Record::to(TOPIC).key(number.to_be_bytes().to_vec()).value(vec![b'x'; RECORD_BYTES])
}

/// Until nothing is on its way from one broker to another.
async fn settled(client: &Client) {
    loop {
        let moving = client.admin().describe_cluster().await.map(|cluster| cluster.partitions.moving);
        if moving.is_ok_and(|moving| moving == 0) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// So many records each tick, whether or not those before have been acknowledged.
async fn load(servers: String, felt: Arc<Felt>, stop: Arc<AtomicBool>) {
    let client = Client::connect(&servers).await.unwrap();
    let producer = client.producer().build().unwrap();
    let per_tick = RATE / (Duration::from_secs(1).as_micros() / TICK.as_micros()) as u64;
    let mut answers = tokio::task::JoinSet::new();
    let mut at = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        at += TICK;
        tokio::time::sleep_until(at).await;
        let mut sent = Vec::new();
        for _ in 0..per_tick {
            sent.push(producer.send(record(number)).await.unwrap());
            number += 1;
        }
        for answer in sent {
            let felt = felt.clone();
            answers.spawn(async move {
                match answer.await {
                    Ok(_) => felt.latencies.lock().unwrap().push((at - felt.began, at.elapsed())),
                    Err(_) => _ = felt.failed.fetch_add(1, Ordering::SeqCst),
                }
            });
        }
        while answers.try_join_next().is_some() {}
    }
    answers.join_all().await;
}

/// When which partition was led by another, in seconds since the load began.
async fn watch_leaders(servers: String, felt: Arc<Felt>, stop: Arc<AtomicBool>) -> Vec<String> {
    let client = Client::connect(&servers).await.unwrap();
    let mut known = BTreeMap::new();
    let mut changes = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        if let Ok(now) = client.admin().metadata().await {
            for (partition, state) in partitions_of(&now, TOPIC).into_iter().flatten().enumerate() {
                let leader = state.leader.map(|leader| leader.0);
                if known.insert(partition, leader).is_some_and(|before| before != leader) {
                    changes.push(format!("{:.1} s: {partition} by {leader:?}", felt.began.elapsed().as_secs_f64()));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    changes
}
