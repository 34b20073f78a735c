//! A producer that waits for no acknowledgement, while others take the lead of its partition: it goes where the lead is, and what it loses is what
//! was on its way meanwhile.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tidelog_client::{Acks, Client, NewTopic, Producer, Record, Start};
use tidelog_protocol::messages::{ElectLeaderRequest, ReassignRequest, ReplicaAssignment};
use tidelog_protocol::{BrokerId, PartitionId};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::patience::{insist, wait_until, within_limit};
use tidelog_tests::question::ask;

const TOPIC: &str = "unacknowledged";
/// Between two records that find out whether they are taken again.
const PACE: Duration = Duration::from_millis(10);

/// Writes numbers, and sees which of them arrive. Another client reads, so that nothing which it asks for tells the producer of a leader.
struct Writer {
    producer: Producer,
    sent: u64,
    arrived: Arc<Mutex<BTreeSet<u64>>>,
}

impl Writer {
    async fn begin(cluster: &Cluster) -> Self {
        let reading = Client::connect(&cluster.servers()).await.unwrap();
        reading.admin().create_topic(&NewTopic::named(TOPIC).partitions(1).replication_factor(3)).await.unwrap();
        cluster.wait_healed(TOPIC).await;
        let arrived = Arc::<Mutex<BTreeSet<u64>>>::default();
        let mut consumer = reading.consumer().topic(TOPIC).start(Start::Beginning).build().await.unwrap();
        let noting = Arc::clone(&arrived);
        tokio::spawn(async move {
            while let Some(record) = consumer.next().await {
                let record = record.unwrap();
                let value = record.value.as_deref().unwrap();
                noting.lock().unwrap().insert(std::str::from_utf8(value).unwrap().parse().unwrap());
            }
        });
        let client = Client::connect(&cluster.servers()).await.unwrap();
        let producer = client.producer().acks(Acks::None).build().unwrap();
        let mut writer = Self { producer, sent: 0, arrived };
        writer.all_arrive(100).await;
        writer
    }

    /// Delivered, as far as a producer without acknowledgements knows.
    async fn write(&mut self) {
        let sent = self.producer.send(Record::to(TOPIC).value(self.sent.to_string())).await.unwrap();
        within_limit("a record to be written to the socket", sent).await.unwrap();
        self.sent += 1;
    }

    /// Writes until something arrives. How many were lost before it, and how long it took.
    async fn arrives_again(&mut self) -> (u64, Duration) {
        let (first, begin) = (self.sent, Instant::now());
        let arrived = wait_until("records to arrive at the next leader", async || {
            self.write().await;
            tokio::time::sleep(PACE).await;
            self.arrived.lock().unwrap().range(first..).next().copied()
        })
        .await;
        (arrived - first, begin.elapsed())
    }

    async fn all_arrive(&mut self, count: u64) {
        let first = self.sent;
        for _ in 0..count {
            self.write().await;
        }
        insist("every record to arrive", async || {
            let arrived = self.arrived.lock().unwrap().range(first..).count() as u64;
            if arrived == count { Ok(()) } else { Err(format!("{arrived} of {count}")) }
        })
        .await;
    }
}

/// The lead stays where the test puts it.
fn settings() -> ClusterSettings {
    ClusterSettings::three().set("preferred_leader_interval_ms", "86400000")
}

/// Has the broker `leader` followed by another, which was asked to lead.
async fn move_lead(cluster: &Cluster, leader: u32) -> u32 {
    let next = leader % 3 + 1;
    let order = [next, next % 3 + 1, leader].map(BrokerId).to_vec();
    let assignment = ReplicaAssignment { topic: TOPIC.into(), partition: PartitionId(0), replicas: Some(order) };
    let request = ReassignRequest { assignments: vec![assignment], validate_only: false };
    insist("the order of replicas to be taken", async || {
        ask(cluster.address(leader), &request).await.map_err(|error| format!("{error:?}"))
    })
    .await;
    insist("another leader", async || {
        let election = ElectLeaderRequest { partition: None, unclean: None };
        ask(cluster.address(leader), &election).await.map_err(|error| format!("{error:?}"))?;
        let (leads, _) = cluster.leader(TOPIC, 0).await;
        if leads == next { Ok(()) } else { Err(format!("broker {leads} leads")) }
    })
    .await;
    next
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_without_acknowledgements_follows_the_lead_from_broker_to_broker() {
    let cluster = Cluster::start(settings()).await;
    let mut writer = Writer::begin(&cluster).await;
    let (mut leader, _) = cluster.leader(TOPIC, 0).await;
    for _ in 0..3 {
        leader = move_lead(&cluster, leader).await;
        let (lost, took) = writer.arrives_again().await;
        assert!(lost > 0, "the move was heard of before anything was refused");
        println!("broker {leader} leads: {lost} lost, {took:?}");
        // Settled: nothing more is lost from here on.
        writer.all_arrive(200).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_without_acknowledgements_finds_the_next_leader_though_the_killed_one_is_back_at_once() {
    let mut cluster = Cluster::start(settings()).await;
    let mut writer = Writer::begin(&cluster).await;
    for _ in 0..2 {
        let (leader, _) = cluster.leader(TOPIC, 0).await;
        cluster.kill(leader).assert_happened();
        let next = cluster.next_leader(TOPIC, 0, leader).await;
        cluster.restart(leader);
        cluster.wait_in_sync((TOPIC, 0), &[1, 2, 3], next).await;
        let (lost, took) = writer.arrives_again().await;
        println!("broker {next} leads: {lost} lost, {took:?}");
        writer.all_arrive(200).await;
    }
}
