//! When a disk hangs: somebody has waited for a write or a flush for too long. Pure: it is told what waits and what time it is.

use std::fmt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use tidelog_log::{DiskWait, DiskWork};

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

/// The rule: the disk hangs while the oldest wait is older than `limit`.
#[derive(Debug)]
pub(crate) struct Judge {
    limit: Duration,
    /// The oldest wait, and since when there has been one that was too old.
    stall: Option<(Stall, Instant)>,
}

/// What has become of it.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Change {
    Began(Stall),
    /// That is done; another one is too old as well.
    Another(Stall),
    Over {
        since: Instant,
    },
}

impl Judge {
    pub(crate) fn new(limit: Duration) -> Self {
        Self { limit, stall: None }
    }

    /// `oldest` has not ended at `now`.
    pub(crate) fn look(&mut self, oldest: Option<DiskWait>, now: Instant) -> Option<Change> {
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
