//! Whether the disk of this broker hangs: somebody waits for a write or a flush for too long, and no error comes. A thread of its own looks,
//! for a disk that hangs may hold up all the others. Knows nothing of what is done about it: who wants to know, asks or is told.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use tidelog_log::{DiskWait, DiskWaits, DiskWork};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::metrics::Metrics;

/// It is looked so often within the time that a wait may take, and at least once in the other.
const LOOKS_PER_LIMIT: u32 = 8;
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(1);
const LOOK_AT_MOST_EVERY: Duration = Duration::from_millis(10);

/// Whether the disk hangs; clones share it.
#[derive(Clone, Debug)]
pub struct Stalls {
    current: Arc<watch::Sender<Option<Stall>>>,
}

/// A disk that hangs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Stall {
    /// Folder of the log that waits longest.
    pub dir: PathBuf,
    /// For what.
    pub work: DiskWork,
    /// Since when.
    pub since: Instant,
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { dir, work, since } = self;
        write!(f, "{work} in {} is under way for {:.1?}", dir.display(), since.elapsed())
    }
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

/// The rule: the disk hangs while the oldest wait is older than `limit`.
#[derive(Debug)]
struct Judge {
    limit: Duration,
    /// The oldest wait, and since when there has been one that was too old.
    stall: Option<(Stall, Instant)>,
}

/// What has become of it.
#[derive(PartialEq, Eq, Debug)]
enum Change {
    Began(Stall),
    /// That is done; another one is too old as well.
    Another(Stall),
    Over {
        since: Instant,
    },
}

impl Judge {
    fn new(limit: Duration) -> Self {
        Self { limit, stall: None }
    }

    /// `oldest` has not ended at `now`.
    fn look(&mut self, oldest: Option<DiskWait>, now: Instant) -> Option<Change> {
        let is_too_old = |wait: &DiskWait| now.saturating_duration_since(wait.since) >= self.limit;
        let too_old = oldest.filter(is_too_old).map(|DiskWait { dir, work, since }| Stall { dir, work, since });
        match (too_old, self.stall.take()) {
            (Some(stall), Some((known, since))) => {
                self.stall = Some((stall.clone(), since));
                (stall != known).then_some(Change::Another(stall))
            }
            (Some(stall), None) => {
                self.stall = Some((stall.clone(), stall.since));
                Some(Change::Began(stall))
            }
            (None, known) => known.map(|(_, since)| Change::Over { since }),
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

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn wait(dir: &str, since: Instant) -> Option<DiskWait> {
        Some(DiskWait { dir: dir.into(), work: DiskWork::Flush, since })
    }

    #[test]
    fn a_wait_is_too_old_from_the_limit_on_and_told_once() {
        let (mut judge, began) = (Judge::new(LIMIT), Instant::now());
        assert_eq!(judge.look(None, began), None);
        assert_eq!(judge.look(wait("a", began), began + LIMIT - Duration::from_millis(1)), None);
        let stall = Stall { dir: "a".into(), work: DiskWork::Flush, since: began };
        assert_eq!(judge.look(wait("a", began), began + LIMIT), Some(Change::Began(stall)));
        assert_eq!(judge.look(wait("a", began), began + 2 * LIMIT), None);
        assert_eq!(judge.look(None, began + 3 * LIMIT), Some(Change::Over { since: began }));
        assert_eq!(judge.look(None, began + 4 * LIMIT), None);
    }

    #[test]
    fn it_is_over_once_nothing_is_too_old_and_not_with_the_first_that_ends() {
        let (mut judge, began) = (Judge::new(LIMIT), Instant::now());
        assert!(judge.look(wait("a", began), began + LIMIT).is_some());
        let later = began + Duration::from_secs(5);
        let another = Stall { dir: "b".into(), work: DiskWork::Flush, since: later };
        assert_eq!(judge.look(wait("b", later), later + LIMIT), Some(Change::Another(another)));
        assert_eq!(judge.look(wait("c", later + LIMIT), later + LIMIT), Some(Change::Over { since: began }));
    }
}
