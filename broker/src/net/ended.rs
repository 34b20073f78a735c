//! Why a connection ended, in the words that its client and the log are told. Knows nothing of how it was found out.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tidelog_protocol::frame::FrameError;

use super::pace::TooSlow;

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum Ended {
    #[error("the client closed the connection")]
    ByClient,
    #[error("the client reset the connection while it waited for nothing")]
    ByReset,
    #[error("the client closed the connection within a frame")]
    WithinFrame,
    #[error("socket: {0}")]
    Socket(io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
    #[error("HTTP on the native port: the admin port is {0}")]
    Http(SocketAddr),
    #[error("{0}")]
    Request(String),
    #[error("the client did not introduce itself within {0:?}")]
    Handshake(Duration),
    #[error("a frame was not complete within {0:?}")]
    SlowFrame(Duration),
    #[error("the broker was out of memory for a frame for {0:?}; send it again later, or raise memory_budget_bytes")]
    NoMemory(Duration),
    #[error(
        "others waited for memory while this frame made too little progress: {} bytes of it came within {:.1?}, {} were the least; send it again faster, or later, or raise memory_budget_bytes",
        .0.came, .0.within, .0.least
    )]
    GivenUp(TooSlow),
    #[error("the client took none of its answers for {0:?}")]
    SlowReader(Duration),
    #[error(
        "others waited for memory while the client took none of its answers for {0:?}, and requests behind them held some"
    )]
    Jammed(Duration),
    #[error(
        "others waited for memory that requests held behind one that has waited for {0:.1?} for something to happen; send them over another connection"
    )]
    Parked(Duration),
    #[error("no traffic for {0:?}")]
    Idle(Duration),
    #[error("the broker shuts down")]
    Shutdown,
}
