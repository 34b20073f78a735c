//! DescribeTransaction: who a transactional producer is, what its transaction touches, and how the last one ended.

use super::group_heartbeat::TopicPartitions;
use super::init_producer_id::ProducerIdentity;
use super::list_transactions::TransactionState;
use crate::ids::Timestamp;
use crate::{message, wire_enum};

wire_enum! {
    /// Who ended a transaction.
    pub enum TransactionEnder {
        /// Its producer.
        0 Producer,
        /// A new producer under the same id.
        1 Successor,
        /// Its timeout.
        2 Timeout,
        /// An operator.
        3 Operator,
    }
}

message! {
    /// Asks the coordinator how a transactional id is.
    pub struct DescribeTransactionRequest {
        /// The id.
        1 transactional_id: String,
    }
}

message! {
    /// A transaction that was ended.
    pub struct EndedTransaction {
        /// Who wrote it.
        1 identity: ProducerIdentity,
        /// It holds; otherwise it is undone.
        1 committed: bool,
        /// Who ended it.
        1 by: TransactionEnder,
    }
}

message! {
    /// How a transactional id is.
    pub struct DescribeTransactionResponse {
        /// How it is.
        1 state: TransactionState,
        /// Its producer. While a transaction is being ended: who will write the next.
        1 identity: ProducerIdentity,
        /// How long its transactions may stay open, in milliseconds.
        1 timeout_ms: u32,
        /// When the open one, or the one that is being ended, began; absent where there is none.
        1 began_at: Option<Timestamp>,
        /// When anything changed last.
        1 changed_at: Timestamp,
        /// What the open one has touched; while it is being ended, where its marker is missing.
        1 partitions: Vec<TopicPartitions>,
        /// The groups, likewise.
        1 groups: Vec<String>,
        /// The last that ended, or is being ended.
        1 ended: Option<EndedTransaction>,
    }
}
