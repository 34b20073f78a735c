//! The first bytes of a connection: which protocol it speaks, and in which version; and the first frame of a native one, where it matters before
//! anything is served whose it is. Knows nothing of what follows.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::api::Api;
use tidelog_protocol::frame::{
    FrameError, FrameKind, FrameLimits, HEADER_BYTES, Header, PREFACE_BYTES, Preface, verify,
};
use tidelog_protocol::messages::HelloRequest;
use tidelog_protocol::{Message, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ended::Ended;
use super::framing::Framing;
use crate::config::Config;
use crate::node::Node;

/// What a browser, a scraper or a health check begins with.
const HTTP_METHODS: [&[u8]; 5] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS "];

/// How a connection begins.
pub(super) enum Opening {
    /// With a native preface.
    Native(ProtocolVersion),
    /// With these bytes of a request of Kafka's protocol.
    Kafka([u8; PREFACE_BYTES]),
}

/// Reads them as long as there is time.
///
/// # Errors
/// How the connection ends otherwise.
pub(super) async fn read_in_time(socket: &mut TcpStream, node: &Node) -> Result<Opening, Ended> {
    let patience = Duration::from_millis(node.config.handshake_timeout_ms);
    tokio::select! {
        opening = tokio::time::timeout(patience, read(socket, &node.config)) => {
            opening.unwrap_or(Err(Ended::Handshake(patience)))
        }
        () = node.draining.cancelled() => Err(Ended::Shutdown),
    }
}

/// What a native connection began with.
pub(super) struct Begun {
    pub(super) version: ProtocolVersion,
    /// Its first frame.
    pub(super) frame: Bytes,
    /// Another broker says hello in it.
    pub(super) is_broker: bool,
}

/// Reads all that, and answers the preface; `None` where it speaks Kafka's protocol.
///
/// # Errors
/// As [`read`].
pub(super) async fn read_hello(socket: &mut TcpStream, config: &Config) -> Result<Option<Begun>, Ended> {
    let Opening::Native(version) = read(socket, config).await? else { return Ok(None) };
    let mut head = [0; HEADER_BYTES];
    socket.read_exact(&mut head).await.map_err(Ended::Socket)?;
    let header = Header::decode(&head, FrameLimits::HANDSHAKE)?;
    let mut frame = vec![0; header.frame_bytes() as usize];
    frame[..HEADER_BYTES].copy_from_slice(&head);
    socket.read_exact(&mut frame[HEADER_BYTES..]).await.map_err(Ended::Socket)?;
    let frame = Bytes::from(frame);
    let body = frame.slice(HEADER_BYTES..HEADER_BYTES + header.body_bytes as usize);
    verify(&head, &body)?;
    let is_hello = header.kind == FrameKind::Request && header.api == Api::Hello as u16;
    let hello = is_hello.then(|| HelloRequest::from_body(&body, version).ok()).flatten();
    Ok(Some(Begun { version, frame, is_broker: hello.is_some_and(|hello| hello.peer.is_some()) }))
}

/// Reads them, and answers a native preface.
///
/// # Errors
/// How the connection ends where they are neither.
pub(super) async fn read(socket: &mut TcpStream, config: &Config) -> Result<Opening, Ended> {
    let mut bytes = [0; PREFACE_BYTES];
    match socket.read_exact(&mut bytes).await {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(Ended::ByClient),
        Err(error) => return Err(Ended::Socket(error)),
    }
    if HTTP_METHODS.iter().any(|method| bytes.starts_with(method)) {
        return Err(Ended::Http(config.admin_listen));
    }
    if Framing::of(bytes, config.frame_bytes_max) == Framing::Kafka {
        return Ok(Opening::Kafka(bytes));
    }
    let theirs = Preface::decode(bytes)?.version;
    let agreed = ProtocolVersion::agree(theirs);
    let answer = Preface { version: agreed.unwrap_or(ProtocolVersion(0)), features: 0 };
    socket.write_all(&answer.encode()).await.map_err(Ended::Socket)?;
    agreed.map(Opening::Native).ok_or_else(|| {
        let (oldest, newest) = (ProtocolVersion::OLDEST.0, ProtocolVersion::CURRENT.0);
        FrameError::Version { theirs: theirs.0, oldest, newest }.into()
    })
}
