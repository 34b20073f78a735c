//! A transactional id with what is known of it beside the records: for how long it is open, and which markers were confirmed. That is made afresh
//! when another broker coordinates: by the wall clocks of both the time since it began, so that its timeout goes on; and markers are written
//! again, which changes nothing where they stand.
//!
//! That all markers stand needs no record of its own where the next transaction follows at once: its record is the id's whole state.

use alloc::borrow::Cow;

use tidelog_protocol::messages::TransactionState;
use tidelog_protocol::{Monotonic, Timestamp};

use super::touched::Touched;
use super::transaction::Transaction;

/// For how long something is open, on a clock that does not jump.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Age {
    /// Since when this coordinator knows it.
    known_since: Monotonic,
    /// How old it was then, in milliseconds.
    before_ms: u64,
}

impl Age {
    /// It begins.
    pub const fn new(now: Monotonic) -> Self {
        Self { known_since: now, before_ms: 0 }
    }

    /// It began then, as the wall clock of whoever coordinated says. One that is to begin yet, by a clock that was ahead of this one, begins now.
    pub fn since(began_at: Option<Timestamp>, now: Monotonic, wall: Timestamp) -> Self {
        let before_ms = began_at.map_or(0, |began_at| wall.0.saturating_sub(began_at.0));
        Self { known_since: now, before_ms: u64::try_from(before_ms).unwrap_or(0) }
    }

    /// In milliseconds.
    pub const fn ms(self, now: Monotonic) -> u64 {
        self.before_ms.saturating_add(now.ms_since(self.known_since))
    }
}

/// A transactional id.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub transaction: Transaction,
    /// For how long something is open, or being ended, as far as this coordinator has looked.
    pub age: Option<Age>,
    /// Where the markers stand.
    pub confirmed: Touched,
}

impl Entry {
    pub fn new(transaction: Transaction) -> Self {
        Self { transaction, age: None, confirmed: Touched::default() }
    }

    /// Another state of it is stored.
    pub fn replace(&mut self, transaction: Transaction) {
        // One that follows at once has its own time.
        if transaction.state == TransactionState::Empty || (self.transaction.is_ending() && !transaction.is_ending()) {
            self.age = None;
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
        self.age.map_or(0, |age| age.ms(now))
    }
}
