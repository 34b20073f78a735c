//! One client as the handlers see it: where it is, what it said, how to answer it, which streams it has. Knows nothing of
//! sockets; the connection drains the outbox.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tidelog_protocol::api::{Api, OneWay, Request};
use tidelog_protocol::frame::{Flags, FrameKind, FrameLimits, HEADER_BYTES, Header};
use tidelog_protocol::messages::Fault;
use tidelog_protocol::{CorrelationId, ErrorCode, Message, ProtocolVersion, WireError};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::budget::Holder;
use crate::detour::Detour;
use crate::member::Member;
use crate::outbox::{FrameStamp, OutFrame, Outbox};
use crate::streams::Streams;

/// Requests of one client, produce aside, that are worked on at once.
const TURNS: usize = 8;

/// One client.
#[derive(Debug)]
pub struct Session {
    /// Where it comes from.
    pub peer: SocketAddr,
    /// The address that it dialled.
    pub local: SocketAddr,
    /// The version it speaks.
    pub version: ProtocolVersion,
    /// What leaves for it.
    pub outbox: Arc<Outbox>,
    /// Its streams.
    pub streams: Streams,
    /// Ends with the connection.
    pub closed: CancellationToken,
    /// True once it said hello.
    pub introduced: AtomicBool,
    /// Which broker it is, if it is one.
    member: OnceLock<Member>,
    /// Its name for itself.
    pub client_id: Mutex<String>,
    /// Produce requests that take long to check, and those behind them.
    pub detour: Detour,
    /// Whether its requests hold memory of the budget.
    pub holder: Holder,
    /// How many requests, produce aside, are worked on at once.
    pub turns: Semaphore,
    /// Since when what it asked first waits for something to happen, with all that it asked behind it.
    parked: Mutex<Option<Instant>>,
    unanswered: AtomicUsize,
    under_way: Gauge,
}

impl Session {
    /// A client that has not said hello yet.
    #[must_use]
    pub fn new(
        peer: SocketAddr,
        local: SocketAddr,
        version: ProtocolVersion,
        closed: CancellationToken,
        under_way: Gauge,
    ) -> Arc<Self> {
        Arc::new(Self {
            peer,
            local,
            version,
            outbox: Arc::default(),
            streams: Streams::default(),
            closed,
            introduced: AtomicBool::new(false),
            member: OnceLock::new(),
            client_id: Mutex::default(),
            detour: Detour::default(),
            holder: Holder::default(),
            turns: Semaphore::new(TURNS),
            parked: Mutex::default(),
            unanswered: AtomicUsize::new(0),
            under_way,
        })
    }

    /// Notes which broker it is; the first that was said holds.
    pub fn introduce_member(&self, member: Member) {
        let _ = self.member.set(member);
    }

    /// Which broker it is.
    ///
    /// # Errors
    /// Unsupported where it is none.
    pub fn member(&self) -> Result<Member, WireError> {
        self.member.get().copied().ok_or_else(|| {
            WireError::new(ErrorCode::Unsupported, "only brokers that said in their Hello who they are ask for this")
        })
    }

    /// Requests not answered yet.
    #[must_use]
    pub fn unanswered(&self) -> usize {
        self.unanswered.load(Ordering::Acquire)
    }

    /// What it asked first waits for something to happen, until this is dropped.
    pub fn parks(&self) -> Parked<'_> {
        *self.parked.lock() = Some(Instant::now());
        Parked(self)
    }

    /// For how long that has been so.
    #[must_use]
    pub fn parked_for(&self) -> Option<Duration> {
        self.parked.lock().map(|since| since.elapsed())
    }

    /// Pushes a message that nobody asked for.
    pub fn push<M: OneWay>(&self, message: &M) {
        let stamp = self.stamp(FrameKind::Push, M::API as u16, CorrelationId(0));
        self.outbox.push(OutFrame::encode(stamp, message, Vec::new()));
    }

    /// The stamp of a frame to this client, without flags.
    #[must_use]
    pub fn stamp(&self, kind: FrameKind, api: u16, correlation: CorrelationId) -> FrameStamp {
        FrameStamp { kind, flags: Flags::default(), api, correlation, version: self.version }
    }

    /// The duty to answer a request that arrived then.
    pub fn reply_to(self: &Arc<Self>, header: &Header, arrived: Instant) -> Reply {
        let under_way = UnderWay::begin(self);
        let deadline = (header.timeout_ms > 0).then(|| arrived + Duration::from_millis(u64::from(header.timeout_ms)));
        Reply {
            session: self.clone(),
            api: header.api,
            correlation: header.correlation,
            deadline,
            answered: false,
            mute: false,
            _under_way: under_way,
        }
    }
}

/// What a client asked first waits for something to happen.
#[derive(Debug)]
pub struct Parked<'a>(&'a Session);

impl Drop for Parked<'_> {
    fn drop(&mut self) {
        *self.0.parked.lock() = None;
    }
}

/// A request that is not answered yet. Dropped once it is.
#[derive(Debug)]
pub struct UnderWay {
    session: Arc<Session>,
}

impl UnderWay {
    /// Counts one more.
    #[must_use]
    pub fn begin(session: &Arc<Session>) -> Self {
        session.unanswered.fetch_add(1, Ordering::AcqRel);
        session.under_way.inc();
        Self { session: session.clone() }
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.session.under_way.dec();
        self.session.unanswered.fetch_sub(1, Ordering::AcqRel);
        self.session.outbox.poke();
    }
}

/// The duty to answer one request. Dropped without an answer it says Internal, so that no client waits for nothing.
#[derive(Debug)]
#[must_use]
pub struct Reply {
    /// Who asked.
    pub session: Arc<Session>,
    /// When nobody waits for the answer any more.
    pub deadline: Option<Instant>,
    api: u16,
    correlation: CorrelationId,
    answered: bool,
    /// Whatever is said is not sent.
    mute: bool,
    /// Held for its drop, which follows the answer.
    _under_way: UnderWay,
}

impl Reply {
    /// Answers.
    pub fn send<M: Message>(mut self, message: &M) {
        self.answer(Flags::default(), message);
    }

    /// Answers with a result.
    pub fn finish<R: Request>(self, result: Result<R::Response, WireError>) {
        match result {
            Ok(response) => self.send(&response),
            Err(error) => self.fail(error),
        }
    }

    /// Answers that it went wrong.
    pub fn fail(mut self, error: WireError) {
        self.answer(Flags::FAULT, &Fault::from(error));
    }

    /// Nothing that is said from now on is sent, not even that it was dropped: the client takes no answer to this.
    pub const fn mute(mut self) -> Self {
        self.mute = true;
        self
    }

    /// Ends the duty of a request that wants no answer.
    pub fn stay_silent(mut self) {
        self.answered = true;
    }

    /// The request's correlation id, which names the stream that it opens.
    #[must_use]
    pub fn correlation(&self) -> CorrelationId {
        self.correlation
    }

    fn answer<M: Message>(&mut self, flags: Flags, message: &M) {
        self.answered = true;
        if self.mute {
            return;
        }
        let stamp = FrameStamp { flags, ..self.session.stamp(FrameKind::Response, self.api, self.correlation) };
        let mut frame = OutFrame::encode(stamp, message, Vec::new());
        let (bytes, limit) = (frame.head.len() - HEADER_BYTES, FrameLimits::DEFAULT.body_bytes);
        // No client takes more: it would break the connection, and all that waits on it.
        if bytes > limit as usize {
            let sentence =
                format!("the answer would take {bytes} bytes, over the limit of {limit}; ask for less at once");
            let fault = Fault::from(WireError::new(ErrorCode::TooLarge, sentence));
            frame = OutFrame::encode(FrameStamp { flags: Flags::FAULT, ..stamp }, &fault, Vec::new());
        }
        self.session.outbox.push(frame);
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if !self.answered {
            let api = Api::from_u16(self.api).map_or("?", Api::name);
            let sentence =
                format!("the broker dropped a {api} request without an answer; what became of it is unknown");
            self.answer(Flags::FAULT, &Fault::from(WireError::new(ErrorCode::Internal, sentence)));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use tidelog_protocol::TopicName;
    use tidelog_protocol::messages::DescribeTopicsResponse;

    use super::*;

    #[test]
    fn an_answer_that_no_client_takes_becomes_a_refusal() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let version = ProtocolVersion::CURRENT;
        let session = Session::new(address, address, version, CancellationToken::new(), Gauge::default());
        let header = Header {
            kind: FrameKind::Request,
            flags: Flags::default(),
            api: Api::DescribeTopics as u16,
            correlation: CorrelationId(7),
            timeout_ms: 0,
            body_bytes: 0,
            payload_bytes: 0,
        };
        let name = TopicName::new(&"n".repeat(200)).unwrap();
        for (count, flags) in [(40_000, Flags::default()), (50_000, Flags::FAULT)] {
            let answer = DescribeTopicsResponse { topics: Vec::new(), unknown: vec![name.clone(); count] };
            session.reply_to(&header, Instant::now()).send(&answer);
            let mut frames = VecDeque::new();
            session.outbox.take(&mut frames, 2);
            assert_eq!(frames.len(), 1);
            let head = frames[0].head.first_chunk::<HEADER_BYTES>().unwrap();
            let sent = Header::decode(head, FrameLimits::DEFAULT).unwrap();
            assert_eq!((sent.flags, sent.correlation), (flags, CorrelationId(7)));
            if flags == Flags::FAULT {
                let fault = Fault::from_body(&frames[0].head[HEADER_BYTES..], version).unwrap();
                let error = WireError::from(fault);
                assert_eq!(error.code, ErrorCode::TooLarge);
                assert!(error.message.contains("over the limit of 8388608; ask for less at once"), "{error}");
            }
        }
    }
}
