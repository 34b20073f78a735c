//! How long to wait before the next try: exponential, jittered, capped. Knows neither clock nor what is tried; the random
//! number comes in as an argument.

use std::time::Duration;

use crate::ClientError;

/// The waits between tries. The wait after the `n`-th failure (from 0) is drawn from the upper half of
/// `min(first × 2ⁿ, max)`: never so short that a failing broker is hammered, never in step with the other clients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Backoff {
    /// Upper bound of the first wait.
    pub first: Duration,
    /// Upper bound of all later ones.
    pub max: Duration,
}

impl Backoff {
    /// 50 ms at first, 1 s at most.
    pub const DEFAULT: Self = Self { first: Duration::from_millis(50), max: Duration::from_secs(1) };

    /// The wait after `failures` failures in a row (1 for the first), with `jitter` drawn evenly from 0 to 1; zero where
    /// nothing has failed.
    #[must_use]
    pub fn wait(&self, failures: u32, jitter: f64) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else { return Duration::ZERO };
        // 2³¹ times any sensible first wait is beyond any sensible cap.
        let bound = self.first.saturating_mul(1u32 << doublings.min(31)).min(self.max);
        bound.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }

    /// As [`Backoff::wait`], with a random jitter, and at least as long as the broker suggested.
    pub(crate) fn draw(&self, failures: u32, suggested_ms: u32) -> Duration {
        self.wait(failures, fastrand::f64()).max(Duration::from_millis(suggested_ms.into()).min(Self::SUGGESTION_MAX))
    }

    /// As [`Backoff::draw`], by what failed: the end of a transaction takes a few milliseconds, and so do the waits for it.
    pub(crate) fn draw_for(&self, failures: u32, error: &ClientError) -> Duration {
        let brief = Self { first: Duration::from_millis(2), max: self.max.min(Duration::from_millis(50)) };
        let backoff = if error.is_about_the_transaction_before() { brief } else { *self };
        backoff.draw(failures, error.retry_after_ms())
    }

    /// A broker's suggestion is a wish, not an order to sleep for ever.
    const SUGGESTION_MAX: Duration = Duration::from_secs(30);
}

impl Default for Backoff {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn nothing_failed_nothing_to_wait_for() {
        assert_eq!(Backoff::DEFAULT.wait(0, 1.0), Duration::ZERO);
    }

    #[test]
    fn waits_double_up_to_the_cap() {
        let waits: Vec<u128> = (1..=7).map(|n| Backoff::DEFAULT.wait(n, 1.0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1_000, 1_000]);
    }

    #[test]
    fn a_broker_that_suggests_a_delay_is_heard_within_reason() {
        assert!(Backoff::DEFAULT.draw(1, 700) >= Duration::from_millis(700));
        assert!(Backoff::DEFAULT.draw(1, u32::MAX) <= Duration::from_secs(30));
    }

    proptest! {
        #[test]
        fn every_wait_lies_in_the_upper_half_of_its_bound(failures in 1u32.., jitter in 0.0f64..=1.0) {
            let backoff = Backoff::DEFAULT;
            let bound = backoff.wait(failures, 1.0);
            let wait = backoff.wait(failures, jitter);
            prop_assert!(wait >= bound / 2 && wait <= bound && bound <= backoff.max);
        }
    }
}
