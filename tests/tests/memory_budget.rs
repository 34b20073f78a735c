//! The memory budget under those who hold on to it: half frames, answers that nobody takes, payloads that nobody asked for. The others
//! are served on.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::time::Duration;

use tidelog_client::NewTopic;
use tidelog_protocol::api::Api;
use tidelog_protocol::frame::Flags;
use tidelog_protocol::messages::{Fault, ListOffsetsRequest, OffsetQuery, Position};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, Message, PartitionId, ProtocolVersion, TopicId, WireError};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, RawFrame, batch, produce_request};
use tidelog_tests::workload::create_topic;

const BUDGET_BYTES: u64 = 16 << 20;

/// A broker with a topic that takes large batches.
async fn broker(settings: BrokerSettings) -> (BrokerProcess, TopicId) {
    let broker = settings.set("memory_budget_bytes", &BUDGET_BYTES.to_string()).start();
    let topic = NewTopic::named("large").config("max.message.bytes", "8388608").config("durability", "written");
    create_topic(&broker.server(), &topic).await.unwrap();
    let topic_id = RawConnection::introduced(broker.address()).await.topic_id("large").await;
    (broker, topic_id)
}

/// A produce request as it goes over the wire.
fn frame(connection: &mut RawConnection, topic_id: TopicId, value_bytes: usize) -> Vec<u8> {
    let body = produce_request(topic_id).to_body(ProtocolVersion::CURRENT);
    let payload = batch(&[&vec![b'x'; value_bytes]], Compression::None);
    let header = connection.header(Api::Produce as u16, &body, &payload);
    [&header.encode(&[&body])[..], &body, &payload].concat()
}

/// Connections that each sent the first bytes of a large frame, and what they have not sent yet.
async fn half_frames(
    broker: &BrokerProcess,
    topic_id: TopicId,
    count: usize,
    value_bytes: usize,
    sent: usize,
) -> Vec<(RawConnection, Vec<u8>)> {
    let mut half = Vec::new();
    for _ in 0..count {
        let mut connection = RawConnection::introduced(broker.address()).await;
        let mut bytes = frame(&mut connection, topic_id, value_bytes);
        let rest = bytes.split_off(sent);
        connection.send(&bytes).await;
        half.push((connection, rest));
    }
    half
}

/// Sends the rests, all at once, and waits for the acks.
async fn complete(half: Vec<(RawConnection, Vec<u8>)>) {
    let tasks: Vec<_> = half
        .into_iter()
        .map(|(mut connection, rest)| {
            tokio::spawn(async move {
                connection.send(&rest).await;
                let frame = within_limit("an ack", connection.next_frame()).await.expect("an ack");
                assert_eq!(frame.header.api, Api::Produce as u16);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_together_outgrow_the_memory_are_completed_one_after_the_other() {
    let settings = BrokerSettings::new().set("frame_timeout_ms", "3600000");
    let (broker, topic_id) = broker(settings).await;
    // Few that are far along, and many that are only just over what a busy connection reads at once.
    complete(half_frames(&broker, topic_id, 6, 6 << 20, 2 << 20).await).await;
    complete(half_frames(&broker, topic_id, 64, 280 << 10, 270 << 10).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_while_its_frame_waits_for_memory_gives_back_what_it_holds() {
    let settings = BrokerSettings::new().set("frame_timeout_ms", "3600000");
    let (broker, topic_id) = broker(settings).await;
    let half = half_frames(&broker, topic_id, 6, 6 << 20, 3 << 20).await;
    let line = |count: usize| format!("tidelog_connections {count}\n");
    wait_until("the connections", async || broker.http("/metrics").body.contains(&line(6)).then_some(())).await;
    drop(half);
    wait_until("their end", async || broker.http("/metrics").body.contains(&line(0)).then_some(())).await;
    complete(half_frames(&broker, topic_id, 1, 6 << 20, 3 << 20).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn half_frames_keep_the_others_waiting_no_longer_than_a_frame_may_take() {
    let settings = BrokerSettings::new().set("frame_timeout_ms", "1000");
    let (broker, topic_id) = broker(settings).await;
    let half = half_frames(&broker, topic_id, 8, 6 << 20, 3 << 20).await;
    for (mut connection, _rest) in half {
        let said = connection.last_words().await;
        assert!(said.contains("not complete within") || said.contains("out of memory"), "{said}");
    }
    complete(half_frames(&broker, topic_id, 1, 6 << 20, 3 << 20).await).await;
}

/// A connection that takes none of its answers, with requests that wait behind them and hold all the memory there is for requests.
async fn jammed(broker: &BrokerProcess, topic_id: TopicId) -> RawConnection {
    async fn patient(connection: &mut RawConnection, api: Api, body: &[u8]) {
        let mut header = connection.header(api as u16, body, &[]);
        header.timeout_ms = 0;
        connection.send(&[&header.encode(&[body])[..], body].concat()).await;
    }
    let mut connection = RawConnection::introduced(broker.address()).await;
    let query = OffsetQuery { partition: PartitionId(0), position: Position::LATEST };
    let request = ListOffsetsRequest { topic_id, queries: vec![query; 10_000], committed_only: false };
    let body = request.to_body(ProtocolVersion::CURRENT);
    wait_until("all memory to be held", async || {
        if lent_bytes(broker) + body.len() as u64 > BUDGET_BYTES / 2 {
            return Some(());
        }
        patient(&mut connection, Api::ListOffsets, &body).await;
        None
    })
    .await;
    connection
}

/// What is lent to requests under way.
fn lent_bytes(broker: &BrokerProcess) -> u64 {
    let metrics = broker.http("/metrics").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix("tidelog_budget_lent_bytes ")?.parse().ok());
    value.unwrap_or_else(|| panic!("it is missing in {metrics}"))
}

fn fault(frame: &RawFrame) -> WireError {
    assert!(frame.header.flags.contains(Flags::FAULT), "it succeeded: {frame:?}");
    Fault::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_their_turn_give_their_memory_back_when_their_client_closes() {
    let (broker, topic_id) = broker(BrokerSettings::new()).await;
    let jammed = jammed(&broker, topic_id).await;
    drop(jammed);
    complete(half_frames(&broker, topic_id, 1, 1 << 20, 1_000).await).await;
    wait_until("the memory", async || (lent_bytes(&broker) == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_deadline_passes_while_it_waits_for_memory_is_not_carried_out() {
    let (broker, topic_id) = broker(BrokerSettings::new()).await;
    let mut jammed = jammed(&broker, topic_id).await;
    let mut late = RawConnection::introduced(broker.address()).await;
    let body = produce_request(topic_id).to_body(ProtocolVersion::CURRENT);
    let payload = batch(&[&[b'x'; 300_000]], Compression::None);
    let mut header = late.header(Api::Produce as u16, &body, &payload);
    header.timeout_ms = 200;
    late.send(&[&header.encode(&[&body])[..], &body, &payload].concat()).await;
    // Time is what this is about.
    tokio::time::sleep(Duration::from_millis(600)).await;
    // From now on the answers are taken.
    let reading = tokio::spawn(async move { while jammed.next_frame().await.is_some() {} });
    let error = fault(&late.answer(header.correlation).await);
    assert_eq!(error.code, ErrorCode::DeadlineExceeded, "{error}");
    assert!(error.message.contains("nothing was written"), "{error}");
    reading.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_produce_may_carry_a_payload() {
    let (broker, topic_id) = broker(BrokerSettings::new()).await;
    let mut connection = RawConnection::introduced(broker.address()).await;
    for api in [Api::Ping, Api::Metadata, Api::Subscribe, Api::DeleteTopic] {
        let error = connection.refusal(api as u16, &[], &[0; 100_000]).await;
        assert_eq!(error.code, ErrorCode::Malformed, "{error}");
        assert!(error.message.contains("payload"), "{error}");
    }
    connection.produce(topic_id, &batch(&[b"value"], Compression::None)).await.unwrap();
}
