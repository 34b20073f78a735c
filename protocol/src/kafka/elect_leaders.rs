//! ElectLeaders: an operator asks for elections.

use crate::kafka_message;

/// The preferred replica shall lead.
pub const PREFERRED: i8 = 0;
/// Some replica shall lead, though records are lost by it.
pub const UNCLEAN: i8 = 1;

kafka_message! {
    /// Partitions of a topic.
    pub struct TopicPartitions {
        /// The topic.
        (0..) topic: String;
        /// The partitions.
        (0..) partitions: Vec<i32>;
    }
}

kafka_message! {
    /// Elects leaders.
    pub struct ElectLeadersRequest {
        /// Which: 0 the preferred ones, 1 any that live.
        (1..) election_type: i8;
        /// Of which partitions; null means all.
        (0..) topic_partitions: Option<Vec<TopicPartitions>>, null (0..);
        /// How long it may take, in milliseconds.
        (0..) timeout_ms: i32 = 60_000;
    }
}

kafka_message! {
    /// What came of a partition.
    pub struct PartitionResult {
        /// The partition.
        (0..) partition_id: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
    }
}

kafka_message! {
    /// What came of a topic.
    pub struct ReplicaElectionResult {
        /// The topic.
        (0..) topic: String;
        /// Its partitions.
        (0..) partition_result: Vec<PartitionResult>;
    }
}

kafka_message! {
    /// What came of it.
    pub struct ElectLeadersResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// What went wrong with all of it.
        (1..) error_code: i16;
        /// By topic.
        (0..) replica_election_results: Vec<ReplicaElectionResult>;
    }
}
