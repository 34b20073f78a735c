//! What a store is called and how it is used, checked once. Knows nothing of partitions.

use std::sync::Arc;
use std::time::Duration;

use super::error::StoreError;
use super::store::EventStore;
use super::topics::Topics;
use super::upcasting::Upcasters;
use crate::Client;

/// The settings that the parts of a store read.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) upcasters: Upcasters,
    pub(super) command_window: u64,
    pub(super) checkpoint_every: u64,
    pub(super) index_bytes_max: usize,
    pub(super) queue_bytes: usize,
    pub(super) batch_bytes: usize,
    pub(super) load_bytes_max: usize,
    pub(super) append_timeout: Duration,
}

/// Describes an event store. Made by [`Client::event_store`].
#[derive(Clone, Debug)]
#[must_use = "nothing happens before `open`"]
pub struct EventStoreBuilder {
    client: Client,
    topics: Topics,
    settings: Settings,
}

impl Client {
    /// Starts to describe an event store, whose events are in the topic of this name.
    pub fn event_store(&self, name: impl Into<String>) -> EventStoreBuilder {
        let settings = Settings {
            upcasters: Upcasters::new(),
            command_window: 100_000,
            checkpoint_every: 200_000,
            index_bytes_max: 256 << 20,
            queue_bytes: 16 << 20,
            batch_bytes: 512 << 10,
            load_bytes_max: 256 << 20,
            append_timeout: Duration::from_secs(30),
        };
        EventStoreBuilder { client: self.clone(), topics: Topics::of(&name.into()), settings }
    }
}

impl EventStoreBuilder {
    /// How events of earlier schemas become those of today. Default: every kind has its first schema.
    pub fn upcasters(mut self, upcasters: Upcasters) -> Self {
        self.settings.upcasters = upcasters;
        self
    }

    /// For how many records of a partition a command is remembered; about 100 bytes each, in every process that uses the partition. A command
    /// that comes again later than that is carried out again, unless it expects a version. Every process must say the same. Default:
    /// 100,000.
    pub const fn command_window(mut self, records: u64) -> Self {
        self.settings.command_window = records;
        self
    }

    /// After how many records of a partition a process that uses it writes a checkpoint of what it knows, so that the next one starts
    /// quickly; no sooner than there are aggregates. 0: never. Default: 200,000.
    pub const fn checkpoint_every(mut self, records: u64) -> Self {
        self.settings.checkpoint_every = records;
        self
    }

    /// Memory for what is known of the aggregates of one partition: about 112 bytes and its id for each. Default: 256 MiB, so about two
    /// million aggregates for each partition. At most 2 GiB.
    pub const fn index_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.index_bytes_max = bytes;
        self
    }

    /// Memory for appends that wait, for each partition; where it is used up appends wait for room. Default: 16 MiB.
    pub const fn queue_bytes(mut self, bytes: usize) -> Self {
        self.settings.queue_bytes = bytes;
        self
    }

    /// How many bytes of events are loaded of one aggregate at most. Default: 256 MiB.
    pub const fn load_bytes_max(mut self, bytes: usize) -> Self {
        self.settings.load_bytes_max = bytes;
        self
    }

    /// How long an append is tried; then it is [in doubt](super::AppendError::InDoubt). Default: 30 s.
    pub const fn append_timeout(mut self, timeout: Duration) -> Self {
        self.settings.append_timeout = timeout;
        self
    }

    /// Creates the topics of the store where they are not there yet, with so many partitions, and so many replicas where that is not as
    /// the cluster does it by default; then opens it. The number of partitions is for ever.
    ///
    /// # Errors
    /// As [`EventStoreBuilder::open`]; those of creating topics.
    pub async fn create(self, partitions: u32, replicas: Option<u16>) -> Result<EventStore, StoreError> {
        self.topics.create(&self.client.admin(), partitions, replicas).await?;
        self.open().await
    }

    /// Opens a store that was created.
    ///
    /// # Errors
    /// [`StoreError::UnfitTopic`] where a topic would lose what the store needs, or has other partitions than it was made with;
    /// [`StoreError::Argument`] for a setting out of its range; those of asking the cluster.
    pub async fn open(self) -> Result<EventStore, StoreError> {
        self.settings.check()?;
        EventStore::open(self.client, self.topics, Arc::new(self.settings)).await
    }
}

impl Settings {
    fn check(&self) -> Result<(), StoreError> {
        self.upcasters.check()?;
        let refuse = |text: String| Err(StoreError::Argument(text));
        if !(1..=100_000_000).contains(&self.command_window) {
            return refuse(format!(
                "command_window of {} is not within 1 and 100,000,000 records",
                self.command_window
            ));
        }
        if !(1 << 20..=1 << 31).contains(&self.queue_bytes) {
            return refuse(format!("queue_bytes of {} is not within 1 MiB and 2 GiB", self.queue_bytes));
        }
        if !(1 << 20..=1 << 31).contains(&self.index_bytes_max) {
            // Above that a part of a checkpoint might not fit into a batch.
            return refuse(format!("index_bytes_max of {} is not within 1 MiB and 2 GiB", self.index_bytes_max));
        }
        if self.append_timeout.is_zero() {
            return refuse("an append_timeout of nothing leaves no time to append".into());
        }
        Ok(())
    }
}
