//! What a topic lets go of, and a configuration that changes under load: consumers notice neither, producers neither.

use std::sync::Arc;

use tidelog_client::{Client, NewTopic, Start};
use tidelog_protocol::messages::Position;
use tidelog_protocol::records::Compression;
use tidelog_protocol::{Offset, PartitionId};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::command::CommandLine;
use tidelog_tests::contents::read_all;
use tidelog_tests::history::{History, Outcome};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::workload::{Workload, create_topic, wait_for_acks};

fn alter(broker: &BrokerProcess, topic: &str, set: &[&str]) {
    let mut arguments = vec!["topics", "alter", topic];
    arguments.extend(set.iter().flat_map(|set| ["--set", set]));
    let _ = CommandLine::of("tidelog").env("TIDELOG_SERVER", &broker.server()).args(arguments).run().success();
}

/// First offset and end of partition 0.
async fn ends(client: &Client, topic: &str) -> (Offset, Offset) {
    let queries = [(PartitionId(0), Position::EARLIEST), (PartitionId(0), Position::LATEST)];
    let answers = client.admin().list_offsets(topic, &queries).await.unwrap();
    (answers[0].offset.unwrap(), answers[1].offset.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_and_altered_topics_are_felt_by_neither_producers_nor_consumers_under_load() {
    let broker = BrokerSettings::new().set("housekeeping_interval_ms", "20").start();
    let server = broker.server();
    create_topic(&server, &NewTopic::named("busy").config("segment.bytes", "2097152")).await.unwrap();
    let client = Client::connect(&server).await.unwrap();
    let mut consumer = client.consumer().topic("busy").start(Start::Beginning).build().await.unwrap();
    let reading = tokio::spawn(async move {
        let (mut next, mut last) = (0, None);
        // The last value says that it is the last.
        while last.is_none() {
            let record = consumer.next().await.unwrap().unwrap();
            assert_eq!(record.offset.0, next, "a live consumer misses nothing");
            next += 1;
            last = (record.value.as_deref() == Some(b"the last")).then_some(next);
        }
        next
    });

    let history = Arc::new(History::new("retention"));
    let load = Workload { value_bytes: 1_000, ..Workload::on("busy") }.start(&server, &history).await;
    wait_for_acks(&history, 1_000).await;
    assert_eq!(ends(&client, "busy").await.0, Offset(0), "nothing is let go of before it is asked for");
    alter(&broker, "busy", &["retention.bytes=4194304"]);
    wait_until("the first segments to go", async || (ends(&client, "busy").await.0 > Offset(0)).then_some(())).await;
    for set in ["durability=written", "retention.ms=3600000", "max.message.bytes=65536", "durability=flushed"] {
        let acked = history.acked();
        alter(&broker, "busy", &[set]);
        wait_for_acks(&history, acked + 500).await;
    }
    let before = ends(&client, "busy").await.0;
    wait_until("more segments to go", async || (ends(&client, "busy").await.0 > before).then_some(())).await;
    load.stop().await;

    let refused: Vec<_> =
        history.sent().into_iter().filter(|sent| !matches!(sent.outcome, Outcome::Acked { .. })).collect();
    assert!(refused.is_empty(), "{refused:?}");
    let producer = client.producer().build().unwrap();
    producer.topic("busy").await.unwrap().send(None, b"the last").await.unwrap().await.unwrap();
    let read = within_limit("the consumer to reach the end", reading).await.unwrap();
    let (start, end) = ends(&client, "busy").await;
    assert_eq!(read, end.0);
    assert_eq!(read, history.sent().len() as u64 + 1);

    // Who comes later finds what is kept, without gaps, and the disk holds no more than that and a segment each way.
    let kept = read_all(&server, "busy").await.remove(0).records;
    let offsets: Vec<u64> = kept.iter().map(|(offset, _)| *offset).collect();
    let first = *offsets.first().unwrap();
    assert!(first >= start.0 && first > 0, "{first}");
    assert_eq!(offsets, (first..end.0).collect::<Vec<_>>());
    wait_until("the disk to hold no more than is kept", async || {
        let files = std::fs::read_dir(broker.data().join("busy-0")).unwrap();
        let logs = files.filter(|file| file.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "log"));
        (logs.count() <= 6).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_past_their_time_go_and_the_others_stay() {
    let broker = BrokerSettings::new().set("housekeeping_interval_ms", "20").start();
    let server = broker.server();
    let topic = NewTopic::named("aging").config("segment.ms", "1").config("retention.ms", "3600000");
    create_topic(&server, &topic).await.unwrap();
    let client = Client::connect(&server).await.unwrap();
    let mut raw = RawConnection::introduced(broker.address()).await;
    let topic = raw.topic_id("aging").await;
    // Of 1970, as far as their timestamps go.
    raw.produce(topic, &batch(&[b"old", b"old"], Compression::None)).await.unwrap();
    wait_until("the old ones to go", async || (ends(&client, "aging").await == (Offset(2), Offset(2))).then_some(()))
        .await;
    let producer = client.producer().build().unwrap();
    producer.topic("aging").await.unwrap().send(None, b"new").await.unwrap().await.unwrap();
    // Looked after several times since.
    raw.produce(topic, &batch(&[b"old again"], Compression::None)).await.unwrap();
    wait_until("the end", async || (ends(&client, "aging").await.1 == Offset(4)).then_some(())).await;
    let kept = read_all(&server, "aging").await.remove(0).records;
    assert_eq!(kept.first(), Some(&(2, "new".to_string())), "{kept:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_was_emptied_frees_its_space_on_every_replica() {
    let cluster = Cluster::start(ClusterSettings::three()).await;
    create_topic(&cluster.servers(), &NewTopic::named("emptied").partitions(1)).await.unwrap();
    let client = Client::connect(&cluster.servers()).await.unwrap();
    let producer = client.producer().build().unwrap().topic("emptied").await.unwrap();
    for _ in 0..10 {
        producer.send(None, &[b'x'; 10_000]).await.unwrap().await.unwrap();
    }
    let segment = |id| cluster.data(id).join("emptied-0/00000000000000000000.log");
    for id in 1..=3 {
        wait_until("every replica to have it", async || segment(id).exists().then_some(())).await;
    }
    client.admin().delete_records("emptied", PartitionId(0), None).await.unwrap();
    for id in 1..=3 {
        wait_until("every replica to let go of it", async || (!segment(id).exists()).then_some(())).await;
    }
}
