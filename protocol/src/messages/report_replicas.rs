//! ReportReplicas: a broker says which of its replicas it does not hold whole, for many partitions at once. Between brokers only.

use crate::ids::{BrokerEpoch, BrokerId, MetadataIndex, PartitionEpoch, PartitionId, TopicId};
use crate::messages::Fault;
use crate::{message, wire_enum};

wire_enum! {
    /// What a broker holds of a replica that is not whole.
    pub enum ReplicaHolding {
        /// Nothing: its folder is gone.
        0 Nothing,
        /// What cannot be opened, or is out of service since its disk failed.
        1 Unreadable,
        /// Less than it had: its log ends before what was settled.
        2 Short,
    }
}

message! {
    /// One replica that is not whole.
    pub struct ReplicaReport {
        /// The topic.
        1 topic_id: TopicId,
        /// The partition.
        1 partition: PartitionId,
        /// The state of the partition that counts on the replica; the report is refused where it is not the present one.
        1 partition_epoch: PartitionEpoch,
        /// What there is of it.
        1 holds: ReplicaHolding,
    }
}

message! {
    /// Says which replicas are not whole, so that nobody counts on them. Answered by the controller; NotController elsewhere,
    /// FencedBroker where an earlier life of the broker asks.
    pub struct ReportReplicasRequest {
        /// The broker that holds them.
        1 broker_id: BrokerId,
        /// Its registration.
        1 broker_epoch: BrokerEpoch,
        /// One for a partition.
        1 replicas: Vec<ReplicaReport>,
    }
}

message! {
    /// What became of one report.
    pub struct ReportOutcome {
        /// Why it was refused; absent where it was taken.
        1 fault: Option<Fault>,
    }
}

message! {
    /// What became of the reports.
    pub struct ReportReplicasResponse {
        /// As of which record of the metadata log.
        1 as_of: MetadataIndex,
        /// In the order of the request.
        1 replicas: Vec<ReportOutcome>,
    }
}
