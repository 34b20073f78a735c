//! The clocks, as the rules want them: the wall clock for timestamps, a monotonic one for how long something takes.

use std::sync::LazyLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use tidelog_protocol::{Monotonic, Timestamp};

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Milliseconds since this was first asked in this process.
#[must_use]
pub fn monotonic() -> Monotonic {
    Monotonic(u64::try_from(BEGAN.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// Milliseconds since 1970; a clock before that counts as 1970.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
