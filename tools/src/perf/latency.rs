//! Latencies, kept as an HdrHistogram with three significant digits. Knows nothing of what was measured.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// The longest latency that is told apart from longer ones: an hour, in nanoseconds.
const NANOS_MAX: u64 = 3_600_000_000_000;

/// Recorded latencies.
#[derive(Clone, Debug)]
pub struct Latencies {
    histogram: Histogram<u64>,
}

/// The percentiles of a run, in milliseconds; `null` in JSON where nothing was measured.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct LatencyMillis {
    /// Half of the records were faster.
    pub p50: Option<f64>,
    /// One in a hundred was slower.
    pub p99: Option<f64>,
    /// One in a thousand was slower.
    pub p99_9: Option<f64>,
    /// One in ten thousand was slower.
    pub p99_99: Option<f64>,
    /// The slowest.
    pub max: Option<f64>,
}

/// A point of the percentile distribution.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct DistributionPoint {
    /// The share of records that were at least this fast, below 1.
    pub quantile: f64,
    /// Their latency, in milliseconds.
    pub millis: f64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self::new()
    }
}

impl Latencies {
    /// None recorded yet.
    #[must_use]
    pub fn new() -> Self {
        #[expect(clippy::expect_used, reason = "constant bounds")]
        let histogram = Histogram::new_with_bounds(1, NANOS_MAX, 3).expect("1 < an hour, and 3 digits are allowed");
        Self { histogram }
    }

    /// Records the same latency for `records` records; over an hour counts as an hour.
    pub fn record(&mut self, latency: Duration, records: u64) {
        self.histogram.saturating_record_n(latency.as_nanos().min(u128::from(NANOS_MAX)) as u64, records);
    }

    /// Adds what another worker recorded.
    pub fn merge(&mut self, other: &Self) {
        #[expect(clippy::expect_used, reason = "same bounds by construction")]
        self.histogram.add(&other.histogram).expect("all have the same bounds");
    }

    /// How many latencies were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.histogram.len()
    }

    /// The percentiles, in milliseconds with a resolution of 0.1 µs.
    #[must_use]
    pub fn millis(&self) -> LatencyMillis {
        let at = |quantile| (self.count() > 0).then(|| millis(self.histogram.value_at_quantile(quantile)));
        let max = (self.count() > 0).then(|| millis(self.histogram.max()));
        LatencyMillis { p50: at(0.5), p99: at(0.99), p99_9: at(0.999), p99_99: at(0.9999), max }
    }

    /// The distribution from the fastest record to the slowest, in steps that get finer towards the slowest.
    #[must_use]
    pub fn distribution(&self) -> Vec<DistributionPoint> {
        let mut points: Vec<DistributionPoint> = Vec::new();
        for value in self.histogram.iter_quantiles(10) {
            let quantile = value.quantile();
            if quantile < 1.0 {
                points.push(DistributionPoint { quantile, millis: millis(value.value_iterated_to()) });
            }
        }
        if self.count() > 0 {
            // The slowest record itself: there is no finer quantile among this many records.
            let quantile = 1.0 - 0.5 / self.count() as f64;
            points.push(DistributionPoint { quantile, millis: millis(self.histogram.max()) });
        }
        points
    }
}

fn millis(nanos: u64) -> f64 {
    (nanos as f64 / 100.0).round() / 10_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_known_distribution() {
        let mut latencies = Latencies::new();
        for micros in 1..=10_000 {
            latencies.record(Duration::from_micros(micros), 1);
        }
        let found = latencies.millis();
        for (found, expected) in
            [(found.p50, 5.0), (found.p99, 9.9), (found.p99_9, 9.99), (found.p99_99, 9.999), (found.max, 10.0)]
        {
            let found = found.unwrap();
            assert!((found - expected).abs() / expected < 0.002, "{found} instead of {expected}");
        }
    }

    #[test]
    fn a_batch_counts_as_its_records() {
        let mut one_by_one = Latencies::new();
        let mut at_once = Latencies::new();
        for _ in 0..500 {
            one_by_one.record(Duration::from_micros(70), 1);
        }
        at_once.record(Duration::from_micros(70), 500);
        assert_eq!(at_once.millis(), one_by_one.millis());
        assert_eq!(at_once.count(), 500);
        at_once.merge(&one_by_one);
        assert_eq!(at_once.count(), 1000);
    }

    #[test]
    fn nothing_measured_is_null_and_not_zero() {
        let latencies = Latencies::new();
        assert_eq!(latencies.millis().p99, None);
        assert!(latencies.distribution().is_empty());
        assert!(serde_json::to_string(&latencies.millis()).unwrap().contains("\"p99_9\":null"));
    }

    #[test]
    fn more_than_an_hour_is_kept_as_an_hour() {
        let mut latencies = Latencies::new();
        latencies.record(Duration::from_secs(100_000), 1);
        assert!((latencies.millis().max.unwrap() - 3_600_000.0).abs() < 3_600.0);
    }

    #[test]
    fn the_distribution_rises_to_the_slowest() {
        let mut latencies = Latencies::new();
        for micros in 1..=5_000 {
            latencies.record(Duration::from_micros(micros), 1);
        }
        let points = latencies.distribution();
        assert!(points.is_sorted_by(|a, b| a.quantile <= b.quantile && a.millis <= b.millis));
        assert!((points.last().unwrap().millis - 5.0).abs() < 0.01);
        assert!(points.last().unwrap().quantile < 1.0);
    }
}
