//! Settings of a relay, checked once. Knows nothing of what is done by them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::error::RelayError;
use super::event::SLOTS;
use super::position::ROWS_MAX;

/// What becomes of rows that were published.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Settling {
    /// They are deleted.
    #[default]
    Delete,
    /// They stay, with the time in `published_ms`, for somebody else to delete.
    Mark,
}

/// A step in the life of a shard of the relay, in their order.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Step {
    /// It has the lease.
    Claimed,
    /// Whoever published before is fenced, and what that had open is undone.
    Fenced,
    /// What was published before and not settled is settled.
    Recovered,
    /// Rows were read.
    Read,
    /// They are written, in a transaction that is still open.
    Sent,
    /// The transaction is committed.
    Committed,
    /// The rows are settled.
    Settled,
    /// A row was set aside.
    SetAside,
}

impl Step {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Claimed,
        Self::Fenced,
        Self::Recovered,
        Self::Read,
        Self::Sent,
        Self::Committed,
        Self::Settled,
        Self::SetAside,
    ];
}

/// Who is told of steps: the shard, and what it has come to.
pub(crate) type Observer = Arc<dyn Fn(u32, Step) + Send + Sync>;

/// The settings.
#[derive(Clone)]
pub(crate) struct Options {
    pub(crate) name: String,
    pub(crate) prefix: String,
    pub(crate) shards: u32,
    pub(crate) batch_rows: u32,
    pub(crate) batch_bytes: usize,
    pub(crate) lease: Duration,
    pub(crate) settling: Settling,
    /// Partitions of topics that are made as an event needs them; `None`: they are not.
    pub(crate) create: Option<u32>,
    pub(crate) replication_factor: Option<u16>,
    pub(crate) observer: Option<Observer>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            name: "outbox".into(),
            prefix: "outbox.event.".into(),
            shards: 1,
            batch_rows: 2_000,
            batch_bytes: 8 << 20,
            lease: Duration::from_secs(5),
            settling: Settling::Delete,
            create: None,
            replication_factor: None,
            observer: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "relay {} of {} shards to {}*", self.name, self.shards, self.prefix)
    }
}

impl Options {
    /// Refuses what is out of its range.
    pub(crate) fn check(&self) -> Result<(), RelayError> {
        let refuse = |sentence: String| Err(RelayError::Argument(sentence));
        if !(1..=SLOTS).contains(&self.shards) {
            return refuse(format!("{} shards are not within 1 and {SLOTS}", self.shards));
        }
        if self.batch_rows == 0 || self.batch_rows as usize > ROWS_MAX {
            return refuse(format!("{} rows in a transaction are not within 1 and {ROWS_MAX}", self.batch_rows));
        }
        if self.lease < Duration::from_millis(100) || self.lease > Duration::from_secs(3_600) {
            return refuse(format!("a lease of {:?} is not within 100 ms and an hour", self.lease));
        }
        if let Err(error) = crate::TopicName::new(&self.positions()) {
            return refuse(format!("{:?} cannot be the name of a relay: {error}", self.name));
        }
        Ok(())
    }

    /// Refuses an outbox whose relays have another name: what is published is known by it.
    pub(crate) fn check_name(&self, found: Option<String>) -> Result<(), RelayError> {
        match found {
            Some(found) if found != self.name => Err(RelayError::WrongName { asked: self.name.clone(), found }),
            Some(_) | None => Ok(()),
        }
    }

    /// The topic of positions.
    pub(crate) fn positions(&self) -> String {
        format!("{}.positions", self.name)
    }

    /// Under which name the transactions of a shard outlive it.
    pub(crate) fn transactional_id(&self, shard: u32) -> String {
        format!("outbox-relay.{}.{shard}", self.name)
    }

    pub(crate) fn step(&self, shard: u32, step: Step) {
        if let Some(observer) = &self.observer {
            observer(shard, step);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_out_of_range_is_refused_with_the_range() {
        let refusal = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            options.check().unwrap_err().to_string()
        };
        assert!(refusal(|options| options.shards = 0).contains("1 and 256"));
        assert!(refusal(|options| options.shards = 257).contains("1 and 256"));
        assert!(refusal(|options| options.batch_rows = 0).contains("10000"));
        assert!(refusal(|options| options.lease = Duration::ZERO).contains("100 ms"));
        assert!(refusal(|options| options.name = "a b".into()).contains("a b"));
        Options::default().check().unwrap();
    }
}
