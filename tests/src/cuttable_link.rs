//! The way to a broker that can be cut while the broker itself goes on: whoever dials it as it is advertised takes the way, whoever dials the
//! broker itself does not. Knows nothing of what is carried.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};

use crate::loopback;
use crate::patience::wait_for;

/// The way.
#[derive(Debug)]
pub struct CuttableLink {
    address: SocketAddr,
    cut: Arc<AtomicBool>,
    /// Connections that it carries.
    open: Arc<()>,
    target: Arc<Mutex<SocketAddr>>,
}

impl CuttableLink {
    /// A way that leads nowhere yet; it is there for as long as the runtime.
    ///
    /// # Panics
    /// Where there is no port for it.
    pub async fn open() -> Self {
        let listener = TcpListener::bind(loopback::fresh()).await.unwrap();
        let address = listener.local_addr().unwrap();
        let cut = Arc::new(AtomicBool::new(false));
        let target = Arc::new(Mutex::new(address));
        let open = Arc::new(());
        tokio::spawn(carry(listener, (cut.clone(), open.clone()), target.clone()));
        Self { address, cut, open, target }
    }

    /// Where it begins: to be advertised.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// It leads to `broker` from here on.
    ///
    /// # Panics
    /// Never, but where another thread did.
    pub fn lead_to(&self, broker: SocketAddr) {
        *self.target.lock().unwrap() = broker;
    }

    /// Nothing passes any more. Blocks until what passed before has ended.
    ///
    /// # Panics
    /// Where it does not end.
    pub fn cut(&self) {
        self.cut.store(true, Ordering::Release);
        // The link's own, and the listener's.
        wait_for("the connections to end", || (Arc::strong_count(&self.open) == 2).then_some(()));
    }

    /// It is open again.
    pub fn mend(&self) {
        self.cut.store(false, Ordering::Release);
    }
}

async fn carry(listener: TcpListener, (cut, open): (Arc<AtomicBool>, Arc<()>), target: Arc<Mutex<SocketAddr>>) {
    while let Ok((mut here, _)) = listener.accept().await {
        let (cut, open, target) = (cut.clone(), open.clone(), *target.lock().unwrap());
        tokio::spawn(async move {
            let _open = open;
            if cut.load(Ordering::Acquire) {
                return;
            }
            let Ok(mut there) = TcpStream::connect(target).await else { return };
            let is_cut = async {
                while !cut.load(Ordering::Acquire) {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            };
            tokio::select! {
                _ = tokio::io::copy_bidirectional(&mut here, &mut there) => {}
                () = is_cut => {}
            }
        });
    }
}
