//! The socket of the admin port. Whoever connects gets one answer: within a time, for a request of a bounded size, and a newcomer takes the
//! place of the oldest where too many are there, so that no crowd of silent ones keeps an operator out. Knows nothing of HTTP but
//! how to say no in it, and nothing of what is asked.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tidelog_log::Complaint;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Sleep, sleep};
use tokio_util::sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned};
use tracing::{debug, warn};

/// Most bytes of a request, line and headers and all.
const REQUEST_BYTES_MAX: usize = 16 << 10;

/// What the broker's end leaves to requests that have begun, and to their answers.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// The listening socket.
#[derive(Debug)]
pub(crate) struct AdminPort {
    socket: TcpListener,
    connections_max: usize,
    timeout: Duration,
    stop: CancellationToken,
    /// Oldest first; cancelled ones are gone.
    open: VecDeque<CancellationToken>,
    refused: Complaint,
}

impl AdminPort {
    /// Over a bound socket. From accepting to the end of its answer a connection has `timeout`, and a moment once `stop` is cancelled.
    pub(crate) fn new(socket: TcpListener, connections_max: u32, timeout: Duration, stop: CancellationToken) -> Self {
        Self {
            socket,
            connections_max: connections_max as usize,
            timeout,
            stop,
            open: VecDeque::new(),
            refused: Complaint::default(),
        }
    }

    fn admit(&mut self, socket: TcpStream) -> Visit {
        self.open.retain(|visit| !visit.is_cancelled());
        while self.open.len() >= self.connections_max {
            let Some(oldest) = self.open.pop_front() else { break };
            oldest.cancel();
        }
        let token = CancellationToken::new();
        self.open.push_back(token.clone());
        let stop = self.stop.clone();
        Visit {
            socket,
            too_late: Box::pin(sleep(self.timeout)),
            stopped: Box::pin(async move {
                stop.cancelled().await;
                sleep(LAST_WORDS).await;
            }),
            displaced: Box::pin(token.clone().cancelled_owned()),
            read_bytes: 0,
            stage: Stage::Asking,
            _gone: token.drop_guard(),
        }
    }
}

impl axum::serve::Listener for AdminPort {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        loop {
            match self.socket.accept().await {
                Ok((socket, peer)) => return (self.admit(socket), peer),
                Err(error) => {
                    // Out of descriptors or memory: do not spin.
                    if let Some(untold) = self.refused.again(Instant::now()) {
                        warn!(%error, untold, "cannot accept a connection to the admin port");
                    }
                    sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    Asking,
    /// The first byte of an answer is out.
    Answering,
    /// It was told no. What it still sends is dropped: a close with bytes unread would take the no back.
    Refused,
}

/// One connection.
pub(crate) struct Visit {
    socket: TcpStream,
    too_late: Pin<Box<Sleep>>,
    /// The broker's end, and a moment more.
    stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
    displaced: Pin<Box<WaitForCancellationFutureOwned>>,
    read_bytes: usize,
    stage: Stage,
    /// Tells the port.
    _gone: DropGuard,
}

impl Visit {
    fn check(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        if self.too_late.as_mut().poll(context).is_ready() {
            self.refuse("408 Request Timeout", "the request and its answer took longer than admin_timeout_ms");
            return Err(io::ErrorKind::TimedOut.into());
        }
        if self.stopped.as_mut().poll(context).is_ready() {
            self.refuse("503 Service Unavailable", "the broker stops");
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if self.displaced.as_mut().poll(context).is_ready() {
            self.refuse(
                "503 Service Unavailable",
                "admin_connections_max is reached and this was the oldest connection",
            );
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    fn refuse(&mut self, status: &str, why: &str) {
        debug!(status, why, "admin port: a connection is refused");
        if self.stage == Stage::Asking {
            let length = why.len() + 1;
            let answer = format!(
                "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-type: text/plain\r\ncontent-length: {length}\r\n\r\n{why}\n"
            );
            // Nothing was written before, so the socket takes it, or it is broken.
            let _ = self.socket.try_write(answer.as_bytes());
        }
        self.stage = Stage::Refused;
    }
}

impl AsyncRead for Visit {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check(context)?;
        loop {
            let mut space = [0; 4096];
            let room = if self.stage == Stage::Refused { space.len() } else { into.remaining().min(space.len()) };
            let mut part = ReadBuf::new(&mut space[..room]);
            ready!(Pin::new(&mut self.socket).poll_read(context, &mut part))?;
            let bytes = part.filled();
            self.read_bytes += bytes.len();
            if bytes.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if self.stage != Stage::Refused {
                if self.read_bytes <= REQUEST_BYTES_MAX {
                    into.put_slice(bytes);
                    return Poll::Ready(Ok(()));
                }
                self.refuse("431 Request Header Fields Too Large", "a request here has at most 16384 bytes");
            }
        }
    }
}

impl AsyncWrite for Visit {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check(context)?;
        if self.stage == Stage::Refused {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.stage = Stage::Answering;
        Pin::new(&mut self.socket).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
