//! AbortTransaction: an operator aborts what its producer does not end.

use crate::message;

message! {
    /// Aborts the open transaction of an id; its producer may go on under the next epoch. Refused where none is open.
    pub struct AbortTransactionRequest {
        /// The id.
        1 transactional_id: String,
    }
}

message! {
    /// It is decided and stored; markers make it visible.
    pub struct AbortTransactionResponse {}
}
