//! WriteMarkers: a coordinator tells the leaders of partitions and the coordinators of groups how transactions ended. Between brokers only.

use super::fault::Fault;
use super::group_heartbeat::TopicPartitions;
use super::init_producer_id::ProducerIdentity;
use crate::ids::{LeaderEpoch, PartitionId};
use crate::message;

message! {
    /// How one transaction ended, for what it touched.
    pub struct TransactionMarkers {
        /// The producer, under the epoch after the transaction's. Where an earlier epoch wrote last, what is open there ends, and that epoch is
        /// fenced. Where this epoch or a later one is known, the marker stands already: what is open there belongs to a later transaction.
        1 identity: ProducerIdentity,
        /// Commit; otherwise abort.
        1 commit: bool,
        /// Partitions that the receiver leads, by topic.
        1 partitions: Vec<TopicPartitions>,
        /// Groups that it coordinates.
        1 groups: Vec<String>,
        /// The epoch is the transaction's own, and its producer goes on under it, as Kafka's clients do: what this very epoch has open ends.
        7 own_epoch: bool,
    }
}

message! {
    /// Ends transactions.
    pub struct WriteMarkersRequest {
        /// Leadership of the partition in which the coordinator keeps its state.
        1 coordinator_epoch: LeaderEpoch,
        /// At most one for a producer.
        1 markers: Vec<TransactionMarkers>,
        /// The partition in which the coordinator keeps its state.
        7 shard: PartitionId,
        /// Number of the request, which rises.
        7 number: u64,
        /// Requests of lower numbers are answered, or given up and sent again under others: where one of them comes late, its markers with an
        /// epoch of their own are not written.
        7 given_up_below: u64,
    }
}

message! {
    /// What became of the markers of one transaction.
    pub struct MarkerOutcome {
        /// Where they stand on all in-sync replicas, and where there is nothing to write to any more: the topic is deleted.
        1 partitions: Vec<TopicPartitions>,
        /// The groups that know.
        1 groups: Vec<String>,
        /// Why others do not have it yet: one of the reasons.
        1 fault: Option<Fault>,
    }
}

message! {
    /// What became of the markers.
    pub struct WriteMarkersResponse {
        /// In the order of the request.
        1 outcomes: Vec<MarkerOutcome>,
    }
}
