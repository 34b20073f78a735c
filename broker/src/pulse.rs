//! Keeps the network alive while a disk makes one of its threads wait. Whoever appends writes on the network thread that it came on, and
//! a write that blocks may block the very thread that listens to the sockets for all; the others sleep and would notice only when
//! something wakes them. A thread of its own does. Knows nothing of disks and sockets.

use std::io;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use tokio::runtime;

/// How long the sockets may be left alone.
const BEAT: Duration = Duration::from_millis(50);

/// The thread; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Pulse {
    _alive: Sender<()>,
}

impl Pulse {
    /// Starts it for a runtime.
    pub(crate) fn start(network: runtime::Handle) -> io::Result<Self> {
        let (_alive, ended) = channel();
        let beat = move || {
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(BEAT) {
                // A worker that sleeps wakes up for it, finds nobody at the sockets, and stays there.
                drop(network.spawn(async {}));
            }
        };
        thread::Builder::new().name("network-pulse".into()).spawn(beat)?;
        Ok(Self { _alive })
    }
}
