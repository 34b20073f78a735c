//! GoAway: announces that the broker closes the connection.

use crate::message;

message! {
    /// The broker drains: finish what is under way, start nothing new here, connect elsewhere or again later.
    pub struct GoAwayPush {
        /// For people.
        1 reason: String,
        /// Milliseconds until the connection is closed.
        1 closes_in_ms: u32,
    }
}
