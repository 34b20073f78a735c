//! AddToTransaction: what a transaction touches stands with its coordinator before anything is written there, so that its end finds all of it.

use super::group_heartbeat::TopicPartitions;
use super::init_producer_id::ProducerIdentity;
use crate::message;

message! {
    /// Takes partitions and groups into the open transaction of a producer, and opens one where there is none; all of it or nothing. Asked
    /// by the leader of a partition when it sees the first batch of an epoch, by the coordinator of a group, or by the producer itself.
    pub struct AddToTransactionRequest {
        /// Whose.
        1 transactional_id: String,
        /// The producer as the batch names it; refused for any but the present one.
        1 identity: ProducerIdentity,
        /// Partitions that are written to, by topic.
        1 partitions: Vec<TopicPartitions>,
        /// Groups whose offsets are committed.
        1 groups: Vec<String>,
        /// Nothing is taken in: are they part of it already? Asked where the producer itself takes in what it is about to touch, as Kafka's
        /// clients do.
        7 only_asks: bool,
    }
}

message! {
    /// They are part of it: until a marker ends it there, the epoch may write. One that has seen a later epoch meanwhile must not write.
    pub struct AddToTransactionResponse {}
}
