//! A lane whose leader does not say what it wrote (acks=None): a batch is settled once it went to the socket, and what the leader refuses of it is
//! lost. Of that the lane hears all the same, so that what comes later goes to the next leader. Pure, as the lane.

use std::time::{Duration, Instant};

use tidelog_protocol::ErrorCode;

use super::{Lane, Mode};
use crate::ClientError;

/// So long after a failure, what goes to the socket counts as a success: a leader that refuses has said so by then.
const UNREFUSED: Duration = Duration::from_secs(2);

impl Lane {
    /// Something that was settled already was refused. Where the leader, or what is known of the topic, is in doubt by that, nothing leaves until
    /// it has been looked for.
    pub(in crate::producer) fn refused(&mut self, error: ClientError, now: Instant) {
        let is_in_doubt = error.is_retriable() || error.code() == Some(ErrorCode::TooLarge);
        // All that was on its way is refused, and that is one failure.
        if is_in_doubt && self.mode == Mode::Linked {
            self.failed(error, now);
            self.careful = true;
            self.mode = Mode::Draining;
        }
    }

    /// Whether what was sent now says that the leader takes records. Without acknowledgement it went to the socket, which says little: were the
    /// failures forgotten by that, those of a leader that refuses everything would be met without a pause.
    pub(super) fn is_success(&self, now: Instant) -> bool {
        let failed_long_ago = |failed_at| now.saturating_duration_since(failed_at) >= UNREFUSED;
        self.rules.acknowledged || self.failed_at.is_none_or(failed_long_ago)
    }
}
