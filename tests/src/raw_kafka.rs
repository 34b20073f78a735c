//! A connection that speaks Kafka's protocol by hand, any version of it, so that a test can say what no client would. Knows nothing of what is
//! right.

use std::net::SocketAddr;

use bytes::Bytes;
use tidelog_protocol::kafka::header::read_answer;
use tidelog_protocol::kafka::metadata::{MetadataRequest, MetadataRequestTopic, MetadataResponse};
use tidelog_protocol::kafka::produce::{
    PartitionProduceData, PartitionProduceResponse, ProduceRequest, TopicProduceData,
};
use tidelog_protocol::kafka::{Request, request_frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::patience::within_limit;

/// A socket and the number of the next request.
#[derive(Debug)]
pub struct RawKafka {
    /// The socket, for bytes that are no request.
    pub socket: TcpStream,
    next: i32,
}

impl RawKafka {
    /// Connected, nothing said.
    ///
    /// # Panics
    /// Where nobody listens.
    pub async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, next: 1 }
    }

    /// Sends bytes. The broker may have closed the connection already, which the next read tells.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// Sends a request without waiting for its answer, which is known by the number given back.
    pub async fn ask<R: Request>(&mut self, request: &R, version: i16) -> i32 {
        let correlation_id = self.next;
        self.next += 1;
        self.send(&request_frame(request, version, correlation_id, Some("raw"))).await;
        correlation_id
    }

    /// The next answer, its length taken off; `None` where the broker has closed the connection.
    pub async fn frame(&mut self) -> Option<Bytes> {
        within_limit("an answer", async {
            let length = self.socket.read_u32().await.ok()?;
            let mut frame = vec![0; length as usize];
            self.socket.read_exact(&mut frame).await.ok()?;
            Some(frame.into())
        })
        .await
    }

    /// The next answer, to this request.
    ///
    /// # Panics
    /// Where it is the answer to another one, or none.
    pub async fn answer<R: Request>(&mut self, correlation_id: i32, version: i16) -> R::Response {
        let frame = self.frame().await.expect("the broker closed the connection instead of an answer");
        let (answered, response) = read_answer::<R>(&frame, version).unwrap();
        assert_eq!(answered, correlation_id, "answers come in the order of their requests");
        response
    }

    /// Sends a request and waits for its answer.
    pub async fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let correlation_id = self.ask(request, version).await;
        self.answer::<R>(correlation_id, version).await
    }

    /// Where a topic lives; it is made where it is missing.
    pub async fn make(&mut self, topic: &str) -> MetadataResponse {
        let asked = MetadataRequestTopic { name: Some(topic.into()), ..Default::default() };
        self.call(&MetadataRequest { topics: Some(vec![asked]), ..Default::default() }, 12).await
    }

    /// Writes to the first partition of a topic.
    pub async fn produce(&mut self, topic: &str, records: Bytes) -> PartitionProduceResponse {
        let mut response = self.call(&produce(topic, Some(records)), 11).await;
        response.responses.remove(0).partition_responses.remove(0)
    }

    /// Nothing more comes.
    ///
    /// # Panics
    /// Where something does.
    pub async fn expect_closed(&mut self) {
        assert_eq!(self.frame().await, None, "the broker answers what it should not");
    }
}

/// What writes to the first partition of a topic, and waits for all replicas.
#[must_use]
pub fn produce(topic: &str, records: Option<Bytes>) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index: 0, records }],
        }],
        ..Default::default()
    }
}
