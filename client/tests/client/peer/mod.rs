//! A peer that speaks real frames and answers produce and subscribe as a test says: one topic "t" with one partition, led by itself.
#![allow(dead_code, reason = "each test program uses a part")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tidelog_protocol::api::{Api, Request};
use tidelog_protocol::frame::*;
use tidelog_protocol::messages::*;
use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS, RawBatch, Scratch, stamp};
use tidelog_protocol::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

/// What the peer does with a produce request.
pub enum Reaction {
    /// Says that it was written.
    Ack,
    /// Refuses with this code.
    Refuse(ErrorCode),
    /// Refuses, and asks to try again after so many milliseconds.
    Postpone(u32),
    /// Never answers.
    Silence,
    /// Closes the connection.
    HangUp,
    /// Says that it was written, and nothing more over this connection, which stays open.
    Vanish,
}

/// What the peer pushes over a new stream.
pub struct Stream {
    /// One item each: the bytes, and the offset that the stream goes on at.
    pub items: Vec<(Bytes, u64)>,
    /// Whether it answers nothing any more over this connection, which stays open.
    pub vanishes: bool,
}

/// A produce request as it came.
pub struct Arrival {
    /// Counted from 0 over all connections.
    pub n: usize,
    pub values: Vec<String>,
}

/// What the peer does.
struct Script {
    produce: Box<dyn Fn(&Arrival) -> Reaction + Send + Sync>,
    subscribe: Box<dyn Fn(usize, u64) -> Stream + Send + Sync>,
    /// How long every connection but the first waits for its greeting.
    greets_after: Duration,
    arrivals: mpsc::UnboundedSender<Vec<String>>,
    produced: AtomicUsize,
    subscribed: AtomicUsize,
    /// How many requests for metadata are refused, as a broker refuses them that has none yet.
    starts_for: usize,
    refused: Arc<AtomicUsize>,
}

/// The peer.
pub struct Peer {
    pub address: SocketAddr,
    /// The values of every produce request, in the order of their arrival.
    pub arrivals: mpsc::UnboundedReceiver<Vec<String>>,
    /// How many requests for metadata were refused.
    pub refused: Arc<AtomicUsize>,
}

impl Peer {
    /// Starts one that asks `react` what to do with the n-th produce request, counted from 0 over all connections.
    pub async fn start(react: impl Fn(usize) -> Reaction + Send + Sync + 'static) -> Self {
        Self::judging(move |arrival| react(arrival.n)).await
    }

    /// Starts one that asks `react` what to do with each produce request.
    pub async fn judging(react: impl Fn(&Arrival) -> Reaction + Send + Sync + 'static) -> Self {
        Self::slow_to_greet(Duration::ZERO, react).await
    }

    /// As [`Peer::judging`]; a client that comes again is greeted after a while only.
    pub async fn slow_to_greet(after: Duration, react: impl Fn(&Arrival) -> Reaction + Send + Sync + 'static) -> Self {
        Self::serving(Box::new(react), Box::new(|_, _| panic!("nobody subscribes here")), after, 0).await
    }

    /// Starts one that says to the first `requests` for metadata that it is starting.
    pub async fn starting_for(requests: usize) -> Self {
        let produce = Box::new(|_: &Arrival| panic!("nobody produces here"));
        Self::serving(produce, Box::new(|_, _| panic!("nobody subscribes here")), Duration::ZERO, requests).await
    }

    /// Starts one that asks `push` what to push over the n-th stream, which starts at the given offset.
    pub async fn pushing(push: impl Fn(usize, u64) -> Stream + Send + Sync + 'static) -> Self {
        Self::serving(Box::new(|_| panic!("nobody produces here")), Box::new(push), Duration::ZERO, 0).await
    }

    async fn serving(
        produce: Box<dyn Fn(&Arrival) -> Reaction + Send + Sync>,
        subscribe: Box<dyn Fn(usize, u64) -> Stream + Send + Sync>,
        greets_after: Duration,
        starts_for: usize,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrivals) = mpsc::unbounded_channel();
        let (produced, subscribed) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let refused = Arc::new(AtomicUsize::new(0));
        let script = Arc::new(Script {
            produce,
            subscribe,
            greets_after,
            arrivals: sender,
            produced,
            subscribed,
            starts_for,
            refused: Arc::clone(&refused),
        });
        tokio::spawn(async move {
            let mut known = false;
            while let Ok((stream, _)) = listener.accept().await {
                let script = Arc::clone(&script);
                let again = std::mem::replace(&mut known, true);
                tokio::spawn(async move {
                    if again {
                        tokio::time::sleep(script.greets_after).await;
                    }
                    // The client hanging up ends it.
                    let _ = serve(stream, address.port(), &script).await;
                });
            }
        });
        Self { address, arrivals, refused }
    }
}

async fn serve(mut stream: TcpStream, port: u16, script: &Script) -> std::io::Result<()> {
    let mut preface = [0; PREFACE_BYTES];
    stream.read_exact(&mut preface).await?;
    stream.write_all(&Preface { version: ProtocolVersion::CURRENT, features: 0 }.encode()).await?;
    loop {
        let mut bytes = [0; HEADER_BYTES];
        stream.read_exact(&mut bytes).await?;
        let header = Header::decode(&bytes, FrameLimits::DEFAULT).unwrap();
        let mut rest = vec![0; (header.body_bytes + header.payload_bytes) as usize];
        stream.read_exact(&mut rest).await?;
        let payload = Bytes::from(rest.split_off(header.body_bytes as usize));
        verify(&bytes, &rest).unwrap();
        match Api::from_u16(header.api).unwrap() {
            Api::Hello => answer::<HelloRequest>(&mut stream, &header, hello()).await?,
            Api::Ping => {
                answer::<PingRequest>(&mut stream, &header, PingResponse { broker_time: Timestamp(1) }).await?
            }
            Api::InitProducerId => {
                let (producer_id, epoch) = (ProducerId(7), ProducerEpoch(0));
                answer::<InitProducerIdRequest>(&mut stream, &header, InitProducerIdResponse { producer_id, epoch })
                    .await?
            }
            Api::Metadata if script.refused.load(Ordering::SeqCst) < script.starts_for => {
                script.refused.fetch_add(1, Ordering::SeqCst);
                let refusal = WireError::new(ErrorCode::Overloaded, "the broker is starting");
                let fault = Fault::from(WireError { retry_after_ms: 200, ..refusal });
                send(&mut stream, &header, Flags::FAULT, &fault).await?;
            }
            Api::Metadata => answer::<MetadataRequest>(&mut stream, &header, metadata(port)).await?,
            Api::Produce => {
                let batch = RawBatch::parse(&payload).unwrap();
                batch.verify_crc().unwrap();
                let mut scratch = Scratch::new();
                let values = batch
                    .records(&mut scratch)
                    .unwrap()
                    .map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
                let arrival = Arrival { n: script.produced.fetch_add(1, Ordering::SeqCst), values: values.collect() };
                let reaction = (script.produce)(&arrival);
                let _ = script.arrivals.send(arrival.values);
                match reaction {
                    Reaction::Vanish => {
                        answer::<ProduceRequest>(&mut stream, &header, produced()).await?;
                        std::future::pending().await
                    }
                    Reaction::Ack => answer::<ProduceRequest>(&mut stream, &header, produced()).await?,
                    Reaction::Postpone(retry_after_ms) => {
                        let refusal = WireError::new(ErrorCode::Overloaded, "as the test wants it");
                        let fault = Fault::from(WireError { retry_after_ms, ..refusal });
                        send(&mut stream, &header, Flags::FAULT, &fault).await?;
                    }
                    Reaction::Refuse(code) => {
                        let fault = Fault::from(WireError::new(code, "as the test wants it"));
                        send(&mut stream, &header, Flags::FAULT, &fault).await?;
                    }
                    Reaction::Silence => {}
                    Reaction::HangUp => return Ok(()),
                }
            }
            Api::ListOffsets => {
                let asked = ListOffsetsRequest::from_body(&rest, ProtocolVersion::CURRENT).unwrap();
                answer::<ListOffsetsRequest>(&mut stream, &header, all_at_the_start(&asked)).await?;
            }
            Api::Subscribe => {
                let asked = SubscribeRequest::from_body(&rest, ProtocolVersion::CURRENT).unwrap();
                let start = asked.position.value.max(0) as u64;
                let pushed = (script.subscribe)(script.subscribed.fetch_add(1, Ordering::SeqCst), start);
                answer::<SubscribeRequest>(&mut stream, &header, subscribed(start)).await?;
                for (payload, next) in pushed.items {
                    push(&mut stream, header.correlation, payload, Offset(next)).await?;
                }
                if pushed.vanishes {
                    std::future::pending().await
                }
            }
            Api::Unsubscribe => answer::<UnsubscribeRequest>(&mut stream, &header, UnsubscribeResponse {}).await?,
            Api::Credit => {}
            api => panic!("the peer does not serve {api:?}"),
        }
    }
}

async fn answer<R: Request>(stream: &mut TcpStream, header: &Header, message: R::Response) -> std::io::Result<()> {
    send(stream, header, Flags::default(), &message).await
}

async fn send<M: Message>(stream: &mut TcpStream, to: &Header, flags: Flags, message: &M) -> std::io::Result<()> {
    let body = message.to_body(ProtocolVersion::CURRENT);
    let header = Header {
        kind: FrameKind::Response,
        flags,
        timeout_ms: 0,
        body_bytes: body.len() as u32,
        payload_bytes: 0,
        ..*to
    };
    let mut frame = BytesMut::from(&header.encode(&[&body])[..]);
    frame.extend_from_slice(&body);
    stream.write_all(&frame).await
}

async fn push(stream: &mut TcpStream, to: CorrelationId, payload: Bytes, next: Offset) -> std::io::Result<()> {
    let item = StreamItemPush {
        next_offset: next,
        high_watermark: next,
        last_stable: next,
        log_start: Offset(0),
        leader_epoch: LeaderEpoch(0),
        aborted: Vec::new(),
    };
    let body = item.to_body(ProtocolVersion::CURRENT);
    let header = Header {
        kind: FrameKind::Push,
        flags: Flags::default(),
        api: Api::StreamItem as u16,
        correlation: to,
        timeout_ms: 0,
        body_bytes: body.len() as u32,
        payload_bytes: payload.len() as u32,
    };
    stream.write_all(&[&header.encode(&[&body])[..], &body, &payload].concat()).await
}

/// Says to each client that the broker is about to leave, in place of an answer to its hello.
pub async fn start_leaving() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut preface = [0; PREFACE_BYTES];
            stream.read_exact(&mut preface).await.unwrap();
            stream.write_all(&Preface { version: ProtocolVersion::CURRENT, features: 0 }.encode()).await.unwrap();
            let body = GoAwayPush { reason: "shutting down".into(), closes_in_ms: 1 }.to_body(ProtocolVersion::CURRENT);
            let header = Header {
                kind: FrameKind::Push,
                flags: Flags::default(),
                api: Api::GoAway as u16,
                correlation: CorrelationId(0),
                timeout_ms: 0,
                body_bytes: body.len() as u32,
                payload_bytes: 0,
            };
            stream.write_all(&[&header.encode(&[&body])[..], &body].concat()).await.unwrap();
        }
    });
    address
}

/// A batch of one record.
pub fn batch(offset: u64, value: &str) -> BytesMut {
    let mut builder = BatchBuilder::new(1 << 20);
    builder.append(Timestamp(1), None, Some(value.as_bytes()), NO_HEADERS).unwrap();
    let mut bytes = builder.finish(Compression::None).unwrap().try_into_mut().unwrap();
    stamp(&mut bytes, Offset(offset), LeaderEpoch(0));
    bytes
}

fn all_at_the_start(asked: &ListOffsetsRequest) -> ListOffsetsResponse {
    let start = |query: &OffsetQuery| OffsetAnswer {
        partition: query.partition,
        offset: Some(Offset(0)),
        timestamp: Timestamp::NONE,
        leader_epoch: LeaderEpoch(0),
        fault: None,
    };
    ListOffsetsResponse { answers: asked.queries.iter().map(start).collect() }
}

fn subscribed(start: u64) -> SubscribeResponse {
    SubscribeResponse {
        start_offset: Offset(start),
        high_watermark: Offset(start),
        log_start: Offset(0),
        leader_epoch: LeaderEpoch(0),
    }
}

fn hello() -> HelloResponse {
    HelloResponse {
        cluster_id: ClusterId::default(),
        broker_id: BrokerId(1),
        software: "peer".into(),
        frame_bytes_max: 64 << 20,
        batch_bytes_max: 1 << 20,
        requests_in_flight_max: 1_000,
        apis: Vec::new(),
        incarnation: IncarnationId::default(),
    }
}

fn metadata(port: u16) -> MetadataResponse {
    let partition = PartitionMetadata {
        partition: PartitionId(0),
        leader: Some(BrokerId(1)),
        leader_epoch: LeaderEpoch(0),
        replicas: vec![BrokerId(1)],
        in_sync: vec![BrokerId(1)],
    };
    MetadataResponse {
        cluster_id: ClusterId::default(),
        controller: Some(BrokerId(1)),
        as_of: MetadataIndex(1),
        brokers: vec![BrokerAddress { broker_id: BrokerId(1), host: "127.0.0.1".into(), port, rack: None }],
        topics: vec![TopicMetadata {
            topic_id: TopicId::default(),
            name: TopicName::new("t").unwrap(),
            internal: false,
            batch_bytes_max: 1 << 20,
            partitions: vec![partition],
        }],
        unknown: Vec::new(),
    }
}

fn produced() -> ProduceResponse {
    ProduceResponse {
        base_offset: Offset(0),
        next_offset: Offset(1),
        leader_epoch: LeaderEpoch(0),
        appended_at: Timestamp(1),
        log_start: Offset(0),
        replicas_written: 1,
        replicas_flushed: 1,
    }
}
