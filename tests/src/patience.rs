//! Waiting for a condition, generously: tests share their machine. Knows nothing of what is waited for.

use std::time::{Duration, Instant};

/// How long anything may take before a test gives up. Far beyond what it takes: it bounds a hang, it measures nothing.
pub const LIMIT: Duration = Duration::from_secs(60);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// Looks until `look` finds something.
///
/// # Panics
/// After [`LIMIT`], with `what` was waited for.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "waited {LIMIT:?} in vain for {what}");
        std::thread::sleep(PAUSE);
    }
}

/// As [`wait_for`], where looking takes a future.
///
/// # Panics
/// After [`LIMIT`], with `what` was waited for.
pub async fn wait_until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < LIMIT, "waited {LIMIT:?} in vain for {what}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// What the future gives.
///
/// # Panics
/// After [`LIMIT`], with `what` was waited for.
pub async fn within_limit<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(LIMIT, future).await {
        Ok(output) => output,
        Err(_) => panic!("waited {LIMIT:?} in vain for {what}"),
    }
}

/// Looks until `look` succeeds.
///
/// # Panics
/// After [`LIMIT`], with `what` was waited for and why the last look failed.
pub async fn insist<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let begin = Instant::now();
    loop {
        match look().await {
            Ok(found) => return found,
            Err(why) => assert!(begin.elapsed() < LIMIT, "waited {LIMIT:?} in vain for {what}; the last time: {why}"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
