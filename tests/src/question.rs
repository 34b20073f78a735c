//! One question to a broker that may be dead, paused or cut off: an answer, or why there is none, within seconds. Knows nothing of what is
//! asked.

use std::net::SocketAddr;
use std::time::Duration;

use tidelog_protocol::api::Request;
use tidelog_protocol::frame::{Flags, FrameKind, FrameLimits, HEADER_BYTES, Header, PREFACE_BYTES, Preface};
use tidelog_protocol::messages::{Fault, HelloRequest};
use tidelog_protocol::{CorrelationId, Message, ProtocolVersion, WireError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// How long a broker has for its answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long it has for saying hello: whoever takes longer is not there.
const HELLO_PATIENCE: Duration = Duration::from_secs(2);

/// Why there is no answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum NoAnswer {
    /// The broker said so.
    Fault(WireError),
    /// Nobody spoke.
    Silence(String),
}

/// Asks once, on a connection of its own.
///
/// # Errors
/// [`NoAnswer`].
pub async fn ask<R: Request>(address: SocketAddr, request: &R) -> Result<R::Response, NoAnswer> {
    ask_with(address, request, &[]).await
}

/// As [`ask`], with a payload.
///
/// # Errors
/// [`NoAnswer`].
pub async fn ask_with<R: Request>(address: SocketAddr, request: &R, payload: &[u8]) -> Result<R::Response, NoAnswer> {
    let mut socket = within(HELLO_PATIENCE, introduced(address)).await?;
    within(PATIENCE, exchange(&mut socket, request, payload)).await
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, NoAnswer>>) -> Result<T, NoAnswer> {
    let outcome = tokio::time::timeout(limit, work).await;
    outcome.unwrap_or_else(|_| Err(NoAnswer::Silence(format!("no answer within {limit:?}"))))
}

async fn introduced(address: SocketAddr) -> Result<TcpStream, NoAnswer> {
    let mut socket = TcpStream::connect(address).await.map_err(silence)?;
    socket.set_nodelay(true).map_err(silence)?;
    let preface = Preface { version: ProtocolVersion::CURRENT, features: 0 };
    socket.write_all(&preface.encode()).await.map_err(silence)?;
    let mut answer = [0; PREFACE_BYTES];
    socket.read_exact(&mut answer).await.map_err(silence)?;
    let hello = HelloRequest { client_id: "test".into(), software: "tidelog-tests".into(), peer: None };
    exchange(&mut socket, &hello, &[]).await?;
    Ok(socket)
}

async fn exchange<R: Request>(socket: &mut TcpStream, request: &R, payload: &[u8]) -> Result<R::Response, NoAnswer> {
    let body = request.to_body(ProtocolVersion::CURRENT);
    let header = Header {
        kind: FrameKind::Request,
        flags: Flags::default(),
        api: R::API as u16,
        correlation: CorrelationId(u64::from(R::API as u16)),
        timeout_ms: PATIENCE.as_millis() as u32,
        body_bytes: u32::try_from(body.len()).map_err(silence)?,
        payload_bytes: u32::try_from(payload.len()).map_err(silence)?,
    };
    socket.write_all(&[&header.encode(&[&body])[..], &body, payload].concat()).await.map_err(silence)?;
    loop {
        let mut bytes = [0; HEADER_BYTES];
        socket.read_exact(&mut bytes).await.map_err(silence)?;
        let limits = FrameLimits { frame_bytes: 128 << 20, body_bytes: 16 << 20 };
        let answer = Header::decode(&bytes, limits).map_err(silence)?;
        let mut body = vec![0; answer.body_bytes as usize + answer.payload_bytes as usize];
        socket.read_exact(&mut body).await.map_err(silence)?;
        body.truncate(answer.body_bytes as usize);
        if answer.kind != FrameKind::Response || answer.correlation != header.correlation {
            continue;
        }
        if answer.flags.contains(Flags::FAULT) {
            let fault = Fault::from_body(&body, ProtocolVersion::CURRENT).map_err(silence)?;
            return Err(NoAnswer::Fault(fault.into()));
        }
        return R::Response::from_body(&body, ProtocolVersion::CURRENT).map_err(silence);
    }
}

fn silence(error: impl ToString) -> NoAnswer {
    NoAnswer::Silence(error.to_string())
}
