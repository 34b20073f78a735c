//! How records are processed many at a time: how many, in which order, how often each is tried, and where it goes then. Knows nothing of
//! how that is done.

use crate::Backoff;

/// Which records wait for each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Order {
    /// Those of a partition, one after the other. A record that fails holds up its partition while it is tried again.
    #[default]
    Partition,
    /// Those of a key, one after the other. A record that fails holds up its key only. Records without a key wait for nothing.
    Key,
}

/// How often a record is tried, and how long to wait in between.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RetryPolicy {
    /// Tries of one record, the first included; at least 1.
    pub attempts: u32,
    /// The waits between them: exponential, jittered, capped.
    pub backoff: Backoff,
}

impl Default for RetryPolicy {
    /// Five tries, with 100 ms to 10 s in between.
    fn default() -> Self {
        let backoff = Backoff { first: std::time::Duration::from_millis(100), max: std::time::Duration::from_secs(10) };
        Self { attempts: 5, backoff }
    }
}

/// Where a record goes that failed as often as it may.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum DeadLetterTopic {
    /// To the topic of its own topic's name with this behind it, which is created where there is none, with as many partitions.
    Suffix(String),
    /// To this topic, from all topics; created likewise.
    Named(String),
    /// Nowhere: the run ends, and whoever reads on begins with the record.
    None,
}

impl DeadLetterTopic {
    /// What stands behind the name of a topic in the name of its dead-letter topic, where nobody says otherwise.
    pub const SUFFIX: &'static str = ".dead-letters";

    /// The dead-letter topic of `topic`.
    pub(crate) fn of(&self, topic: &str) -> Option<String> {
        match self {
            Self::Suffix(suffix) => Some(format!("{topic}{suffix}")),
            Self::Named(name) => Some(name.clone()),
            Self::None => None,
        }
    }
}

impl Default for DeadLetterTopic {
    fn default() -> Self {
        Self::Suffix(Self::SUFFIX.into())
    }
}

/// How [`GroupConsumer::run_with`](super::GroupConsumer::run_with) processes records.
///
/// ```
/// use tidelog_client::group::{DeadLetterTopic, Order, RetryPolicy, RunOptions};
///
/// let options = RunOptions::new(16)
///     .order(Order::Key)
///     .retry(RetryPolicy { attempts: 3, ..RetryPolicy::default() })
///     .dead_letters(DeadLetterTopic::Named("orders-to-look-at".into()));
/// assert_eq!(options, options.clone());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
#[must_use]
pub struct RunOptions {
    pub(super) concurrency: usize,
    pub(super) order: Order,
    pub(super) retry: RetryPolicy,
    pub(super) dead_letters: DeadLetterTopic,
    pub(super) waiting_max: usize,
}

impl RunOptions {
    /// So many records at once (at least one), partition by partition, with the default tries and dead-letter topics.
    pub fn new(concurrency: usize) -> Self {
        let concurrency = concurrency.max(1);
        Self {
            concurrency,
            order: Order::default(),
            retry: RetryPolicy::default(),
            dead_letters: DeadLetterTopic::default(),
            waiting_max: concurrency.saturating_mul(16).max(1_000),
        }
    }

    /// Which records wait for each other. Default: [`Order::Partition`].
    pub const fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// How often a record is tried. Default: [`RetryPolicy::default`].
    pub const fn retry(mut self, retry: RetryPolicy) -> Self {
        self.retry = retry;
        self
    }

    /// Where a record goes that failed as often as it may. Default: `<topic>.dead-letters`.
    pub fn dead_letters(mut self, dead_letters: DeadLetterTopic) -> Self {
        self.dead_letters = dead_letters;
        self
    }

    /// Records taken and not finished, at most: those that wait for others of their key, or for their next try, count too. Default: 16 times
    /// the concurrency, 1,000 at least.
    pub const fn waiting_max(mut self, records: usize) -> Self {
        self.waiting_max = if records == 0 { 1 } else { records };
        self
    }
}
