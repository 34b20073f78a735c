//! InitProducerId: who a producer is.

use crate::kafka_message;

kafka_message! {
    /// Asks for a producer id, or for the next epoch of one.
    pub struct InitProducerIdRequest {
        /// Name under which transactions outlive the producer.
        (0..) transactional_id: Option<String>, null (0..);
        /// How long a transaction may stay open, in milliseconds.
        (0..) transaction_timeout_ms: i32;
        /// What the producer is now; -1 where it is new.
        (3..) producer_id: i64 = -1;
        /// Its epoch now.
        (3..) producer_epoch: i16 = -1;
    }
}

kafka_message! {
    /// Who the producer is from here on.
    pub struct InitProducerIdResponse {
        /// How long the client was held back, in milliseconds.
        (0..) throttle_time_ms: i32;
        /// What went wrong.
        (0..) error_code: i16;
        /// The producer.
        (0..) producer_id: i64 = -1;
        /// Its epoch.
        (0..) producer_epoch: i16;
    }
}
