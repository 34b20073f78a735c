//! The first bytes of a connection: which protocol it speaks, and in which version. Knows nothing of what follows.

use std::io;

use tidelog_protocol::ProtocolVersion;
use tidelog_protocol::frame::{FrameError, PREFACE_BYTES, Preface};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::ended::Ended;
use super::framing::Framing;
use crate::config::Config;

/// What a browser, a scraper or a health check begins with.
const HTTP_METHODS: [&[u8]; 5] = [b"GET ", b"HEAD ", b"POST ", b"PUT ", b"OPTIONS "];

/// How a connection begins.
pub(super) enum Opening {
    /// With a native preface.
    Native(ProtocolVersion),
    /// With these bytes of a request of Kafka's protocol.
    Kafka([u8; PREFACE_BYTES]),
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
