//! ListTransactions: the transactional ids that a broker coordinates.

use crate::kafka_message;

kafka_message! {
    /// Asks for them.
    pub struct ListTransactionsRequest {
        /// Only those in one of these states; empty: in any.
        (0..) state_filters: Vec<String>;
        /// Only those of these producers; empty: of any.
        (0..) producer_id_filters: Vec<i64>;
        /// Only those that are open for longer than so many milliseconds; below 0: all.
        (1..) duration_filter: i64 = -1;
    }
}

kafka_message! {
    /// A transactional id.
    pub struct TransactionState {
        /// Its name.
        (0..) transactional_id: String;
        /// Its producer.
        (0..) producer_id: i64;
        /// Its state by name.
        (0..) transaction_state: String;
    }
}

kafka_message! {
    /// The transactional ids.
    pub struct ListTransactionsResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// What went wrong: the list is not whole.
        (0..) error_code: i16;
        /// States that do not exist.
        (0..) unknown_state_filters: Vec<String>;
        /// Those that there are.
        (0..) transaction_states: Vec<TransactionState>;
    }
}
