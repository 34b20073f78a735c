//! AddOffsetsToTxn: a transaction is about to commit offsets of a group.

use crate::kafka_message;

kafka_message! {
    /// Takes a group into a transaction, and begins it where none is open.
    pub struct AddOffsetsToTxnRequest {
        /// Whose.
        (0..) transactional_id: String;
        /// The producer.
        (0..) producer_id: i64;
        /// Its epoch.
        (0..) producer_epoch: i16;
        /// The group.
        (0..) group_id: String;
    }
}

kafka_message! {
    /// What came of it.
    pub struct AddOffsetsToTxnResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// What went wrong.
        (0..) error_code: i16;
    }
}
