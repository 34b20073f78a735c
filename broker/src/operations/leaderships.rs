//! Is what a client knows of a partition's leaderships what holds here? Knows nothing of who asks.

use tidelog_protocol::{ErrorCode, LeaderEpoch, Offset, WireError};

use crate::partition::{Handle, Serves, Tail, refusals};

/// Is the leadership that a client knows the one that holds?
pub(crate) fn check_epoch(theirs: Option<LeaderEpoch>, ours: LeaderEpoch) -> Result<(), WireError> {
    match theirs {
        Some(epoch) if epoch < ours => {
            let sentence = format!("leader epoch {epoch} is over, the partition is at {ours}: refresh the metadata");
            Err(WireError::new(ErrorCode::FencedEpoch, sentence))
        }
        Some(epoch) if epoch > ours => {
            let sentence = format!("leader epoch {epoch} is not known here yet, this broker is at {ours}: try again");
            Err(WireError::new(ErrorCode::UnknownEpoch, sentence))
        }
        _ => Ok(()),
    }
}

/// Does the log here hold what a client has read up to `start`, under `last_epoch`? (KIP-320) `serves` says to whom.
pub(crate) fn check_continuity(
    partition: &Handle,
    (tail, serves): (&Tail, Serves),
    (last_epoch, start): (Option<LeaderEpoch>, Offset),
) -> Result<(), WireError> {
    let Some(last_epoch) = last_epoch else { return Ok(()) };
    let epochs = partition.reader().leader_epochs();
    let later = epochs.starts().iter().find(|entry| entry.epoch > last_epoch);
    match later.map(|entry| entry.start) {
        Some(end) if start > end => Err(refusals::truncated(start, (tail.log_start, end))),
        // Whoever leads has everything that was settled. One that may have been replaced may not.
        None if start > tail.log_end && tail.leads && serves != Serves::Adrift => {
            Err(refusals::truncated(start, (tail.log_start, tail.log_end)))
        }
        _ => Ok(()),
    }
}
