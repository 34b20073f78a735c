//! The owner's part in what its log knows of producers: it tells the log how time passes, and has silent producers forgotten. Knows nothing
//! of roles.

use std::time::{Duration, Instant};

use super::Owner;

/// Time passes in steps of this.
const STEP: Duration = Duration::from_secs(1);
/// How often silent producers are looked for.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// How far the log has been told.
#[derive(Debug)]
pub(super) struct Aging {
    expiration_ms: u64,
    told: Instant,
    looked: Instant,
}

impl Aging {
    pub(super) const fn new(expiration_ms: u64, now: Instant) -> Self {
        Self { expiration_ms, told: now, looked: now }
    }
}

impl Owner {
    /// Time has passed, perhaps.
    pub(super) fn age(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.aging.told);
        if passed < STEP {
            return;
        }
        self.aging.told = now;
        let looks = now.saturating_duration_since(self.aging.looked) >= LOOK_EVERY;
        if looks {
            self.aging.looked = now;
        }
        let (settled, expiration_ms) = (self.offsets().high_watermark(), self.aging.expiration_ms);
        let Some(log) = &self.log else { return };
        log.with_producers(|producers| {
            producers.elapse(passed.as_millis() as u64);
            if looks {
                producers.forget(expiration_ms, settled);
            }
        });
    }
}
