//! Why records cannot be read, split by who must act. Knows nothing of streams.

use tidelog_protocol::records::BatchError;
use tidelog_protocol::{Offset, PartitionId, TopicName};

use crate::ClientError;

/// Why a consumer cannot go on, or not with one partition.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumeError {
    /// The next offset is not there: its records were deleted, or it lies beyond the end. The program decides: seek, or choose a
    /// policy with [`ConsumerBuilder::out_of_range`](crate::ConsumerBuilder::out_of_range). Other partitions go on.
    #[error(
        "offset {offset} of {topic}/{partition} is out of range: the log holds {log_start} (inclusive) to {log_end} (exclusive); \
         seek, or choose where to go on in such a case"
    )]
    OffsetOutOfRange {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// The offset asked for.
        offset: Offset,
        /// First offset that can be read.
        log_start: Offset,
        /// Next offset to be written.
        log_end: Offset,
    },
    /// Records that were read are gone, by an unclean election, or by a loss of power in a topic that acknowledges what is only `written`, and
    /// the log goes on otherwise from `parts_at`. What the program did
    /// with them others will never see. Seek, or choose a policy with
    /// [`ConsumerBuilder::out_of_range`](crate::ConsumerBuilder::out_of_range). Other partitions go on.
    #[error(
        "records of {topic}/{partition} from offset {parts_at} to {offset} were read and are not in the log any more: lost by an \
         unclean election, or with the power where the topic's durability is 'written'; seek, or choose where to go on in such a case"
    )]
    Truncated {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Offset of the next record as the consumer had it.
        offset: Offset,
        /// From here on the log is another one than was read.
        parts_at: Offset,
    },
    /// A batch was damaged, on the way or at its source. The consumer stands before it; seek past it to go on.
    #[error("the batch at offset {offset} of {topic}/{partition} is damaged: {source}")]
    Corrupt {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Where the consumer stands.
        offset: Offset,
        /// What is wrong.
        source: BatchError,
    },
    /// The broker refused the partition for good, or it is gone. Other partitions go on.
    #[error("{topic}/{partition} cannot be read: {source}")]
    Partition {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// Why.
        source: ClientError,
    },
    /// A question to the cluster failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The partition is not among those that this consumer reads.
    #[error("{topic}/{partition} is not assigned to this consumer")]
    NotAssigned {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionId,
    },
}
