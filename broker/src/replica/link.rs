//! The connection to a leader: frames out, frames in. Knows nothing of what they mean.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tidelog_protocol::api::{Api, OneWay, Request};
use tidelog_protocol::frame::{
    self, Flags, FrameError, FrameKind, FrameLimits, HEADER_BYTES, Header, PREFACE_BYTES, Preface,
};
use tidelog_protocol::messages::{Fault, HelloRequest, HelloResponse, PeerHello, PingRequest};
use tidelog_protocol::{BrokerId, CorrelationId, Message, ProtocolVersion, WireError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use crate::node::{Node, SOFTWARE};

/// A leader that does not answer the dial, or says nothing for so long, is dialled again.
const DIAL_TIMEOUT: Duration = Duration::from_millis(1_500);
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// How often it is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(1);
/// What one read may bring, in bytes.
const READ_BYTES: usize = 256 << 10;
/// Frames from a leader: one item of a stream, or one batch of the largest segment.
const LIMITS: FrameLimits = FrameLimits { frame_bytes: (1 << 30) + (1 << 20), body_bytes: 8 << 20 };

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    /// The network says no.
    #[error(transparent)]
    Socket(#[from] io::Error),
    /// Nothing came for too long.
    #[error("nothing was heard for {} ms", .0.as_millis())]
    Silent(Duration),
    /// What came is not the protocol.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// It speaks no version that is known here.
    #[error("it speaks no protocol version that is known here")]
    Version,
    /// It refused to talk.
    #[error("it refuses: {0}")]
    Refused(WireError),
    /// Somebody else is there.
    #[error("the address belongs to {there}, not to {wanted}")]
    Stranger {
        /// Who is there.
        there: String,
        /// Who was dialled.
        wanted: String,
    },
    /// It does not parse.
    #[error("a frame does not parse: {0}")]
    Body(String),
}

/// A frame from the leader.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) kind: FrameKind,
    pub(super) api: Option<Api>,
    pub(super) correlation: CorrelationId,
    pub(super) payload: Bytes,
    is_fault: bool,
    body: Bytes,
    version: ProtocolVersion,
}

impl Incoming {
    /// The message, or the fault in its place.
    pub(super) fn message<M: Message>(&self) -> Result<Result<M, WireError>, LinkError> {
        let unparsed = |error| LinkError::Body(format!("{}: {error}", M::NAME));
        if self.is_fault {
            let fault = Fault::from_body(&self.body, self.version).map_err(unparsed)?;
            return Ok(Err(WireError::from(fault)));
        }
        M::from_body(&self.body, self.version).map(Ok).map_err(unparsed)
    }
}

/// A connection to one leader that has said who it is.
#[derive(Debug)]
pub(super) struct Link {
    reads: OwnedReadHalf,
    writes: OwnedWriteHalf,
    arrived: BytesMut,
    leaving: BytesMut,
    version: ProtocolVersion,
    last_correlation: u64,
    heard_at: Instant,
    pinged_at: Instant,
}

impl Link {
    /// Dials `leader` and makes sure that it is there.
    pub(super) async fn dial(node: &Arc<Node>, leader: BrokerId, address: (&str, u16)) -> Result<Self, LinkError> {
        let dialled = tokio::time::timeout(DIAL_TIMEOUT, Self::introduce(node, leader, address)).await;
        dialled.unwrap_or(Err(LinkError::Silent(DIAL_TIMEOUT)))
    }

    async fn introduce(node: &Arc<Node>, leader: BrokerId, address: (&str, u16)) -> Result<Self, LinkError> {
        let mut socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        socket.write_all(&Preface { version: ProtocolVersion::CURRENT, features: 0 }.encode()).await?;
        let mut bytes = [0; PREFACE_BYTES];
        socket.read_exact(&mut bytes).await?;
        let version = Preface::decode(bytes)?.version;
        if version == ProtocolVersion(0) || version > ProtocolVersion::CURRENT {
            return Err(LinkError::Version);
        }
        let (reads, writes) = socket.into_split();
        let now = Instant::now();
        let mut link = Self {
            reads,
            writes,
            arrived: BytesMut::new(),
            leaving: BytesMut::new(),
            version,
            last_correlation: 0,
            heard_at: now,
            pinged_at: now,
        };
        let peer = PeerHello {
            cluster_id: node.cluster_id,
            broker_id: node.broker_id,
            incarnation: node.member.incarnation,
            expects: Some(leader),
        };
        let client_id = format!("broker {}", node.broker_id);
        link.request(&HelloRequest { client_id, software: SOFTWARE.into(), peer: Some(peer) }, 0);
        loop {
            while !link.leaving.is_empty() {
                link.writes.write_buf(&mut link.leaving).await?;
            }
            link.read().await?;
            let Some(incoming) = link.next_frame()? else { continue };
            let hello = incoming.message::<HelloResponse>()?.map_err(LinkError::Refused)?;
            if (hello.cluster_id, hello.broker_id) != (node.cluster_id, leader) {
                let name = |cluster, broker| format!("broker {broker} of cluster {cluster}");
                let (there, wanted) = (name(hello.cluster_id, hello.broker_id), name(node.cluster_id, leader));
                return Err(LinkError::Stranger { there, wanted });
            }
            return Ok(link);
        }
    }

    /// Sends a request with the next [`Link::drive`]; its answer comes under the correlation id.
    pub(super) fn request<R: Request>(&mut self, request: &R, timeout_ms: u32) -> CorrelationId {
        self.last_correlation += 1;
        let correlation = CorrelationId(self.last_correlation);
        self.encode(FrameKind::Request, R::API, (correlation, timeout_ms), request);
        correlation
    }

    /// Sends a signal with the next [`Link::drive`].
    pub(super) fn signal<M: OneWay>(&mut self, message: &M) {
        self.encode(FrameKind::Signal, M::API, (CorrelationId(0), 0), message);
    }

    fn encode<M: Message>(
        &mut self,
        kind: FrameKind,
        api: Api,
        (correlation, timeout_ms): (CorrelationId, u32),
        message: &M,
    ) {
        let body = message.to_body(self.version);
        let header = Header {
            kind,
            flags: Flags::default(),
            api: api as u16,
            correlation,
            timeout_ms,
            body_bytes: body.len() as u32,
            payload_bytes: 0,
        };
        self.leaving.extend_from_slice(&header.encode(&[&body]));
        self.leaving.extend_from_slice(&body);
    }

    /// A frame that is here already.
    pub(super) fn next_frame(&mut self) -> Result<Option<Incoming>, LinkError> {
        let Some(head) = self.arrived.first_chunk::<HEADER_BYTES>().copied() else { return Ok(None) };
        let header = Header::decode(&head, LIMITS)?;
        let total = header.frame_bytes() as usize;
        if self.arrived.len() < total {
            return Ok(None);
        }
        let mut frame = self.arrived.split_to(total).freeze();
        let mut body = frame.split_off(HEADER_BYTES);
        let payload = body.split_off(header.body_bytes as usize);
        frame::verify(&head, &body)?;
        Ok(Some(Incoming {
            kind: header.kind,
            api: Api::from_u16(header.api),
            correlation: header.correlation,
            payload,
            is_fault: header.flags.contains(Flags::FAULT),
            body,
            version: self.version,
        }))
    }

    /// Writes what leaves, and where `reads` reads what comes; returns once something came. May be dropped at any point.
    pub(super) async fn drive(&mut self, reads: Reads) -> Result<(), LinkError> {
        loop {
            tokio::select! {
                written = self.writes.write_buf(&mut self.leaving), if !self.leaving.is_empty() => {
                    written?;
                }
                // Room for a whole read at once: a frame that is larger grows with what has really come.
                read = read_into(&mut self.reads, &mut self.arrived), if reads == Reads::On => {
                    read?;
                    self.heard_at = Instant::now();
                    return Ok(());
                }
                () = std::future::pending() => {}
            }
        }
    }

    async fn read(&mut self) -> Result<(), LinkError> {
        read_into(&mut self.reads, &mut self.arrived).await?;
        self.heard_at = Instant::now();
        Ok(())
    }

    /// To be called now and then: asks whether the leader is there, and gives up on one that is silent.
    pub(super) fn keep_alive(&mut self, now: Instant) -> Result<(), LinkError> {
        let silence = now.saturating_duration_since(self.heard_at);
        if silence > SILENCE_MAX {
            return Err(LinkError::Silent(silence));
        }
        if now.saturating_duration_since(self.pinged_at) >= PING_EVERY {
            self.pinged_at = now;
            self.request(&PingRequest {}, 0);
        }
        Ok(())
    }

    /// What was not read on purpose is no silence.
    pub(super) fn was_not_read(&mut self, now: Instant) {
        self.heard_at = now;
    }
}

/// Whether more is read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reads {
    On,
    /// Enough is waiting here already.
    Off,
}

async fn read_into(reads: &mut OwnedReadHalf, arrived: &mut BytesMut) -> io::Result<()> {
    arrived.reserve(READ_BYTES);
    match reads.read_buf(arrived).await? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
