//! ReplicaSubscribe, ReplicaItem, ReplicaProgress: the stream from a leader to a follower, and the word back. Credit and Unsubscribe
//! feed and end it like any other stream.

use super::epoch_end::EpochEndPoint;
use super::producers::ProducersSnapshot;
use crate::ids::{BrokerEpoch, BrokerId, LeaderEpoch, Offset, PartitionId, TopicId};
use crate::{message, wire_enum};

message! {
    /// Opens a stream of everything that a partition's log holds from an offset on, settled or not. An earlier stream of the same follower
    /// and partition ends.
    pub struct ReplicaSubscribeRequest {
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
        /// The broker that follows.
        1 replica: BrokerId,
        /// Its registration; an earlier one than the leader has seen is refused.
        1 broker_epoch: BrokerEpoch,
        /// The leadership it follows; another one refuses.
        1 leader_epoch: LeaderEpoch,
        /// Where its log ends.
        1 from: Offset,
        /// The epoch of its newest record; absent where its log is empty.
        1 last_epoch: Option<LeaderEpoch>,
        /// Payload bytes that may be pushed before more credit comes. A batch larger than what is left still goes out.
        1 credit_bytes: u32,
        /// Largest payload of one item, in bytes; a single larger batch still goes out.
        1 item_bytes_max: u32,
        /// It does not know which producers wrote what lies below its log.
        3 wants_producers: bool,
    }
}

wire_enum! {
    /// What becomes of a replica stream that was asked for.
    pub enum ReplicaStreamOutcome {
        /// It is open.
        0 Streams,
        /// The follower's log is no prefix of the leader's: cut it where `end` says, or search on.
        1 Diverged,
        /// The leader's log does not hold the offset: begin anew at its log start.
        2 OutOfRange,
    }
}

message! {
    /// What becomes of the stream.
    pub struct ReplicaSubscribeResponse {
        /// The leadership that answers.
        1 leader_epoch: LeaderEpoch,
        /// The offset that was asked for.
        1 from: Offset,
        /// First offset of the leader's log.
        1 log_start: Offset,
        /// What becomes of it.
        1 outcome: ReplicaStreamOutcome,
        /// Where it is `Diverged`: the largest epoch up to the follower's last that the leader's log holds, and its end there.
        1 end: Option<EpochEndPoint>,
        /// Where they were wanted and the stream is open: what the leader knows of the producers.
        3 producers: Option<ProducersSnapshot>,
    }
}

message! {
    /// Record batches for a follower, in the payload, byte for byte as they stand in the leader's log; an empty payload only brings the
    /// offsets up to date.
    pub struct ReplicaItemPush {
        /// The leadership that serves the stream.
        1 leader_epoch: LeaderEpoch,
        /// The leader's high watermark.
        1 high_watermark: Offset,
        /// First offset of the leader's log.
        1 log_start: Offset,
    }
}

message! {
    /// How far a follower is with one partition.
    pub struct PartitionProgress {
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
        /// The leadership it follows; progress under another one does not count.
        1 leader_epoch: LeaderEpoch,
        /// Next offset it has not written.
        1 written_end: Offset,
        /// Next offset it has not flushed.
        1 flushed_end: Offset,
    }
}

message! {
    /// How far a follower is. Only the latest word on a partition matters.
    pub struct ReplicaProgressSignal {
        /// The broker that follows.
        1 replica: BrokerId,
        /// Its registration.
        1 broker_epoch: BrokerEpoch,
        /// What has changed.
        1 partitions: Vec<PartitionProgress>,
    }
}
