//! DescribeTransactions: how transactional ids are.

use crate::kafka_message;

kafka_message! {
    /// Asks for them.
    pub struct DescribeTransactionsRequest {
        /// Which.
        (0..) transactional_ids: Vec<String>;
    }
}

kafka_message! {
    /// What of a topic is part of a transaction.
    pub struct TopicData {
        /// The topic.
        (0..) topic: String;
        /// Its partitions.
        (0..) partitions: Vec<i32>;
    }
}

kafka_message! {
    /// A transactional id.
    pub struct TransactionState {
        /// What went wrong.
        (0..) error_code: i16;
        /// Its name.
        (0..) transactional_id: String;
        /// Its state by name.
        (0..) transaction_state: String;
        /// How long a transaction may stay open, in milliseconds.
        (0..) transaction_timeout_ms: i32;
        /// When the open one began, in milliseconds of the epoch; -1: none is open.
        (0..) transaction_start_time_ms: i64;
        /// Its producer.
        (0..) producer_id: i64;
        /// The epoch of that.
        (0..) producer_epoch: i16;
        /// What the open one touches.
        (0..) topics: Vec<TopicData>;
    }
}

kafka_message! {
    /// How they are.
    pub struct DescribeTransactionsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// In the order of the request.
        (0..) transaction_states: Vec<TransactionState>;
    }
}
