//! DescribeProducers: which idempotent producers a partition knows, and what they have open.

use crate::kafka_message;

kafka_message! {
    /// Partitions of a topic.
    pub struct TopicRequest {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partition_indexes: Vec<i32>;
    }
}

kafka_message! {
    /// Asks for them.
    pub struct DescribeProducersRequest {
        /// By topic.
        (0..) topics: Vec<TopicRequest>;
    }
}

kafka_message! {
    /// A producer.
    pub struct ProducerState {
        /// Its id.
        (0..) producer_id: i64;
        /// Its epoch.
        (0..) producer_epoch: i32;
        /// Sequence of its last record; -1: it wrote nothing under that epoch.
        (0..) last_sequence: i32 = -1;
        /// Largest timestamp of its last batch, in milliseconds of the epoch; -1: there is none.
        (0..) last_timestamp: i64 = -1;
        /// The leadership of its coordinator that wrote the last marker; -1: none is known.
        (0..) coordinator_epoch: i32;
        /// Where its open transaction begins; -1: none is open.
        (0..) current_txn_start_offset: i64 = -1;
    }
}

kafka_message! {
    /// A partition.
    pub struct PartitionResponse {
        /// The partition.
        (0..) partition_index: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// The same, for people.
        (0..) error_message: Option<String>, null (0..);
        /// Its producers.
        (0..) active_producers: Vec<ProducerState>;
    }
}

kafka_message! {
    /// A topic.
    pub struct TopicResponse {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<PartitionResponse>;
    }
}

kafka_message! {
    /// The producers.
    pub struct DescribeProducersResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// By topic.
        (0..) topics: Vec<TopicResponse>;
    }
}
