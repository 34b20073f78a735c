//! A bug that was planted on purpose, so that a test proves that it would be caught. Outside this crate's own tests there is no way to plant it,
//! and the question below is a constant. Knows nothing of what recovery does; recovery asks here whether to break.

#[cfg(test)]
std::thread_local! {
    static CUTS_AT_ANY_DAMAGE: core::cell::Cell<bool> = const { core::cell::Cell::new(false) };
}

/// Whether recovery takes damage in the middle of a log for a torn tail, and cuts there: how committed records get lost (Protocol-Aware
/// Recovery, FAST'18).
#[cfg(test)]
pub(crate) fn cuts_at_any_damage() -> bool {
    CUTS_AT_ANY_DAMAGE.get()
}

/// As where it is planted; never.
#[cfg(not(test))]
pub(crate) const fn cuts_at_any_damage() -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::Arc;

    use tidelog_protocol::records::Batches;
    use tidelog_protocol::{IncarnationId, LeaderEpoch, Offset, PartitionId, TopicId};

    use super::*;
    use crate::{
        FlusherHandle, Group, Identity, Log, LogOptions, OsDisk, ReadError, ReadOutcome, SegmentOptions, Unheard,
        sample,
    };

    const BATCHES: u64 = 8;
    const BATCH_BYTES: usize = 61 + 50;

    fn open(dir: &Path) -> Log {
        let options = LogOptions {
            dir: dir.to_owned(),
            disk: OsDisk::shared(),
            identity: Identity {
                topic: TopicId([7; 16]),
                partition: PartitionId(3),
                incarnation: IncarnationId([9; 16]),
            },
            segment: SegmentOptions { segment_bytes: 4096, index_interval_bytes: 256, first_allocation_bytes: 512 },
            flusher: FlusherHandle::detached(),
            listener: Arc::new(Unheard),
        };
        Log::open(options).unwrap().0
    }

    fn append(log: &mut Log, number: u8) {
        let (bytes, header) = sample::batch(&[number; 50]);
        let _ = log.append(&[Group::new(&bytes, &[header])], LeaderEpoch(1)).unwrap();
    }

    /// NoAckedRecordLost, of one log: what was flushed is served, or refused as damaged, and never as if it had not been.
    fn lost(log: &Log) -> Vec<u64> {
        let is_lost = |offset: &u64| match log.reader().read_blocking(Offset(*offset), Offset::MAX, 1) {
            Ok(ReadOutcome::Batches(batches)) => {
                Batches::compacted(&batches.bytes).next().unwrap().unwrap().header().base_offset != Offset(*offset)
            }
            Err(ReadError::Corrupt { from, to }) => !(from.0..to.0).contains(offset),
            _ => true,
        };
        (0..BATCHES).filter(is_lost).collect()
    }

    /// The log of a process that was killed after everything was flushed, with one bit in the middle gone wrong since.
    fn damaged(dir: &Path) {
        let mut log = open(dir);
        (0..BATCHES).for_each(|number| append(&mut log, number as u8));
        log.flush().unwrap();
        drop(log);
        let path = dir.join(format!("{:020}.log", 0));
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[2 * BATCH_BYTES + 80] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn cutting_the_log_at_mid_log_corruption_is_caught() {
        let temp = tempfile::tempdir().unwrap();
        let (sound, flawed) = (temp.path().join("sound"), temp.path().join("flawed"));
        damaged(&sound);
        assert_eq!(lost(&open(&sound)), [0; 0], "damage is fenced, and what is behind it kept");
        damaged(&flawed);
        CUTS_AT_ANY_DAMAGE.set(true);
        let log = open(&flawed);
        CUTS_AT_ANY_DAMAGE.set(false);
        assert_eq!(lost(&log), [2, 3, 4, 5, 6, 7], "everything from the damage on");
    }
}
