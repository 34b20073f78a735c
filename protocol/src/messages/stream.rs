//! StreamItem: what a stream pushes. With the FAULT flag its body is a Fault, and the stream has ended.

use crate::ids::{LeaderEpoch, Offset};
use crate::message;

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
    }
}
