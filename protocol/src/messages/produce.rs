//! Produce: one partition per frame; its record batches are the frame's payload.

use crate::ids::{LeaderEpoch, Offset, PartitionId, Timestamp, TopicId};
use crate::{ProtocolVersion, message, wire_enum};

wire_enum! {
    /// What must have happened before a produce is answered.
    pub enum Acks {
        /// Nothing: there is no answer, but to a refusal, from version 11 on.
        0 None,
        /// The leader wrote it (to its page cache; a power loss may lose it).
        1 Leader,
        /// Every in-sync replica has it as the topic's durability asks: on disk for `flushed`, in memory for `written`.
        2 All,
    }
}

impl Acks {
    /// True where a refusal is answered on a connection of this version: always, but for [`Acks::None`] before version 11. Those clients are
    /// not told, as they look at no such answer.
    #[must_use]
    pub const fn hears_refusals(self, version: ProtocolVersion) -> bool {
        !matches!(self, Self::None) || version.0 >= 11
    }
}

message! {
    /// Appends the record batches in the payload to one partition, all or nothing, in their order.
    pub struct ProduceRequest {
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
        /// The leadership that the client knows; another one is refused. Absent: not checked.
        1 leader_epoch: Option<LeaderEpoch>,
        /// When to answer.
        1 acks: Acks,
        /// Append only where this is the log end offset; else OffsetMismatch, which says what it is. Absent: not checked.
        1 expected_log_end: Option<Offset>,
        /// Under which name the batches' producer has its transactions; needed where they are transactional, not looked at otherwise.
        4 transactional_id: Option<String>,
    }
}

message! {
    /// The batches were appended; says what was promised.
    pub struct ProduceResponse {
        /// Offset of the first record.
        1 base_offset: Offset,
        /// Offset after the last record.
        1 next_offset: Offset,
        /// The leadership that wrote them.
        1 leader_epoch: LeaderEpoch,
        /// The broker's clock at the append.
        1 appended_at: Timestamp,
        /// First offset that can be read.
        1 log_start: Offset,
        /// Replicas known to have written them, the leader included.
        1 replicas_written: u16,
        /// Replicas known to have flushed them, the leader included.
        1 replicas_flushed: u16,
    }
}
