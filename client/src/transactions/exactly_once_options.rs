//! How records are processed exactly once: how many to a transaction, how often each is tried, and where it goes then. Knows nothing of how
//! that is done.

use std::time::Duration;

use crate::group::{DeadLetterTopic, RetryPolicy};

/// How [`TransactionalProducer::exactly_once_with`](super::TransactionalProducer::exactly_once_with) processes records.
///
/// ```
/// use std::time::Duration;
/// use tidelog_client::ExactlyOnceOptions;
///
/// let options = ExactlyOnceOptions::default().records(5_000).interval(Duration::from_millis(500));
/// assert_eq!(options, options.clone());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct ExactlyOnceOptions {
    pub(super) records: usize,
    pub(super) interval: Duration,
    pub(super) retry: RetryPolicy,
    pub(super) dead_letters: DeadLetterTopic,
}

impl Default for ExactlyOnceOptions {
    fn default() -> Self {
        Self {
            records: 1_000,
            interval: Duration::from_millis(100),
            retry: RetryPolicy::default(),
            dead_letters: DeadLetterTopic::default(),
        }
    }
}

impl ExactlyOnceOptions {
    /// Records in one transaction, at most; at least 1. Larger ones cost less for each record, and are seen later. Default: 1,000.
    pub const fn records(mut self, records: usize) -> Self {
        self.records = if records == 0 { 1 } else { records };
        self
    }

    /// How long one transaction takes in records, at most. Others wait as long for partitions that they are to get. Default: 100 ms.
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How often a record is tried. Each failure undoes the transaction that the record is in; its
    /// partition waits in between. Default: [`RetryPolicy::default`].
    pub const fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Where a record goes that failed as often as it may; it is written there within a transaction, too. Default: `<topic>.dead-letters`.
    pub fn dead_letters(mut self, dead_letters: DeadLetterTopic) -> Self {
        self.dead_letters = dead_letters;
        self
    }
}
