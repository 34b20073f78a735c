//! How fast a frame arrives. One that others wait for must keep a pace: clients that send half of a frame and fall silent, or drip
//! the rest, would hold memory that everybody needs. A frame that all others wait for, since one at a time is completed, is judged sooner.
//! Pure: it is told what time it is.

use std::time::{Duration, Instant};

/// A pace is taken over this time, so that a short pause of a client is none.
pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// Less than so much in this window is too little.
const LEAST_BYTES: usize = 64 << 10;
/// The window of a frame that is completed, with as much less to arrive in it.
pub(super) const COMPLETION_WINDOW: Duration = Duration::from_millis(500);
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
    pub(super) fn is_too_slow(&mut self, now: Instant, window: Duration, unread: impl FnOnce() -> usize) -> bool {
        if now.saturating_duration_since(self.since) >= window {
            let least = least_bytes(window);
            let is_slow = self.bytes < least && self.bytes.saturating_add(unread()) < least;
            *self = Self { since: now, bytes: 0, is_slow };
        }
        self.is_slow
    }
}

/// Less than so much in `window` is too little.
pub(super) const fn least_bytes(window: Duration) -> usize {
    LEAST_BYTES * window.as_millis() as usize / WINDOW.as_millis() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_shorter_than_a_window_is_none_and_a_drip_is_one() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert!(!pace.is_too_slow(start + WINDOW / 2, WINDOW, || 0));
        pace.note(LEAST_BYTES);
        assert!(!pace.is_too_slow(start + WINDOW, WINDOW, || 0));
        pace.note(100);
        assert!(!pace.is_too_slow(start + WINDOW * 3 / 2, WINDOW, || 0));
        assert!(pace.is_too_slow(start + WINDOW * 2, WINDOW, || 100));
        assert!(pace.is_too_slow(start + WINDOW * 5 / 2, WINDOW, || 0), "until it is seen to be faster");
        assert!(
            !pace.is_too_slow(start + WINDOW * 3, WINDOW, || LEAST_BYTES),
            "what the broker did not read is not the client's fault"
        );
        pace.restart(start + WINDOW * 3);
        assert!(!pace.is_too_slow(start + WINDOW * 7 / 2, WINDOW, || 0));
    }

    #[test]
    fn who_keeps_everybody_waiting_is_judged_sooner_by_the_same_pace() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.note(LEAST_BYTES / 2);
        assert!(!pace.is_too_slow(start + COMPLETION_WINDOW, COMPLETION_WINDOW, || 0));
        pace.note(LEAST_BYTES / 2 - 1);
        assert!(pace.is_too_slow(start + COMPLETION_WINDOW * 2, COMPLETION_WINDOW, || 0));
    }
}
