//! A transactional id with what is known of it beside the records: since when it is open, and which markers were confirmed. That is made afresh
//! when another broker coordinates: the timeout counts anew, and markers are written again, which changes nothing where they stand.

use tidelog_protocol::Monotonic;
use tidelog_protocol::messages::TransactionState;

use super::touched::Touched;
use super::transaction::Transaction;

/// A transactional id.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub transaction: Transaction,
    /// Since when this coordinator knows that something is open, or being ended.
    pub open_since: Option<Monotonic>,
    /// Where the markers stand.
    pub confirmed: Touched,
}

impl Entry {
    pub fn new(transaction: Transaction) -> Self {
        Self { transaction, open_since: None, confirmed: Touched::default() }
    }

    /// Another state of it is stored.
    pub fn replace(&mut self, transaction: Transaction) {
        if transaction.state == TransactionState::Empty {
            self.open_since = None;
        }
        if transaction.state != self.transaction.state {
            self.confirmed = Touched::default();
        }
        self.transaction = transaction;
    }

    /// Where the marker of its end is not known to stand.
    pub fn unconfirmed(&self) -> Touched {
        self.transaction.touched.without(&self.confirmed)
    }

    /// Milliseconds since it is open.
    pub fn open_ms(&self, now: Monotonic) -> u64 {
        self.open_since.map_or(0, |since| now.ms_since(since))
    }
}
