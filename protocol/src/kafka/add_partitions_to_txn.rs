//! AddPartitionsToTxn: which partitions a transaction is about to write to. From version 4 on only brokers ask each other.

use crate::kafka_message;

kafka_message! {
    /// A topic.
    pub struct AddPartitionsToTxnTopic {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) partitions: Vec<i32>;
    }
}

kafka_message! {
    /// Takes partitions into a transaction, and begins it where none is open: all of them or none.
    pub struct AddPartitionsToTxnRequest {
        /// Whose.
        (0..) v3_and_below_transactional_id: String;
        /// The producer.
        (0..) v3_and_below_producer_id: i64;
        /// Its epoch.
        (0..) v3_and_below_producer_epoch: i16;
        /// By topic.
        (0..) v3_and_below_topics: Vec<AddPartitionsToTxnTopic>;
    }
}

kafka_message! {
    /// What came of a partition.
    pub struct AddPartitionsToTxnPartitionResult {
        /// The partition.
        (0..) partition_index: i32;
        /// What went wrong.
        (0..) partition_error_code: i16;
    }
}

kafka_message! {
    /// What came of a topic.
    pub struct AddPartitionsToTxnTopicResult {
        /// The topic.
        (0..) name: String;
        /// Its partitions.
        (0..) results_by_partition: Vec<AddPartitionsToTxnPartitionResult>;
    }
}

kafka_message! {
    /// What came of it.
    pub struct AddPartitionsToTxnResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// By topic.
        (0..) results_by_topic_v3_and_below: Vec<AddPartitionsToTxnTopicResult>;
    }
}
