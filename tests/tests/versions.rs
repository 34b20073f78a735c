//! A client that speaks the first version of the protocol, as it was released: it is served as ever, in that version.
#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use tidelog_protocol::api::Request;
use tidelog_protocol::frame::{Flags, Preface};
use tidelog_protocol::messages::{
    CreateTopicRequest, HelloRequest, HelloResponse, MetadataRequest, ProduceRequest, ProduceResponse,
};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{IncarnationId, Message, Offset, ProtocolVersion};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::patience::within_limit;
use tidelog_tests::raw_connection::{RawConnection, batch, produce_request};
use tokio::io::AsyncReadExt;

const V1: ProtocolVersion = ProtocolVersion(1);

async fn call<R: Request>(raw: &mut RawConnection, request: &R, payload: &[u8]) -> R::Response {
    let id = raw.request(R::API as u16, &request.to_body(V1), payload).await;
    let frame = raw.answer(id).await;
    assert!(!frame.header.flags.contains(Flags::FAULT), "{frame:?}");
    R::Response::from_body(&frame.body, V1).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_first_version_is_served_in_it() {
    let broker = BrokerProcess::start();
    let mut raw = RawConnection::open(broker.address()).await;
    raw.send(&Preface { version: V1, features: 0 }.encode()).await;
    let mut answer = [0; 8];
    within_limit("the preface", raw.socket.read_exact(&mut answer)).await.unwrap();
    assert_eq!(Preface::decode(answer).unwrap().version, V1);
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
