//! Whether the disk of this broker hangs: somebody waits for a write or a flush for too long, and no error comes. A thread of its own looks,
//! for a disk that hangs may hold up all the others; the rule is [`crate::stall_rule`]. Knows nothing of what is done about it: who wants to know,
//! asks or is told.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tidelog_log::DiskWaits;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::metrics::Metrics;
use crate::stall_rule::{Change, Judge, Stall};

/// It is looked so often within the time that a wait may take, and between these two.
const LOOKS_PER_LIMIT: u32 = 8;
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(10);

/// Whether the disk hangs; clones share it.
#[derive(Clone, Debug)]
pub struct Stalls {
    current: Arc<watch::Sender<Option<Stall>>>,
}

impl Default for Stalls {
    fn default() -> Self {
        Self { current: Arc::new(watch::Sender::new(None)) }
    }
}

impl Stalls {
    /// What hangs now.
    #[must_use]
    pub fn current(&self) -> Option<Stall> {
        self.current.borrow().clone()
    }

    /// What hangs, and its changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<Option<Stall>> {
        self.current.subscribe()
    }

    /// Notes the change, and says it.
    fn note(&self, change: Change, metrics: &Metrics) {
        match change {
            Change::Began(stall) => {
                let (log, waited) = (stall.dir.display(), stall.since.elapsed());
                warn!(%log, work = %stall.work, ?waited, "the disk hangs: it has neither done nor refused this; until it answers again, what this broker leads is for other replicas to lead");
                metrics.disk_stalled.set(1);
                self.current.send_replace(Some(stall));
            }
            // It is one time of trouble.
            Change::Another(stall) => drop(self.current.send_replace(Some(stall))),
            Change::Over { since } => {
                info!(hung = ?since.elapsed(), "the disk answers again");
                metrics.disk_stalled.set(0);
                self.current.send_replace(None);
            }
        }
    }
}

/// The thread that looks; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct StallWatch {
    _alive: Sender<()>,
}

impl StallWatch {
    /// Starts it; a wait may take less than `limit`.
    pub(crate) fn start(
        waits: Arc<DiskWaits>,
        limit: Duration,
        stalls: Stalls,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let (_alive, ended) = channel();
        let every = (limit / LOOKS_PER_LIMIT).clamp(LOOK_AT_MOST_EVERY, LOOK_AT_LEAST_EVERY);
        let watch = move || {
            let mut judge = Judge::new(limit);
            while let Err(RecvTimeoutError::Timeout) = ended.recv_timeout(every) {
                if let Some(change) = judge.look(waits.oldest(), Instant::now()) {
                    stalls.note(change, &metrics);
                }
            }
        };
        thread::Builder::new().name("disk-watch".into()).spawn(watch)?;
        Ok(Self { _alive })
    }
}
