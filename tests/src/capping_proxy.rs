//! A way to a broker that lets no newer protocol through than the test says, so that the broker behind it serves as one of an older release; and
//! on which answers can be lost. Knows nothing of what is said but the first eight bytes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use tidelog_protocol::ProtocolVersion;
use tidelog_protocol::frame::{PREFACE_BYTES, Preface};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use crate::loopback;
use crate::patience::wait_until;

#[derive(Clone, Copy, Debug)]
struct Conditions {
    version_max: ProtocolVersion,
    loses_answers: bool,
    /// Grows as all connections are cut.
    cuts: u64,
}

/// The way; connections over it end with its value.
#[derive(Debug)]
pub struct CappingProxy {
    address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    conditions: watch::Sender<Conditions>,
    lost_bytes: Arc<AtomicU64>,
    open: Open,
    task: JoinHandle<()>,
}

/// After how many cuts each open connection began.
type Open = Arc<Mutex<Vec<u64>>>;

impl CappingProxy {
    /// Listens on an address of its own. Whoever dials waits until it leads somewhere.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub async fn open(version_max: ProtocolVersion) -> Self {
        let listener = TcpListener::bind(loopback::fresh()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, targets) = watch::channel(None);
        let (conditions, seen) = watch::channel(Conditions { version_max, loses_answers: false, cuts: 0 });
        let lost_bytes = Arc::new(AtomicU64::new(0));
        let open = Open::default();
        let task = tokio::spawn(accept(listener, targets, seen, (Arc::clone(&lost_bytes), Arc::clone(&open))));
        Self { address, target, conditions, lost_bytes, open, task }
    }

    /// Where to dial.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it leads.
    pub fn lead_to(&self, target: SocketAddr) {
        self.target.send_replace(Some(target));
    }

    /// What the broker says from now on gets lost, until [`CappingProxy::cut`].
    pub fn lose_answers(&self) {
        self.conditions.send_modify(|conditions| conditions.loses_answers = true);
    }

    /// Bytes that were lost so far.
    #[must_use]
    pub fn lost_bytes(&self) -> u64 {
        self.lost_bytes.load(Ordering::SeqCst)
    }

    /// All connections end, and have ended as this returns. New ones lose nothing, and speak this version at most.
    ///
    /// # Panics
    /// Where they do not end.
    pub async fn cut(&self, version_max: ProtocolVersion) {
        self.conditions.send_modify(|conditions| {
            *conditions = Conditions { version_max, loses_answers: false, cuts: conditions.cuts + 1 };
        });
        let cuts = self.conditions.borrow().cuts;
        let are_gone = async || self.open.lock().unwrap().iter().all(|of| *of == cuts).then_some(());
        wait_until("the connections to end", are_gone).await;
    }
}

impl Drop for CappingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    mut targets: watch::Receiver<Option<SocketAddr>>,
    conditions: watch::Receiver<Conditions>,
    (lost_bytes, open): (Arc<AtomicU64>, Open),
) {
    // They end with this task.
    let mut connections = JoinSet::new();
    let Ok(Some(target)) = targets.wait_for(Option::is_some).await.map(|target| *target) else { return };
    while let Ok((client, _)) = listener.accept().await {
        let mut conditions = conditions.clone();
        let (lost_bytes, open) = (Arc::clone(&lost_bytes), Arc::clone(&open));
        let now = *conditions.borrow_and_update();
        open.lock().unwrap().push(now.cuts);
        connections.spawn(async move {
            tokio::select! {
                // Whoever hangs up first ends it.
                _ = carry(client, target, conditions.clone(), &lost_bytes) => {}
                _ = conditions.wait_for(|later| later.cuts > now.cuts) => {}
            }
            let mut open = open.lock().unwrap();
            if let Some(place) = open.iter().position(|of| *of == now.cuts) {
                open.swap_remove(place);
            }
        });
        while connections.try_join_next().is_some() {}
    }
}

async fn carry(
    mut client: TcpStream,
    target: SocketAddr,
    conditions: watch::Receiver<Conditions>,
    lost_bytes: &AtomicU64,
) -> std::io::Result<()> {
    let mut preface = [0; PREFACE_BYTES];
    client.read_exact(&mut preface).await?;
    let asked = Preface::decode(preface).map_err(std::io::Error::other)?;
    let version = asked.version.min(conditions.borrow().version_max);
    let mut broker = TcpStream::connect(target).await?;
    broker.write_all(&Preface { version, ..asked }.encode()).await?;
    let ((from_client, to_client), (from_broker, to_broker)) = (client.into_split(), broker.into_split());
    tokio::select! {
        there = pass(from_client, to_broker, || false, lost_bytes) => there,
        back = pass(from_broker, to_client, || conditions.borrow().loses_answers, lost_bytes) => back,
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    is_lost: impl Fn() -> bool,
    lost_bytes: &AtomicU64,
) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut bytes).await?;
        if read == 0 {
            return Ok(());
        }
        if is_lost() {
            lost_bytes.fetch_add(read as u64, Ordering::SeqCst);
        } else {
            to.write_all(&bytes[..read]).await?;
        }
    }
}
