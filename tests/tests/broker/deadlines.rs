//! Requests that the disk keeps waiting: each is answered at its deadline, nothing is kept for it, and what it began is finished.

use std::sync::Arc;

use tempfile::TempDir;
use tidelog_broker::Broker;
use tidelog_broker::config::{Config, PathText};
use tidelog_client::NewTopic;
use tidelog_protocol::api::Request;
use tidelog_protocol::frame::Flags;
use tidelog_protocol::messages::{
    DeleteRecordsRequest, Fault, ListOffsetsRequest, OffsetQuery, PingRequest, Position, ProduceRequest,
};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{CorrelationId, ErrorCode, Message, Offset, PartitionId, ProtocolVersion, TopicId, WireError};
use tidelog_tests::contents::read_all;
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, RawFrame, batch, produce_request};
use tidelog_tests::stalling_disk::{Call, StallingDisk};
use tidelog_tests::workload::create_topic;

fn config(folder: &TempDir) -> Config {
    Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        data: PathText(folder.path().join("data")),
        disk_free_min_bytes: 0,
        ..Config::default()
    }
}

/// Sends a request that waits no longer than this.
async fn ask_within<R: Request>(
    raw: &mut RawConnection,
    request: &R,
    payload: &[u8],
    timeout_ms: u32,
) -> CorrelationId {
    let body = request.to_body(ProtocolVersion::CURRENT);
    let mut header = raw.header(R::API as u16, &body, payload);
    header.timeout_ms = timeout_ms;
    raw.send(&[&header.encode(&[&body])[..], &body, payload].concat()).await;
    header.correlation
}

fn fault(frame: &RawFrame) -> WireError {
    assert!(frame.header.flags.contains(Flags::FAULT), "it succeeded: {frame:?}");
    Fault::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap().into()
}

async fn earliest(raw: &mut RawConnection, topic_id: TopicId) -> Offset {
    let queries = vec![OffsetQuery { partition: PartitionId(0), position: Position::EARLIEST }];
    let request = ListOffsetsRequest { topic_id, queries, committed_only: false, settled: false };
    raw.call(&request, &[]).await.unwrap().answers[0].offset.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_produce_whose_flush_takes_too_long_is_answered_at_its_deadline_and_forgotten() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), StallingDisk::default());
    let broker = Broker::start_on(config(&folder), Arc::new(disk.clone())).await.unwrap();
    create_topic(&broker.address().to_string(), &NewTopic::named("late")).await.unwrap();
    let mut raw = RawConnection::introduced(broker.address()).await;
    let topic = raw.topic_id("late").await;
    let request: ProduceRequest = produce_request(topic);

    let stall = disk.stall(Call::Flush, "late-0");
    // The last is the least patient, but patient enough to be written on a busy machine, and one waits for as long as it takes.
    let patient = ask_within(&mut raw, &request, &batch(&[b"patient"], Compression::None), 0).await;
    let mut waiting = Vec::new();
    for number in (1..=50).rev() {
        let batch = batch(&[number.to_string().as_bytes()], Compression::None);
        waiting.push(ask_within(&mut raw, &request, &batch, 3_000 + number * 10).await);
    }
    stall.struck().await;
    while !waiting.is_empty() {
        let frame = raw.next_frame().await.unwrap();
        let error = fault(&frame);
        assert_eq!(error.code, ErrorCode::DeadlineExceeded, "{error}");
        assert!(error.message.contains("they are written, and may become so yet"), "{error}");
        waiting.retain(|id| *id != frame.header.correlation);
    }
    // Whoever waited holds on to nothing: only the patient one is under way.
    wait_until("what waited to be forgotten", async || (broker.metrics().requests_under_way.get() == 1).then_some(()))
        .await;

    drop(stall);
    let frame = raw.next_frame().await.unwrap();
    assert_eq!((frame.header.correlation, frame.header.flags), (patient, Flags::default()));
    // What was written became durable, and of that nobody is told a second time.
    let ping = raw.ask(&PingRequest {}, &[]).await;
    assert_eq!(raw.next_frame().await.unwrap().header.correlation, ping);
    assert_eq!(read_all(&broker.address().to_string(), "late").await[0].records.len(), 51);
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_deletion_of_records_that_is_not_waited_for_is_finished_all_the_same() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), StallingDisk::default());
    let broker = Broker::start_on(config(&folder), Arc::new(disk.clone())).await.unwrap();
    create_topic(&broker.address().to_string(), &NewTopic::named("shrinking")).await.unwrap();
    let mut raw = RawConnection::introduced(broker.address()).await;
    let topic = raw.topic_id("shrinking").await;
    raw.produce(topic, &batch(&[b"one", b"two", b"three"], Compression::None)).await.unwrap();

    let stall = disk.stall(Call::Write, "shrinking-0");
    let mut other = RawConnection::introduced(broker.address()).await;
    other.ask(&produce_request(topic), &batch(&[b"four"], Compression::None)).await;
    stall.struck().await;
    // The owner is busy with a write that hangs, and the client gives up.
    let deletion = DeleteRecordsRequest {
        topic_id: topic,
        partition: PartitionId(0),
        before: Some(Offset(2)),
        accept_loss: false,
    };
    let id = ask_within(&mut raw, &deletion, &[], 50).await;
    assert_eq!(fault(&raw.answer(id).await).code, ErrorCode::DeadlineExceeded);
    drop(stall);
    wait_until("the deletion", async || (earliest(&mut raw, topic).await == Offset(2)).then_some(())).await;
    drop((raw, other));
    within_limit("the end of the broker", broker.shutdown()).await.unwrap();

    let broker = Broker::start(config(&folder)).await.unwrap();
    let mut raw = RawConnection::introduced(broker.address()).await;
    assert_eq!(earliest(&mut raw, topic).await, Offset(2), "a start that was served once holds");
    broker.shutdown().await.unwrap();
}
