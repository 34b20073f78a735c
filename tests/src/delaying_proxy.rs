//! A way to a broker that takes its time: bytes pass late, or not until the test lets them, and always in order. Knows nothing of what they
//! say.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use crate::loopback;

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;
/// Chunks of one direction that may be on their way.
const CHUNKS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, Default)]
struct Conditions {
    delay: Duration,
    is_held: bool,
}

/// The way; connections over it end with its value.
#[derive(Debug)]
pub struct DelayingProxy {
    address: SocketAddr,
    target: watch::Sender<Option<SocketAddr>>,
    conditions: watch::Sender<Conditions>,
    delayed: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl DelayingProxy {
    /// Listens on an address of its own. Whoever dials waits until it leads somewhere.
    ///
    /// # Panics
    /// Where it cannot listen.
    pub async fn open() -> Self {
        let listener = TcpListener::bind(loopback::fresh()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, targets) = watch::channel(None);
        let (conditions, seen) = watch::channel(Conditions::default());
        let delayed = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(accept(listener, targets, seen, delayed.clone()));
        Self { address, target, conditions, delayed, task }
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

    /// From now on every byte takes so long, in both directions.
    pub fn delay(&self, delay: Duration) {
        self.conditions.send_modify(|conditions| conditions.delay = delay);
    }

    /// Nothing passes until [`DelayingProxy::release`]; connections stay open, and what was sent arrives late.
    pub fn hold(&self) {
        self.conditions.send_modify(|conditions| conditions.is_held = true);
    }

    /// What was held goes on.
    pub fn release(&self) {
        self.conditions.send_modify(|conditions| conditions.is_held = false);
    }

    /// Bytes that were delayed or held so far.
    #[must_use]
    pub fn delayed_bytes(&self) -> u64 {
        self.delayed.load(Ordering::Relaxed)
    }
}

impl Drop for DelayingProxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(
    listener: TcpListener,
    mut targets: watch::Receiver<Option<SocketAddr>>,
    conditions: watch::Receiver<Conditions>,
    delayed: Arc<AtomicU64>,
) {
    let mut connections = JoinSet::new();
    while let Ok((here, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let Ok(target) = targets.wait_for(Option::is_some).await.map(|target| *target) else { return };
        let (conditions, delayed) = (conditions.clone(), delayed.clone());
        connections.spawn(async move {
            let Some(target) = target else { return };
            let Ok(there) = TcpStream::connect(target).await else { return };
            // Else Nagle would delay on top of what the test says.
            let _ = (here.set_nodelay(true), there.set_nodelay(true));
            let ((from_here, to_here), (from_there, to_there)) = (here.into_split(), there.into_split());
            tokio::select! {
                () = carry(from_here, to_there, conditions.clone(), &delayed) => {}
                () = carry(from_there, to_here, conditions, &delayed) => {}
            }
        });
    }
}

async fn carry(
    mut from: impl AsyncReadExt + Unpin,
    mut to: impl AsyncWriteExt + Unpin,
    conditions: watch::Receiver<Conditions>,
    delayed: &AtomicU64,
) {
    let (sender, mut receiver) = mpsc::channel::<(Instant, Vec<u8>)>(CHUNKS_MAX);
    let current = conditions.clone();
    let read = async move {
        let mut buffer = vec![0; CHUNK_BYTES];
        while let Ok(bytes) = from.read(&mut buffer).await {
            let due = Instant::now() + current.borrow().delay;
            if bytes == 0 || sender.send((due, buffer[..bytes].to_vec())).await.is_err() {
                return;
            }
        }
    };
    let mut conditions = conditions;
    let write = async {
        while let Some((due, bytes)) = receiver.recv().await {
            if conditions.borrow().is_held || due > Instant::now() {
                delayed.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            }
            tokio::time::sleep_until(due.into()).await;
            if conditions.wait_for(|conditions| !conditions.is_held).await.is_err() {
                return;
            }
            if to.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(read, write);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::patience::within_limit;

    #[tokio::test]
    async fn bytes_pass_late_and_in_order() {
        let listener = TcpListener::bind(loopback::fresh()).await.unwrap();
        let proxy = DelayingProxy::open().await;
        proxy.lead_to(listener.local_addr().unwrap());
        let mut here = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut there, _) = within_limit("the other end", listener.accept()).await.unwrap();
        proxy.delay(Duration::from_millis(50));
        let begin = Instant::now();
        here.write_all(b"late").await.unwrap();
        let mut bytes = [0; 4];
        within_limit("the bytes", there.read_exact(&mut bytes)).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_millis(50) && &bytes == b"late");
        assert_eq!(proxy.delayed_bytes(), 4);

        proxy.delay(Duration::ZERO);
        proxy.hold();
        there.write_all(b"held").await.unwrap();
        let held = tokio::time::timeout(Duration::from_millis(50), here.read_exact(&mut bytes)).await;
        assert!(held.is_err());
        proxy.release();
        within_limit("the bytes", here.read_exact(&mut bytes)).await.unwrap();
        assert_eq!(&bytes, b"held");
        drop(there);
        assert_eq!(within_limit("the end", here.read(&mut bytes)).await.unwrap(), 0);
    }
}
