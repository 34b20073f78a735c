//! The global memory budget, in two halves: one for frames that are still arriving, one for requests under way. Requests under
//! way always finish by themselves, and arriving frames are bounded in time, so neither half can be held for ever, and neither
//! waits for the other. Knows nothing of connections.

use std::sync::Arc;

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
    fn new(bytes: u64) -> Self {
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

/// The budget of a broker.
#[derive(Clone, Debug)]
pub struct Budget {
    /// For frames that are still arriving.
    pub arriving: Pool,
    /// For requests under way.
    pub under_way: Pool,
}

impl Budget {
    /// Splits `bytes` into its halves.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        Self { arriving: Pool::new(bytes / 2), under_way: Pool::new(bytes / 2) }
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
}
