//! Group commit: a few threads per data directory make durable what was written, others tidy up behind the writers.
//!
//! A log is in a queue at most once, so the queues are bounded by the number of logs; everything written to it until its turn comes rides
//! on one `fdatasync`. Those of different logs run side by side, which the disk makes one of. Logs whose owners never ask (durability
//! `written`) are flushed in the background, by bytes and by time, so that dirty data does not pile up; that, and what a replica copies, is
//! flushed by a thread of its own, for such a flush takes as long as a hundred of those that somebody waits for. Knows nothing of who
//! waits: the log's listener does.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::complaint::Complaint;
use crate::flush_metrics::{Counters, FlushMetrics};
use crate::segment::Segment;
use crate::space::SpaceGuard;
use crate::state::{FlushError, LogState};
use crate::storage_error::StorageError;
use crate::waits::DiskWaits;

/// How often and how much is flushed without being asked.
#[derive(Clone, Debug)]
pub struct FlusherOptions {
    /// Dirty bytes of one log that start a background flush.
    pub background_bytes: u64,
    /// Pause between two looks at dirty logs, free space and idle segments.
    pub background_interval: Duration,
    /// Flushed bytes of one log after which its checkpoint is renewed: what recovery may have to scan.
    pub checkpoint_bytes: u64,
    /// Looks after which the descriptor, map and index of an unread sealed segment are let go.
    pub idle_looks: u32,
    /// Free space of the data directory; without one there is always room.
    pub space: Option<Arc<SpaceGuard>>,
}

impl Default for FlusherOptions {
    /// 32 MiB, one second, 64 MiB, a minute.
    fn default() -> Self {
        Self {
            background_bytes: 32 << 20,
            background_interval: Duration::from_secs(1),
            checkpoint_bytes: 64 << 20,
            idle_looks: 60,
            space: None,
        }
    }
}

/// So many logs are flushed at once, where somebody waits for it.
const FLUSHES_AT_ONCE: usize = 4;

/// The threads. Dropping it stops them, after a last flush of everything that was asked for.
#[derive(Debug)]
pub struct Flusher {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

/// What logs hold on to; cheap to clone.
#[derive(Clone, Debug)]
pub struct FlusherHandle {
    shared: Option<Arc<Shared>>,
    reserve: Reserve,
}

/// The space below the low-space watermark.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Reserve {
    Kept,
    Usable,
}

#[derive(Debug)]
struct Shared {
    options: FlusherOptions,
    queue: Mutex<Queue>,
    wake_flush: Condvar,
    wake_background: Condvar,
    wake_upkeep: Condvar,
    counters: Counters,
    waits: Arc<DiskWaits>,
}

#[derive(Debug, Default)]
struct Queue {
    /// Somebody waits for it.
    to_flush: VecDeque<Arc<LogState>>,
    /// Nobody does.
    to_flush_unawaited: VecDeque<Arc<LogState>>,
    to_tidy: Vec<Arc<LogState>>,
    dirty: Vec<Arc<LogState>>,
    /// Flushed since their last checkpoint.
    settling: Vec<Arc<LogState>>,
    all: Vec<Weak<LogState>>,
    stopped: bool,
}

impl Flusher {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(options: FlusherOptions) -> std::io::Result<Self> {
        let shared = Arc::new(Shared {
            options,
            queue: Mutex::default(),
            wake_flush: Condvar::new(),
            wake_background: Condvar::new(),
            wake_upkeep: Condvar::new(),
            counters: Counters::default(),
            waits: Arc::default(),
        });
        let mut flusher = Self { shared: Arc::clone(&shared), threads: Vec::new() };
        for _ in 0..FLUSHES_AT_ONCE {
            let flush = Arc::clone(&shared);
            flusher.threads.push(thread::Builder::new().name("log-flush".into()).spawn(move || flush.flush_loop())?);
        }
        let background = Arc::clone(&shared);
        let thread = thread::Builder::new().name("log-background".into());
        flusher.threads.push(thread.spawn(move || background.background_loop())?);
        flusher.threads.push(thread::Builder::new().name("log-upkeep".into()).spawn(move || shared.upkeep_loop())?);
        Ok(flusher)
    }

    /// The handle that logs are opened with.
    #[must_use]
    pub fn handle(&self) -> FlusherHandle {
        FlusherHandle { shared: Some(Arc::clone(&self.shared)), reserve: Reserve::Kept }
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.queue.lock().stopped = true;
        self.shared.wake_flush.notify_all();
        self.shared.wake_background.notify_all();
        self.shared.wake_upkeep.notify_all();
        for thread in self.threads.drain(..) {
            // A panic there was reported by the thread itself.
            let _ = thread.join();
        }
    }
}

impl FlusherHandle {
    /// A handle without threads: nothing is flushed but by [`crate::Log::flush`]. For tools and tests.
    #[must_use]
    pub fn detached() -> Self {
        Self { shared: None, reserve: Reserve::Kept }
    }

    /// A handle for a log that may use the space below the low-space watermark: that space is kept for those without whom none could
    /// be freed, such as the log that says which topics there are.
    #[must_use]
    pub fn with_reserve(self) -> Self {
        Self { reserve: Reserve::Usable, ..self }
    }

    /// What was done so far.
    #[must_use]
    pub fn metrics(&self) -> FlushMetrics {
        let Some(shared) = &self.shared else { return FlushMetrics::default() };
        shared.counters.metrics()
    }

    /// What its logs wait for. What is flushed without being asked for is not among it.
    #[must_use]
    pub fn waits(&self) -> Arc<DiskWaits> {
        self.shared.as_ref().map(|shared| Arc::clone(&shared.waits)).unwrap_or_default()
    }

    /// Whether appends may go on, as far as free space is concerned.
    #[must_use]
    pub fn has_space(&self) -> bool {
        let space = self.shared.as_ref().and_then(|shared| shared.options.space.as_ref());
        self.reserve == Reserve::Usable || space.is_none_or(|space| space.has_room())
    }

    /// How many bytes of disk may be taken now. Whoever may use the reserve is not asked how little is left.
    pub(crate) fn spare_bytes(&self) -> u64 {
        let space = self.shared.as_ref().and_then(|shared| shared.options.space.as_ref());
        if self.reserve == Reserve::Usable { u64::MAX } else { space.map_or(u64::MAX, |space| space.spare_bytes()) }
    }

    /// So many were taken.
    pub(crate) fn note_taken(&self, bytes: u64) {
        if let Some(space) = self.shared.as_ref().and_then(|shared| shared.options.space.as_ref()) {
            space.note_taken(bytes);
        }
    }

    /// Gives up what is kept of the disk for those who free space; false where there is nothing.
    pub(crate) fn lend_reserve(&self) -> bool {
        let space = self.shared.as_ref().and_then(|shared| shared.options.space.as_ref());
        space.is_some_and(|space| space.lend_reserve())
    }

    pub(crate) fn count_flush(&self, bytes: u64, took: Duration) {
        if let Some(shared) = &self.shared {
            shared.counters.note(bytes, took);
        }
    }

    pub(crate) fn count_failure(&self) {
        if let Some(shared) = &self.shared {
            shared.counters.note_failure();
        }
    }

    pub(crate) fn register(&self, state: &Arc<LogState>) {
        if let Some(shared) = &self.shared {
            shared.queue.lock().all.push(Arc::downgrade(state));
            shared.waits.add(&state.waits);
        }
    }

    pub(crate) fn request_flush(&self, state: &Arc<LogState>) {
        if let Some(shared) = &self.shared
            && !state.flush_queued.swap(true, Ordering::AcqRel)
        {
            // First: whoever has its turn ends this wait.
            state.waits.ask();
            shared.queue.lock().to_flush.push_back(Arc::clone(state));
            shared.wake_flush.notify_one();
        }
    }

    pub(crate) fn request_unawaited_flush(&self, state: &Arc<LogState>) {
        if let Some(shared) = &self.shared {
            shared.queue_unawaited(state);
        }
    }

    pub(crate) fn request_upkeep(&self, state: &Arc<LogState>) {
        if let Some(shared) = &self.shared
            && !state.upkeep_queued.swap(true, Ordering::AcqRel)
        {
            shared.queue.lock().to_tidy.push(Arc::clone(state));
            shared.wake_upkeep.notify_one();
        }
    }

    /// The writer has published batches in `active`.
    pub(crate) fn note_written(&self, state: &Arc<LogState>, active: &Segment) {
        let Some(shared) = &self.shared else { return };
        if !state.dirty_noted.load(Ordering::Relaxed) && !state.dirty_noted.swap(true, Ordering::AcqRel) {
            shared.queue.lock().dirty.push(Arc::clone(state));
        }
        if active.dirty_bytes() > shared.options.background_bytes {
            shared.queue_unawaited(state);
        }
        if active.wants_growth() || state.wants_next_segment(active) {
            self.request_upkeep(state);
        }
    }
}

impl Shared {
    fn flush_loop(&self) {
        let mut waits = Complaint::default();
        while let Some(log) = self.next(&self.wake_flush, |queue| &mut queue.to_flush) {
            let waiting = log.waits.flush();
            // First, so that what is written from here on asks again.
            log.flush_queued.store(false, Ordering::Release);
            self.flush(&log, &mut waits);
            // Before another thread may have it.
            drop(waiting);
            self.hand_back(&log);
        }
    }

    fn background_loop(&self) {
        let mut waits = Complaint::default();
        while let Some(log) = self.next(&self.wake_background, |queue| &mut queue.to_flush_unawaited) {
            let waiting = log.waits.flush_unawaited();
            log.background_queued.store(false, Ordering::Release);
            self.flush(&log, &mut waits);
            drop(waiting);
            self.hand_back(&log);
        }
    }

    /// The log whose turn it is: one that no other thread flushes, or many threads would wait for one log. `None` once there is none and will
    /// be none.
    fn next(
        &self,
        wake: &Condvar,
        which: impl Fn(&mut Queue) -> &mut VecDeque<Arc<LogState>>,
    ) -> Option<Arc<LogState>> {
        let is_free = |log: &Arc<LogState>| !log.in_flushers_hands.load(Ordering::Relaxed);
        let mut queue = self.queue.lock();
        loop {
            let logs = which(&mut queue);
            if let Some(log) = logs.iter().position(is_free).and_then(|at| logs.remove(at)) {
                log.in_flushers_hands.store(true, Ordering::Relaxed);
                if logs.iter().any(is_free) {
                    wake.notify_one();
                }
                return Some(log);
            }
            if queue.stopped && which(&mut queue).is_empty() {
                // Others may wait for what was handed back last.
                wake.notify_all();
                return None;
            }
            wake.wait(&mut queue);
        }
    }

    /// It may have been asked for again meanwhile.
    fn hand_back(&self, log: &Arc<LogState>) {
        let queue = self.queue.lock();
        log.in_flushers_hands.store(false, Ordering::Relaxed);
        if !queue.to_flush.is_empty() {
            self.wake_flush.notify_one();
        }
        if !queue.to_flush_unawaited.is_empty() {
            self.wake_background.notify_one();
        }
    }

    fn queue_unawaited(&self, log: &Arc<LogState>) {
        if !log.background_queued.swap(true, Ordering::AcqRel) {
            self.queue.lock().to_flush_unawaited.push_back(Arc::clone(log));
            self.wake_background.notify_one();
        }
    }

    fn flush(&self, log: &Arc<LogState>, waits: &mut Complaint) {
        match log.flush() {
            Ok(bytes) if bytes > 0 => {
                if !log.settling.swap(true, Ordering::AcqRel) {
                    self.queue.lock().settling.push(Arc::clone(log));
                }
                // Until it says otherwise, the loss of what came since would look like an end that was meant.
                if log.says_closed.swap(false, Ordering::AcqRel) {
                    self.queue_upkeep(log);
                }
            }
            Err(FlushError::NotTried(error)) => {
                if let Some(untold) = waits.again(Instant::now()) {
                    tracing::warn!(%error, untold, dir = %log.place.dir.display(), "a flush waits for a file descriptor");
                }
                // The next look tries again.
                if !log.dirty_noted.swap(true, Ordering::AcqRel) {
                    self.queue.lock().dirty.push(Arc::clone(log));
                }
            }
            // Of a failure the listener knows.
            Ok(_) | Err(FlushError::Poisoned(_)) => {}
        }
        if log.flushed_bytes.load(Ordering::Relaxed) >= self.options.checkpoint_bytes {
            self.queue_upkeep(log);
        }
    }

    fn queue_upkeep(&self, log: &Arc<LogState>) {
        if !log.upkeep_queued.swap(true, Ordering::AcqRel) {
            self.queue.lock().to_tidy.push(Arc::clone(log));
            self.wake_upkeep.notify_one();
        }
    }

    fn upkeep_loop(&self) {
        let mut next_look = Instant::now() + self.options.background_interval;
        let mut looks = 0u32;
        let mut failed = UpkeepFailed::default();
        loop {
            let logs = {
                let mut queue = self.queue.lock();
                while queue.to_tidy.is_empty() && !queue.stopped {
                    if self.wake_upkeep.wait_until(&mut queue, next_look).timed_out() {
                        break;
                    }
                }
                if queue.stopped {
                    return;
                }
                std::mem::take(&mut queue.to_tidy)
            };
            for log in logs {
                log.upkeep_queued.store(false, Ordering::Release);
                if let Err(error) = log.tidy(self.options.checkpoint_bytes) {
                    failed.tell(&error, &log);
                }
            }
            if Instant::now() >= next_look {
                looks = looks.wrapping_add(1);
                self.look(looks, &mut failed);
                next_look = Instant::now() + self.options.background_interval;
            }
        }
    }

    /// Background work by time.
    fn look(&self, looks: u32, failed: &mut UpkeepFailed) {
        if let Some(space) = &self.options.space
            && let Err(error) = space.refresh()
        {
            tracing::warn!(%error, "free space is unknown");
        }
        let dirty = std::mem::take(&mut self.queue.lock().dirty);
        for log in dirty {
            log.dirty_noted.store(false, Ordering::Release);
            if log.written_end() != log.flushed_end() {
                self.queue_unawaited(&log);
            }
        }
        self.settle(failed);
        if looks.is_multiple_of(self.options.idle_looks.max(1)) {
            let logs: Vec<_> = {
                let mut queue = self.queue.lock();
                queue.all.retain(|log| log.strong_count() > 0);
                queue.all.iter().filter_map(Weak::upgrade).collect()
            };
            for log in logs {
                log.rest_idle_segments();
            }
        }
    }
}

impl Shared {
    /// Checkpoints what has gone quiet, so that a restart scans nothing of it; a log that is still flushed waits for the next look.
    fn settle(&self, failed: &mut UpkeepFailed) {
        let settling = std::mem::take(&mut self.queue.lock().settling);
        for log in settling {
            let end = log.flushed_end().0;
            let quiet = log.seen_flushed_end.swap(end, Ordering::AcqRel) == end;
            if !quiet {
                self.queue.lock().settling.push(log);
                continue;
            }
            // First, so that a flush from here on settles again.
            log.settling.store(false, Ordering::Release);
            if let Err(error) = log.tidy(1) {
                failed.tell(&error, &log);
            }
        }
    }
}

/// Upkeep that failed. Nothing is lost by it: the next opening scans more, and the next visit, perhaps the next append, tries again.
#[derive(Default)]
struct UpkeepFailed {
    /// For want of space or descriptors: of one broker, not of one log.
    for_want: Complaint,
    otherwise: Complaint,
}

impl UpkeepFailed {
    fn tell(&mut self, error: &StorageError, log: &LogState) {
        let complaint = if error.is_transient() { &mut self.for_want } else { &mut self.otherwise };
        if let Some(untold) = complaint.again(Instant::now()) {
            tracing::warn!(%error, untold, dir = %log.place.dir.display(), "upkeep of a log failed; it is tried again");
        }
    }
}
