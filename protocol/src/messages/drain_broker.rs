//! DrainBroker: a broker is emptied before it is removed or repaired.

use crate::ids::BrokerId;
use crate::message;

message! {
    /// Moves everything off a broker, which gets nothing new. Asked again it goes on where it stopped.
    pub struct DrainBrokerRequest {
        /// The broker.
        1 broker_id: BrokerId,
        /// It may get replicas again after all; what moves already goes on moving.
        1 cancel: bool,
        /// Only check, move nothing.
        1 validate_only: bool,
    }
}

message! {
    /// It is being emptied.
    pub struct DrainBrokerResponse {
        /// Partitions that copy a replica elsewhere.
        1 copying: u32,
        /// Partitions that needed no copy.
        1 done: u32,
    }
}
