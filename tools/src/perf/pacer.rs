//! When each record of an open loop is due. Pure: the time comes in as an argument; [`super::timer`] does the waiting.
//!
//! A record's latency counts from the moment it was *due*, not from the moment the generator got round to it. A stall
//! therefore shows in every record that should have been sent during it (no coordinated omission).

use std::time::Duration;

/// The schedule of one worker: record *n* is due at *n* / rate after the start.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Pacer {
    nanos_per_record: f64,
}

impl Pacer {
    /// A schedule of this many records per second.
    ///
    /// # Panics
    /// Where the rate is not positive; the command line refuses that before.
    #[must_use]
    pub fn new(records_per_second: f64) -> Self {
        assert!(records_per_second > 0.0, "a schedule needs a positive rate");
        Self { nanos_per_record: 1e9 / records_per_second }
    }

    /// When record `sequence` (from 0) is due, after the start.
    #[must_use]
    pub fn due_at(&self, sequence: u64) -> Duration {
        // Multiplied rather than summed up: a rounding error must not grow with the length of the run.
        Duration::from_nanos((sequence as f64 * self.nanos_per_record) as u64)
    }

    /// How many records are due once `elapsed` has passed since the start.
    #[must_use]
    pub fn due_by(&self, elapsed: Duration) -> u64 {
        (elapsed.as_nanos() as f64 / self.nanos_per_record) as u64 + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_makes_all_missed_records_due_at_their_own_times() {
        let pacer = Pacer::new(1000.0);
        assert_eq!(pacer.due_by(Duration::ZERO), 1);
        assert_eq!(pacer.due_by(Duration::from_millis(10)), 11);
        // After a stall of 100 ms, the record that was due first has waited for all of it and the last for none.
        let waited = |sequence| Duration::from_millis(110) - pacer.due_at(sequence);
        assert_eq!(pacer.due_by(Duration::from_millis(110)), 111);
        assert_eq!(waited(10), Duration::from_millis(100));
        assert_eq!(waited(110), Duration::ZERO);
    }

    #[test]
    fn the_schedule_does_not_drift_over_a_long_run() {
        let pacer = Pacer::new(3_000_000.0);
        let a_day = 24 * 3600;
        let drift = pacer.due_at(a_day * 3_000_000).abs_diff(Duration::from_secs(a_day));
        assert!(drift < Duration::from_micros(1), "{drift:?}");
    }

    #[test]
    fn what_is_due_by_a_records_time_includes_it() {
        let pacer = Pacer::new(7919.0);
        for sequence in 0..10_000 {
            let due = pacer.due_by(pacer.due_at(sequence) + Duration::from_nanos(1));
            assert_eq!(due, sequence + 1);
        }
    }
}
