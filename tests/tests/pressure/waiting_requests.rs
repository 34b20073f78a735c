//! Requests that wait for something to happen: however large they were, what they took is for the others meanwhile.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_client::NewTopic;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::describe_groups::DescribeGroupsRequest;
use tidelog_protocol::kafka::fetch::{FetchPartition, FetchRequest, FetchTopic, ForgottenTopic};
use tidelog_protocol::kafka::find_coordinator::FindCoordinatorRequest;
use tidelog_protocol::kafka::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use tidelog_protocol::kafka::metadata::{MetadataRequest, MetadataRequestTopic};
use tidelog_protocol::kafka::produce::{ProduceRequest, TopicProduceData};
use tidelog_protocol::messages::WaitForRequest;
use tidelog_protocol::records::Compression;
use tidelog_protocol::{Offset, PartitionId};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::raw_kafka::RawKafka;
use tidelog_tests::workload::create_topic;

/// Nearly as large as one that brings no batches may be.
const LARGE_BYTES: usize = 7_900_000;

async fn broker() -> BrokerProcess {
    let broker = BrokerSettings::new().start();
    let topic = NewTopic::named("quiet").config("max.message.bytes", "8388608").partitions(100);
    create_topic(&broker.server(), &topic).await.unwrap();
    broker
}

/// The longest names that a request can hold, as many as make a large one.
fn large_names() -> impl Iterator<Item = String> {
    (0..LARGE_BYTES / 30_000).map(|number| format!("{number:030000}"))
}

fn forgotten(topic: String) -> ForgottenTopic {
    ForgottenTopic { topic, ..Default::default() }
}

/// Waits for five minutes for more than will ever be there.
fn patient_fetch(partitions: i32) -> FetchRequest {
    let partition = |partition| FetchPartition { partition, partition_max_bytes: 1 << 20, ..Default::default() };
    let topic = FetchTopic {
        topic: "quiet".into(),
        partitions: (0..partitions).map(partition).collect(),
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 2_000_000,
        min_bytes: 2_000_000_000,
        max_bytes: 50 << 20,
        topics: vec![topic],
        ..Default::default()
    }
}

/// What the metrics say of the memory for requests.
fn requests(broker: &BrokerProcess, what: &str) -> u64 {
    let metrics = broker.http("/metrics").body;
    let key = format!("tidelog_budget_{what}{{pool=\"requests\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&key)?.parse().ok());
    value.unwrap_or_else(|| panic!("it is missing in {metrics}"))
}

/// The others are served: large batches, and requests that take memory as well.
async fn expect_service(broker: &BrokerProcess) {
    let mut honest = RawConnection::introduced(broker.address()).await;
    let topic_id = honest.topic_id("quiet").await;
    honest.produce(topic_id, &batch(&[&vec![b'x'; 3 << 20]], Compression::None)).await.unwrap();
    let mut kafka = RawKafka::open(broker.address()).await;
    let named = MetadataRequestTopic { name: Some("quiet".into()), ..Default::default() };
    let request = MetadataRequest { topics: Some(vec![named; 1_000]), ..Default::default() };
    assert!(!kafka.call(&request, 12).await.topics.is_empty());
}

/// They wait, and hold nothing.
async fn expect_nothing_held(broker: &BrokerProcess, waiting: usize) {
    wait_until("what waits to hold nothing", async || {
        let under_way = format!("tidelog_requests_under_way {waiting}");
        let metrics = broker.http("/metrics").body;
        (metrics.lines().any(|line| line == under_way) && requests(broker, "lent_bytes") == 0).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fetches_that_wait_hold_nothing_of_their_requests_however_large_those_were() {
    let broker = broker().await;
    let mut silent = Vec::new();
    for _ in 0..12 {
        let mut client = RawKafka::open(broker.address()).await;
        let request =
            FetchRequest { forgotten_topics_data: large_names().map(forgotten).collect(), ..patient_fetch(1) };
        client.ask(&request, 12).await;
        silent.push(client);
    }
    expect_nothing_held(&broker, 12).await;
    expect_service(&broker).await;
    assert!(broker.log_lines("connection cut off").is_empty(), "{}", broker.log_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn members_that_wait_for_their_group_hold_nothing_of_their_requests() {
    let broker = broker().await;
    let mut leader = RawKafka::open(broker.address()).await;
    let join = |member_id: &str| JoinGroupRequest {
        group_id: "patient".into(),
        session_timeout_ms: 300_000,
        rebalance_timeout_ms: 300_000,
        member_id: member_id.into(),
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Bytes::from(vec![0; 200_000]) }],
        ..Default::default()
    };
    let led = wait_until("a coordinator", async || {
        // Whoever asks for one has the broker make what it needs.
        let find = FindCoordinatorRequest { coordinator_keys: vec!["patient".into()], ..Default::default() };
        leader.call(&find, 6).await;
        let joined = leader.call(&join(""), 3).await;
        (joined.error_code == KafkaError::None.code()).then_some(joined)
    })
    .await;
    assert_eq!(led.leader, led.member_id);
    // Its generation has begun; the next one waits for it to join again.
    let mut members = Vec::new();
    for _ in 0..8 {
        let mut member = RawKafka::open(broker.address()).await;
        member.ask(&join(""), 3).await;
        members.push(member);
    }
    expect_nothing_held(&broker, members.len()).await;
    expect_service(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_group_holds_nothing_and_cannot_make_up_a_large_one() {
    let broker = broker().await;
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic_id = connection.topic_id("quiet").await;
    let wait = |group: String| WaitForRequest { group, topic_id, partition: PartitionId(0), offset: Offset::ZERO };
    let refused = connection.call(&wait("g".repeat(LARGE_BYTES)), &[]).await.unwrap_err();
    assert!(refused.message.contains("255 bytes"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_behind_a_request_that_waits_holds_no_memory_that_others_wait_for() {
    let broker = broker().await;
    let mut client = RawKafka::open(broker.address()).await;
    client.ask(&patient_fetch(1), 12).await;
    let named = |name| MetadataRequestTopic { name: Some(name), ..Default::default() };
    let large = MetadataRequest { topics: Some(large_names().map(named).collect()), ..Default::default() };
    client.ask(&large, 12).await;
    wait_until("it to be held", async || (requests(&broker, "lent_bytes") > LARGE_BYTES as u64 / 10 * 9).then_some(()))
        .await;
    // Another that needs as much; there is no room for both.
    let mut other = RawKafka::open(broker.address()).await;
    other
        .call(
            &FetchRequest {
                forgotten_topics_data: large_names().map(forgotten).collect(),
                max_wait_ms: 0,
                ..patient_fetch(1)
            },
            12,
        )
        .await;
    let why = "behind one that has waited for";
    assert!(broker.log_text().contains(why), "it was not cut off: {}", broker.log_text());
    client.expect_closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_finds_no_memory_to_wait_in_is_answered_and_its_client_asked_to_pause() {
    // Of a megabyte streams have an eighth, and one of them a sixteenth of that.
    let broker = BrokerSettings::new().set("memory_budget_bytes", "1048576").start();
    create_topic(&broker.server(), &NewTopic::named("quiet").partitions(100)).await.unwrap();
    let mut client = RawKafka::open(broker.address()).await;
    let answer = client.call(&patient_fetch(100), 12).await;
    assert_eq!((answer.error_code, answer.throttle_time_ms), (KafkaError::None.code(), 1_000));
    assert_eq!(answer.responses[0].partitions.len(), 100);
    let few = Arc::new(tokio::sync::Mutex::new(client));
    // A few need none: this one waits until there is something.
    let waits = few.clone();
    let waiting = tokio::spawn(async move {
        let mut request = patient_fetch(3);
        request.min_bytes = 1;
        waits.lock().await.call(&request, 12).await
    });
    wait_until("it to wait", async || {
        broker.http("/metrics").body.lines().any(|line| line == "tidelog_requests_under_way 1").then_some(())
    })
    .await;
    let mut honest = RawConnection::introduced(broker.address()).await;
    let topic_id = honest.topic_id("quiet").await;
    honest.produce(topic_id, &batch(&[b"value"], Compression::None)).await.unwrap();
    let answer = within_limit("an answer", waiting).await.unwrap();
    assert_eq!(answer.throttle_time_ms, 0);
    assert!(answer.responses[0].partitions[0].records.as_ref().is_some_and(|records| !records.is_empty()));
}

/// What the metrics say is not answered yet.
fn under_way(broker: &BrokerProcess) -> usize {
    let metrics = broker.http("/metrics").body;
    metrics.lines().find_map(|line| line.strip_prefix("tidelog_requests_under_way ")?.parse().ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_cannot_leave_yet_take_memory_of_the_budget() {
    // Of which batches have 16 MiB.
    let broker = BrokerSettings::new().set("memory_budget_bytes", "67108864").start();
    let topic = NewTopic::named("quiet").config("max.message.bytes", "8388608");
    create_topic(&broker.server(), &topic).await.unwrap();
    let mut client = RawKafka::open(broker.address()).await;
    client.ask(&patient_fetch(1), 12).await;
    // Each is answered at once, with all its names, behind the one that waits.
    let topic_data = large_names().map(|name| TopicProduceData { name, ..Default::default() }).collect();
    let request = ProduceRequest { acks: 1, topic_data, ..Default::default() };
    let sending = tokio::spawn(async move {
        for _ in 0..40 {
            client.ask(&request, 9).await;
        }
        client
    });
    let lent = || {
        broker.http("/metrics").body.lines().any(|line| line.starts_with("tidelog_budget_waiting{pool=\"batches\"} 1"))
    };
    wait_until("the memory to be used up", async || lent().then_some(())).await;
    assert!(under_way(&broker) <= 4, "{} are not answered", under_way(&broker));
    // Whoever needs that memory gets it.
    let mut honest = RawConnection::introduced(broker.address()).await;
    let topic_id = honest.topic_id("quiet").await;
    honest.produce(topic_id, &batch(&[&vec![b'x'; 4 << 20]], Compression::None)).await.unwrap();
    assert!(broker.log_text().contains("behind one that has waited for"), "{}", broker.log_text());
    within_limit("the sender to be done", sending).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn little_requests_behind_one_that_waits_are_not_even_read() {
    let broker = broker().await;
    let mut clients = Vec::new();
    let groups = DescribeGroupsRequest { groups: vec![String::new(); 400], ..Default::default() };
    for _ in 0..10 {
        let mut client = RawKafka::open(broker.address()).await;
        client.ask(&patient_fetch(1), 12).await;
        for _ in 0..500 {
            client.ask(&groups, 5).await;
        }
        clients.push(client);
    }
    wait_until("some of each to wait", async || (under_way(&broker) >= 10 * 16).then_some(())).await;
    expect_service(&broker).await;
    assert!(under_way(&broker) <= 10 * 20, "{} are not answered", under_way(&broker));
}
