//! How many flushes there were and how long they took. Knows nothing of who flushes what.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What a flusher has done since it started.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FlushMetrics {
    /// Flushes that had something to do.
    pub flushes: u64,
    /// Bytes they made durable.
    pub bytes: u64,
    /// Time they took, in microseconds, summed.
    pub micros: u64,
    /// Flushes by time taken: bucket `i` counts those below 2^(i + 4) µs that the one before does not; the last is open.
    pub buckets: [u64; 16],
    /// Flushes that failed, each the end of one replica.
    pub errors: u64,
}

/// The counters behind them.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    flushes: AtomicU64,
    bytes: AtomicU64,
    micros: AtomicU64,
    buckets: [AtomicU64; 16],
    errors: AtomicU64,
}

impl Counters {
    /// What was counted so far.
    pub(crate) fn metrics(&self) -> FlushMetrics {
        let mut buckets = [0; 16];
        for (bucket, counter) in buckets.iter_mut().zip(&self.buckets) {
            *bucket = counter.load(Ordering::Relaxed);
        }
        FlushMetrics {
            flushes: self.flushes.load(Ordering::Relaxed),
            bytes: self.bytes.load(Ordering::Relaxed),
            micros: self.micros.load(Ordering::Relaxed),
            buckets,
            errors: self.errors.load(Ordering::Relaxed),
        }
    }

    /// One has failed.
    pub(crate) fn note_failure(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// One has made so many bytes durable.
    pub(crate) fn note(&self, bytes: u64, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = (64 - (micros >> 4).leading_zeros() as usize).min(self.buckets.len() - 1);
        self.flushes.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.micros.fetch_add(micros, Ordering::Relaxed);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
    }
}
