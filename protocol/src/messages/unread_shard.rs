//! A shard of what a broker coordinates that it cannot read. Knows nothing of what is kept there.

use super::fault::Fault;
use crate::ids::PartitionId;
use crate::message;

message! {
    /// A shard of what this broker coordinates whose log it cannot read.
    pub struct UnreadShard {
        /// Which partition of the internal topic.
        6 partition: PartitionId,
        /// Why, and what helps.
        6 fault: Fault,
    }
}
