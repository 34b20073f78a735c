//! The handle on one connection: what is sent, and what waits for an answer. Knows correlation ids and deadlines; what an
//! answer means is its handler's business.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use foldhash::HashMap;
use foldhash::HashMapExt;
use parking_lot::Mutex;
use tidelog_protocol::api::{Api, OneWay, Request};
use tidelog_protocol::frame::{Flags, FrameKind, HEADER_BYTES, Header};
use tidelog_protocol::messages::{Fault, HelloResponse, StreamItemPush};
use tidelog_protocol::{CorrelationId, Message, ProtocolVersion, WireError};
use tokio::net::TcpStream;
use tokio::sync::{Notify, oneshot};
use tokio_util::sync::CancellationToken;

use super::refusals::RefusalHandler;
use super::{Greeting, cut_short, monitor, reader, writer};
use crate::ClientError;
use crate::address::Address;

/// A response as it came: still encoded, its payload a slice of the receive buffer.
pub(crate) struct Reply<'a> {
    pub(super) version: ProtocolVersion,
    pub(super) flags: Flags,
    pub(super) body: &'a [u8],
    pub(super) address: &'a Address,
}

impl Reply<'_> {
    /// The answer to an `R`, or the fault that stands in its place.
    pub(crate) fn decode<R: Request>(&self) -> Result<R::Response, ClientError> {
        let malformed = |error| ClientError::Incompatible {
            address: self.address.clone(),
            reason: format!("its answer to {} does not parse: {error}", R::API.name()),
        };
        if self.flags.contains(Flags::FAULT) {
            let fault = Fault::from_body(self.body, self.version).map_err(malformed)?;
            return Err(WireError::from(fault).into());
        }
        R::Response::from_body(self.body, self.version).map_err(malformed)
    }
}

/// Called once with the answer, or with why there is none; on the reader's task, so it must be quick and must not block.
pub(crate) type ReplyHandler = Box<dyn FnOnce(Result<Reply<'_>, ClientError>) + Send>;

/// Called once when the last byte of a frame went to the socket, or when it never will.
pub(crate) type WrittenHandler = Box<dyn FnOnce(Result<(), ClientError>) + Send>;

/// Receives the items of one stream, in order, on the reader's task.
pub(crate) trait StreamHandler: Send + Sync {
    /// The next item; `payload` is a slice of the receive buffer.
    fn item(&self, item: StreamItemPush, payload: Bytes);
    /// The stream has ended; nothing follows.
    fn ended(&self, error: ClientError);
}

/// What becomes of a frame that was sent.
pub(crate) enum Ticket {
    /// It is answered.
    Answered(ReplyHandler),
    /// So is this, and it may be done twice where it is sent again.
    AnsweredOnce(ReplyHandler),
    /// It is not; this hears when it was written. The frame goes under the id of those refusals, where somebody hears them.
    Written(WrittenHandler, Option<CorrelationId>),
}

/// A frame on its way out.
pub(super) struct Outgoing {
    pub(super) head: Bytes,
    pub(super) payload: Bytes,
    pub(super) written: Option<WrittenHandler>,
}

impl Outgoing {
    pub(super) fn bytes(&self) -> usize {
        self.head.len() + self.payload.len()
    }
}

/// A request without its answer yet.
pub(super) struct Pending {
    pub(super) handler: ReplyHandler,
    pub(super) api: Api,
    pub(super) sent_at: Instant,
    pub(super) timeout: Duration,
    /// Sent again elsewhere, it is not done twice.
    pub(super) repeatable: bool,
}

/// What the tasks and the handles share.
pub(super) struct Wire {
    pub(super) address: Address,
    pub(super) stream: TcpStream,
    pub(super) version: ProtocolVersion,
    pub(super) started: Instant,
    /// Milliseconds after `started` at which bytes came last.
    pub(super) heard_ms: AtomicU64,
    /// The broker asked to leave.
    pub(super) draining: CancellationToken,
    pub(super) state: Mutex<State>,
    /// There is something to write.
    pub(super) outgoing: Notify,
    /// The queue fell below its limit.
    pub(super) drained: Notify,
    pub(super) ended: CancellationToken,
    pub(super) keepalive: Duration,
    request_timeout: Duration,
    deadline: Option<Instant>,
    hello: HelloResponse,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) queue: VecDeque<Outgoing>,
    pub(super) queued_bytes: usize,
    pub(super) pending: HashMap<u64, Pending>,
    pub(super) streams: HashMap<u64, Arc<dyn StreamHandler>>,
    pub(super) refusals: HashMap<u64, RefusalHandler>,
    next_correlation: u64,
    closed: Option<ClientError>,
}

/// Bytes queued above which new requests wait. Produce frames do not: their producer's memory bounds them.
pub(super) const QUEUE_BYTES_MAX: usize = 16 << 20;

/// A handle on an open connection. The connection closes once the last handle is gone and nothing waits for an answer.
#[derive(Clone)]
pub(crate) struct Connection(Arc<LastHandle>);

struct LastHandle(Arc<Wire>);

impl Drop for LastHandle {
    fn drop(&mut self) {
        self.0.close(ClientError::Closed);
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({})", self.wire().address)
    }
}

impl Connection {
    /// The protocol version that both sides speak.
    pub(crate) fn version(&self) -> ProtocolVersion {
        self.wire().version
    }

    pub(super) fn start(
        address: Address,
        stream: TcpStream,
        version: ProtocolVersion,
        hello: HelloResponse,
        greeting: &Greeting,
    ) -> Self {
        let wire = Arc::new(Wire {
            address,
            stream,
            version,
            started: Instant::now(),
            heard_ms: AtomicU64::new(0),
            draining: CancellationToken::new(),
            state: Mutex::new(State { pending: HashMap::new(), next_correlation: 1, ..State::default() }),
            outgoing: Notify::new(),
            drained: Notify::new(),
            ended: CancellationToken::new(),
            keepalive: greeting.keepalive,
            request_timeout: greeting.request_timeout,
            deadline: greeting.deadline,
            hello,
        });
        tokio::spawn(writer::run(Arc::clone(&wire)));
        tokio::spawn(reader::run(Arc::clone(&wire)));
        tokio::spawn(monitor::run(Arc::clone(&wire)));
        Self(Arc::new(LastHandle(wire)))
    }

    pub(super) fn wire(&self) -> &Arc<Wire> {
        &self.0.0
    }

    /// What the broker said of itself.
    pub(crate) fn hello(&self) -> &HelloResponse {
        &self.wire().hello
    }

    pub(crate) fn address(&self) -> &Address {
        &self.wire().address
    }

    /// True where nothing new should be sent here: the connection ended, or the broker asked to leave.
    pub(crate) fn is_leaving(&self) -> bool {
        self.wire().draining.is_cancelled() || self.wire().ended.is_cancelled()
    }

    /// Resolves when the broker asked to leave.
    pub(crate) async fn leaving(&self) {
        self.wire().draining.cancelled().await;
    }

    /// Sends a request and waits for its answer within the request timeout of the client.
    pub(crate) async fn call<R: Request>(&self, request: &R) -> Result<R::Response, ClientError> {
        self.call_with(request, Bytes::new()).await
    }

    /// As [`Connection::call`], with a payload.
    pub(crate) async fn call_with<R: Request>(&self, request: &R, payload: Bytes) -> Result<R::Response, ClientError> {
        self.call_in(request, payload, self.wire().request_timeout).await
    }

    /// As [`Connection::call`], with another patience.
    pub(crate) async fn call_within<R: Request>(
        &self,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        self.call_in(request, Bytes::new(), timeout).await
    }

    async fn call_in<R: Request>(
        &self,
        request: &R,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<R::Response, ClientError> {
        let wire = self.wire();
        wire.room().await?;
        let (sender, receiver) = oneshot::channel();
        let handler: ReplyHandler = Box::new(move |reply| {
            // Nobody listens any more where the caller was dropped.
            let _ = sender.send(reply.and_then(|reply| reply.decode::<R>()));
        });
        let timeout = cut_short(timeout, wire.deadline);
        let correlation = wire.submit(request, payload, timeout, Ticket::Answered(handler), None);
        let _forget = Forget { wire, correlation };
        match tokio::time::timeout(timeout, receiver).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(ClientError::Closed),
            Err(_) => Err(wire.timed_out(R::API, timeout)),
        }
    }

    /// Sends a request with a payload; never waits. The ticket hears what becomes of it, even where the connection has ended.
    pub(crate) fn submit<R: Request>(&self, request: &R, payload: Bytes, timeout: Duration, ticket: Ticket) {
        self.wire().submit(request, payload, timeout, ticket, None);
    }

    /// Opens a stream; its id comes back with the answer to the request. Items may reach `handler` before the answer does.
    pub(crate) async fn open_stream<R: Request>(
        &self,
        request: &R,
        handler: Arc<dyn StreamHandler>,
    ) -> Result<(CorrelationId, R::Response), ClientError> {
        let wire = self.wire();
        wire.room().await?;
        let (sender, receiver) = oneshot::channel();
        let ticket = Ticket::Answered(Box::new(move |reply| {
            let _ = sender.send(reply.and_then(|reply| reply.decode::<R>()));
        }));
        let patience = wire.patience();
        let correlation = wire.submit(request, Bytes::new(), patience, ticket, Some(handler));
        let forget = Forget { wire, correlation };
        let unregister = StreamGuard { wire, correlation, armed: true };
        let response = match tokio::time::timeout(patience, receiver).await {
            Ok(Ok(answer)) => answer?,
            Ok(Err(_)) => return Err(ClientError::Closed),
            Err(_) => return Err(wire.timed_out(R::API, patience)),
        };
        drop(forget);
        unregister.disarm();
        Ok((CorrelationId(correlation), response))
    }

    /// Stops handing items of a stream to its handler.
    pub(crate) fn forget_stream(&self, stream: CorrelationId) {
        drop(self.wire().state.lock().streams.remove(&stream.0));
    }

    /// Sends a message that is never answered. Lost where the connection has ended.
    pub(crate) fn signal<S: OneWay>(&self, signal: &S) {
        debug_assert_eq!(S::KIND, FrameKind::Signal);
        let wire = self.wire();
        let header = Header {
            kind: FrameKind::Signal,
            flags: Flags::default(),
            api: S::API as u16,
            correlation: CorrelationId(0),
            timeout_ms: 0,
            body_bytes: 0,
            payload_bytes: 0,
        };
        let head = wire.encode(header, signal);
        let mut state = wire.state.lock();
        if state.closed.is_none() {
            state.push(Outgoing { head, payload: Bytes::new(), written: None });
            drop(state);
            wire.outgoing.notify_one();
        }
    }
}

impl State {
    pub(super) const fn next_correlation(&mut self) -> u64 {
        self.next_correlation += 1;
        self.next_correlation
    }

    fn push(&mut self, frame: Outgoing) {
        self.queued_bytes += frame.bytes();
        self.queue.push_back(frame);
    }
}

impl Wire {
    /// How long an answer to what is asked now is waited for.
    fn patience(&self) -> Duration {
        cut_short(self.request_timeout, self.deadline)
    }

    pub(super) fn timed_out(&self, api: Api, after: Duration) -> ClientError {
        ClientError::TimedOut { address: self.address.clone(), request: api.name(), after }
    }

    pub(super) fn disconnected(&self, reason: impl Into<String>) -> ClientError {
        ClientError::Disconnected { address: self.address.clone(), reason: reason.into() }
    }

    /// Waits until the queue has room.
    async fn room(&self) -> Result<(), ClientError> {
        loop {
            let drained = self.drained.notified();
            {
                let state = self.state.lock();
                if let Some(error) = &state.closed {
                    return Err(error.clone());
                }
                if state.queued_bytes < QUEUE_BYTES_MAX {
                    return Ok(());
                }
            }
            tokio::select! {
                () = drained => {}
                () = self.ended.cancelled() => {}
            }
        }
    }

    /// The head of a frame: `header`, completed with the length of the body, and the body.
    fn encode<M: Message>(&self, header: Header, message: &M) -> Bytes {
        let mut head = BytesMut::with_capacity(HEADER_BYTES + 96);
        head.extend_from_slice(&[0; HEADER_BYTES]);
        message.encode(&mut head, self.version);
        let (front, body) = head.split_at_mut(HEADER_BYTES);
        front.copy_from_slice(&Header { body_bytes: body.len() as u32, ..header }.encode(&[body]));
        head.freeze()
    }

    pub(super) fn submit<R: Request>(
        &self,
        request: &R,
        payload: Bytes,
        timeout: Duration,
        ticket: Ticket,
        stream: Option<Arc<dyn StreamHandler>>,
    ) -> u64 {
        let correlation = match ticket {
            Ticket::Written(_, Some(shared)) => shared.0,
            _ => self.state.lock().next_correlation(),
        };
        let header = Header {
            kind: FrameKind::Request,
            flags: Flags::default(),
            api: R::API as u16,
            correlation: CorrelationId(correlation),
            timeout_ms: timeout.as_millis().min(u32::MAX.into()) as u32,
            body_bytes: 0,
            payload_bytes: payload.len() as u32,
        };
        let head = self.encode(header, request);
        let mut state = self.state.lock();
        if let Some(error) = state.closed.clone() {
            drop(state);
            // Never sent, whatever became of what was sent before it.
            let error = ClientError::Unreachable { address: self.address.clone(), reason: error.to_string() };
            match ticket {
                Ticket::Answered(handler) | Ticket::AnsweredOnce(handler) => handler(Err(error)),
                Ticket::Written(handler, _) => handler(Err(error)),
            }
            return correlation;
        }
        let repeatable = !matches!(ticket, Ticket::AnsweredOnce(_));
        let written = match ticket {
            Ticket::Answered(handler) | Ticket::AnsweredOnce(handler) => {
                let pending = Pending { handler, api: R::API, sent_at: Instant::now(), timeout, repeatable };
                state.pending.insert(correlation, pending);
                None
            }
            Ticket::Written(handler, _) => Some(handler),
        };
        if let Some(handler) = stream {
            state.streams.insert(correlation, handler);
        }
        state.push(Outgoing { head, payload, written });
        drop(state);
        self.outgoing.notify_one();
        correlation
    }

    /// Ends the connection, once: everyone who waits hears why.
    pub(super) fn close(&self, reason: ClientError) {
        let (pending, streams, queue, refusals) = {
            let mut state = self.state.lock();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some(reason.clone());
            state.queued_bytes = 0;
            let pending = std::mem::take(&mut state.pending);
            let streams = std::mem::take(&mut state.streams);
            (pending, streams, std::mem::take(&mut state.queue), std::mem::take(&mut state.refusals))
        };
        drop(refusals);
        self.ended.cancel();
        self.drained.notify_waiters();
        // In the order they were sent, so that what is sent again is sent in that order too.
        let mut pending: Vec<(u64, Pending)> = pending.into_iter().collect();
        pending.sort_unstable_by_key(|(correlation, _)| *correlation);
        for (_, pending) in pending {
            (pending.handler)(Err(reason.clone()));
        }
        for frame in queue {
            if let Some(written) = frame.written {
                written(Err(reason.clone()));
            }
        }
        for (_, stream) in streams {
            stream.ended(reason.clone());
        }
    }
}

/// Takes a request off the table where its caller went away before the answer came.
struct Forget<'a> {
    wire: &'a Wire,
    correlation: u64,
}

impl Drop for Forget<'_> {
    fn drop(&mut self) {
        let forgotten = self.wire.state.lock().pending.remove(&self.correlation);
        drop(forgotten);
    }
}

/// Takes a stream off the table where it never came about.
struct StreamGuard<'a> {
    wire: &'a Wire,
    correlation: u64,
    armed: bool,
}

impl StreamGuard<'_> {
    fn disarm(mut self) {
        self.armed = false;
    }
}

impl Drop for StreamGuard<'_> {
    fn drop(&mut self) {
        if self.armed {
            let forgotten = self.wire.state.lock().streams.remove(&self.correlation);
            drop(forgotten);
        }
    }
}
