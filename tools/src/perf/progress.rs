//! How far the workers of a run are, and samples of it over time. Knows nothing of terminals or reports.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What one worker has done so far, on a cache line of its own. The worker adds, the sampler reads.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct Counter {
    records: AtomicU64,
    bytes: AtomicU64,
}

impl Counter {
    /// Adds finished records.
    pub fn add(&self, records: u64, bytes: u64) {
        // Relaxed: only sums are read, and nothing is published through them.
        self.records.fetch_add(records, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Records so far.
    #[must_use]
    pub fn records(&self) -> u64 {
        self.records.load(Ordering::Relaxed)
    }
}

/// The counters of all workers.
#[derive(Debug)]
pub struct Progress {
    counters: Box<[Counter]>,
}

impl Progress {
    /// Counters at zero, one for each worker.
    #[must_use]
    pub fn new(workers: usize) -> Self {
        Self { counters: (0..workers).map(|_| Counter::default()).collect() }
    }

    /// The counter of a worker.
    ///
    /// # Panics
    /// Where there is no such worker.
    #[must_use]
    pub fn counter(&self, worker: usize) -> &Counter {
        &self.counters[worker]
    }

    /// Records and bytes so far, all workers together.
    #[must_use]
    pub fn total(&self) -> (u64, u64) {
        let records = self.counters.iter().map(Counter::records).sum();
        (records, self.counters.iter().map(|counter| counter.bytes.load(Ordering::Relaxed)).sum())
    }
}

/// The total at one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sample {
    /// Since the start of the run.
    pub at: Duration,
    /// Records so far.
    pub records: u64,
    /// Bytes so far.
    pub bytes: u64,
}

/// The rate between two samples.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rate {
    /// The middle of the interval, in seconds since the start of the run.
    pub at_seconds: f64,
    /// Records per second.
    pub records_per_second: f64,
    /// MB (10⁶ bytes) per second.
    pub mb_per_second: f64,
}

/// Samples of a run, in the order of time.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    samples: Vec<Sample>,
}

impl Timeline {
    /// Adds a sample.
    pub fn push(&mut self, sample: Sample) {
        self.samples.push(sample);
    }

    /// Adds the sample at the end of the run. It takes the place of the one before where that is less than `least` away: a
    /// rate over so short a time says nothing.
    pub fn finish(&mut self, sample: Sample, least: Duration) {
        if self.samples.len() > 2 && self.samples.last().is_some_and(|last| sample.at.saturating_sub(last.at) < least) {
            self.samples.pop();
        }
        self.samples.push(sample);
    }

    /// The rate over the last interval; none before two samples.
    #[must_use]
    pub fn latest(&self) -> Option<Rate> {
        self.rates_of(self.samples.len().saturating_sub(2)).next()
    }

    /// The rates from interval to interval.
    pub fn rates(&self) -> impl Iterator<Item = Rate> {
        self.rates_of(0)
    }

    fn rates_of(&self, from: usize) -> impl Iterator<Item = Rate> {
        self.samples[from.min(self.samples.len())..].windows(2).filter_map(|pair| {
            let (from, to) = (pair[0], pair[1]);
            let seconds = to.at.saturating_sub(from.at).as_secs_f64();
            (seconds > 0.0).then(|| Rate {
                at_seconds: (from.at.as_secs_f64() + to.at.as_secs_f64()) / 2.0,
                records_per_second: (to.records - from.records) as f64 / seconds,
                mb_per_second: (to.bytes - from.bytes) as f64 / 1e6 / seconds,
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(millis: u64, records: u64) -> Sample {
        Sample { at: Duration::from_millis(millis), records, bytes: records * 1000 }
    }

    #[test]
    fn rates_are_those_between_samples() {
        let mut timeline = Timeline::default();
        assert_eq!(timeline.latest(), None);
        timeline.push(sample(0, 0));
        assert_eq!(timeline.latest(), None);
        timeline.push(sample(500, 1000));
        timeline.push(sample(1000, 1000));
        let rates: Vec<_> = timeline.rates().collect();
        assert_eq!(rates[0], Rate { at_seconds: 0.25, records_per_second: 2000.0, mb_per_second: 2.0 });
        assert_eq!(rates[1].records_per_second, 0.0);
        assert_eq!(timeline.latest(), Some(rates[1]));
    }

    #[test]
    fn a_short_last_interval_joins_the_one_before() {
        let mut timeline = Timeline::default();
        for millis in [0, 100, 200] {
            timeline.push(sample(millis, millis));
        }
        timeline.finish(sample(201, 300), Duration::from_millis(50));
        assert_eq!(timeline.rates().count(), 2);
        timeline.finish(sample(300, 400), Duration::from_millis(50));
        assert_eq!(timeline.rates().count(), 3);
    }

    #[test]
    fn two_samples_of_one_moment_give_no_rate() {
        let mut timeline = Timeline::default();
        timeline.push(sample(100, 5));
        timeline.push(sample(100, 9));
        assert_eq!(timeline.rates().count(), 0);
    }

    #[test]
    fn the_total_sums_all_workers() {
        let progress = Progress::new(3);
        progress.counter(0).add(5, 500);
        progress.counter(2).add(7, 700);
        assert_eq!(progress.total(), (12, 1200));
    }
}
