//! How many bytes a second are asked of a frame that others wait for. Knows nothing of what came.

use std::time::Duration;

use super::pace::QUICK_TIME;

/// Less than this is too little for any frame, in bytes per second.
pub(super) const LEAST_RATE: u64 = 64 << 10;
/// More than this is asked of none of many, in bytes per second: a busy machine reads no faster from all of them.
const ENOUGH_RATE: u64 = 4 << 20;
/// More than this is not asked of the one that is completed either: half of what a usual network brings.
const ENOUGH_RATE_ALONE: u64 = 64 << 20;
/// The time that a whole frame may take once others begin to wait. As long as they have waited is taken from it, down to a second.
const FRAME_TIME: Duration = Duration::from_secs(5);

/// The least pace of a frame, in bytes per second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LeastRate(pub(super) u64);

impl LeastRate {
    /// Of a frame of so many bytes, while the first of the others has waited for so long.
    pub(super) fn of(frame_bytes: usize, others_waited: Duration) -> Self {
        Self::in_time(frame_bytes, others_waited, ENOUGH_RATE)
    }

    /// The same of the one that is completed, from which alone large frames are read to the end.
    pub(super) fn alone(frame_bytes: usize, others_waited: Duration) -> Self {
        Self::in_time(frame_bytes, others_waited, ENOUGH_RATE_ALONE)
    }

    fn in_time(frame_bytes: usize, others_waited: Duration, enough: u64) -> Self {
        let time = FRAME_TIME.saturating_sub(others_waited).max(Duration::from_secs(1));
        let rate = (frame_bytes as u64).saturating_mul(1_000) / time.as_millis() as u64;
        Self(rate.clamp(LEAST_RATE, enough))
    }

    /// Of a frame that was let go first since it came quickly, while others that do wait: a third of what it promised, since what it promised by
    /// may have been a burst, and a window may begin just behind one.
    pub(super) fn quick(frame_bytes: usize) -> Self {
        Self((frame_bytes as u64).saturating_mul(1_000) / (3 * QUICK_TIME.as_millis() as u64))
    }

    /// Less than so many bytes in `time` are too few.
    pub(super) fn bytes_in(self, time: Duration) -> u64 {
        self.0.saturating_mul(time.as_millis() as u64) / 1_000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_larger_frame_must_come_faster_and_faster_still_the_longer_others_wait() {
        let at = |bytes, waited| LeastRate::of(bytes, Duration::from_millis(waited)).0;
        assert_eq!(at(1 << 10, 0), LEAST_RATE);
        assert_eq!(at(1 << 20, 0), (1 << 20) / 5);
        assert_eq!(at(1 << 20, 3_000), (1 << 20) / 2);
        assert_eq!(at(1 << 20, 60_000), 1 << 20);
        assert_eq!(at(60 << 20, 0), ENOUGH_RATE);
        assert_eq!(at(usize::MAX, 0), ENOUGH_RATE);
        assert_eq!(LeastRate::alone(60 << 20, Duration::ZERO), LeastRate(12 << 20), "it is read alone");
        assert_eq!(LeastRate::alone(60 << 20, Duration::from_secs(9)), LeastRate(60 << 20));
        assert_eq!(LeastRate::alone(usize::MAX, Duration::ZERO), LeastRate(ENOUGH_RATE_ALONE));
    }
}
