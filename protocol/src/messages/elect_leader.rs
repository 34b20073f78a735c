//! ElectLeader: an operator asks for an election.

use crate::ids::{BrokerId, PartitionId};
use crate::message;

message! {
    /// A partition of a topic, by name.
    pub struct NamedPartition {
        /// The topic's name; checked by the broker, so that a bad one gets a clear answer.
        1 topic: String,
        /// The partition.
        1 partition: PartitionId,
    }
}

message! {
    /// Elects the preferred leaders, or one that may have lost records.
    pub struct ElectLeaderRequest {
        /// The partition; absent means every one whose preferred leader can lead.
        1 partition: Option<NamedPartition>,
        /// Not the preferred one, but this replica, whatever it holds: what only others hold is lost. For one partition without a
        /// leader, by order of a person; the partition keeps that it happened.
        1 unclean: Option<BrokerId>,
    }
}

message! {
    /// Leaders were elected.
    pub struct ElectLeaderResponse {
        /// How many.
        1 elected: u32,
    }
}
