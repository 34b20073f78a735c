//! EndTxn: a transaction is committed or aborted. Its producer goes on under the same epoch.

use crate::kafka_message;

kafka_message! {
    /// Ends a transaction.
    pub struct EndTxnRequest {
        /// Whose.
        (0..) transactional_id: String;
        /// The producer.
        (0..) producer_id: i64;
        /// Its epoch.
        (0..) producer_epoch: i16;
        /// It holds; otherwise it is undone.
        (0..) committed: bool;
    }
}

kafka_message! {
    /// What came of it.
    pub struct EndTxnResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// What went wrong.
        (0..) error_code: i16;
    }
}
