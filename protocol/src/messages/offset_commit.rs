//! OffsetCommit: how far a group has come.

use super::init_producer_id::ProducerIdentity;
use crate::ids::{LeaderEpoch, Offset, PartitionId, TopicId};
use crate::message;

message! {
    /// How far a group has come in one partition.
    pub struct CommittedOffset {
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
        /// The next offset to read.
        1 offset: Offset,
        /// The leadership that wrote the last record read, so that a log that lost it is noticed.
        1 leader_epoch: Option<LeaderEpoch>,
        /// Whatever the application notes with it, up to 4,096 bytes.
        1 metadata: String,
    }
}

message! {
    /// The transaction that a commit belongs to.
    pub struct CommitTransaction {
        /// Under which name.
        4 transactional_id: String,
        /// Who the producer is.
        4 identity: ProducerIdentity,
    }
}

message! {
    /// Notes how far a group has come, all of it or nothing.
    pub struct OffsetCommitRequest {
        /// The group; one that does not exist is made for a commit without a member.
        1 group: String,
        /// The member that commits. Absent: an operator or a consumer that assigns itself; refused while the group has members.
        1 member_id: Option<String>,
        /// Its epoch: must be the one it has now. Looked at only with a member.
        1 member_epoch: i32,
        /// How far; with a member, only partitions that it owns.
        1 offsets: Vec<CommittedOffset>,
        /// Where it belongs to a transaction (KIP-447): it holds once that is committed, and never if it is undone.
        4 transaction: Option<CommitTransaction>,
    }
}

message! {
    /// The offsets are stored on all in-sync replicas.
    pub struct OffsetCommitResponse {}
}
