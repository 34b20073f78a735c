//! Connections that are too many: their clients are told why, a few at a time, and what more come are closed without a word. Other brokers are
//! served all the same: clients must not come between them. Knows nothing of how many there may be.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::api::OneWay;
use tidelog_protocol::frame::{Flags, FrameKind};
use tidelog_protocol::messages::GoAwayPush;
use tidelog_protocol::{CorrelationId, ProtocolVersion};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::listener::attend;
use super::news::News;
use super::opening;
use crate::node::Node;
use crate::outbox::{FrameStamp, OutFrame};

/// So many are told at once.
const TOLD_AT_ONCE: usize = 16;
/// For so long, whatever the client does.
const PATIENCE: Duration = Duration::from_millis(500);
/// So many are served that say they are brokers. They take descriptors that are the broker's own.
const BROKERS_MAX: i64 = 32;

/// Those that are being told.
#[derive(Debug)]
pub(super) struct Refusing(Arc<Semaphore>);

impl Default for Refusing {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOLD_AT_ONCE)))
    }
}

impl Refusing {
    /// Closes it, and tells its client why where that is possible: Kafka's protocol has no words for it. Serves it where it is another broker's.
    pub(super) fn refuse(
        &self,
        node: &Arc<Node>,
        mut socket: TcpStream,
        peer: SocketAddr,
        (most, reason): (i64, String),
        news: &Arc<News>,
    ) {
        let refused = move |node: &Node, news: &News, reason: &str| {
            node.metrics.connections_refused.inc();
            news.refused(peer, reason);
        };
        let Ok(place) = self.0.clone().try_acquire_owned() else { return refused(node, news, &reason) };
        let (node, news) = (node.clone(), news.clone());
        let tasks = node.tasks.clone();
        tasks.spawn(async move {
            let _place = place;
            let hello = tokio::select! {
                () = node.draining.cancelled() => return,
                hello = tokio::time::timeout(PATIENCE, opening::read_hello(&mut socket, &node.config)) => hello,
            };
            let begun = if let Ok(Ok(begun)) = hello { begun } else { None };
            match begun {
                Some(begun) if begun.is_broker && node.metrics.connections.get() < most + BROKERS_MAX => {
                    attend(&node, socket, peer, Some(begun), &news);
                }
                begun => {
                    refused(&node, &news, &reason);
                    if let Some(begun) = begun {
                        // Who does not listen is not told.
                        let _ = tokio::time::timeout(PATIENCE, tell(socket, begun.version, reason)).await;
                    }
                }
            }
        });
    }
}

async fn tell(mut socket: TcpStream, version: ProtocolVersion, reason: String) {
    let api = <GoAwayPush as OneWay>::API as u16;
    let stamp =
        FrameStamp { kind: FrameKind::Push, flags: Flags::default(), api, correlation: CorrelationId(0), version };
    let words = OutFrame::encode(stamp, &GoAwayPush { reason, closes_in_ms: 0 }, Vec::new());
    if socket.write_all(&words.head).await.is_err() {
        return;
    }
    // Closing with unread bytes in the socket would send a reset that overtakes the words.
    let _ = socket.shutdown().await;
    let mut sink = [0; 1024];
    while matches!(socket.read(&mut sink).await, Ok(count) if count > 0) {}
}
