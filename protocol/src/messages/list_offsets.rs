//! ListOffsets: offsets by position or time.

use super::fault::Fault;
use super::position::Position;
use crate::ids::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId};
use crate::message;

message! {
    /// One question.
    pub struct OffsetQuery {
        /// The partition.
        1 partition: PartitionId,
        /// The place asked for.
        1 position: Position,
    }
}

message! {
    /// Asks for offsets of one topic.
    pub struct ListOffsetsRequest {
        /// The topic.
        1 topic_id: TopicId,
        /// The questions; answered in their order.
        1 queries: Vec<OffsetQuery>,
        /// For one that reads what is committed: nothing above the last stable offset is told of, and the end is there.
        4 committed_only: bool,
        /// A broker that is out of touch with the controller may answer for a replica, too: as far as it knows to be settled, which may not be all
        /// there is. For whoever cannot reach a leader.
        8 settled: bool,
    }
}

message! {
    /// One answer.
    pub struct OffsetAnswer {
        /// The partition.
        1 partition: PartitionId,
        /// The offset; absent where no record fits, as for a time after the last record.
        1 offset: Option<Offset>,
        /// Timestamp of that record; −1 for the two ends.
        1 timestamp: Timestamp,
        /// Leadership under which the partition answers.
        1 leader_epoch: LeaderEpoch,
        /// Why there is no answer.
        1 fault: Option<Fault>,
    }
}

message! {
    /// The answers.
    pub struct ListOffsetsResponse {
        /// In the order of the questions.
        1 answers: Vec<OffsetAnswer>,
    }
}
