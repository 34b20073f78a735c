//! BrokerHeartbeat: a broker keeps its lease, or asks to go. Between brokers only.

use crate::ids::{BrokerEpoch, BrokerId, ControllerEpoch, MetadataIndex};
use crate::message;

message! {
    /// A broker is there. Answered by the controller; NotController elsewhere, FencedBroker where it must register anew.
    pub struct BrokerHeartbeatRequest {
        /// The broker.
        1 broker_id: BrokerId,
        /// Its registration.
        1 broker_epoch: BrokerEpoch,
        /// How far it has applied the metadata.
        1 applied: MetadataIndex,
        /// It wants to hand over what it leads, and stop.
        1 wants_shutdown: bool,
    }
}

message! {
    /// What the controller says to it.
    pub struct BrokerHeartbeatResponse {
        /// The controller in office: an answer of an earlier one gives no lease.
        1 controller_epoch: ControllerEpoch,
        /// It has no lease: it acknowledges nothing until a later answer says otherwise.
        1 fenced: bool,
        /// Everything is handed over.
        1 may_shut_down: bool,
        /// How long the lease lasts, in milliseconds from when the request was sent.
        1 lease_ms: u32,
        /// How soon it should be heard of again, in milliseconds.
        1 heartbeat_ms: u32,
        /// As of which record of the metadata log.
        1 as_of: MetadataIndex,
    }
}
