//! Subscribe, Unsubscribe, Credit: opening, ending and feeding a stream. Its id is the correlation id of the Subscribe.

use super::position::Position;
use crate::ids::{CorrelationId, LeaderEpoch, Offset, PartitionId, TopicId};
use crate::{message, wire_enum};

wire_enum! {
    /// Which records a consumer sees.
    pub enum Isolation {
        /// Everything below the high watermark.
        0 ReadUncommitted,
        /// Everything below the last stable offset.
        1 ReadCommitted,
    }
}

message! {
    /// Opens a stream: batches are pushed as long as there is credit.
    pub struct SubscribeRequest {
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
        /// Where to start.
        1 position: Position,
        /// The leadership that the client knows; another one is refused. Absent: not checked.
        1 leader_epoch: Option<LeaderEpoch>,
        /// Which records it sees.
        1 isolation: Isolation,
        /// Payload bytes that may be pushed before more credit comes. A batch larger than what is left still goes out.
        1 credit_bytes: u32,
        /// Largest payload of one item, in bytes; a single larger batch still goes out.
        1 item_bytes_max: u32,
        /// The leadership under which the client has read up to the offset that it starts at: where the log here does not hold what it
        /// read, the answer is LogTruncated and where they part (KIP-320). Absent: not checked.
        2 last_epoch: Option<LeaderEpoch>,
        /// A replica that follows may serve it, too: a nearby one (KIP-392).
        2 nearby: bool,
        /// A replica at a broker that is out of touch with the controller may serve it, too: what that knows to be settled, which may not be all there
        /// is. For whoever cannot reach a leader.
        8 settled: bool,
    }
}

message! {
    /// The stream is open.
    pub struct SubscribeResponse {
        /// Offset of the first record that it will push; batches may begin with earlier ones, to be skipped.
        1 start_offset: Offset,
        /// First offset that consumers cannot read yet.
        1 high_watermark: Offset,
        /// First offset that can be read.
        1 log_start: Offset,
        /// The leadership that serves it.
        1 leader_epoch: LeaderEpoch,
    }
}

message! {
    /// Lets a stream push more. A signal for a stream that has ended is ignored.
    pub struct CreditSignal {
        /// The stream.
        1 stream: CorrelationId,
        /// More payload bytes that may be pushed.
        1 bytes: u32,
    }
}

message! {
    /// Ends a stream. Items already under way may still arrive before the answer, none after it.
    pub struct UnsubscribeRequest {
        /// The stream.
        1 stream: CorrelationId,
    }
}

message! {
    /// The stream has ended.
    pub struct UnsubscribeResponse {}
}
