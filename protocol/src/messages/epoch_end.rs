//! EpochEnd: a follower asks its leader where an epoch ended, to find where their logs part (KIP-101, KIP-279).

use crate::ids::{LeaderEpoch, Offset, PartitionId, TopicId};
use crate::message;

message! {
    /// Asks a leader where an epoch ended in its log.
    pub struct EpochEndRequest {
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
        /// The leadership that is asked; another one refuses.
        1 leader_epoch: LeaderEpoch,
        /// The epoch in question.
        1 epoch: LeaderEpoch,
    }
}

message! {
    /// An epoch and where it ends.
    pub struct EpochEndPoint {
        /// The epoch.
        1 epoch: LeaderEpoch,
        /// Offset after its last record.
        1 end: Offset,
    }
}

message! {
    /// Where the epoch ended.
    pub struct EpochEndResponse {
        /// The leadership that answers.
        1 leader_epoch: LeaderEpoch,
        /// The epoch asked about.
        1 epoch: LeaderEpoch,
        /// The largest epoch not above it that the leader's log holds, and its end there; absent where it holds none.
        1 end: Option<EpochEndPoint>,
        /// First offset of the leader's log.
        1 log_start: Offset,
    }
}
