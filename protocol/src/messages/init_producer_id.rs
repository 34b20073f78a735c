//! InitProducerId and AllocateProducerIds: who a producer is, so that what it sends twice is written once.

use crate::ids::{BrokerId, ProducerEpoch, ProducerId};
use crate::message;

message! {
    /// A producer and which life of it.
    pub struct ProducerIdentity {
        /// The producer.
        3 producer_id: ProducerId,
        /// Its epoch: what an earlier one sends is refused wherever a later one has written.
        3 epoch: ProducerEpoch,
    }
}

message! {
    /// Asks for a producer id that nobody had before, or for the next epoch of one.
    pub struct InitProducerIdRequest {
        /// Name under which transactions outlive the producer; absent for a producer without any.
        3 transactional_id: Option<String>,
        /// How long a transaction may stay open, in milliseconds; not looked at without a transactional id.
        3 transaction_timeout_ms: u32,
        /// What the producer is now; its next epoch is asked for. Absent: a new producer.
        3 current: Option<ProducerIdentity>,
    }
}

message! {
    /// Who the producer is from here on. Its sequences begin at 0 on every partition.
    pub struct InitProducerIdResponse {
        /// The same producer, or a new one where its epochs are used up.
        3 producer_id: ProducerId,
        /// Its next epoch, or its first.
        3 epoch: ProducerEpoch,
    }
}

message! {
    /// A broker asks the controller for producer ids to give out. Between brokers only.
    pub struct AllocateProducerIdsRequest {
        /// The broker.
        3 broker_id: BrokerId,
    }
}

message! {
    /// These ids are the broker's to give out; nobody gets them again.
    pub struct AllocateProducerIdsResponse {
        /// The first.
        3 first: ProducerId,
        /// How many.
        3 count: u32,
    }
}
