//! CreatePartitions: a new total, never a smaller one.

use crate::message;

message! {
    /// Adds partitions to a topic. Keys may then hash to other partitions than before.
    pub struct CreatePartitionsRequest {
        /// The topic's name.
        1 name: String,
        /// How many it shall have in all.
        1 total: u32,
    }
}

message! {
    /// The partitions exist.
    pub struct CreatePartitionsResponse {
        /// How many there are in all.
        1 total: u32,
    }
}
