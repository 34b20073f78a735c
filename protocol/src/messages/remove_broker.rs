//! RemoveBroker: a broker is gone for good.

use crate::ids::BrokerId;
use crate::message;

message! {
    /// Forgets a broker that serves no more and holds nothing.
    pub struct RemoveBrokerRequest {
        /// The broker.
        1 broker_id: BrokerId,
    }
}

message! {
    /// It is forgotten.
    pub struct RemoveBrokerResponse {}
}
