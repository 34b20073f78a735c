//! Bytes a second that something may take, shared by all who take part in it. Knows nothing of what they do.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// What may be taken at once after a rest, in seconds of the rate.
const BURST_SECONDS: f64 = 0.1;

/// A rate.
#[derive(Debug)]
pub struct Throttle {
    bytes_per_second: u64,
    /// What is allowed besides.
    besides: AtomicU64,
    /// When everything that was taken so far is paid for.
    paid_until: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Of so many bytes a second; 0 for no limit.
    #[must_use]
    pub const fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, besides: AtomicU64::new(0), paid_until: Mutex::new(None) }
    }

    /// Allows so many bytes a second besides, from now on.
    pub fn allow_besides(&self, bytes_per_second: u64) {
        self.besides.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Takes `bytes` at `now`. Says how long to wait before any more are taken.
    pub fn take(&self, bytes: usize, now: Instant) -> Duration {
        self.take_part(bytes, 1, now)
    }

    /// The same at one of so many `parts` of the rate, with all that is allowed besides.
    pub fn take_part(&self, bytes: usize, parts: u32, now: Instant) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let part = (self.bytes_per_second / u64::from(parts.max(1))).max(1);
        let rate = part.saturating_add(self.besides.load(Ordering::Relaxed));
        let cost = Duration::from_secs_f64(bytes as f64 / rate as f64);
        let burst = Duration::from_secs_f64(BURST_SECONDS);
        let mut paid_until = self.paid_until.lock();
        let rested = now.checked_sub(burst).unwrap_or(now);
        let until = paid_until.map_or(rested, |until| until.max(rested)) + cost;
        *paid_until = Some(until);
        until.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_time_no_more_than_the_rate_passes() {
        let throttle = Throttle::new(1_000);
        let began = Instant::now();
        let mut now = began;
        let mut taken = 0;
        while taken < 10_000 {
            taken += 500;
            now += throttle.take(500, now);
        }
        let seconds = (now - began).as_secs_f64();
        assert!((9.8..=10.0).contains(&seconds), "{seconds}");
        // A long rest earns no more than the burst.
        now += Duration::from_secs(60);
        assert_eq!(throttle.take(100, now), Duration::ZERO);
        assert!(throttle.take(1_000, now) >= Duration::from_millis(999));
        throttle.allow_besides(9_000);
        now += Duration::from_secs(60);
        let _ = throttle.take(1_000, now);
        assert!(throttle.take(1_000, now) <= Duration::from_millis(101), "what is allowed besides counts");
    }

    #[test]
    fn a_part_of_the_rate_takes_longer_and_what_is_allowed_besides_is_not_parted() {
        let throttle = Throttle::new(3_000);
        let now = Instant::now();
        assert_eq!(throttle.take_part(1_100, 3, now), Duration::from_secs(1), "a burst of 0.1 s went before");
        let throttle = Throttle::new(3_000);
        throttle.allow_besides(9_000);
        assert_eq!(throttle.take_part(11_000, 3, now), Duration::from_secs(1));
        assert_eq!(Throttle::new(1).take_part(1, u32::MAX, now), Duration::from_millis(900), "never nothing at all");
    }

    #[test]
    fn no_limit_is_no_wait() {
        assert_eq!(Throttle::new(0).take(usize::MAX, Instant::now()), Duration::ZERO);
    }
}
