//! Transactional ids whose log has lost a part for good: what of it is written anew. Knows nothing of how it was lost.
//!
//! Of an id that was not heard of since, anything may have been decided in what is lost: other producers came under it, transactions ended. So no
//! epoch that is known may be given again, nor the next: its producer's epochs count as used up, whoever has one is fenced, and the next producer
//! gets an id that nobody had. What is known to be open is undone; where it was committed in what is lost, what holds already stays so, and only
//! what no marker has reached is undone. A decision that is known stands.

use alloc::vec::Vec;

use tidelog_protocol::Timestamp;
use tidelog_protocol::messages::{TransactionEnder, TransactionState};

use super::records::TransactionRecord;
use super::transaction::Transaction;
use crate::salvage::{Remains, Remnant};

/// What is to be written.
#[must_use]
pub fn salvage(remains: Remains<TransactionRecord>, wall: Timestamp) -> Vec<TransactionRecord> {
    let written = |Remnant { record, is_doubtful }: Remnant<TransactionRecord>| {
        let value = record.value.as_ref().filter(|_| is_doubtful)?;
        let known = Transaction::from_value(value);
        let decided = match known.state {
            TransactionState::Ongoing => known.ending(false, TransactionEnder::Operator, None, wall),
            TransactionState::Empty | TransactionState::Committing | TransactionState::Aborting => known,
        };
        let doubted = Transaction { identity: decided.identity.last(), previous: None, ..decided };
        Some(doubted.to_record(record.transactional_id()))
    };
    remains.records.into_iter().map(|remnant| written(remnant.clone()).unwrap_or(remnant.record)).collect()
}
