//! What the event store does in a second, over one broker: `event_store_rates [AGGREGATES [SECONDS]]`.
//!
//! Eight writers on one aggregate, over one store and over eight that know nothing of each other, by versions and by commands; so many
//! aggregates created, found again by a store that starts, and loaded one by one; one of many events, loaded with a snapshot and without.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_client::Client;
use tidelog_client::event_store::*;
use tidelog_tests::broker_process::BrokerProcess;
use tokio::task::JoinSet;

const WRITERS: usize = 8;
/// Commands that a writer has under way at once.
const UNDER_WAY: usize = 8;
const LONG: u64 = 100_000;
/// The part of this program that is a process of its own.
const KNOWS: &str = "knows";

#[derive(Clone, Default)]
struct Counter(u64);

impl Aggregate for Counter {
    type Event = u64;
    type Refusal = String;
    const STATE_SCHEMA: u16 = 1;

    fn apply(&mut self, added: &u64) {
        self.0 += added;
    }

    fn encode(added: &u64) -> NewEvent {
        NewEvent::new("added", vec![*added as u8; 100])
    }

    fn decode(_: &str, payload: &[u8]) -> Result<u64, BoxError> {
        Ok(payload.first().copied().ok_or("an empty event")?.into())
    }

    fn save(&self) -> Bytes {
        self.0.to_string().into()
    }

    fn restore(state: &[u8]) -> Result<Self, BoxError> {
        Ok(Self(std::str::from_utf8(state)?.parse()?))
    }
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [role, server, aggregates] = &arguments[..]
        && role == KNOWS
    {
        return know(server, aggregates.parse().expect("a number")).await;
    }
    let number = |at| std::env::args().nth(at).map(|text| text.parse().expect("a number"));
    let aggregates = number(1).unwrap_or(1_000_000);
    let duration = Duration::from_secs(number(2).unwrap_or(5));
    let broker = BrokerProcess::start();
    let server = broker.server();
    for stores in [1, WRITERS] {
        hot(&server, duration, stores).await;
    }
    long(&server).await;
    many(&server, aggregates).await;
}

async fn open(server: &str, topic: &str, partitions: u32) -> EventStore {
    let client = Client::connect(server).await.expect("the broker answers");
    client.event_store(topic).create(partitions, None).await.expect("the store opens")
}

/// Eight writers on one aggregate, over so many stores that know nothing of each other.
async fn hot(server: &str, duration: Duration, stores: usize) {
    let topic = format!("hot-{stores}");
    let mut all = Vec::new();
    for _ in 0..stores {
        all.push(open(server, &topic, 1).await);
    }
    let (made, conflicts) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let ends = Instant::now() + duration;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (store, made, conflicts) = (all[writer % stores].clone(), Arc::clone(&made), Arc::clone(&conflicts));
        writers.spawn(async move {
            while Instant::now() < ends {
                let version = store.version("hot").await.expect("a version");
                let appended = store.append("hot", version, vec![Counter::encode(&1)]).await;
                if let Err(AppendError::Conflict { .. }) = appended {
                    conflicts.fetch_add(1, Ordering::Relaxed);
                } else {
                    appended.expect("it is appended");
                    made.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
    }
    writers.join_all().await;
    let by_version = made.swap(0, Ordering::Relaxed);
    let conflicts = conflicts.load(Ordering::Relaxed);
    let rate = |made: u64| made as f64 / duration.as_secs_f64();
    println!(
        "hot, {stores} stores, {WRITERS} writers by version: {:.0} appends/s, {conflicts} conflicts",
        rate(by_version)
    );

    let options = RepositoryOptions { snapshot_every: 0, recent: 10 };
    let repositories: Vec<Repository<Counter>> = all.iter().map(|store| store.repository_with(options)).collect();
    let ends = Instant::now() + duration;
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS * UNDER_WAY {
        let (counters, made) = (repositories[writer % stores].clone(), Arc::clone(&made));
        writers.spawn(async move {
            while Instant::now() < ends {
                counters.execute("hot", |_| Ok(vec![1])).await.expect("a command");
                made.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    writers.join_all().await;
    let by_command = made.load(Ordering::Relaxed);
    println!(
        "hot, {stores} stores, {WRITERS} writers by command, {UNDER_WAY} under way each: {:.0} appends/s",
        rate(by_command)
    );
    let loaded = open(server, &topic, 1).await.load("hot").await.expect("it loads");
    let in_order = loaded.events.iter().zip(1..).all(|(event, version)| event.version.0 == version);
    assert!(in_order && loaded.version.0 == by_version + by_command, "{} are stored", loaded.version);
}

/// So many aggregates, of one event each.
async fn many(server: &str, aggregates: u64) {
    const TASKS: u64 = 4_096;
    let store = open(server, "many", 4).await;
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let store = store.clone();
        tasks.spawn(async move {
            for at in (task..aggregates).step_by(TASKS as usize) {
                let event = vec![Counter::encode(&1)];
                store.append(format!("aggregate-{at}"), Version::NONE, event).await.expect("it is appended");
            }
        });
    }
    tasks.join_all().await;
    let seconds = began.elapsed().as_secs_f64();
    println!(
        "{aggregates} aggregates created in {seconds:.1} s: {:.0} appends/s, of {TASKS} at once",
        aggregates as f64 / seconds
    );
    // In a process that has held nothing yet: what another gave back is not seen as it is taken again.
    let program = std::env::current_exe().expect("this program");
    let knows = std::process::Command::new(program).args([KNOWS, server, &aggregates.to_string()]).status();
    assert!(knows.expect("it runs").success());
}

/// What a store that starts takes to know all aggregates, and to load some of them.
async fn know(server: &str, aggregates: u64) {
    let before = resident();
    let began = Instant::now();
    let store = open(server, "many", 4).await;
    for at in 0..32 {
        store.warm_up(format!("aggregate-{at}")).await.expect("it opens");
    }
    let (seconds, known) = (began.elapsed().as_secs_f64(), store.known_aggregates().await);
    assert_eq!(known as u64, aggregates);
    let bytes = resident().saturating_sub(before) as f64 / known as f64;
    println!("{known} aggregates known {seconds:.2} s after the start, {bytes:.0} bytes of memory more for each");
    let mut times = Vec::new();
    for _ in 0..2_000 {
        let id = format!("aggregate-{}", fastrand::u64(..aggregates));
        let began = Instant::now();
        assert_eq!(store.load(&id).await.expect("it loads").events.len(), 1);
        times.push(began.elapsed());
    }
    println!("one of {aggregates} loaded: {}", spread(times));
}

/// One aggregate of many events.
async fn long(server: &str) {
    let store = open(server, "long", 1).await;
    let mut version = Version::NONE;
    while version.0 < LONG {
        let events = (0..1_000).map(|_| Counter::encode(&1)).collect();
        version = store.append("long", version, events).await.expect("it is appended").version;
    }
    load_often(&store, "without a snapshot").await;
    let state = Bytes::from((LONG - 50).to_string());
    let snapshot = StoredSnapshot { version: Version(LONG - 50), schema: 1, state };
    store.save_snapshot("long", &snapshot).await.expect("it is stored");
    while store.snapshot("long").await.expect("it can be asked").is_none() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    load_often(&store, "with a snapshot 50 events before the end").await;
}

async fn load_often(store: &EventStore, how: &str) {
    let mut times = Vec::new();
    for _ in 0..20 {
        let began = Instant::now();
        // A repository of its own has no states in memory.
        let root = store.repository::<Counter>().load("long").await.expect("it loads");
        assert_eq!((root.version.0, root.state.0), (LONG, LONG));
        times.push(began.elapsed());
    }
    println!("{LONG} events loaded {how}: {}", spread(times));
}

fn spread(mut times: Vec<Duration>) -> String {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
    format!("p50 {:.2} ms, p99 {:.2} ms, most {:.2} ms", at(0.5), at(0.99), at(1.0))
}

/// Bytes of memory that are the process's own.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or_default() * 1_024
}
