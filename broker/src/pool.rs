//! Memory of which only so much is lent out at a time, and who waits for it: since when, and how fast those send. Knows nothing of what it is for.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gait::Worth;
use crate::turns::Source;

/// Granularity of a pool, in bytes.
const UNIT_BYTES: usize = 1 << 10;

/// Of so many sources it is known at most how fast they send.
const KNOWN_MAX: usize = 1_024;

/// Those who wait.
#[derive(Debug, Default)]
struct Waiters {
    count: AtomicUsize,
    all: Mutex<AllWaiters>,
}

#[derive(Debug, Default)]
struct AllWaiters {
    /// Since when each waits, by the order in which they came.
    since: BTreeMap<u64, Instant>,
    /// How many bytes a second their clients send, with the places of those who send so many.
    rates: BTreeSet<(u64, u64)>,
    /// How many those sent last that come from there, as far as it was known, for others from there of whom nothing is known yet.
    known: HashMap<Source, u64>,
}

impl AllWaiters {
    /// The rate of one who comes from there: as it is known, or as others', or else as fast as may be.
    fn rate(&mut self, source: Source, rate: Option<u64>) -> u64 {
        let Some(rate) = rate else { return self.known.get(&source).copied().unwrap_or(u64::MAX) };
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&source) {
            self.known.clear();
        }
        self.known.insert(source, rate);
        rate
    }
}

/// One that waits, for as long as it lives.
struct Waits {
    among: Arc<Waiters>,
    place: u64,
    rate: u64,
}

impl Waits {
    fn new(waiters: &Arc<Waiters>, source: Source, rate: Option<u64>) -> Self {
        let mut all = waiters.all.lock();
        let rate = all.rate(source, rate);
        let place = all.since.last_key_value().map_or(0, |(last, _)| last + 1);
        all.since.insert(place, Instant::now());
        all.rates.insert((rate, place));
        waiters.count.fetch_add(1, Ordering::Relaxed);
        Self { among: waiters.clone(), place, rate }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut all = self.among.all.lock();
        all.since.remove(&self.place);
        all.rates.remove(&(self.rate, self.place));
        if all.since.is_empty() {
            // What was before says nothing of those who come later.
            all.known.clear();
        }
        self.among.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory lent; given back on drop.
#[derive(Debug)]
pub struct Lent {
    // Held for its drop.
    _permit: OwnedSemaphorePermit,
    _holder: Option<Arc<()>>,
    worth: Option<Worth>,
}

impl Lent {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit, _holder: None, worth: None }
    }

    /// For something whose worth matters to somebody.
    #[must_use]
    pub fn of_worth(mut self, worth: Option<Worth>) -> Self {
        self.worth = worth;
        self
    }

    /// What it was lent for was worth it: the request is good, and is carried out.
    pub fn note_worth(&self) {
        if let Some(worth) = &self.worth {
            worth.note();
        }
    }

    /// As the loan of this holder.
    #[must_use]
    pub fn held_by(mut self, holder: &Holder) -> Self {
        self._holder = Some(holder.0.clone());
        self
    }
}

/// Somebody of whom it matters whether he holds a loan at all.
#[derive(Debug, Default)]
pub struct Holder(Arc<()>);

impl Holder {
    /// True as long as one of his loans was not given back.
    #[must_use]
    pub fn holds_any(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// Memory of one kind.
#[derive(Clone, Debug)]
pub struct Pool {
    units: Arc<Semaphore>,
    size: u32,
    waiters: Arc<Waiters>,
}

impl Pool {
    /// A pool of its own.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let size = (bytes / UNIT_BYTES as u64).clamp(1, (u32::MAX >> 4).into()) as u32;
        Self { units: Arc::new(Semaphore::new(size as usize)), size, waiters: Arc::default() }
    }

    fn count(&self, bytes: usize) -> u32 {
        // More than the whole budget counts as the whole: such a request waits until it is alone.
        (bytes.div_ceil(UNIT_BYTES) as u32).clamp(1, self.size)
    }

    /// Memory at once, or none.
    #[must_use]
    pub fn try_lend(&self, bytes: usize) -> Option<Lent> {
        let permit = self.units.clone().try_acquire_many_owned(self.count(bytes)).ok()?;
        Some(Lent::new(permit))
    }

    /// Memory as soon as there is some.
    pub fn lend(&self, bytes: usize) -> impl Future<Output = Option<Lent>> + Send + 'static {
        self.lend_to(bytes, Source::default(), None)
    }

    /// The same for one whose client, from there, sends so many bytes a second, as far as is known.
    pub(crate) fn lend_to(
        &self,
        bytes: usize,
        source: Source,
        rate: Option<u64>,
    ) -> impl Future<Output = Option<Lent>> + Send + 'static {
        let wait = self.units.clone().acquire_many_owned(self.count(bytes));
        let waits = Waits::new(&self.waiters, source, rate);
        async move {
            let _waits = waits;
            wait.await.ok().map(Lent::new)
        }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.count.load(Ordering::Relaxed)
    }

    /// For how long the first of them has waited.
    #[must_use]
    pub fn longest_wait(&self) -> Option<Duration> {
        self.waiters.all.lock().since.values().next().map(Instant::elapsed)
    }

    /// How many bytes a second the fastest of them sends.
    #[must_use]
    pub fn fastest_waiting(&self) -> u64 {
        self.waiters.all.lock().rates.last().map_or(0, |(rate, _)| *rate)
    }

    /// All its bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.size) * UNIT_BYTES as u64
    }

    /// Bytes lent out now.
    #[must_use]
    pub fn lent_bytes(&self) -> u64 {
        (self.size as u64).saturating_sub(self.units.available_permits() as u64) * UNIT_BYTES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_lent_comes_back_on_drop() {
        let pool = Pool::new(10 * 1024);
        let first = pool.try_lend(6 * 1024).unwrap();
        assert!(pool.try_lend(5 * 1024).is_none());
        assert_eq!(pool.lent_bytes(), 6 * 1024);
        let waiting = tokio::spawn(pool.lend(1 << 30));
        drop(first);
        let all = waiting.await.unwrap().unwrap();
        assert_eq!(pool.lent_bytes(), 10 * 1024);
        drop(all);
        assert_eq!(pool.lent_bytes(), 0);
    }

    #[tokio::test]
    async fn the_fastest_of_those_who_wait_is_known_as_they_come_and_go() {
        let pool = Pool::new(1 << 10);
        let all = pool.try_lend(1 << 10).unwrap();
        let mut waiting: Vec<_> =
            [3, 9, 9, 5].map(|rate| pool.lend_to(1, Source::default(), Some(rate))).into_iter().collect();
        assert_eq!(pool.fastest_waiting(), 9);
        drop(waiting.remove(1));
        assert_eq!(pool.fastest_waiting(), 9, "there were two");
        drop(waiting.remove(1));
        assert_eq!(pool.fastest_waiting(), 5);
        drop(all);
        drop(waiting.remove(0).await);
        drop(waiting);
        assert_eq!((pool.fastest_waiting(), pool.waiting()), (0, 0));
    }

    #[test]
    fn of_one_who_just_came_it_is_known_how_fast_others_from_there_send() {
        let from = |number: u32| Source::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(number)));
        let pool = Pool::new(1 << 10);
        let _all = pool.try_lend(1 << 10).unwrap();
        let known = pool.lend_to(1, from(1), Some(7));
        let fresh = pool.lend_to(1, from(1), None);
        assert_eq!(pool.fastest_waiting(), 7);
        let other = pool.lend_to(1, from(2), None);
        assert_eq!(pool.fastest_waiting(), u64::MAX, "nobody else came from there");
        drop((known, fresh, other));
        let _later = pool.lend_to(1, from(1), None);
        assert_eq!(pool.fastest_waiting(), u64::MAX, "nobody waited meanwhile");
        for number in 0..3 * KNOWN_MAX as u32 {
            drop(pool.lend_to(1, from(number), Some(1)));
            assert!(pool.waiters.all.lock().known.len() <= KNOWN_MAX);
        }
    }
}
