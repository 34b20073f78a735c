//! Which bytes of a segment this process has seen to be whole: written by itself, or read back with matching checksums.
//!
//! Nothing else is ever served, so a bit that flipped on the disk while nobody looked is an error, not data. What has left the page cache
//! since is not known any more (`residency`). Pure.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// A set of byte ranges, one of which is the open tail that appends grow.
#[derive(Debug)]
pub(crate) struct Verified {
    /// Everything from here on was written or read back by this process.
    tail_from: AtomicU64,
    /// Ranges below, in order, never touching.
    below: Mutex<Vec<Range<u64>>>,
}

impl Verified {
    /// Nothing below `tail_from` is known to be whole.
    pub(crate) fn from(tail_from: u64) -> Self {
        Self { tail_from: AtomicU64::new(tail_from), below: Mutex::new(Vec::new()) }
    }

    pub(crate) fn covers(&self, range: &Range<u64>) -> bool {
        let tail_from = self.tail_from.load(Ordering::Acquire);
        if range.is_empty() || tail_from <= range.start {
            return true;
        }
        let below = self.below.lock();
        let after = below.partition_point(|known| known.start <= range.start);
        after > 0 && below[after - 1].end >= range.end.min(tail_from)
    }

    /// What is known of the bytes below `end`.
    pub(crate) fn below(&self, end: u64) -> Self {
        let below = self.below.lock();
        let known = below.iter().map(|range| range.start..range.end.min(end)).filter(|range| !range.is_empty());
        let cut = Self::from(end);
        *cut.below.lock() = known.collect();
        cut.add(self.tail_from.load(Ordering::Acquire).min(end)..end);
        cut
    }

    /// Nothing below `end` counts as whole any more.
    pub(crate) fn forget(&self, end: u64) {
        let mut below = self.below.lock();
        below.clear();
        self.tail_from.fetch_max(end, Ordering::AcqRel);
    }

    pub(crate) fn add(&self, range: Range<u64>) {
        let mut below = self.below.lock();
        let first = below.partition_point(|known| known.end < range.start);
        let last = below.partition_point(|known| known.start <= range.end);
        let mut merged = range;
        if first < last {
            merged = merged.start.min(below[first].start)..merged.end.max(below[last - 1].end);
        }
        if merged.end >= self.tail_from.load(Ordering::Acquire) {
            self.tail_from.fetch_min(merged.start, Ordering::AcqRel);
            below.drain(first..last);
        } else {
            below.splice(first..last, [merged]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_merge_with_each_other_and_with_the_tail() {
        let verified = Verified::from(1_000);
        assert!(verified.covers(&(1_000..5_000)));
        assert!(!verified.covers(&(999..1_001)));
        verified.add(100..200);
        verified.add(300..400);
        assert!(verified.covers(&(100..200)) && !verified.covers(&(100..201)) && !verified.covers(&(150..350)));
        verified.add(200..300);
        assert!(verified.covers(&(100..400)));
        verified.add(350..1_000);
        assert!(verified.covers(&(100..9_000)));
        assert!(!verified.covers(&(0..101)));
        verified.forget(2_000);
        assert!(verified.covers(&(2_000..9_000)) && !verified.covers(&(100..200)));
        verified.forget(1_500);
        assert!(!verified.covers(&(1_500..2_001)), "what is forgotten stays so");
    }
}
