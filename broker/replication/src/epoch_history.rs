//! Which leadership wrote which records of a partition: what two replicas compare to find where their logs part (KIP-101,
//! KIP-279). Knows nothing of the log, which keeps the same entries on disk; the driver tells both of every change.

use alloc::vec::Vec;

use tidelog_protocol::{LeaderEpoch, Offset};

/// An epoch and the offset of its first record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochStart {
    /// The leadership.
    pub epoch: LeaderEpoch,
    /// Offset of the first record it wrote.
    pub start: Offset,
}

/// An epoch and the offset after its last record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEnd {
    /// The leadership.
    pub epoch: LeaderEpoch,
    /// Offset after the last record it wrote.
    pub end: Offset,
}

/// Where each epoch begins. Epochs and offsets both grow strictly from entry to entry; an epoch without records leaves no trace.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct EpochHistory {
    starts: Vec<EpochStart>,
}

impl EpochHistory {
    /// The history of a log as recovery found it, oldest entry first.
    ///
    /// # Panics
    /// Where epochs or offsets do not grow.
    #[must_use]
    pub fn recovered(starts: impl IntoIterator<Item = (LeaderEpoch, Offset)>) -> Self {
        let mut history = Self::default();
        for (epoch, start) in starts {
            history.assign(epoch, start);
        }
        history
    }

    /// All entries, oldest first.
    #[must_use]
    pub fn starts(&self) -> &[EpochStart] {
        &self.starts
    }

    /// The epoch of the newest record.
    #[must_use]
    pub fn latest(&self) -> Option<LeaderEpoch> {
        self.starts.last().map(|entry| entry.epoch)
    }

    /// The largest known epoch not above `epoch`, and where it ends; the newest ends at `log_end`. `None` where every known epoch
    /// is above, or there is none.
    #[must_use]
    pub fn end_of(&self, epoch: LeaderEpoch, log_end: Offset) -> Option<EpochEnd> {
        let after = self.starts.partition_point(|entry| entry.epoch <= epoch);
        let found = self.starts[after.checked_sub(1)?].epoch;
        Some(EpochEnd { epoch: found, end: self.starts.get(after).map_or(log_end, |next| next.start) })
    }

    /// `epoch` writes at `start`, where the log ended.
    ///
    /// # Panics
    /// Where a newer epoch wrote before, or behind `start`.
    pub fn assign(&mut self, epoch: LeaderEpoch, start: Offset) {
        if let Some(last) = self.starts.last() {
            assert!(last.epoch <= epoch && last.start <= start, "{last:?} is followed by {epoch} at {start}");
            if last.epoch == epoch {
                return;
            }
            if last.start == start {
                self.starts.pop();
            }
        }
        self.starts.push(EpochStart { epoch, start });
    }

    /// The log was cut at `end`.
    pub fn truncate_to(&mut self, end: Offset) {
        self.starts.retain(|entry| entry.start < end);
    }

    /// The log begins at `log_start` now: the epoch that wrote the record there begins there.
    pub fn forget_before(&mut self, log_start: Offset) {
        let after = self.starts.partition_point(|entry| entry.start <= log_start);
        if let Some(current) = after.checked_sub(1) {
            self.starts.drain(..current);
            self.starts[0].start = log_start;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(starts: &[(u32, u64)]) -> EpochHistory {
        EpochHistory::recovered(starts.iter().map(|(epoch, start)| (LeaderEpoch(*epoch), Offset(*start))))
    }

    fn end(epoch: u32, end: u64) -> Option<EpochEnd> {
        Some(EpochEnd { epoch: LeaderEpoch(epoch), end: Offset(end) })
    }

    #[test]
    fn an_epoch_ends_where_the_next_known_one_begins_and_the_newest_at_the_log_end() {
        let history = history(&[(1, 0), (4, 10)]);
        assert_eq!(history.end_of(LeaderEpoch(0), Offset(20)), None);
        assert_eq!(history.end_of(LeaderEpoch(1), Offset(20)), end(1, 10));
        assert_eq!(history.end_of(LeaderEpoch(3), Offset(20)), end(1, 10));
        assert_eq!(history.end_of(LeaderEpoch(9), Offset(20)), end(4, 20));
    }

    #[test]
    fn an_epoch_without_records_leaves_no_trace() {
        assert_eq!(history(&[(1, 0), (3, 10), (4, 10), (4, 12)]), history(&[(1, 0), (4, 10)]));
    }

    #[test]
    fn cutting_and_forgetting_keep_what_is_still_there() {
        let mut cut = history(&[(1, 0), (4, 10), (5, 20)]);
        cut.truncate_to(Offset(10));
        assert_eq!(cut, history(&[(1, 0)]));
        let mut aged = history(&[(1, 0), (4, 10), (5, 20)]);
        aged.forget_before(Offset(14));
        assert_eq!(aged, history(&[(4, 14), (5, 20)]));
        aged.forget_before(Offset(30));
        assert_eq!(aged, history(&[(5, 30)]), "an emptied log knows who wrote last");
    }

    #[test]
    #[should_panic(expected = "is followed by")]
    fn an_older_epoch_never_writes_behind_a_newer_one() {
        history(&[(4, 0), (1, 10)]);
    }
}
