//! What leader and follower say to each other when a stream is opened. Knows nothing of how it travels.

use tidelog_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};

use crate::epoch_history::EpochEnd;

/// On which terms a follower wants its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowTerms {
    /// The follower.
    pub replica: BrokerId,
    /// Its registration: an earlier life of it is refused.
    pub broker_epoch: BrokerEpoch,
    /// The leadership it follows.
    pub leader_epoch: LeaderEpoch,
    /// Where its log ends.
    pub from: Offset,
    /// The epoch of its newest record; `None` where its log is empty.
    pub last_epoch: Option<LeaderEpoch>,
}

/// The leader's answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FollowAnswer {
    /// The leadership that answers.
    pub leader_epoch: LeaderEpoch,
    /// The offset that was asked for.
    pub from: Offset,
    /// First offset of the leader's log.
    pub log_start: Offset,
    /// What becomes of it.
    pub outcome: FollowOutcome,
}

/// What becomes of a stream that was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FollowOutcome {
    /// It is open: what the log holds from there on is pushed.
    Streams,
    /// The follower's log is no prefix of the leader's (a second check behind the search, as in KIP-595).
    Diverged {
        /// As the answer to a question after the follower's last epoch.
        end: Option<EpochEnd>,
    },
    /// The leader's log does not hold that offset: it begins behind it, or ends before it.
    OutOfRange,
}
