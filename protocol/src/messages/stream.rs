//! StreamItem: what a stream pushes. With the FAULT flag its body is a Fault, and the stream has ended.

use crate::ids::{LeaderEpoch, Offset, ProducerId};
use crate::message;

message! {
    /// A transaction that was undone.
    pub struct AbortedTransaction {
        /// Who wrote it.
        4 producer_id: ProducerId,
        /// Offset of its first record in this partition.
        4 first_offset: Offset,
        /// Offset of the marker that undid it: its transactional batches from the one up to the other are no record for anybody who reads what is committed.
        4 marker_offset: Offset,
    }
}

message! {
    /// Record batches of a stream, in the payload; an empty payload only brings the offsets up to date.
    pub struct StreamItemPush {
        /// Offset after the last record of the payload: where the stream goes on.
        1 next_offset: Offset,
        /// First offset that consumers cannot read yet.
        1 high_watermark: Offset,
        /// First offset of the oldest open transaction, capped by the high watermark.
        1 last_stable: Offset,
        /// First offset that can be read.
        1 log_start: Offset,
        /// The leadership that serves the stream.
        1 leader_epoch: LeaderEpoch,
        /// The undone transactions that have batches in the payload, where the stream reads what is committed: whoever reads it leaves those
        /// batches out.
        4 aborted: Vec<AbortedTransaction>,
    }
}
