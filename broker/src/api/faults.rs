//! Checks and sentences that several handlers share.

use tidelog_protocol::{ErrorCode, LeaderEpoch, WireError};

/// Is the leadership that a client knows the one that holds?
pub(super) fn check_epoch(theirs: Option<LeaderEpoch>, ours: LeaderEpoch) -> Result<(), WireError> {
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

/// The controller answered something else than was asked, which is a bug.
pub(super) fn unexpected(reply: &tidelog_coordination::Reply) -> WireError {
    WireError::new(ErrorCode::Internal, format!("the controller answered out of turn: {reply:?}"))
}
