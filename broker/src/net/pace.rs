//! How fast a frame arrives. One that others wait for must keep a pace: clients that send half of a frame and fall silent, or drip
//! the rest, would hold memory that everybody needs. Pure: it is told what time it is.

use std::time::{Duration, Instant};

/// A pace is taken over this time, so that a short pause of a client is none.
pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// Less than so much in a window is too little.
pub(super) const LEAST_BYTES: usize = 64 << 10;
/// How often it is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The pace of what arrives on one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    since: Instant,
    bytes: usize,
    is_slow: bool,
}

impl Pace {
    /// Nothing is known yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, bytes: 0, is_slow: false }
    }

    /// Begins anew: with a frame, and after the broker itself did not read.
    pub(super) fn restart(&mut self, now: Instant) {
        *self = Self::new(now);
    }

    /// So much arrived.
    pub(super) fn note(&mut self, bytes: usize) {
        self.bytes += bytes;
    }

    /// True where too little arrived in the last whole window. `unread` has arrived as well, the broker only did not come to read it.
    pub(super) fn is_too_slow(&mut self, now: Instant, unread: impl FnOnce() -> usize) -> bool {
        if now.saturating_duration_since(self.since) >= WINDOW {
            let is_slow = self.bytes < LEAST_BYTES && self.bytes.saturating_add(unread()) < LEAST_BYTES;
            *self = Self { since: now, bytes: 0, is_slow };
        }
        self.is_slow
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_shorter_than_a_window_is_none_and_a_drip_is_one() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(!pace.is_too_slow(start + WINDOW / 2, || 0));
        pace.note(LEAST_BYTES);
        assert!(!pace.is_too_slow(start + WINDOW, || 0));
        pace.note(100);
        assert!(!pace.is_too_slow(start + WINDOW * 3 / 2, || 0));
        assert!(pace.is_too_slow(start + WINDOW * 2, || 100));
        assert!(pace.is_too_slow(start + WINDOW * 5 / 2, || 0), "until it is seen to be faster");
        assert!(
            !pace.is_too_slow(start + WINDOW * 3, || LEAST_BYTES),
            "what the broker did not read is not the client's fault"
        );
        pace.restart(start + WINDOW * 3);
        assert!(!pace.is_too_slow(start + WINDOW * 7 / 2, || 0));
    }
}
