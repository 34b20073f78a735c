//! The link to one broker: a bounded queue of requests, and behind it a connection that is made when there is something to say, lost,
//! and made again, not more often than a growing, jittered pause allows. Knows nothing of what the requests mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tidelog_protocol::api::{Api, Request};
use tidelog_protocol::frame::FrameKind;
use tidelog_protocol::{CorrelationId, ErrorCode, Message, ProtocolVersion, WireError};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

use super::dialling::{Dialled, Expected, PeerIdentity, dial, fault, request_header};
use super::frames::{self, Frame};
use crate::member::Address;

/// Requests that may wait to be written.
const QUEUED_MAX: usize = 256;
/// Pauses between two dials.
const PAUSE_MIN: Duration = Duration::from_millis(50);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// A peer that takes nothing for so long is not there.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);

/// Why there is no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum PeerError {
    /// Nothing was sent: it cannot be reached.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// Nothing was sent: too much waits to be.
    #[error("{QUEUED_MAX} requests to it wait already")]
    Busy,
    /// It was sent, then the connection broke: what became of it is unknown.
    #[error("the connection to it broke: {0}")]
    Lost(String),
    /// It was sent, and not answered in time: what became of it is unknown.
    #[error("it did not answer in time")]
    TimedOut,
    /// It says no, or is not who it should be.
    #[error("{0}")]
    Refused(WireError),
}

/// An answer as it came.
#[derive(Debug)]
pub struct Answer {
    pub(super) version: ProtocolVersion,
    pub(super) frame: Frame,
}

impl Answer {
    /// The message and the payload.
    ///
    /// # Errors
    /// [`PeerError::Refused`] where it is a fault, or does not parse.
    pub fn decode<R: Request>(self) -> Result<(R::Response, Bytes), PeerError> {
        if let Some(fault) = fault(&self.frame, self.version) {
            return Err(PeerError::Refused(fault));
        }
        let message = R::Response::from_body(&self.frame.body, self.version).map_err(|error| {
            PeerError::Refused(WireError::new(ErrorCode::Malformed, format!("its answer does not parse: {error}")))
        })?;
        Ok((message, self.frame.payload))
    }
}

type Waiter = oneshot::Sender<Result<Answer, PeerError>>;

/// A request on its way; it is encoded once it is known which version the peer speaks.
struct Call {
    api: Api,
    encode: Box<dyn FnOnce(ProtocolVersion) -> BytesMut + Send>,
    payload: Vec<Bytes>,
    patience: Duration,
    answer: Waiter,
}

/// A link; clones share it. It ends with the last of them.
#[derive(Clone, Debug)]
pub struct Link {
    calls: mpsc::Sender<Call>,
}

impl Link {
    /// To whoever is expected at `address`. Dials when something is asked.
    pub(super) fn start(address: Address, identity: PeerIdentity, expected: Expected) -> Self {
        let (calls, queue) = mpsc::channel(QUEUED_MAX);
        tokio::spawn(run(queue, address, identity, expected));
        Self { calls }
    }

    /// True where it still takes requests.
    pub(super) fn is_open(&self) -> bool {
        !self.calls.is_closed()
    }

    /// Asks and waits for the answer, for no longer than `patience`.
    ///
    /// # Errors
    /// [`PeerError`].
    pub async fn request<R: Request>(
        &self,
        request: R,
        payload: Vec<Bytes>,
        patience: Duration,
    ) -> Result<(R::Response, Bytes), PeerError> {
        let (answer, answered) = oneshot::channel();
        let encode = Box::new(move |version| request.to_body(version));
        let call = Call { api: R::API, encode, payload, patience, answer };
        self.calls.try_send(call).map_err(|_| PeerError::Busy)?;
        match tokio::time::timeout(patience, answered).await {
            Ok(Ok(answer)) => answer?.decode::<R>(),
            Ok(Err(_)) => Err(PeerError::Lost("the link was given up".into())),
            Err(_) => Err(PeerError::TimedOut),
        }
    }
}

async fn run(mut queue: mpsc::Receiver<Call>, address: Address, identity: PeerIdentity, expected: Expected) {
    let mut pause = PAUSE_MIN;
    let mut refused: Option<(Instant, PeerError)> = None;
    while let Some(call) = queue.recv().await {
        if let Some((_, error)) = refused.as_ref().filter(|(until, _)| Instant::now() < *until) {
            // Whoever asked may have stopped waiting; so below.
            let _ = call.answer.send(Err(error.clone()));
            continue;
        }
        match dial(&address, Some(identity), expected).await {
            Ok(dialled) => {
                pause = PAUSE_MIN;
                let error = converse(dialled, call, &mut queue).await;
                refused = Some((Instant::now() + jittered(PAUSE_MIN), error));
            }
            Err(error) => {
                let _ = call.answer.send(Err(error.clone()));
                refused = Some((Instant::now() + jittered(pause), error));
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}

/// Between half of it and all of it, so that brokers do not dial in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + 0.5 * fastrand::f64())
}

/// Requests that were sent and are not answered.
#[derive(Debug, Default)]
struct Pending {
    waiters: Mutex<HashMap<CorrelationId, Waiter>>,
}

/// Sends calls and hands out answers until the connection breaks, or nobody can ask any more.
async fn converse(dialled: Dialled, first: Call, queue: &mut mpsc::Receiver<Call>) -> PeerError {
    let Dialled { socket, version, .. } = dialled;
    let (reading, mut writing) = socket.into_split();
    let pending = Arc::new(Pending::default());
    let mut reader = tokio::spawn(read_answers(reading, version, pending.clone()));
    let mut next = CorrelationId(0);
    let mut call = Some(first);
    let why = loop {
        if let Some(call) = call.take() {
            next.0 += 1;
            match send(&mut writing, version, next, call, &pending).await {
                Ok(()) => {}
                Err(error) => break error,
            }
        }
        tokio::select! {
            asked = queue.recv() => match asked {
                Some(asked) => call = Some(asked),
                None => break "the link is closed".into(),
            },
            ended = &mut reader => break ended.unwrap_or_else(|error| error.to_string()),
        }
    };
    reader.abort();
    for (_, waiter) in pending.waiters.lock().drain() {
        let _ = waiter.send(Err(PeerError::Lost(why.clone())));
    }
    PeerError::Unreachable(why)
}

async fn send(
    socket: &mut OwnedWriteHalf,
    version: ProtocolVersion,
    correlation: CorrelationId,
    call: Call,
    pending: &Pending,
) -> Result<(), String> {
    // Whoever has stopped waiting meanwhile wants nothing sent.
    if call.answer.is_closed() {
        return Ok(());
    }
    let body = (call.encode)(version);
    let header = request_header(call.api, correlation, call.patience);
    pending.waiters.lock().insert(correlation, call.answer);
    match tokio::time::timeout(WRITE_PATIENCE, frames::write(socket, header, &body, &call.payload)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("it took nothing for {WRITE_PATIENCE:?}")),
    }
}

async fn read_answers(mut socket: OwnedReadHalf, version: ProtocolVersion, pending: Arc<Pending>) -> String {
    loop {
        let frame = match frames::read(&mut socket).await {
            Ok(frame) => frame,
            Err(error) => return error.to_string(),
        };
        // Whatever is pushed says that the connection will end; it is seen when it does.
        if frame.header.kind != FrameKind::Response {
            continue;
        }
        if let Some(waiter) = pending.waiters.lock().remove(&frame.header.correlation) {
            let _ = waiter.send(Ok(Answer { version, frame }));
        }
    }
}
