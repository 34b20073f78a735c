//! Brokers that stand still under a load with acks=all and come back as if nothing had happened: a leader that was replaced meanwhile
//! acknowledges nothing any more, and a follower that nobody waited for catches up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_client::{Client, ClientBuilder, NewTopic, Start};
use tidelog_protocol::messages::{Acks, ProduceRequest};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, PartitionId};
use tidelog_tests::chance::turns;
use tidelog_tests::cluster::{Cluster, ClusterSettings, Evidence, Round};
use tidelog_tests::history::History;
use tidelog_tests::patience::within_limit;
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::workload::wait_for_more_acks;

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_leader_is_replaced_and_comes_back_as_a_follower() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let topic = "paused-leader";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(2) {
            let (leader, epoch) = cluster.leader(topic, 0).await;
            // Somebody who asked just before, and hears the answer of a zombie.
            let mut asked_before = RawConnection::introduced(cluster.address(leader)).await;
            let topic_id = asked_before.topic_id(topic).await;
            evidence.add(cluster.pause(leader));
            let zombie = ProduceRequest {
                topic_id,
                partition: PartitionId(0),
                leader_epoch: Some(epoch),
                acks: Acks::All,
                expected_log_end: None,
                transactional_id: None,
            };
            let never = batch(&[b"zombie"], Compression::None);
            let asked = asked_before.ask(&zombie, &never).await;
            let next = cluster.next_leader(topic, 0, leader).await;
            wait_for_more_acks(history, 0, 50).await;
            cluster.resume(leader);
            let answer = asked_before.answer(asked).await;
            let told = RawConnection::told(&answer).expect_err("a leader that was replaced must not acknowledge");
            assert!(
                matches!(
                    told.code,
                    ErrorCode::NotLeader
                        | ErrorCode::LeadershipEnded
                        | ErrorCode::DeadlineExceeded
                        | ErrorCode::NotEnoughReplicas
                ),
                "{told}"
            );
            cluster.wait_in_sync((topic, 0), &[1, 2, 3], next).await;
        }
        evidence
    };
    let mut round = Round::on(topic);
    round.batches_in_flight = 5;
    round.survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_follower_leaves_the_in_sync_set_and_holds_nobody_up() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let topic = "paused-follower";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for _ in turns(2) {
            let (leader, _) = cluster.leader(topic, 0).await;
            let follower = leader % 3 + 1;
            evidence.add(cluster.pause(follower));
            let others: Vec<u32> = (1..=3).filter(|id| *id != follower).collect();
            cluster.wait_in_sync((topic, 0), &others, leader).await;
            for partition in 0..3 {
                wait_for_more_acks(history, partition, 50).await;
            }
            cluster.resume(follower);
            cluster.wait_in_sync((topic, 0), &[1, 2, 3], leader).await;
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pause_shorter_than_the_lease_costs_no_more_than_its_time() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let topic = "short-pause";
    let fault = async |cluster: &mut Cluster, history: &Arc<History>| {
        let mut evidence = Evidence::default();
        for round in turns(6) {
            wait_for_more_acks(history, 0, 20).await;
            let victim = round % 3 + 1;
            evidence.add(cluster.pause(victim));
            tokio::time::sleep(Duration::from_millis(300)).await;
            cluster.resume(victim);
        }
        evidence
    };
    Round::on(topic).survives(&mut cluster, fault).await;
}

/// Far above what it takes to ask another broker, and below the half minute for which an answer is waited for otherwise.
const NOTICED_WITHIN: Duration = Duration::from_secs(25);

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_and_a_consumer_with_default_settings_leave_a_leader_that_hangs() {
    leave_a_leader_that_hangs("hanging-leader", Client::builder()).await;
}

/// Only that another broker names another leader can tell them: the connection to the old one is open, and is never given up by itself.
#[tokio::test(flavor = "multi_thread")]
async fn they_leave_it_when_another_broker_names_another_leader() {
    leave_a_leader_that_hangs("named-elsewhere", Client::builder().keepalive(Duration::from_secs(3600))).await;
}

async fn leave_a_leader_that_hangs(topic: &str, settings: ClientBuilder) {
    let cluster = Cluster::start(ClusterSettings::three()).await;
    let client = settings.connect(&cluster.servers()).await.unwrap();
    client.admin().create_topic(&NewTopic::named(topic).partitions(1).replication_factor(3)).await.unwrap();
    let (leader, _) = cluster.leader(topic, 0).await;
    cluster.wait_in_sync((topic, 0), &[1, 2, 3], leader).await;
    let producer = client.producer().build().unwrap().topic(topic).await.unwrap();
    let mut consumer = client.consumer().topic(topic).start(Start::Beginning).build().await.unwrap();
    within_limit("both to run", async {
        producer.send(None, b"before").await.unwrap().await.unwrap();
        assert_eq!(consumer.next().await.unwrap().unwrap().value.as_deref(), Some(&b"before"[..]));
    })
    .await;
    let _ = cluster.pause(leader);
    let began = Instant::now();
    let under_way = producer.send(None, b"under way").await.unwrap();
    within_limit("the record to be written elsewhere", under_way).await.unwrap();
    producer.send(None, b"after").await.unwrap().await.unwrap();
    // Each once: what was sent to the old leader comes to the new one under the same number.
    for value in [&b"under way"[..], b"after"] {
        let record = within_limit("a record of the new leader", consumer.next()).await.unwrap().unwrap();
        assert_eq!(record.value.as_deref(), Some(value));
    }
    let took = began.elapsed();
    assert!(took < NOTICED_WITHIN, "it took {took:?}");
    println!("{topic}: both went on {took:?} after the leader hung");
    assert_ne!(cluster.next_leader(topic, 0, leader).await, leader);
    // It hung until now, or this panics.
    cluster.resume(leader);
}

/// Its leader goes on, so nobody names another; that its replica keeps up no longer says enough.
#[tokio::test(flavor = "multi_thread")]
async fn a_consumer_leaves_a_replica_nearby_that_hangs() {
    let topic = "hanging-nearby";
    let cluster = Cluster::start(ClusterSettings::three().racks()).await;
    let writing = Client::connect(&cluster.servers()).await.unwrap();
    writing.admin().create_topic(&NewTopic::named(topic).partitions(1).replication_factor(3)).await.unwrap();
    let (leader, _) = cluster.leader(topic, 0).await;
    cluster.wait_in_sync((topic, 0), &[1, 2, 3], leader).await;
    let producer = writing.producer().build().unwrap().topic(topic).await.unwrap();
    let near = leader % 3 + 1;
    // A connection is asked for a sign of life after half of it, and given up for the lack of one after all of it more: after 15 s in all.
    let keepalive = Duration::from_secs(10);
    let reading = Client::builder().keepalive(keepalive).connect(&cluster.servers()).await.unwrap();
    let reader = reading.consumer().topic(topic).start(Start::Beginning).rack(&format!("rack-{near}"));
    let mut consumer = reader.build().await.unwrap();
    producer.send(None, b"before").await.unwrap().await.unwrap();
    let record = within_limit("a record", consumer.next()).await.unwrap().unwrap();
    assert_eq!(record.value.as_deref(), Some(&b"before"[..]));
    let pushed = format!("tidelog_topic_out_bytes_total{{topic=\"{topic}\"}} ");
    let metrics = cluster.process(near).http("/metrics").body;
    assert!(metrics.contains(&pushed) && !metrics.contains(&format!("{pushed}0\n")), "it reads nearby");

    let _ = cluster.pause(near);
    let began = Instant::now();
    within_limit("the others to go on", producer.send(None, b"after").await.unwrap()).await.unwrap();
    let record = within_limit("what the leader has", consumer.next()).await.unwrap().unwrap();
    assert_eq!(record.value.as_deref(), Some(&b"after"[..]));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(13), "it took {took:?}");
    println!("it went on {took:?} after the replica nearby hung");
    // It hung until now, or this panics.
    cluster.resume(near);
}
