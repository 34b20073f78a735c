//! A client that speaks the first version of the protocol, as it was released: it is served as ever, in that version. And a broker that speaks a
//! version without idempotent producers: a client of today writes to it all the same, and says what that costs. And what came with a version
//! is said in none before it.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::time::Duration;

use tidelog_client::{Client, NewTopic, Record};
use tidelog_protocol::api::Request;
use tidelog_protocol::frame::{Flags, Preface};
use tidelog_protocol::messages::{
    Acks, CreateTopicRequest, HelloRequest, HelloResponse, MetadataRequest, PingRequest, ProduceRequest,
    ProduceResponse,
};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, IncarnationId, Message, Offset, ProtocolVersion, TopicId};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::capping_proxy::CappingProxy;
use tidelog_tests::cluster::sight::replicas_at;
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, batch, produce_request};
use tokio::io::AsyncReadExt;

const V1: ProtocolVersion = ProtocolVersion(1);

/// Connected, in a version of the past or of today.
async fn connected(broker: &BrokerProcess, version: ProtocolVersion) -> RawConnection {
    let mut raw = RawConnection::open(broker.address()).await;
    raw.send(&Preface { version, features: 0 }.encode()).await;
    let mut answer = [0; 8];
    within_limit("the preface", raw.socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(Preface::decode(answer).unwrap().version, version);
    raw
}

async fn call<R: Request>(raw: &mut RawConnection, request: &R, payload: &[u8]) -> R::Response {
    let id = raw.request(R::API as u16, &request.to_body(V1), payload).await;
    let frame = raw.answer(id).await;
    assert!(!frame.header.flags.contains(Flags::FAULT), "{frame:?}");
    R::Response::from_body(&frame.body, V1).unwrap()
}

/// The last version in which a refusal of what wants no acknowledgement is not answered.
const V10: ProtocolVersion = ProtocolVersion(10);

#[tokio::test(flavor = "multi_thread")]
async fn what_wants_no_acknowledgement_is_answered_where_it_is_refused_and_only_to_clients_that_know_of_it() {
    let broker = BrokerProcess::start();
    let client = Client::connect(&broker.server()).await.unwrap();
    client.admin().create_topic(&NewTopic::named("logs")).await.unwrap();
    let payload = batch(&[b"value"], Compression::None);
    let known = RawConnection::introduced(broker.address()).await.topic_id("logs").await;
    let unknown = TopicId::default();
    for (version, is_told) in [(V10, false), (ProtocolVersion::CURRENT, true)] {
        let mut raw = connected(&broker, version).await;
        let hello = HelloRequest { client_id: "raw".into(), software: "raw".into(), peer: None };
        let hello = raw.request(HelloRequest::API as u16, &hello.to_body(version), &[]).await;
        raw.answer(hello).await;
        let mut sent = Vec::new();
        for topic_id in [known, unknown, known, unknown] {
            let request = ProduceRequest { acks: Acks::None, ..produce_request(topic_id) };
            let id = raw.request(ProduceRequest::API as u16, &request.to_body(version), &payload).await;
            sent.push((id, topic_id));
        }
        // Asked last, and answered last: a produce is carried out as it comes in.
        let last = raw.request(PingRequest::API as u16, &PingRequest {}.to_body(version), &[]).await;
        let mut faults = Vec::new();
        loop {
            let frame = raw.next_frame().await.expect("the connection stays open");
            if frame.header.correlation == last {
                break;
            }
            faults.push((frame.header.correlation, RawConnection::told(&frame).unwrap_err().code));
        }
        let refused = sent.iter().filter(|(_, topic_id)| is_told && *topic_id == unknown);
        let expected: Vec<_> = refused.map(|(id, _)| (*id, ErrorCode::UnknownTopic)).collect();
        assert_eq!(faults, expected, "in version {version}");
    }
    let end = replicas_at(broker.address(), "logs").await.unwrap()[0].log_end;
    assert_eq!(end, Offset(4), "what was not refused is there");
}

/// The last version that knew no idempotent producers.
const V2: ProtocolVersion = ProtocolVersion(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_without_idempotent_producers_is_written_to_and_what_may_stand_twice_is_told() {
    let proxy = CappingProxy::open(V2).await;
    let broker = BrokerSettings::new().set("advertise", &proxy.address().to_string()).start();
    proxy.lead_to(broker.address());
    let client =
        Client::builder().keepalive(Duration::from_secs(2)).connect(&proxy.address().to_string()).await.unwrap();
    client.admin().create_topic(&NewTopic::named("logs")).await.unwrap();
    let end = async || replicas_at(broker.address(), "logs").await.unwrap()[0].log_end;
    let producer = client.producer().build().unwrap();
    assert!(producer.is_idempotent(), "it wants to be");
    for expected in 0..3 {
        let receipt = producer.send(Record::to("logs").value("one")).await.unwrap().await.unwrap();
        assert_eq!((receipt.offset, receipt.maybe_twice), (Some(Offset(expected)), false));
    }
    assert!(!producer.is_idempotent(), "it cannot be");

    proxy.lose_answers();
    let sent = producer.send(Record::to("logs").value("lost answer")).await.unwrap();
    wait_until("the record to be written", async || (end().await == Offset(4)).then_some(())).await;
    wait_until("its answer to be lost", async || (proxy.lost_bytes() > 0).then_some(())).await;
    proxy.cut(V2).await;
    let receipt = within_limit("the fate of the record", sent).await.unwrap();
    assert_eq!((receipt.offset, receipt.maybe_twice), (Some(Offset(4)), true));
    assert_eq!(end().await, Offset(5), "it stands twice, and its receipt says that it may");

    // The broker is upgraded: from here on nothing stands twice.
    proxy.cut(ProtocolVersion::CURRENT).await;
    for expected in 5..8 {
        let sent = producer.send(Record::to("logs").value("one")).await.unwrap();
        let receipt = within_limit("a record for the upgraded broker", sent).await.unwrap();
        assert_eq!(receipt.offset, Some(Offset(expected)));
    }
    assert!(producer.is_idempotent());
    let lost = proxy.lost_bytes();
    proxy.lose_answers();
    let sent = producer.send(Record::to("logs").value("lost answer")).await.unwrap();
    wait_until("the record to be written", async || (end().await == Offset(9)).then_some(())).await;
    wait_until("its answer to be lost", async || (proxy.lost_bytes() > lost).then_some(())).await;
    proxy.cut(ProtocolVersion::CURRENT).await;
    let receipt = within_limit("the fate of the record", sent).await.unwrap();
    assert_eq!((receipt.offset, receipt.maybe_twice), (Some(Offset(8)), false));
    assert_eq!(end().await, Offset(9));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_first_version_is_served_in_it() {
    let broker = BrokerProcess::start();
    let mut raw = connected(&broker, V1).await;
    let hello = HelloRequest { client_id: "old".into(), software: "old".into(), peer: None };
    let hello: HelloResponse = call(&mut raw, &hello, &[]).await;
    assert_eq!(hello.incarnation, IncarnationId::default(), "what came later is not written");
    let create = CreateTopicRequest {
        name: "topic".into(),
        partitions: None,
        replication_factor: None,
        configs: vec![],
        validate_only: false,
    };
    call(&mut raw, &create, &[]).await;
    let metadata = call(&mut raw, &MetadataRequest { topics: None }, &[]).await;
    let request: ProduceRequest = produce_request(metadata.topics[0].topic_id);
    let produced: ProduceResponse = call(&mut raw, &request, &batch(&[b"value"], Compression::None)).await;
    assert_eq!(produced.base_offset, Offset(0));
}
