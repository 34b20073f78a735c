//! EndTransaction: a producer commits or aborts. Each transaction has an epoch of its own (KIP-890), so a late end finds nothing to end.

use super::init_producer_id::ProducerIdentity;
use crate::message;

message! {
    /// Ends the transaction of an epoch. The same end asked again is answered like the first; of a transaction that touched nothing, too.
    pub struct EndTransactionRequest {
        /// Whose.
        1 transactional_id: String,
        /// Who the producer is.
        1 identity: ProducerIdentity,
        /// Commit; otherwise abort.
        1 commit: bool,
    }
}

message! {
    /// It is decided and stored; markers make it visible.
    pub struct EndTransactionResponse {
        /// Who the producer is from here on. Its sequences begin at 0 on every partition.
        1 identity: ProducerIdentity,
    }
}
