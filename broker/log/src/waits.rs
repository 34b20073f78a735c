//! What of a log somebody waits for the disk to do, and since when: a disk may hang without ever giving an error. Each log marks its own
//! work; the oldest of all is looked for from outside. What nobody waits for is not marked, nor what takes long by nature, such as the copy that
//! a cut makes. Knows nothing of how long is too long.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Marks count from here: a number fits where an instant does not.
static BEGINNING: LazyLock<Instant> = LazyLock::new(Instant::now);

/// What the disk was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DiskWork {
    /// Batches are written, or room is made for them.
    Write,
    /// What was written is made durable.
    Flush,
}

impl fmt::Display for DiskWork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Write => "a write",
            Self::Flush => "a flush",
        })
    }
}

/// Something that the disk was asked for and has not done yet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DiskWait {
    /// Folder of the log.
    pub dir: PathBuf,
    /// What.
    pub work: DiskWork,
    /// When it was asked.
    pub since: Instant,
}

/// The waits of all logs that share a flusher.
#[derive(Debug, Default)]
pub struct DiskWaits {
    logs: Mutex<Vec<Weak<LogWaits>>>,
}

impl DiskWaits {
    /// The one that has waited longest.
    #[must_use]
    pub fn oldest(&self) -> Option<DiskWait> {
        let mut oldest: Option<(u64, DiskWork, Arc<LogWaits>)> = None;
        self.logs.lock().retain(|log| {
            let Some(log) = log.upgrade() else { return false };
            if let Some((micros, work)) = log.oldest()
                && oldest.as_ref().is_none_or(|(before, ..)| micros < *before)
            {
                oldest = Some((micros, work, log));
            }
            true
        });
        let (micros, work, log) = oldest?;
        Some(DiskWait { dir: log.dir.clone(), work, since: *BEGINNING + Duration::from_micros(micros) })
    }

    pub(crate) fn add(&self, log: &Arc<LogWaits>) {
        let mut logs = self.logs.lock();
        // Also where nobody ever looks: those that are gone must not pile up.
        if logs.len() == logs.capacity() {
            logs.retain(|log| log.strong_count() > 0);
        }
        logs.push(Arc::downgrade(log));
    }
}

/// What one log waits for. Its owner is one thread at a time, and so is who flushes it.
#[derive(Debug)]
pub(crate) struct LogWaits {
    dir: PathBuf,
    /// By the owner.
    writing: Mark,
    /// By the owner itself.
    flushing_here: Mark,
    /// A flush was asked for, and its turn has not come: others may have theirs before it, for as long as there are many.
    asked: Mark,
    /// It has.
    flushing: Mark,
    /// A flush that nobody waited for as it began, which one that was asked for meanwhile has to wait for.
    flushing_unawaited: Mark,
}

impl LogWaits {
    pub(crate) fn of(dir: &Path) -> Arc<Self> {
        let [writing, flushing_here, asked, flushing, flushing_unawaited] = std::array::from_fn(|_| Mark::default());
        Arc::new(Self { dir: dir.to_owned(), writing, flushing_here, asked, flushing, flushing_unawaited })
    }

    /// The owner writes until this is dropped.
    pub(crate) fn write(self: &Arc<Self>) -> Waiting {
        Waiting::begin(self, |log| &log.writing)
    }

    /// The owner flushes until this is dropped.
    pub(crate) fn flush_here(self: &Arc<Self>) -> Waiting {
        Waiting::begin(self, |log| &log.flushing_here)
    }

    /// A flush is about to be queued.
    pub(crate) fn ask(&self) {
        self.asked.set();
    }

    /// The flush that was asked for has its turn, until this is dropped.
    pub(crate) fn flush(self: &Arc<Self>) -> Waiting {
        self.asked.0.store(0, Ordering::Release);
        Waiting::begin(self, |log| &log.flushing)
    }

    /// One that nobody waits for has.
    pub(crate) fn flush_unawaited(self: &Arc<Self>) -> Waiting {
        Waiting::begin(self, |log| &log.flushing_unawaited)
    }

    fn oldest(&self) -> Option<(u64, DiskWork)> {
        // It may take long where there is much: what counts is how long somebody waits for it.
        let held_up = self.flushing_unawaited.micros().zip(self.asked.micros()).map(|(began, asked)| began.max(asked));
        let marks = [
            (self.writing.micros(), DiskWork::Write),
            (self.flushing_here.micros(), DiskWork::Flush),
            (self.flushing.micros(), DiskWork::Flush),
            (held_up, DiskWork::Flush),
        ];
        marks.into_iter().filter_map(|(micros, work)| Some((micros?, work))).min_by_key(|(micros, _)| *micros)
    }
}

/// Since when, in microseconds; 0 where nothing waits.
#[derive(Debug, Default)]
struct Mark(AtomicU64);

impl Mark {
    /// False where it was set before.
    fn set(&self) -> bool {
        let micros = BEGINNING.elapsed().as_micros().clamp(1, u128::from(u64::MAX)) as u64;
        self.0.compare_exchange(0, micros, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    fn micros(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Acquire)).filter(|micros| *micros > 0)
    }
}

/// A wait that ends when this is dropped.
#[must_use]
pub(crate) struct Waiting {
    log: Arc<LogWaits>,
    /// `None` within another one of the same kind, which ends it.
    mark: Option<fn(&LogWaits) -> &Mark>,
}

impl Waiting {
    fn begin(log: &Arc<LogWaits>, mark: fn(&LogWaits) -> &Mark) -> Self {
        let began = mark(log).set();
        Self { log: Arc::clone(log), mark: began.then_some(mark) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(mark) = self.mark {
            mark(&self.log).0.store(0, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn two() -> (DiskWaits, Arc<LogWaits>, Arc<LogWaits>) {
        let (waits, a, b) = (DiskWaits::default(), LogWaits::of(Path::new("a")), LogWaits::of(Path::new("b")));
        waits.add(&a);
        waits.add(&b);
        (waits, a, b)
    }

    fn oldest(waits: &DiskWaits) -> Option<(String, DiskWork)> {
        waits.oldest().map(|wait| (wait.dir.display().to_string(), wait.work))
    }

    /// Marks are microseconds: those of two moments must not be one.
    fn a_moment_later() {
        let now = BEGINNING.elapsed().as_micros();
        while BEGINNING.elapsed().as_micros() <= now {}
    }

    #[test]
    fn the_oldest_wait_of_all_logs_is_told_until_it_is_over() {
        let (waits, a, b) = two();
        assert_eq!(oldest(&waits), None);
        let before = Instant::now();
        let writes = b.write();
        a_moment_later();
        let flushes = a.flush_here();
        assert_eq!(oldest(&waits), Some(("b".into(), DiskWork::Write)));
        let since = waits.oldest().unwrap().since;
        assert!(since + Duration::from_micros(1) >= before && since <= Instant::now());
        drop(writes);
        assert_eq!(oldest(&waits), Some(("a".into(), DiskWork::Flush)));
        drop(flushes);
        assert_eq!(oldest(&waits), None);
    }

    #[test]
    fn a_flush_counts_from_its_turn_however_long_the_queue_is() {
        let (waits, a, _b) = two();
        a.ask();
        assert_eq!(oldest(&waits), None, "others have their turn");
        let turn = a.flush();
        let began = waits.oldest().unwrap();
        a_moment_later();
        a.ask();
        assert_eq!(waits.oldest().unwrap(), began);
        drop(turn);
        assert_eq!(oldest(&waits), None);
    }

    #[test]
    fn a_flush_that_nobody_waits_for_counts_from_when_somebody_does() {
        let (waits, a, _b) = two();
        let unawaited = a.flush_unawaited();
        assert_eq!(oldest(&waits), None);
        a_moment_later();
        let before = Instant::now();
        a.ask();
        let since = waits.oldest().unwrap().since;
        assert!(since + Duration::from_micros(1) >= before, "not from when it began");
        drop(unawaited);
        assert_eq!(oldest(&waits), None, "the next one has its turn soon");
    }

    #[test]
    fn a_write_within_a_write_does_not_end_it_and_a_log_that_is_gone_waits_for_nothing() {
        let (waits, a, b) = two();
        let outer = a.write();
        drop(a.write());
        assert_eq!(oldest(&waits), Some(("a".into(), DiskWork::Write)));
        drop(outer);
        b.ask();
        drop(b);
        assert_eq!(oldest(&waits), None);
        assert_eq!(waits.logs.lock().len(), 1);
    }
}
