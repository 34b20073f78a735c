//! Ping: is the broker there, and what time has it?

use crate::ids::Timestamp;
use crate::message;

message! {
    /// Is the broker there?
    pub struct PingRequest {}
}

message! {
    /// It is.
    pub struct PingResponse {
        /// The broker's clock.
        1 broker_time: Timestamp,
    }
}
