//! FindCoordinator: which broker keeps the state of a group or of a transactional producer.

use crate::ids::BrokerId;
use crate::{message, wire_enum};

wire_enum! {
    /// What is coordinated.
    pub enum Coordinated {
        /// A consumer group, by its name.
        0 Group,
        /// A transactional producer, by its transactional id.
        1 Transaction,
    }
}

message! {
    /// Asks who coordinates. The topic that keeps such state is created with the first question.
    pub struct FindCoordinatorRequest {
        /// What.
        1 kind: Coordinated,
        /// Its name.
        1 key: String,
        /// A group may be one of Kafka's clients: what is stored of those begins a feature level, as far as all brokers know it.
        7 classic: bool,
    }
}

message! {
    /// Who coordinates.
    pub struct FindCoordinatorResponse {
        /// The broker.
        1 broker_id: BrokerId,
        /// Host name or IP address to dial.
        1 host: String,
        /// TCP port.
        1 port: u16,
    }
}
