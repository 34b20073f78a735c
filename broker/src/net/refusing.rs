//! Connections that are too many: their clients are told why, a few at a time, and what more come are closed without a word. Knows nothing of how many
//! there may be.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::CorrelationId;
use tidelog_protocol::api::OneWay;
use tidelog_protocol::frame::{Flags, FrameKind};
use tidelog_protocol::messages::GoAwayPush;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;

use super::opening::{self, Opening};
use crate::node::Node;
use crate::outbox::{FrameStamp, OutFrame};

/// So many are told at once.
const TOLD_AT_ONCE: usize = 16;
/// For so long, whatever the client does.
const PATIENCE: Duration = Duration::from_millis(500);

/// Those that are being told.
#[derive(Debug)]
pub(super) struct Refusing(Arc<Semaphore>);

impl Default for Refusing {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(TOLD_AT_ONCE)))
    }
}

impl Refusing {
    /// Closes it, and tells its client why where that is possible: Kafka's protocol has no words for it.
    pub(super) fn refuse(&self, node: &Arc<Node>, mut socket: TcpStream, reason: String) {
        let Ok(place) = self.0.clone().try_acquire_owned() else { return };
        let told = node.clone();
        node.tasks.spawn(async move {
            let _place = place;
            let telling = async {
                let Ok(Opening::Native(version)) = opening::read(&mut socket, &told.config).await else { return };
                let api = <GoAwayPush as OneWay>::API as u16;
                let stamp = FrameStamp {
                    kind: FrameKind::Push,
                    flags: Flags::default(),
                    api,
                    correlation: CorrelationId(0),
                    version,
                };
                let words = OutFrame::encode(stamp, &GoAwayPush { reason, closes_in_ms: 0 }, Vec::new());
                if socket.write_all(&words.head).await.is_err() {
                    return;
                }
                // Closing with unread bytes in the socket would send a reset that overtakes the words.
                let _ = socket.shutdown().await;
                let mut sink = [0; 1024];
                while matches!(socket.read(&mut sink).await, Ok(count) if count > 0) {}
            };
            tokio::select! {
                () = told.draining.cancelled() => {}
                _ = tokio::time::timeout(PATIENCE, telling) => {}
            }
        });
    }
}
