//! Dial, preface, hello: from an address to a connection that can be used. Knows nothing of what follows.

use std::io::ErrorKind;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use tidelog_protocol::api::{Api, Request};
use tidelog_protocol::frame::{FrameKind, FrameLimits, HEADER_BYTES, Header, PREFACE_BYTES, Preface, verify};
use tidelog_protocol::messages::{Fault, GoAwayPush, HelloRequest, HelloResponse};
use tidelog_protocol::{ClusterId, CorrelationId, Message, ProtocolVersion, WireError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Connection;
use crate::ClientError;
use crate::address::Address;
use crate::error::{SENT_AWAY, TURNED_AWAY};

/// How often a connection is dialled again that breaks before the broker has said who it is.
const REDIALS: u32 = 2;

/// How a client introduces itself, and how patient it is.
#[derive(Clone, Debug)]
pub(crate) struct Greeting {
    pub(crate) client_id: String,
    pub(crate) connect_timeout: Duration,
    pub(crate) request_timeout: Duration,
    /// When all of it ends.
    pub(crate) deadline: Option<Instant>,
    pub(crate) keepalive: Duration,
    /// Which cluster it is for, once that is known.
    pub(crate) cluster: OnceLock<ClusterId>,
}

/// What is left of a timeout that a deadline may cut short; never nothing, which would mean no limit.
pub(crate) fn cut_short(timeout: Duration, deadline: Option<Instant>) -> Duration {
    let left = deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()).min(timeout));
    left.max(Duration::from_millis(1))
}

/// Opens a connection within the connect timeout and starts its tasks.
pub(crate) async fn connect(address: &Address, greeting: &Greeting) -> Result<Connection, ClientError> {
    let unreachable = |reason: String| ClientError::Unreachable { address: address.clone(), reason };
    let dial = async {
        let mut broken = 0;
        loop {
            let stream = TcpStream::connect((address.host.as_str(), address.port))
                .await
                .map_err(|error| unreachable(error.to_string()))?;
            // Frames leave whole; waiting for more bytes would only add to their latency.
            stream.set_nodelay(true).map_err(|error| unreachable(error.to_string()))?;
            match introduce(address, stream, greeting).await {
                // Somebody took the connection and went away: who is there by now may be another.
                Err(ClientError::Unreachable { .. }) if broken < REDIALS => broken += 1,
                introduced => return introduced,
            }
        }
    };
    let patience = cut_short(greeting.connect_timeout, greeting.deadline);
    let (stream, version, hello) = match tokio::time::timeout(patience, dial).await {
        Ok(result) => result?,
        Err(_) => return Err(unreachable(format!("no answer within {} ms", patience.as_millis()))),
    };
    // A broker that lost its folder may have founded another cluster where it was: that one knows nothing of what is asked here, and must
    // take none of it.
    if let Some(ours) = greeting.cluster.get().filter(|ours| **ours != hello.cluster_id) {
        let theirs = hello.cluster_id;
        return Err(unreachable(format!("the broker there belongs to cluster {theirs}, and not to {ours}")));
    }
    Ok(Connection::start(address.clone(), stream, version, hello, greeting))
}

async fn introduce(
    address: &Address,
    mut stream: TcpStream,
    greeting: &Greeting,
) -> Result<(TcpStream, ProtocolVersion, HelloResponse), ClientError> {
    let lost = |error: std::io::Error| ClientError::Unreachable { address: address.clone(), reason: error.to_string() };
    let incompatible = |reason: String| ClientError::Incompatible { address: address.clone(), reason };

    // Nobody ever does so who speaks the protocol and has room.
    let turned_away = |error: std::io::Error| match error.kind() {
        ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => {
            ClientError::Unreachable { address: address.clone(), reason: TURNED_AWAY.into() }
        }
        _ => lost(error),
    };
    let ours = Preface { version: ProtocolVersion::CURRENT, features: 0 };
    stream.write_all(&ours.encode()).await.map_err(turned_away)?;
    let mut theirs = [0; PREFACE_BYTES];
    stream.read_exact(&mut theirs).await.map_err(turned_away)?;
    let version = Preface::decode(theirs).map_err(|error| incompatible(error.to_string()))?.version;
    if version < ProtocolVersion::OLDEST || version > ProtocolVersion::CURRENT {
        return Err(incompatible(format!(
            "no protocol version in common: this client speaks {} to {}, the broker chose {version} (0 means none); \
             upgrade the older one",
            ProtocolVersion::OLDEST,
            ProtocolVersion::CURRENT,
        )));
    }

    let hello = HelloRequest {
        client_id: greeting.client_id.clone(),
        software: concat!("tidelog-client ", env!("CARGO_PKG_VERSION")).into(),
        peer: None,
    };
    let body = hello.to_body(version);
    let header = Header {
        kind: FrameKind::Request,
        flags: Default::default(),
        api: Api::Hello as u16,
        correlation: CorrelationId(0),
        timeout_ms: greeting.connect_timeout.as_millis() as u32,
        body_bytes: body.len() as u32,
        payload_bytes: 0,
    };
    let mut frame = BytesMut::from(&header.encode(&[&body])[..]);
    frame.extend_from_slice(&body);
    stream.write_all(&frame).await.map_err(lost)?;

    let mut bytes = [0; HEADER_BYTES];
    stream.read_exact(&mut bytes).await.map_err(lost)?;
    let header = Header::decode(&bytes, FrameLimits::HANDSHAKE).map_err(|error| incompatible(error.to_string()))?;
    if header.kind == FrameKind::Push && header.api == Api::GoAway as u16 {
        // It took the connection just before it began to shut down, or has as many as it may.
        let mut body = vec![0; header.body_bytes as usize];
        stream.read_exact(&mut body).await.map_err(lost)?;
        let notice = verify(&bytes, &body).ok().and_then(|()| GoAwayPush::from_body(&body, version).ok());
        let said = notice.map_or_else(|| "nothing that parses".into(), |notice| notice.reason);
        return Err(ClientError::Unreachable { address: address.clone(), reason: format!("{SENT_AWAY}{said}") });
    }
    if header.kind != FrameKind::Response || header.correlation != CorrelationId(0) || header.payload_bytes != 0 {
        return Err(incompatible("its first frame is no answer to the hello".into()));
    }
    let mut body = vec![0; header.body_bytes as usize];
    stream.read_exact(&mut body).await.map_err(lost)?;
    verify(&bytes, &body).map_err(|error| incompatible(error.to_string()))?;
    let body = super::reader::without_trace(header.flags, &body);
    let malformed = |error| incompatible(format!("its hello does not parse: {error}"));
    if header.flags.contains(tidelog_protocol::frame::Flags::FAULT) {
        let fault = Fault::from_body(body, version).map_err(malformed)?;
        return Err(ClientError::Broker(WireError::from(fault)));
    }
    let hello = <HelloRequest as Request>::Response::from_body(body, version).map_err(malformed)?;
    Ok((stream, version, hello))
}
