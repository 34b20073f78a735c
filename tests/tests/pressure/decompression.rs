//! Batches that are small on the wire and large once decompressed: they keep nobody from being served, nobody else's order is changed by
//! them, and memory stays within bounds.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidelog_client::NewTopic;
use tidelog_protocol::TopicId;
use tidelog_protocol::messages::PingRequest;
use tidelog_protocol::records::Compression;
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::{RawConnection, batch, produce_request};
use tidelog_tests::workload::create_topic;
use tokio::task::JoinSet;

/// What a batch of a few kilobytes decompresses to, in bytes.
const LARGE_BYTES: usize = 30 << 20;

async fn broker(settings: BrokerSettings) -> (BrokerProcess, TopicId) {
    let broker = settings.start();
    create_topic(&broker.server(), &NewTopic::named("dense").partitions(1)).await.unwrap();
    let topic_id = RawConnection::introduced(broker.address()).await.topic_id("dense").await;
    (broker, topic_id)
}

/// What is lent for decompression now.
fn lent_bytes(broker: &BrokerProcess) -> u64 {
    let metrics = broker.http("/metrics").body;
    let key = "tidelog_budget_lent_bytes{pool=\"decompression\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(key)?.parse().ok()).expect("there is such a metric")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_decompresses_to_much_keeps_the_only_network_thread_from_nobody() {
    // Were it decompressed there, neither the metrics nor a ping would be answered meanwhile.
    let (broker, topic_id) = broker(BrokerSettings::new().set("network_threads", "1")).await;
    let mut connection = RawConnection::introduced(broker.address()).await;
    let payload = batch(&[&vec![0; LARGE_BYTES]], Compression::Gzip);
    let requests: usize = 40;
    let sending = tokio::spawn(async move {
        for _ in 0..requests {
            connection.ask(&produce_request(topic_id), &payload).await;
        }
        for _ in 0..requests {
            let answer = connection.next_frame().await.expect("an answer");
            RawConnection::told(&answer).unwrap();
        }
    });
    wait_until("one to be decompressed", async || (lent_bytes(&broker) > 0).then_some(())).await;
    let mut other = RawConnection::introduced(broker.address()).await;
    for _ in 0..5 {
        other.call(&PingRequest {}, &[]).await.unwrap();
        assert!(!sending.is_finished(), "the others were over before: the test is too small");
    }
    sending.await.unwrap();
    wait_until("the memory", async || (lent_bytes(&broker) == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_behind_such_a_batch_does_not_overtake_it() {
    let (broker, topic_id) = broker(BrokerSettings::new()).await;
    let mut connection = RawConnection::introduced(broker.address()).await;
    let large = batch(&[&vec![0; LARGE_BYTES]], Compression::Zstd);
    let small = batch(&[b"small"], Compression::None);
    let mut asked = Vec::new();
    for round in 0..12 {
        let payload = if round % 3 == 0 { &large } else { &small };
        asked.push(connection.ask(&produce_request(topic_id), payload).await);
    }
    let mut told = std::collections::HashMap::new();
    for _ in &asked {
        let answer = connection.next_frame().await.expect("an answer");
        told.insert(answer.header.correlation, RawConnection::told(&answer).unwrap().base_offset.0);
    }
    let offsets: Vec<_> = asked.iter().map(|id| told[id]).collect();
    assert_eq!(offsets, (0..12).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_of_a_few_megabytes_does_not_wait_for_each_that_is_far_larger() {
    const LARGER: usize = 20;
    let (broker, topic_id) = broker(BrokerSettings::new()).await;
    let payload = batch(&[&vec![0; LARGE_BYTES]], Compression::Gzip);
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..LARGER {
        let mut connection = RawConnection::introduced(broker.address()).await;
        connection.ask(&produce_request(topic_id), &payload).await;
        let done = done.clone();
        tasks.spawn(async move {
            RawConnection::told(&connection.next_frame().await.expect("an answer")).unwrap();
            done.fetch_add(1, Ordering::Relaxed);
        });
    }
    wait_until("one to be decompressed", async || (lent_bytes(&broker) > 0).then_some(())).await;
    let mut other = RawConnection::introduced(broker.address()).await;
    other.produce(topic_id, &batch(&[&vec![0; 4 << 20]], Compression::Gzip)).await.unwrap();
    let first = done.load(Ordering::Relaxed);
    println!("{first} of those that are larger were first");
    // In the order in which they came it would be all of them.
    assert!(first < LARGER * 3 / 4, "{first} of those that are larger were first");
    tasks.join_all().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_such_batches_at_once_stay_within_bounds() {
    let (broker, topic_id) = broker(BrokerSettings::new()).await;
    let payload = batch(&[&vec![0; LARGE_BYTES]], Compression::Gzip);
    let before = broker.figures().anonymous_bytes;
    let mut tasks = JoinSet::new();
    for _ in 0..16 {
        let (address, payload) = (broker.address(), payload.clone());
        tasks.spawn(async move {
            let mut connection = RawConnection::introduced(address).await;
            for _ in 0..4 {
                connection.produce(topic_id, &payload).await.unwrap();
            }
        });
    }
    let mut most = 0;
    while !tasks.is_empty() {
        most = most.max(broker.figures().anonymous_bytes);
        let _ = tokio::time::timeout(std::time::Duration::from_millis(5), tasks.join_next()).await;
    }
    // One at a time, and the buffer that grew into the next.
    let grown = most.saturating_sub(before);
    assert!(grown < 200 << 20, "{} MiB for batches of {} MiB", grown >> 20, LARGE_BYTES >> 20);
}
