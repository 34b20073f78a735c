//! TransactionFates: the leader of a partition in which transactions are open for long asks the coordinators what became of them. Between brokers
//! only.

use super::init_producer_id::ProducerIdentity;
use crate::ids::PartitionId;
use crate::{message, wire_enum};

wire_enum! {
    /// What a coordinator knows of a transaction.
    pub enum TransactionFate {
        /// Nothing: it belongs to another partition of the internal topic, or its id was forgotten.
        0 Unknown,
        /// It may still write, or it is not known how it ended and will be.
        1 Ongoing,
        /// It holds.
        2 Committed,
        /// It is undone.
        3 Aborted,
        /// Later ones of its producer have ended: its markers stood everywhere, and how it ended is forgotten.
        4 Superseded,
    }
}

message! {
    /// What became of these transactions?
    pub struct TransactionFatesRequest {
        /// Who wrote them, each under the epoch of the transaction.
        1 identities: Vec<ProducerIdentity>,
    }
}

message! {
    /// What became of them.
    pub struct TransactionFatesResponse {
        /// The partitions of the internal topic that the answer speaks for.
        1 looked: Vec<PartitionId>,
        /// In the order of the request, as far as those partitions know.
        1 fates: Vec<TransactionFate>,
    }
}
