//! ListTransactions: the transactional ids that a broker coordinates.

use super::init_producer_id::ProducerIdentity;
use super::unread_shard::UnreadShard;
use crate::{message, wire_enum};

wire_enum! {
    /// How a transactional id is.
    pub enum TransactionState {
        /// Nothing is open.
        0 Empty,
        /// A transaction is open.
        1 Ongoing,
        /// It is decided that it holds; markers are being written.
        2 Committing,
        /// It is decided that it is undone; markers are being written.
        3 Aborting,
    }
}

message! {
    /// Asks one broker for the transactional ids that it coordinates.
    pub struct ListTransactionsRequest {
        /// Only those with something open or being ended.
        1 open_only: bool,
    }
}

message! {
    /// A transactional id in short.
    pub struct TransactionListing {
        /// The id.
        1 transactional_id: String,
        /// How it is.
        1 state: TransactionState,
        /// Its producer.
        1 identity: ProducerIdentity,
        /// Milliseconds since the transaction began, by the coordinator's clock; 0 where none is open.
        1 open_ms: u64,
    }
}

message! {
    /// The transactional ids that this broker coordinates, by name.
    pub struct ListTransactionsResponse {
        /// The ids.
        1 transactions: Vec<TransactionListing>,
        /// Shards that this broker coordinates and cannot read, whose ids are not among them. On a connection of an earlier version the whole
        /// request is refused instead.
        6 unread: Vec<UnreadShard>,
    }
}
