//! How many bytes a second are asked of a frame that others wait for. Knows nothing of what came.

use std::time::Duration;

use super::pace::QUICK_TIME;

/// Less than this is too little for any frame, in bytes per second.
pub(super) const LEAST_RATE: u64 = 64 << 10;
/// More than this is asked of none of many, in bytes per second: a busy machine reads no faster from all of them.
const ENOUGH_RATE: u64 = 4 << 20;
/// More than this is not asked of the one that is completed either: a line of 100 Mbit brings half as much again.
const ENOUGH_RATE_ALONE: u64 = 8 << 20;
/// The time that a whole frame may take while others wait. It is the same however long they have waited: who wastes what it gets may wait for ever.
const FRAME_TIME: Duration = Duration::from_secs(5);
/// No more is asked than this part of what those send who wait: memory that is taken from one for others who are no faster is lost for both.
const SLOWER_BY: u64 = 16;

/// The least pace of a frame, in bytes per second.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct LeastRate(pub(super) u64);

impl LeastRate {
    /// Of a frame of so many bytes, while the fastest of those who wait sends so many bytes per second.
    pub(super) fn of(frame_bytes: usize, fastest_waiting: u64) -> Self {
        Self::in_time(frame_bytes, fastest_waiting, ENOUGH_RATE)
    }

    /// The same of the one that is completed, from which alone large frames are read to the end.
    pub(super) fn alone(frame_bytes: usize, fastest_waiting: u64) -> Self {
        Self::in_time(frame_bytes, fastest_waiting, ENOUGH_RATE_ALONE)
    }

    fn in_time(frame_bytes: usize, fastest_waiting: u64, enough: u64) -> Self {
        let rate = (frame_bytes as u64) / FRAME_TIME.as_secs();
        Self(rate.min(enough).min(fastest_waiting / SLOWER_BY).max(LEAST_RATE))
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
    fn a_larger_frame_must_come_faster_though_not_than_a_part_of_what_those_send_who_wait() {
        let of = |bytes, fastest| LeastRate::of(bytes, fastest).0;
        assert_eq!(of(1 << 10, u64::MAX), LEAST_RATE);
        assert_eq!(of(10 << 20, u64::MAX), 2 << 20);
        assert_eq!(of(10 << 20, 32 << 20), 2 << 20);
        assert_eq!(of(10 << 20, 16 << 20), 1 << 20);
        assert_eq!(of(10 << 20, 0), LEAST_RATE, "who falls silent is no use to those who are slow either");
        assert_eq!(of(60 << 20, u64::MAX), ENOUGH_RATE);
        assert_eq!(of(usize::MAX, u64::MAX), ENOUGH_RATE);
        assert_eq!(LeastRate::alone(30 << 20, u64::MAX), LeastRate(6 << 20), "it is read alone");
        assert_eq!(LeastRate::alone(usize::MAX, u64::MAX), LeastRate(ENOUGH_RATE_ALONE));
        assert_eq!(LeastRate::alone(30 << 20, 16 << 20), LeastRate(1 << 20));
    }
}
