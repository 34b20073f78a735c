//! Which leadership wrote which offsets: the history that lets replicas find where they diverged (KIP-101, KIP-279).
//!
//! Pure, but for reading and writing its own file. It knows nothing of segments; recovery and append tell it where epochs begin.

use std::path::Path;

use tidelog_protocol::{LeaderEpoch, Offset};

use crate::disk::Disk;
use crate::small_file::{self, Fields, Kind, SmallFileError};
use crate::storage_error::StorageError;

/// Name of the file in the partition folder.
pub(crate) const FILE_NAME: &str = "leader-epochs";
pub(crate) const KIND: Kind = Kind { magic: *b"TLep", version: 1 };

/// Where each epoch begins. Epochs and offsets both grow strictly from entry to entry.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct LeaderEpochs {
    starts: Vec<EpochStart>,
}

/// An epoch and the offset of its first record.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochStart {
    /// The leadership.
    pub epoch: LeaderEpoch,
    /// Its first offset in this log.
    pub start: Offset,
}

impl LeaderEpochs {
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

    /// The epoch that wrote `offset`, if the history reaches that far back.
    #[must_use]
    pub fn epoch_at(&self, offset: Offset) -> Option<LeaderEpoch> {
        let after = self.starts.partition_point(|entry| entry.start <= offset);
        after.checked_sub(1).map(|index| self.starts[index].epoch)
    }

    /// The largest known epoch not above `epoch`, and the offset after its last record (`end` for the newest): what a
    /// leader answers a follower that asks where an epoch ended. `None` if every known epoch is above.
    #[must_use]
    pub fn end_of(&self, epoch: LeaderEpoch, end: Offset) -> Option<(LeaderEpoch, Offset)> {
        let after = self.starts.partition_point(|entry| entry.epoch <= epoch);
        let found = self.starts[after.checked_sub(1)?].epoch;
        Some((found, self.starts.get(after).map_or(end, |next| next.start)))
    }

    /// Notes that `epoch` writes at `start`. True if that is news. The caller has made sure that it is not older than the latest.
    pub(crate) fn assign(&mut self, epoch: LeaderEpoch, start: Offset) -> Change {
        if let Some(last) = self.starts.last() {
            assert!(last.epoch <= epoch && last.start <= start, "{last:?} is followed by {epoch} at {start}");
            if last.epoch == epoch {
                return Change::None;
            }
            // An epoch that wrote nothing leaves no trace.
            if last.start == start {
                self.starts.pop();
            }
        }
        self.starts.push(EpochStart { epoch, start });
        Change::Some
    }

    /// Forgets epochs that begin at or after `end`: the log was cut there.
    pub(crate) fn truncate_to(&mut self, end: Offset) -> Change {
        let kept = self.starts.partition_point(|entry| entry.start < end);
        let change = if kept < self.starts.len() { Change::Some } else { Change::None };
        self.starts.truncate(kept);
        change
    }

    /// Forgets epochs that ended before `log_start`; the one that wrote it then begins there.
    pub(crate) fn forget_before(&mut self, log_start: Offset) -> Change {
        let after = self.starts.partition_point(|entry| entry.start <= log_start);
        let Some(current) = after.checked_sub(1).filter(|&index| self.starts[index].start < log_start) else {
            return Change::None;
        };
        self.starts.drain(..current);
        self.starts[0].start = log_start;
        Change::Some
    }

    pub(crate) fn write(&self, disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
        let mut body = Vec::with_capacity(self.starts.len() * 12);
        for entry in &self.starts {
            body.extend_from_slice(&entry.epoch.0.to_be_bytes());
            body.extend_from_slice(&entry.start.0.to_be_bytes());
        }
        small_file::replace(disk, &dir.join(FILE_NAME), KIND, &body)
    }

    pub(crate) fn read(disk: &dyn Disk, dir: &Path) -> Result<Self, SmallFileError> {
        let (_, body) = small_file::read(disk, &dir.join(FILE_NAME), KIND)?;
        Self::decode(&body).ok_or(SmallFileError::Damaged("its entries are not in order"))
    }

    pub(crate) fn decode(body: &[u8]) -> Option<Self> {
        let mut fields = Fields(body);
        let mut starts: Vec<EpochStart> = Vec::with_capacity(body.len() / 12);
        while !fields.0.is_empty() {
            let entry = EpochStart { epoch: LeaderEpoch(fields.u32()?), start: Offset(fields.u64()?) };
            if starts.last().is_some_and(|last| last.epoch >= entry.epoch || last.start >= entry.start) {
                return None;
            }
            starts.push(entry);
        }
        Some(Self { starts })
    }
}

/// Whether a history has news that its file lacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub(crate) enum Change {
    None,
    Some,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history() -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        assert_eq!(epochs.assign(LeaderEpoch(1), Offset(0)), Change::Some);
        assert_eq!(epochs.assign(LeaderEpoch(1), Offset(5)), Change::None);
        assert_eq!(epochs.assign(LeaderEpoch(3), Offset(10)), Change::Some);
        assert_eq!(epochs.assign(LeaderEpoch(4), Offset(10)), Change::Some);
        epochs
    }

    #[test]
    fn an_epoch_without_records_leaves_no_trace() {
        let starts: Vec<_> = history().starts().iter().map(|e| (e.epoch.0, e.start.0)).collect();
        assert_eq!(starts, [(1, 0), (4, 10)]);
    }

    #[test]
    fn the_end_of_an_epoch_is_the_start_of_the_next_known_one() {
        let epochs = history();
        assert_eq!(epochs.end_of(LeaderEpoch(0), Offset(20)), None);
        assert_eq!(epochs.end_of(LeaderEpoch(1), Offset(20)), Some((LeaderEpoch(1), Offset(10))));
        assert_eq!(epochs.end_of(LeaderEpoch(3), Offset(20)), Some((LeaderEpoch(1), Offset(10))));
        assert_eq!(epochs.end_of(LeaderEpoch(9), Offset(20)), Some((LeaderEpoch(4), Offset(20))));
    }

    #[test]
    fn truncation_and_retention_cut_the_history_at_their_ends() {
        let mut epochs = history();
        assert_eq!(epochs.forget_before(Offset(4)), Change::Some);
        assert_eq!(epochs.epoch_at(Offset(3)), None);
        assert_eq!(epochs.epoch_at(Offset(4)), Some(LeaderEpoch(1)));
        assert_eq!(epochs.truncate_to(Offset(10)), Change::Some);
        assert_eq!(epochs.latest(), Some(LeaderEpoch(1)));
        assert_eq!(epochs.truncate_to(Offset(10)), Change::None);
    }
}
