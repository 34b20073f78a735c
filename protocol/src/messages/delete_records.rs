//! DeleteRecords: moves the log start of a partition.

use crate::ids::{Offset, PartitionId, TopicId};
use crate::message;

message! {
    /// Deletes the records of a partition below an offset.
    pub struct DeleteRecordsRequest {
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
        /// The first offset to keep; absent means the high watermark, which empties the partition.
        1 before: Option<Offset>,
        /// Allows it for a partition of the broker's own that cannot be read, where damage ends at `before` (0 where all of it is gone): what it
        /// still says is kept, what is lost is given up.
        6 accept_loss: bool,
    }
}

message! {
    /// They are gone.
    pub struct DeleteRecordsResponse {
        /// First offset that can be read.
        1 log_start: Offset,
    }
}
