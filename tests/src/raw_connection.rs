//! A connection that speaks the protocol by hand, so that a test can say what no client would. Knows nothing of what is right.

use std::net::SocketAddr;

use bytes::Bytes;
use tidelog_protocol::api::{Api, OneWay, Request};
use tidelog_protocol::frame::{Flags, FrameKind, FrameLimits, HEADER_BYTES, Header, Preface};
use tidelog_protocol::messages::{
    Acks, Fault, GoAwayPush, HelloRequest, MetadataRequest, ProduceRequest, ProduceResponse,
};
use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS};
use tidelog_protocol::{
    CorrelationId, Message, PartitionId, ProtocolVersion, Timestamp, TopicId, TopicName, WireError,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::patience::within_limit;

/// A frame as it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RawFrame {
    /// Its header.
    pub header: Header,
    /// Its body, checksum not looked at.
    pub body: Vec<u8>,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// A socket and the number of the next request.
#[derive(Debug)]
pub struct RawConnection {
    /// The socket, for bytes that are no frame.
    pub socket: TcpStream,
    next: u64,
}

impl RawConnection {
    /// Connected, nothing said.
    ///
    /// # Panics
    /// Where nobody listens.
    pub async fn open(address: SocketAddr) -> Self {
        let socket = TcpStream::connect(address).await.unwrap();
        socket.set_nodelay(true).unwrap();
        Self { socket, next: 1 }
    }

    /// Connected, prefaces exchanged.
    ///
    /// # Panics
    /// Where the broker does not answer with a preface.
    pub async fn prefaced(address: SocketAddr) -> Self {
        let mut connection = Self::open(address).await;
        let preface = Preface { version: ProtocolVersion::CURRENT, features: 0 };
        connection.send(&preface.encode()).await;
        let mut answer = [0; 8];
        within_limit("the broker's preface", connection.socket.read_exact(&mut answer)).await.unwrap();
        assert_eq!(Preface::decode(answer).unwrap().version, ProtocolVersion::CURRENT);
        connection
    }

    /// Connected and introduced.
    ///
    /// # Panics
    /// Where the broker does not say hello.
    pub async fn introduced(address: SocketAddr) -> Self {
        let mut connection = Self::prefaced(address).await;
        let hello = HelloRequest { client_id: "raw".into(), software: "tidelog-tests".into(), peer: None };
        connection.call(&hello, &[]).await.unwrap();
        connection
    }

    /// Sends bytes. The broker may have closed the connection already, which the next read tells.
    pub async fn send(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes).await;
    }

    /// The header of a request with this body and payload, as a client would write it.
    #[must_use]
    pub fn header(&mut self, api: u16, body: &[u8], payload: &[u8]) -> Header {
        let correlation = CorrelationId(self.next);
        self.next += 1;
        Header {
            kind: FrameKind::Request,
            flags: Flags::default(),
            api,
            correlation,
            timeout_ms: 30_000,
            body_bytes: u32::try_from(body.len()).unwrap(),
            payload_bytes: u32::try_from(payload.len()).unwrap(),
        }
    }

    /// Sends a message that is never answered.
    pub async fn signal<M: OneWay>(&mut self, message: &M) {
        let body = message.to_body(ProtocolVersion::CURRENT);
        let request = self.header(M::API as u16, &body, &[]);
        let header = Header { kind: FrameKind::Signal, correlation: CorrelationId(0), timeout_ms: 0, ..request };
        self.send(&[&header.encode(&[&body])[..], &body].concat()).await;
    }

    /// Sends a whole request of any API number with any body.
    pub async fn request(&mut self, api: u16, body: &[u8], payload: &[u8]) -> CorrelationId {
        let header = self.header(api, body, payload);
        let bytes = [&header.encode(&[body])[..], body, payload].concat();
        self.send(&bytes).await;
        header.correlation
    }

    /// Sends a request without waiting for its answer.
    pub async fn ask<R: Request>(&mut self, request: &R, payload: &[u8]) -> CorrelationId {
        self.request(R::API as u16, &request.to_body(ProtocolVersion::CURRENT), payload).await
    }

    /// Sends a request and waits for its answer.
    ///
    /// # Errors
    /// The fault that the broker answered with.
    ///
    /// # Panics
    /// Where no answer comes.
    pub async fn call<R: Request>(&mut self, request: &R, payload: &[u8]) -> Result<R::Response, WireError> {
        let id = self.ask(request, payload).await;
        let frame = self.answer(id).await;
        if frame.header.flags.contains(Flags::FAULT) {
            return Err(fault(&frame));
        }
        Ok(R::Response::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap())
    }

    /// The fault that a request is answered with.
    ///
    /// # Panics
    /// Where it succeeds, or no answer comes.
    pub async fn refusal(&mut self, api: u16, body: &[u8], payload: &[u8]) -> WireError {
        let id = self.request(api, body, payload).await;
        let frame = self.answer(id).await;
        assert!(frame.header.flags.contains(Flags::FAULT), "it was not refused: {frame:?}");
        fault(&frame)
    }

    /// The identity of a topic.
    ///
    /// # Panics
    /// Where there is none of this name.
    pub async fn topic_id(&mut self, name: &str) -> TopicId {
        let request = MetadataRequest { topics: Some(vec![TopicName::new(name).unwrap()]) };
        self.call(&request, &[]).await.unwrap().topics.first().expect("the topic exists").topic_id
    }

    /// Produces batches to partition 0, with acks=all.
    ///
    /// # Errors
    /// The fault that the broker answered with.
    ///
    /// # Panics
    /// Where no answer comes.
    pub async fn produce(&mut self, topic_id: TopicId, batches: &[u8]) -> Result<ProduceResponse, WireError> {
        self.call(&produce_request(topic_id), batches).await
    }

    /// What an answer to a produce says.
    ///
    /// # Errors
    /// The fault in it.
    ///
    /// # Panics
    /// Where it is no such answer.
    pub fn told(answer: &RawFrame) -> Result<ProduceResponse, WireError> {
        if answer.header.flags.contains(Flags::FAULT) {
            return Err(fault(answer));
        }
        Ok(ProduceResponse::from_body(&answer.body, ProtocolVersion::CURRENT).unwrap())
    }

    /// Whether an answer is a fault.
    ///
    /// # Errors
    /// The fault in it.
    pub fn outcome(answer: &RawFrame) -> Result<(), WireError> {
        if answer.header.flags.contains(Flags::FAULT) { Err(fault(answer)) } else { Ok(()) }
    }

    /// The answer to a request; what else comes before it is dropped.
    ///
    /// # Panics
    /// Where the connection ends before it.
    pub async fn answer(&mut self, id: CorrelationId) -> RawFrame {
        loop {
            let frame = self.next_frame().await.expect("the connection ended before the answer");
            if frame.header.kind == FrameKind::Response && frame.header.correlation == id {
                return frame;
            }
        }
    }

    /// The next frame; `None` where the connection ended.
    ///
    /// # Panics
    /// Where neither happens.
    pub async fn next_frame(&mut self) -> Option<RawFrame> {
        let mut bytes = [0; HEADER_BYTES];
        within_limit("a frame or the end", self.socket.read_exact(&mut bytes)).await.ok()?;
        let limits = FrameLimits { frame_bytes: 128 << 20, body_bytes: 16 << 20 };
        let header = Header::decode(&bytes, limits).unwrap();
        let mut body = vec![0; header.body_bytes as usize];
        let mut payload = vec![0; header.payload_bytes as usize];
        within_limit("the body of a frame", self.socket.read_exact(&mut body)).await.ok()?;
        within_limit("the payload of a frame", self.socket.read_exact(&mut payload)).await.ok()?;
        Some(RawFrame { header, body, payload })
    }

    /// Reads to the end of the connection; what the broker gave as its reason.
    ///
    /// # Panics
    /// Where the connection stays open, or ends without a reason.
    pub async fn last_words(&mut self) -> String {
        let mut reason = None;
        while let Some(frame) = self.next_frame().await {
            if frame.header.api == Api::GoAway as u16 {
                reason = Some(GoAwayPush::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap().reason);
            }
        }
        reason.expect("the broker closed the connection without a reason")
    }

    /// Reads to the end of the connection, whatever comes.
    ///
    /// # Panics
    /// Where it stays open.
    pub async fn until_closed(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        // A reset ends it as well.
        let _ = within_limit("the end of the connection", self.socket.read_to_end(&mut bytes)).await;
        bytes
    }
}

fn fault(frame: &RawFrame) -> WireError {
    Fault::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap().into()
}

/// A request to produce to partition 0, with acks=all.
#[must_use]
pub fn produce_request(topic_id: TopicId) -> ProduceRequest {
    ProduceRequest {
        topic_id,
        partition: PartitionId(0),
        leader_epoch: None,
        acks: Acks::All,
        expected_log_end: None,
        transactional_id: None,
    }
}

/// A batch of records with these values.
///
/// # Panics
/// Where they do not fit into 32 MiB.
#[must_use]
pub fn batch(values: &[&[u8]], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(32 << 20);
    for value in values {
        builder.append(Timestamp(1_000), None, Some(value), NO_HEADERS).unwrap();
    }
    builder.finish(compression).unwrap()
}
