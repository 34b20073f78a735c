//! The global memory budget, in two halves: one for frames that are still arriving, one for requests under way. Requests under
//! way finish by themselves and wait for nothing of the other half. Arriving frames hold what they have and wait for more, so
//! half of their half is kept for whichever of them is next to be completed: that one waits for nobody but its client, and for
//! that no longer than `frame_timeout_ms`. So neither half can be held for ever. Knows nothing of connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Granularity of the budget, in bytes.
const UNIT_BYTES: usize = 1 << 10;

/// Memory lent; given back on drop.
#[derive(Debug)]
pub struct Lent {
    // Held for its drop.
    _permit: OwnedSemaphorePermit,
}

/// One half of the budget.
#[derive(Clone, Debug)]
pub struct Pool {
    units: Arc<Semaphore>,
    size: u32,
}

impl Pool {
    /// A pool of its own.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let size = (bytes / UNIT_BYTES as u64).clamp(1, (u32::MAX >> 4).into()) as u32;
        Self { units: Arc::new(Semaphore::new(size as usize)), size }
    }

    fn count(&self, bytes: usize) -> u32 {
        // More than the whole budget counts as the whole: such a request waits until it is alone.
        (bytes.div_ceil(UNIT_BYTES) as u32).clamp(1, self.size)
    }

    /// Memory at once, or none.
    #[must_use]
    pub fn try_lend(&self, bytes: usize) -> Option<Lent> {
        let permit = self.units.clone().try_acquire_many_owned(self.count(bytes)).ok()?;
        Some(Lent { _permit: permit })
    }

    /// Memory as soon as there is some.
    pub fn lend(&self, bytes: usize) -> impl Future<Output = Option<Lent>> + Send + 'static {
        let wait = self.units.clone().acquire_many_owned(self.count(bytes));
        async move { wait.await.ok().map(|permit| Lent { _permit: permit }) }
    }

    /// Bytes lent out now.
    #[must_use]
    pub fn lent_bytes(&self) -> u64 {
        (self.size as u64).saturating_sub(self.units.available_permits() as u64) * UNIT_BYTES as u64
    }
}

/// What a frame that outgrows the memory it has may do.
#[derive(Debug)]
pub enum Growth {
    /// Grow by as much as it asked for.
    Part(Lent),
    /// Grow until it is whole. One frame at a time may; what it was lent in parts it does not need any more.
    Whole(Lent),
}

/// The half for frames that are still arriving.
#[derive(Clone, Debug)]
pub struct Arriving {
    parts: Pool,
    /// One unit, which stands for all the memory of one frame.
    completion: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
}

/// One that waits, for as long as it lives.
struct Waits(Arc<AtomicUsize>);

impl Drop for Waits {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Arriving {
    fn new(bytes: u64) -> Self {
        Self { parts: Pool::new(bytes / 2), completion: Arc::new(Semaphore::new(1)), waiting: Arc::default() }
    }

    /// Memory at once, or none.
    #[must_use]
    pub fn try_lend(&self, bytes: usize) -> Option<Lent> {
        self.parts.try_lend(bytes)
    }

    /// Memory as soon as there is some, or the leave to complete a frame.
    pub fn lend(&self, bytes: usize) -> impl Future<Output = Option<Growth>> + Send + 'static {
        let part = self.parts.lend(bytes);
        let whole = self.completion.clone().acquire_owned();
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let waits = Waits(self.waiting.clone());
        async move {
            let _waits = waits;
            tokio::select! {
                biased;
                lent = part => lent.map(Growth::Part),
                permit = whole => permit.ok().map(|permit| Growth::Whole(Lent { _permit: permit })),
            }
        }
    }

    /// True while somebody waits: who holds memory that it can do without gives it back.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Bytes lent out in parts now.
    #[must_use]
    pub fn lent_bytes(&self) -> u64 {
        self.parts.lent_bytes()
    }
}

/// The budget of a broker.
#[derive(Clone, Debug)]
pub struct Budget {
    /// For frames that are still arriving.
    pub arriving: Arriving,
    /// For requests under way.
    pub under_way: Pool,
}

impl Budget {
    /// Splits `bytes` into its halves.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self { arriving: Arriving::new(bytes / 2), under_way: Pool::new(bytes / 2) }
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
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
    async fn of_frames_that_all_wait_for_more_one_may_always_be_completed() {
        let arriving = Budget::new(1 << 20).arriving;
        let held: Vec<_> = std::iter::from_fn(|| arriving.try_lend(16 << 10)).collect();
        assert_eq!(held.len() as u64 * (16 << 10), arriving.lent_bytes());
        let Some(Growth::Whole(first)) = arriving.lend(16 << 10).await else { panic!("there are no parts left") };
        let second = arriving.lend(16 << 10);
        assert!(arriving.is_wanted());
        drop(first);
        assert!(matches!(second.await, Some(Growth::Whole(_))));
        assert!(!arriving.is_wanted());
        drop(held);
        assert!(matches!(arriving.lend(16 << 10).await, Some(Growth::Part(_))));
    }
}
