//! Making a connection to another broker: preface, hello, and the check on both sides that the other is who it should be. Knows
//! nothing of what is said afterwards.

use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tidelog_protocol::api::{Api, Request};
use tidelog_protocol::frame::{Flags, FrameKind, Header, PREFACE_BYTES, Preface};
use tidelog_protocol::messages::{Fault, HelloRequest, HelloResponse, PeerHello};
use tidelog_protocol::{BrokerId, ClusterId, CorrelationId, ErrorCode, Message, ProtocolVersion, WireError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::frames;
use super::link::{Answer, PeerError};
use crate::member::{Address, Member};
use crate::node::SOFTWARE;

/// Brokers speak to each other from this version on.
const OLDEST: ProtocolVersion = ProtocolVersion(2);
/// How long a dial may take, hello included.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes that nobody has confirmed for so long mean that nobody is there.
const UNCONFIRMED: Duration = Duration::from_secs(3);

/// Who dials.
#[derive(Clone, Copy, Debug)]
pub struct PeerIdentity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Itself.
    pub member: Member,
}

/// Who must be at the other end.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// A broker of the cluster.
    Anyone,
    /// This broker, whichever life of its folder.
    Broker(BrokerId),
    /// This member.
    Member(Member),
}

/// A connection that is ready for requests.
#[derive(Debug)]
pub(super) struct Dialled {
    pub(super) socket: TcpStream,
    pub(super) version: ProtocolVersion,
    pub(super) hello: HelloResponse,
}

/// Dials; `identity` is absent where this broker does not belong to a cluster yet.
pub(super) async fn dial(
    address: &Address,
    identity: Option<PeerIdentity>,
    expected: Expected,
) -> Result<Dialled, PeerError> {
    let dialled = async {
        let unreachable = |error: std::io::Error| PeerError::Unreachable(format!("{address}: {error}"));
        let mut socket = TcpStream::connect((address.host.as_str(), address.port)).await.map_err(unreachable)?;
        set_up(&socket).map_err(unreachable)?;
        let version = exchange_prefaces(&mut socket, address).await?;
        let hello = say_hello(&mut socket, version, identity, expected).await?;
        check(&hello, identity, expected)?;
        Ok(Dialled { socket, version, hello })
    };
    tokio::time::timeout(PATIENCE, dialled)
        .await
        .unwrap_or_else(|_| Err(PeerError::Unreachable(format!("{address}: no answer within {PATIENCE:?}"))))
}

/// One request on a connection of its own. Says who answered, too.
///
/// # Errors
/// [`PeerError`].
pub async fn dial_once<R: Request>(
    address: &Address,
    identity: Option<PeerIdentity>,
    request: &R,
    patience: Duration,
) -> Result<(HelloResponse, R::Response), PeerError> {
    let Dialled { mut socket, version, hello } = dial(address, identity, Expected::Anyone).await?;
    let asked = ask(&mut socket, version, request, patience);
    let frame = tokio::time::timeout(patience, asked).await.map_err(|_| PeerError::TimedOut)??;
    Ok((hello, Answer { version, frame }.decode::<R>()?.0))
}

fn set_up(socket: &TcpStream) -> std::io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    socket.set_tcp_user_timeout(Some(UNCONFIRMED))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(UNCONFIRMED).with_interval(Duration::from_secs(1)))
}

async fn exchange_prefaces(socket: &mut TcpStream, address: &Address) -> Result<ProtocolVersion, PeerError> {
    let unreachable = |error: std::io::Error| PeerError::Unreachable(format!("{address}: {error}"));
    let ours = Preface { version: ProtocolVersion::CURRENT, features: 0 };
    socket.write_all(&ours.encode()).await.map_err(unreachable)?;
    let mut theirs = [0; PREFACE_BYTES];
    socket.read_exact(&mut theirs).await.map_err(unreachable)?;
    let stranger = |error| {
        let sentence = format!("at {address} somebody answers who is no broker: {error}");
        PeerError::Refused(WireError::new(ErrorCode::WrongPeer, sentence))
    };
    let version = Preface::decode(theirs).map_err(stranger)?.version;
    if version < OLDEST || version > ProtocolVersion::CURRENT {
        let (newest, found) = (ProtocolVersion::CURRENT, version);
        let sentence = format!(
            "{address} speaks version {found} of the protocol, brokers speak {OLDEST} to {newest}: upgrade the older one"
        );
        return Err(PeerError::Refused(WireError::new(ErrorCode::Unsupported, sentence)));
    }
    Ok(version)
}

async fn say_hello(
    socket: &mut TcpStream,
    version: ProtocolVersion,
    identity: Option<PeerIdentity>,
    expected: Expected,
) -> Result<HelloResponse, PeerError> {
    let expects = match expected {
        Expected::Anyone => None,
        Expected::Broker(broker) | Expected::Member(Member { broker, .. }) => Some(broker),
    };
    let peer = identity.map(|PeerIdentity { cluster, member }| PeerHello {
        cluster_id: cluster,
        broker_id: member.broker,
        incarnation: member.incarnation,
        expects,
    });
    let client_id = identity.map_or_else(|| "broker".into(), |identity| format!("broker-{}", identity.member.broker));
    let hello = HelloRequest { client_id, software: SOFTWARE.into(), peer };
    let frame = ask(socket, version, &hello, PATIENCE).await?;
    Ok(Answer { version, frame }.decode::<HelloRequest>()?.0)
}

/// Sends one request and reads its answer; nothing else is under way on the socket.
async fn ask<R: Request>(
    socket: &mut TcpStream,
    version: ProtocolVersion,
    request: &R,
    patience: Duration,
) -> Result<frames::Frame, PeerError> {
    let body = request.to_body(version);
    let lost = |error: String| PeerError::Lost(error);
    frames::write(socket, request_header(R::API, CorrelationId(0), patience), &body, &[])
        .await
        .map_err(|error| lost(error.to_string()))?;
    loop {
        let frame = frames::read(socket).await.map_err(|error| lost(error.to_string()))?;
        if frame.header.kind == FrameKind::Response {
            return Ok(frame);
        }
    }
}

/// The header of a request, without its lengths.
pub(super) fn request_header(api: Api, correlation: CorrelationId, patience: Duration) -> Header {
    Header {
        kind: FrameKind::Request,
        flags: Flags::default(),
        api: api as u16,
        correlation,
        timeout_ms: u32::try_from(patience.as_millis()).unwrap_or(u32::MAX),
        body_bytes: 0,
        payload_bytes: 0,
    }
}

fn check(hello: &HelloResponse, identity: Option<PeerIdentity>, expected: Expected) -> Result<(), PeerError> {
    let wrong = |sentence: String| Err(PeerError::Refused(WireError::new(ErrorCode::WrongPeer, sentence)));
    if let Some(identity) = identity
        && hello.cluster_id != identity.cluster
    {
        return wrong(format!("it belongs to cluster {}, not to {}", hello.cluster_id, identity.cluster));
    }
    let there = Member { broker: hello.broker_id, incarnation: hello.incarnation };
    match expected {
        Expected::Broker(broker) if there.broker != broker => {
            wrong(format!("it is broker {}, not {broker}", there.broker))
        }
        Expected::Member(member) if there != member => wrong(format!("it is {there}, not {member}")),
        _ => Ok(()),
    }
}

/// The fault that an answer is, if it is one.
pub(super) fn fault(frame: &frames::Frame, version: ProtocolVersion) -> Option<WireError> {
    frame.header.flags.contains(Flags::FAULT).then(|| match Fault::from_body(&frame.body, version) {
        Ok(fault) => fault.into(),
        Err(error) => WireError::new(ErrorCode::Internal, format!("a fault that does not parse: {error}")),
    })
}
