//! The listening socket: accepts, limits, counts. Knows nothing of frames.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tidelog_log::Complaint;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, info, warn};

use super::connection;
use super::ended::Ended;
use crate::node::Node;

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 1024;

/// A bound port.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: TcpListener,
    /// Where it listens; the port is known even where any free one was asked for.
    pub(crate) address: SocketAddr,
}

impl Listener {
    /// Binds `address`. Must be called within a tokio runtime.
    pub(crate) fn bind(address: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        // A restarted broker must not wait for its old connections to leave TIME_WAIT.
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        let socket = TcpListener::from_std(socket.into())?;
        let address = socket.local_addr()?;
        Ok(Self { socket, address })
    }

    /// The socket alone.
    pub(crate) fn into_socket(self) -> TcpListener {
        self.socket
    }
}

/// Accepts connections until the broker drains.
pub(crate) async fn serve(node: Arc<Node>, listener: Listener) {
    let mut refused = Complaint::default();
    // Whatever probes the wrong port does so again and again.
    let strays = Arc::new(Mutex::new(Complaint::default()));
    loop {
        let accepted = tokio::select! {
            () = node.draining.cancelled() => return,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => accept(&node, socket, peer, &strays),
            Err(error) => {
                // Out of descriptors or memory: the connections that are open go on; do not spin.
                if let Some(untold) = refused.again(Instant::now()) {
                    warn!(%error, untold, "cannot accept a connection; raise the file descriptor limit if this goes on");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

fn accept(node: &Arc<Node>, socket: TcpStream, peer: SocketAddr, strays: &Arc<Mutex<Complaint>>) {
    let open = node.metrics.connections.get();
    if open >= i64::from(node.config.connections_max) {
        node.metrics.connections_refused.inc();
        warn!(%peer, open, "connection refused: connections_max is reached");
        return;
    }
    let local = match socket.set_nodelay(true).and_then(|()| socket.local_addr()) {
        Ok(local) => local,
        Err(error) => {
            debug!(%peer, %error, "connection lost before it was served");
            return;
        }
    };
    node.metrics.connections.inc();
    node.metrics.connections_accepted.inc();
    let (served, strays) = (node.clone(), strays.clone());
    node.tasks.spawn(async move {
        let ended = connection::serve(served.clone(), socket, peer, local).await;
        served.metrics.connections.dec();
        match ended {
            Ended::ByClient | Ended::ByReset | Ended::Shutdown | Ended::Idle(_) => {
                debug!(%peer, %ended, "connection closed")
            }
            Ended::Socket(_) | Ended::WithinFrame => info!(%peer, %ended, "connection lost"),
            Ended::Http(_) => {
                served.metrics.connections_faulty.inc();
                if let Some(untold) = strays.lock().again(Instant::now()) {
                    warn!(%peer, %ended, untold, "connection cut off");
                }
            }
            ended => {
                served.metrics.connections_faulty.inc();
                warn!(%peer, %ended, "connection cut off");
            }
        }
    });
}
