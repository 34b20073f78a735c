//! Sentences that several handlers share.

use tidelog_protocol::{ErrorCode, WireError};

/// The controller answered something else than was asked, which is a bug.
pub(super) fn unexpected(reply: &tidelog_coordination::Reply) -> WireError {
    WireError::new(ErrorCode::Internal, format!("the controller answered out of turn: {reply:?}"))
}
