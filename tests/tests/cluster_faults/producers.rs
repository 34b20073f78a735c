//! What idempotent producers are promised by a cluster: leaders that come after, by whatever way, know what was written before them, also where
//! its records are gone; and a new producer gets its id also while nobody decides on metadata.

use std::collections::BTreeSet;

use tidelog_client::{Client, ErrorCode, NewTopic, Offset, PartitionId, Producer, Record};
use tidelog_protocol::messages::{InitProducerIdRequest, ReplicaAssignment};
use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS};
use tidelog_protocol::{BrokerId, ProducerEpoch, ProducerId, Sequence, Timestamp, WireError, records};
use tidelog_tests::cluster::round::client;
use tidelog_tests::cluster::{Cluster, ClusterSettings, Evidence};
use tidelog_tests::patience::{insist, wait_until, within_limit};
use tidelog_tests::raw_connection::RawConnection;

const NEW: InitProducerIdRequest =
    InitProducerIdRequest { transactional_id: None, transaction_timeout_ms: 0, current: None };
/// Of producer 500, one record each.
const WRITTEN: i32 = 7;

fn numbered(id: i64, epoch: i16, first: i32) -> Vec<u8> {
    let mut builder = BatchBuilder::new(1 << 16);
    let (id, epoch, base_sequence) = (ProducerId(id), ProducerEpoch(epoch), Sequence(first));
    builder.set_producer(records::Producer { id, epoch, base_sequence });
    builder.append(Timestamp(5), None, Some(b"value"), NO_HEADERS).unwrap();
    builder.finish(Compression::None).unwrap().to_vec()
}

/// Two producers of one topic, and what both did before: one numbers by hand, the other is a client's, and idle most of the time.
struct Writers {
    topic: &'static str,
    producer: Producer,
    sent: u64,
}

impl Writers {
    /// On a topic of one partition, of which all records are deleted.
    async fn begin(cluster: &Cluster, topic: &'static str, replicas: u16) -> Self {
        let client = client().connect(&cluster.servers()).await.unwrap();
        client.admin().create_topic(&NewTopic::named(topic).replication_factor(replicas)).await.unwrap();
        let (leader, _) = cluster.leader(topic, 0).await;
        let mut connection = RawConnection::introduced(cluster.address(leader)).await;
        let topic_id = connection.topic_id(topic).await;
        for first in 0..WRITTEN {
            // Its leader may know the topic and not have opened the partition yet.
            insist("a batch to be taken", async || {
                let taken = connection.produce(topic_id, &numbered(500, 2, first)).await;
                taken.map(drop).map_err(|refusal| {
                    assert_eq!(refusal.code, ErrorCode::UnknownTopic, "{refusal}");
                    refusal.to_string()
                })
            })
            .await;
        }
        let mut writers = Self { topic, producer: client.producer().build().unwrap(), sent: WRITTEN as u64 };
        writers.idle_producer_goes_on().await;
        client.admin().delete_records(topic, PartitionId(0), None).await.unwrap();
        writers
    }

    async fn idle_producer_goes_on(&mut self) {
        let sent = self.producer.send(Record::to(self.topic).value("one")).await.unwrap();
        let receipt = within_limit("an idle producer to go on", sent).await.unwrap();
        assert_eq!((receipt.offset, receipt.maybe_twice), (Some(Offset(self.sent)), false));
        self.sent += 1;
    }

    /// The leader knows what producer 500 wrote, and that 501 never did; whoever that leader is.
    async fn are_known(&mut self, cluster: &Cluster, when: &str) {
        let refused = |code| Err(code);
        let expected = [
            Ok(Offset(4)),
            refused(ErrorCode::OutOfOrderSequence),
            refused(ErrorCode::ProducerFenced),
            refused(ErrorCode::DuplicateSequence),
            refused(ErrorCode::ProducerNeverWrote),
        ];
        let told = insist("a leader that may judge", async || {
            let (leader, _) = cluster.leader(self.topic, 0).await;
            let mut connection = RawConnection::introduced(cluster.address(leader)).await;
            let topic_id = connection.topic_id(self.topic).await;
            let mut told = Vec::new();
            for (id, epoch, first) in [(500, 2, 4), (500, 2, 8), (500, 1, 7), (500, 2, 1), (501, 0, 3)] {
                let answer = connection.produce(topic_id, &numbered(id, epoch, first)).await;
                told.push(answer.map(|produced| produced.base_offset));
            }
            // In the first moments of a leadership.
            let passing = |error: &WireError| {
                use ErrorCode::*;
                matches!(error.code, NotLeader | LeadershipEnded | NotEnoughReplicas | DeadlineExceeded | Overloaded)
            };
            let passes = told.iter().any(|answer| answer.as_ref().is_err_and(passing));
            if passes { Err(format!("{told:?}")) } else { Ok(told) }
        })
        .await;
        let told: Vec<_> = told.into_iter().map(|answer| answer.map_err(|error| error.code)).collect();
        assert_eq!(told, expected, "{} {when}", self.topic);
        self.idle_producer_goes_on().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_leader_knows_the_producers_of_those_before_it_though_their_records_are_gone() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let mut evidence = Evidence::default();
    let mut writers = Writers::begin(&cluster, "logs", 3).await;
    cluster.wait_healed("logs").await;
    writers.are_known(&cluster, "at first").await;
    for change in ["after one change of leader", "after two"] {
        let (leader, _) = cluster.leader("logs", 0).await;
        evidence.add(cluster.kill(leader));
        let next = cluster.next_leader("logs", 0, leader).await;
        writers.are_known(&cluster, change).await;
        cluster.restart(leader);
        cluster.wait_in_sync(("logs", 0), &[1, 2, 3], next).await;
    }
    for broker in 1..=3 {
        evidence.add(cluster.stop(broker));
        writers.are_known(&cluster, "while one is restarted").await;
        cluster.restart(broker);
        cluster.wait_healed("logs").await;
    }
    writers.are_known(&cluster, "after a rolling restart").await;
    evidence.assert_happened();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_came_after_the_records_were_gone_knows_their_producers_too() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let mut writers = Writers::begin(&cluster, "moved", 1).await;
    for change in ["after one move", "after another"] {
        let (leader, _) = cluster.leader("moved", 0).await;
        let to = leader % 3 + 1;
        let client = Client::connect(&cluster.servers()).await.unwrap();
        let replicas = Some(vec![BrokerId(to)]);
        let assignment = ReplicaAssignment { topic: "moved".into(), partition: PartitionId(0), replicas };
        client.admin().reassign(vec![assignment]).await.unwrap();
        cluster.wait_in_sync(("moved", 0), &[to], to).await;
        let (leader, _) = cluster.leader("moved", 0).await;
        assert_eq!(leader, to);
        writers.are_known(&cluster, change).await;
        // What it was told it must not forget.
        cluster.kill(to).assert_happened();
        cluster.restart(to);
        writers.are_known(&cluster, "after kill -9").await;
        client.admin().delete_records("moved", PartitionId(0), None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn new_producers_get_ids_while_there_is_no_controller() {
    let cluster = Cluster::start(ClusterSettings::three()).await;
    let left = |broker| {
        let body = cluster.process(broker).http("/metrics").body;
        let of = |line: &str| line.strip_prefix("tidelog_producer_ids_left ")?.parse::<u64>().ok();
        body.lines().find_map(of).expect("a broker says what it has left")
    };
    let mut connection = RawConnection::introduced(cluster.address(1)).await;
    assert_eq!([left(1), left(2), left(3)], [0; 3], "before the first producer nobody needs any");
    let mut given = BTreeSet::from([connection.call(&NEW, &[]).await.unwrap().producer_id]);
    let stocked = async || (1..=3).all(|broker| left(broker) >= 500).then_some(());
    wait_until("a block for every broker", stocked).await;
    // Half of it is used: there is another one in time.
    for _ in 0..600 {
        assert!(given.insert(connection.call(&NEW, &[]).await.unwrap().producer_id));
    }
    wait_until("another block", async || (left(1) > 500).then_some(())).await;

    let others = [2, 3].map(|broker| cluster.pause(broker));
    let has_stopped = async || {
        let refused = Client::connect(&cluster.address(1).to_string()).await.ok()?;
        let timeout = std::time::Duration::from_secs(1);
        let refused = tokio::time::timeout(timeout, refused.admin().create_topic(&NewTopic::named("never"))).await;
        refused.map_or(true, |refused| refused.is_err()).then_some(())
    };
    wait_until("the loss of the quorum", has_stopped).await;
    let in_hand = left(1);
    for _ in 0..in_hand {
        assert!(given.insert(connection.call(&NEW, &[]).await.unwrap().producer_id), "given out twice");
    }
    let refused = connection.call(&NEW, &[]).await.unwrap_err();
    assert_eq!(
        refused.code,
        ErrorCode::NoQuorum,
        "what it had in hand is used up, so there was no controller: {refused}"
    );
    others.iter().for_each(Evidence::assert_happened);
    [2, 3].into_iter().for_each(|broker| cluster.resume(broker));
    let next = wait_until("another id", async || connection.call(&NEW, &[]).await.ok()).await;
    assert!(given.insert(next.producer_id));
}
