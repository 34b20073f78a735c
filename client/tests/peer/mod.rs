//! A peer that speaks real frames and answers produce as a test says: one topic "t" with one partition, led by itself.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{Bytes, BytesMut};
use tidelog_protocol::api::{Api, Request};
use tidelog_protocol::frame::*;
use tidelog_protocol::messages::*;
use tidelog_protocol::records::{RawBatch, Scratch};
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
    /// Never answers.
    Silence,
    /// Closes the connection.
    HangUp,
}

/// The peer.
pub struct Peer {
    pub address: SocketAddr,
    /// The values of every produce request, in the order of their arrival.
    pub arrivals: mpsc::UnboundedReceiver<Vec<String>>,
}

impl Peer {
    /// Starts one that asks `react` what to do with the n-th produce request, counted from 0 over all connections.
    pub async fn start(react: impl Fn(usize) -> Reaction + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, arrivals) = mpsc::unbounded_channel();
        let react = Arc::new(react);
        let count = Arc::new(AtomicUsize::new(0));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (react, count, sender) = (Arc::clone(&react), Arc::clone(&count), sender.clone());
                tokio::spawn(async move {
                    // The client hanging up ends it.
                    let _ = serve(stream, address.port(), &*react, &count, &sender).await;
                });
            }
        });
        Self { address, arrivals }
    }
}

async fn serve(
    mut stream: TcpStream,
    port: u16,
    react: &(dyn Fn(usize) -> Reaction + Send + Sync),
    count: &AtomicUsize,
    arrivals: &mpsc::UnboundedSender<Vec<String>>,
) -> std::io::Result<()> {
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
            Api::Metadata => answer::<MetadataRequest>(&mut stream, &header, metadata(port)).await?,
            Api::Produce => {
                let batch = RawBatch::parse(&payload).unwrap();
                batch.verify_crc().unwrap();
                let mut scratch = Scratch::new();
                let values = batch
                    .records(&mut scratch)
                    .unwrap()
                    .map(|record| String::from_utf8(record.unwrap().value.unwrap().to_vec()).unwrap());
                let _ = arrivals.send(values.collect());
                match react(count.fetch_add(1, Ordering::SeqCst)) {
                    Reaction::Ack => answer::<ProduceRequest>(&mut stream, &header, produced()).await?,
                    Reaction::Refuse(code) => {
                        let fault = Fault::from(WireError::new(code, "as the test wants it"));
                        send(&mut stream, &header, Flags::FAULT, &fault).await?;
                    }
                    Reaction::Silence => {}
                    Reaction::HangUp => return Ok(()),
                }
            }
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

fn hello() -> HelloResponse {
    HelloResponse {
        cluster_id: ClusterId::default(),
        broker_id: BrokerId(1),
        software: "peer".into(),
        frame_bytes_max: 64 << 20,
        batch_bytes_max: 1 << 20,
        requests_in_flight_max: 1_000,
        apis: Vec::new(),
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
