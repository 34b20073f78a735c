//! The way from a partition that is followed here to its leader, as its owner sees it. Knows nothing of connections.

use std::fmt;

use tidelog_protocol::{BrokerId, LeaderEpoch, PartitionId, TopicId};
use tidelog_replication::{FollowTerms, ReplicaProgress};

/// A partition by name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Replica {
    /// Its topic.
    pub topic_id: TopicId,
    /// Its index.
    pub partition: PartitionId,
}

/// Counts what an owner asked: the answer to an earlier question than the last is not for it any more.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub struct Attempt(pub u64);

impl Attempt {
    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// What an owner wants of its leader. A later question takes the place of an earlier one, and of the stream that it opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Question {
    /// Where did the epoch end? Answered by [`super::Command::EpochEndAnswered`].
    EpochEnd {
        /// The leadership asked.
        leader_epoch: LeaderEpoch,
        /// The epoch in question.
        epoch: LeaderEpoch,
    },
    /// A stream, please. Answered by [`super::Command::FollowAnswered`], and served by [`super::Command::Replicated`].
    Follow {
        /// On which terms.
        terms: FollowTerms,
        /// And what is known of producers, if the leader can say.
        wants_producers: bool,
    },
    /// Nothing for now: answered by [`super::Command::Interrupted`] after a while.
    Pause,
}

/// The way to all leaders. What cannot be answered ends in [`super::Command::Interrupted`], sooner or later.
pub trait Upstream: fmt::Debug + Send + Sync {
    /// Asks `leader`. Never blocks.
    fn ask(&self, replica: Replica, leader: BrokerId, attempt: Attempt, question: Question);

    /// Tells `leader` how far the replica is; only the latest word matters. Never blocks.
    fn report(&self, replica: Replica, leader: BrokerId, progress: ReplicaProgress);

    /// The replica follows nobody any more.
    fn leave(&self, replica: Replica);
}
