//! What a relay says of itself while it runs. Knows nothing of how it does its work.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

/// How a relay stands. What waits in the tables, whoever publishes it, says [`Outbox::backlog`](super::Outbox::backlog).
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Figures {
    /// Events published by this relay.
    pub published: u64,
    /// In so many transactions.
    pub transactions: u64,
    /// Events set aside, as they cannot be sent.
    pub dead: u64,
    /// Rows that an earlier relay had published and not settled: found in the log, and not sent again.
    pub recovered: u64,
    /// Looks into the table that it took since the database said that something was staged, and not as its time had come.
    pub woken: u64,
    /// How long the oldest event of the last transaction had waited as that was committed, by this machine's clock.
    pub lag: Duration,
    /// The shards that this relay publishes, of all that there are.
    pub leads: BTreeSet<u32>,
    /// The shards that another relay has, for which this one stands by.
    pub stands_by: BTreeSet<u32>,
    /// What stands in the way, where something does.
    pub trouble: Option<String>,
}

/// A handle on a relay's figures.
#[derive(Clone, Debug, Default)]
pub struct RelayFigures(Arc<Mutex<Figures>>);

impl RelayFigures {
    /// As they are now.
    #[must_use]
    pub fn now(&self) -> Figures {
        self.0.lock().clone()
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.0.lock());
    }
}
