//! The listening socket: accepts, limits, counts. Knows nothing of frames.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};
use tidelog_log::Complaint;
use tokio::net::{TcpListener, TcpStream};
use tracing::{debug, warn};

use super::connection;
use super::ended::Ended;
use super::news::News;
use super::opening::Begun;
use super::refusing::Refusing;
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
    let (news, refusing) = (Arc::new(News::default()), Refusing::default());
    loop {
        let accepted = tokio::select! {
            () = node.draining.cancelled() => return,
            accepted = listener.socket.accept() => accepted,
        };
        match accepted {
            Ok((socket, peer)) => accept(&node, socket, peer, &news, &refusing),
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

fn accept(node: &Arc<Node>, socket: TcpStream, peer: SocketAddr, news: &Arc<News>, refusing: &Refusing) {
    let most = node.files.clients_max(node.registry.len() as u64);
    let count = i64::try_from(most.count).unwrap_or(i64::MAX);
    if node.metrics.connections.get() >= count {
        refusing.refuse(node, socket, peer, (count, most.reason()), news);
        return;
    }
    attend(node, socket, peer, None, news);
}

/// Serves a connection, maybe one of which the beginning was read.
pub(super) fn attend(node: &Arc<Node>, socket: TcpStream, peer: SocketAddr, begun: Option<Begun>, news: &Arc<News>) {
    let local = match socket.set_nodelay(true).and_then(|()| socket.local_addr()) {
        Ok(local) => local,
        Err(error) => {
            debug!(%peer, %error, "connection lost before it was served");
            return;
        }
    };
    node.metrics.connections.inc();
    node.metrics.connections_accepted.inc();
    let (served, news) = (node.clone(), news.clone());
    node.tasks.spawn(async move {
        let ended = connection::serve(served.clone(), socket, (peer, local), begun).await;
        served.metrics.connections.dec();
        match ended {
            Ended::ByClient | Ended::ByReset | Ended::Shutdown | Ended::Idle(_) => {
                debug!(%peer, %ended, "connection closed")
            }
            Ended::Socket(_) | Ended::WithinFrame => news.lost(peer, &ended),
            ended => {
                served.metrics.connections_faulty.inc();
                news.cut_off(peer, &ended);
            }
        }
    });
}
