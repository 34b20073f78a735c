//! Reassign: an operator says which brokers shall hold which partitions.

use crate::ids::{BrokerId, PartitionId};
use crate::message;

message! {
    /// Which brokers shall hold a partition.
    pub struct ReplicaAssignment {
        /// The topic's name; checked by the broker, so that a bad one gets a clear answer.
        1 topic: String,
        /// The partition.
        1 partition: PartitionId,
        /// The replicas, the preferred leader first; absent takes a reassignment under way back.
        1 replicas: Option<Vec<BrokerId>>,
    }
}

message! {
    /// Moves partitions: all of the request or nothing. New replicas copy first, then the partition switches by itself.
    pub struct ReassignRequest {
        /// One for each partition.
        1 assignments: Vec<ReplicaAssignment>,
        /// Only check, move nothing.
        1 validate_only: bool,
    }
}

message! {
    /// They move.
    pub struct ReassignResponse {
        /// Partitions that copy replicas.
        1 copying: u32,
        /// Partitions that needed no copy and are as asked already.
        1 done: u32,
    }
}
