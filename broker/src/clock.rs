//! The wall clock, as timestamps. The one place where the broker reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use tidelog_protocol::Timestamp;

/// Milliseconds since 1970; a clock before that counts as 1970.
#[must_use]
pub fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
