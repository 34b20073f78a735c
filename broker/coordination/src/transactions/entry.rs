//! A transactional id with what is known of it beside the records: since when it is open, and which markers were confirmed. That is made afresh
//! when another broker coordinates: the timeout counts anew, and markers are written again, which changes nothing where they stand.
//!
//! That all markers stand needs no record of its own where the next transaction follows at once: its record is the id's whole state.

use alloc::borrow::Cow;

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
        // One that follows at once has its own time.
        if transaction.state == TransactionState::Empty || (self.transaction.is_ending() && !transaction.is_ending()) {
            self.open_since = None;
        }
        if transaction.state != self.transaction.state {
            self.confirmed = Touched::default();
        }
        self.transaction = transaction;
    }

    /// The id as it is: nothing is open any more once all markers stand, though that is not stored yet.
    pub fn present(&self) -> Cow<'_, Transaction> {
        match self.has_ended() {
            true => Cow::Owned(self.transaction.done(self.transaction.changed_at)),
            false => Cow::Borrowed(&self.transaction),
        }
    }

    /// It was being ended, and all its markers stand.
    pub fn has_ended(&self) -> bool {
        self.transaction.is_ending() && self.transaction.touched.is_within(&self.confirmed)
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
