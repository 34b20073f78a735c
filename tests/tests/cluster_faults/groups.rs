//! The coordinator of a group dies, hangs and is restarted under the members' hands: they go on with what they have, process nothing twice, and
//! what the group says of its place never goes back.

use std::collections::BTreeMap;
use std::time::Duration;

use tidelog_client::{Client, NewTopic, Start};
use tidelog_tests::chance::turns;
use tidelog_tests::cluster::round::client;
use tidelog_tests::cluster::{Cluster, ClusterSettings, Evidence};
use tidelog_tests::group_work::judge::{Faults, Judged};
use tidelog_tests::group_work::{Load, Notes, Observer, Worker, judge};
use tidelog_tests::patience::{wait_until, within_limit};

const MEMBERS: u32 = 4;
const PARTITIONS: u32 = 12;
const TOPIC: &str = "orders";
const GROUP: &str = "billing";
/// Longer than any of the faults may take to be got over: nobody's session ends.
const SESSION: Duration = Duration::from_secs(60);

/// A group at work while something happens to the brokers.
struct Working {
    notes: Notes,
    client: Client,
    workers: Vec<Worker>,
    load: Load,
    observer: Observer,
}

fn coordinator_shard() -> u32 {
    // As `coordinators/topic.rs` of the broker has it.
    crc32c::crc32c(GROUP.as_bytes()) % 16
}

impl Working {
    async fn start(cluster: &Cluster) -> Self {
        let client = client().connect(&cluster.servers()).await.unwrap();
        let topic = NewTopic::named(TOPIC).partitions(PARTITIONS).replication_factor(3);
        client.admin().create_topic(&topic).await.unwrap();
        let notes = Notes::new(PARTITIONS);
        let load = Load::start(&client, TOPIC, PARTITIONS, Duration::from_millis(50));
        let join = |life| {
            let builder = client.group(GROUP).topics([TOPIC]).start(Start::Beginning);
            Worker::start(life, builder.session_timeout(SESSION).rebalance_timeout(SESSION), &notes)
        };
        let workers = (0..MEMBERS).map(join).collect();
        wait_until("a share for every member", async || notes.is_settled().then_some(())).await;
        let observer = Observer::start(&client, GROUP, &notes);
        let working = Self { notes, client, workers, load, observer };
        working.goes_on().await;
        cluster.wait_healed("__groups").await;
        cluster.wait_healed(TOPIC).await;
        working
    }

    /// Waits until every partition has been processed further, and the group was seen to have committed that.
    async fn goes_on(&self) {
        let (before, looks) = (self.notes.reached(), self.observer.looks());
        let is_further = |now: &BTreeMap<u32, u64>| {
            (0..PARTITIONS).all(|partition| now.get(&partition) > before.get(&partition).or(Some(&0)))
        };
        wait_until("all partitions to go on", async || is_further(&self.notes.reached()).then_some(())).await;
        let reached = self.notes.reached();
        wait_until("the group to have come as far", async || {
            let offsets = self.client.admin().group_offsets(GROUP).await.ok()?;
            let committed: BTreeMap<u32, u64> = offsets.iter().map(|at| (at.partition.0, at.offset.0)).collect();
            let is_there = reached.iter().all(|(partition, end)| committed.get(partition) >= Some(end));
            (is_there && self.observer.looks() > looks).then_some(())
        })
        .await;
    }

    /// Ends it all, and judges.
    async fn end(self, cluster: &mut Cluster) -> Judged {
        let Self { notes, workers, load, observer, .. } = self;
        let ends = load.end().await;
        wait_until("all records to be processed", async || (notes.reached() == ends).then_some(())).await;
        let given = judge(&notes.entries(), Faults::Brokers).assigned;
        for left in workers.into_iter().map(Worker::leave).collect::<Vec<_>>() {
            within_limit("a member to leave", left).await.unwrap();
        }
        cluster.assert_alive();
        let judged = judge(&notes.entries(), Faults::Brokers);
        assert_eq!(judged.broken, Vec::<String>::new());
        assert_eq!((judged.reached.clone(), observer.looks() > 0), (ends.clone(), true));
        println!(
            "{} records processed, {} of them again; {given} partitions given, {} lost",
            judged.processed, judged.again, judged.lost
        );
        Judged { assigned: given, ..judged }
    }
}

/// What a group says that nothing happened to.
#[track_caller]
fn assert_untouched(judged: &Judged, given: u64) {
    assert_eq!(judged.assigned, given, "no partition was given anew");
    assert_eq!((judged.lost, judged.again), (0, 0), "nobody lost a partition, and no record was processed twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_go_on_as_their_coordinator_is_killed_and_paused() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let working = Working::start(&cluster).await;
    let given = judge(&working.notes.entries(), Faults::None).assigned;
    let shard = coordinator_shard();
    let mut evidence = Evidence::default();
    for round in turns(2) {
        let (coordinator, _) = cluster.leader("__groups", shard).await;
        let is_killed = round % 2 == 0;
        evidence.add(if is_killed { cluster.kill(coordinator) } else { cluster.pause(coordinator) });
        let next = cluster.next_leader("__groups", shard, coordinator).await;
        assert_ne!(next, coordinator);
        working.goes_on().await;
        if is_killed {
            cluster.restart(coordinator);
        } else {
            cluster.resume(coordinator);
        }
        for topic in ["__groups", TOPIC] {
            let _ = cluster.wait_healed(topic).await;
        }
        working.goes_on().await;
    }
    evidence.assert_happened();
    assert_untouched(&working.end(&mut cluster).await, given);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_go_on_through_a_rolling_restart() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let working = Working::start(&cluster).await;
    let given = judge(&working.notes.entries(), Faults::None).assigned;
    let mut coordinators = Vec::new();
    for broker in 1..=3 {
        coordinators.push(cluster.leader("__groups", coordinator_shard()).await.0);
        cluster.stop(broker).assert_happened();
        working.goes_on().await;
        cluster.restart(broker);
        for topic in ["__groups", TOPIC] {
            let _ = cluster.wait_healed(topic).await;
        }
    }
    coordinators.push(cluster.leader("__groups", coordinator_shard()).await.0);
    coordinators.dedup();
    assert!(coordinators.len() > 1, "the group had one coordinator all the time");
    working.goes_on().await;
    assert_untouched(&working.end(&mut cluster).await, given);
}
