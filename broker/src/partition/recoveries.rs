//! What the opening of many partitions had to find out again, told together: after an unclean end of a broker with thousands of them nobody
//! reads a line for each. Knows nothing of how a log is recovered.

use std::sync::atomic::{AtomicU64, Ordering};

use tidelog_log::RecoveryReport;
use tracing::{debug, info};

/// Counts since they were told last.
#[derive(Debug, Default)]
pub(super) struct Recoveries {
    partitions: AtomicU64,
    scanned_bytes: AtomicU64,
    torn_bytes: AtomicU64,
    /// Whose bookkeeping could not be believed either.
    rebuilt: AtomicU64,
}

impl Recoveries {
    /// One log was opened.
    pub(super) fn note(&self, partition: &str, report: &RecoveryReport) {
        let (scanned, torn) = (report.scanned_bytes, report.torn_bytes);
        let was_unclean = scanned > 0 || torn > 0;
        if was_unclean {
            debug!(partition, scanned_bytes = scanned, torn_bytes = torn, "recovered");
            self.scanned_bytes.fetch_add(scanned, Ordering::Relaxed);
            self.torn_bytes.fetch_add(torn, Ordering::Relaxed);
        }
        if let Some(why) = &report.distrusted {
            debug!(partition, why, "the log's bookkeeping was rebuilt from the log itself");
            self.rebuilt.fetch_add(1, Ordering::Relaxed);
        }
        self.partitions.fetch_add(u64::from(was_unclean || report.distrusted.is_some()), Ordering::Relaxed);
    }

    /// All that were meant to be opened are; tells of those that had to be recovered, where any had.
    pub(super) fn tell(&self) {
        let taken = |count: &AtomicU64| count.swap(0, Ordering::Relaxed);
        let partitions = taken(&self.partitions);
        let (scanned_bytes, torn_bytes) = (taken(&self.scanned_bytes), taken(&self.torn_bytes));
        let rebuilt = taken(&self.rebuilt);
        if partitions > 0 {
            info!(partitions, scanned_bytes, torn_bytes, rebuilt, "recovered after an unclean shutdown");
        }
    }
}
