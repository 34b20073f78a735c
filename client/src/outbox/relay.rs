//! The relay as a program has it: what it publishes and how, and its run. Knows nothing of statements.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::error::RelayError;
use super::figures::RelayFigures;
use super::options::{Options, Settling, Step};
use super::positions;
use super::shard::{ShardOfRelay, Signals, Until};
use super::store::{Shard, Store};
use crate::{Backoff, Client};

/// Publishes what is staged. Made by [`Outbox::relay`](super::Outbox::relay).
///
/// Run as many as you like, in one process or in many: of each shard exactly one is active, and where it ends another takes its place,
/// at once where it was stopped, and when its [lease](Relay::lease) is over where it was killed.
#[derive(Clone, Debug)]
#[must_use = "nothing is published before `run`"]
pub struct Relay<S> {
    store: S,
    client: Client,
    options: Options,
    figures: RelayFigures,
}

impl<S: Store> Relay<S> {
    pub(super) fn new(store: S, client: Client) -> Self {
        Self { store, client, options: Options::default(), figures: RelayFigures::default() }
    }

    /// The relay's name in the cluster: of its topic `<name>.positions`, and of its transactions. Relays of one outbox have one name, and those of
    /// another another: the first that publishes fixes it. Default: `outbox`.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = name.into();
        self
    }

    /// What stands before the aggregate type in the names of topics. Default: `outbox.event.`.
    pub fn topic_prefix(mut self, prefix: impl Into<String>) -> Self {
        self.options.prefix = prefix.into();
        self
    }

    /// Among how many shards aggregates are divided, by the hash of their id, 256 at most: each can be active in another process. All relays of an
    /// outbox must say the same; the first one fixes it, and [`Relay::reshard`] changes it. Default: 1.
    pub const fn shards(mut self, shards: u32) -> Self {
        self.options.shards = shards;
        self
    }

    /// Events in one transaction at most. Default: 2,000.
    pub const fn batch_rows(mut self, rows: u32) -> Self {
        self.options.batch_rows = rows;
        self
    }

    /// Bytes of events in one transaction at most, but for one that is larger by itself. Default: 8 MiB.
    pub const fn batch_bytes(mut self, bytes: usize) -> Self {
        self.options.batch_bytes = bytes;
        self
    }

    /// After how long another relay takes over from one that was killed. Default: 5 s.
    pub const fn lease(mut self, lease: Duration) -> Self {
        self.options.lease = lease;
        self
    }

    /// What becomes of rows that are published. Default: they are deleted.
    pub const fn settling(mut self, settling: Settling) -> Self {
        self.options.settling = settling;
        self
    }

    /// Creates topics that events need and that do not exist, with this many partitions. Default: events wait until the topic is there.
    pub const fn create_topics(mut self, partitions: u32) -> Self {
        self.options.create = Some(partitions);
        self
    }

    /// Replicas of topics that it creates, that of positions included. Default: the cluster's.
    pub const fn replication_factor(mut self, replicas: u16) -> Self {
        self.options.replication_factor = Some(replicas);
        self
    }

    /// Who is told of each step of each shard, as it is done and before the next.
    pub fn observer(mut self, observer: impl Fn(u32, Step) + Send + Sync + 'static) -> Self {
        self.options.observer = Some(Arc::new(observer));
        self
    }

    /// How it stands, while it runs.
    #[must_use]
    pub fn figures(&self) -> RelayFigures {
        self.figures.clone()
    }

    /// Publishes until `stop` is done; what passes is waited for. The transaction at hand is ended first.
    ///
    /// # Errors
    /// [`RelayError`], where it [is final](RelayError::is_final): nothing but a person can help. What is staged stays staged.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), RelayError> {
        let mut stop = pin!(stop);
        let mut failures = 0;
        let database = loop {
            match self.prepare().await {
                Ok(database) => break database,
                Err(error) if error.is_final() => return Err(error),
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, "the relay cannot begin, and tries again");
                    self.figures.note(|figures| figures.trouble = Some(error.to_string()));
                }
            }
            tokio::select! {
                () = &mut stop => return Ok(()),
                () = tokio::time::sleep(Backoff::DEFAULT.wait(failures, fastrand::f64())) => {}
            }
        };
        self.run_shards(database, self.options.shards, Until::Stopped, stop).await.map(drop)
    }

    /// Publishes what waits, and returns as nothing does: how many events it published itself. Where another relay has a shard, it stands by until nothing waits
    /// there, whoever published it.
    ///
    /// # Errors
    /// As [`Relay::run`], and what would pass, where it comes before the first look.
    pub async fn drain(&self) -> Result<u64, RelayError> {
        let database = self.prepare().await?;
        self.run_shards(database, self.options.shards, Until::Empty, std::future::pending()).await
    }

    /// Divides the outbox among `shards` shards from now on: fences whoever publishes, settles what was published, and changes the number. Relays that
    /// run meanwhile are to be stopped before, and told the new number then.
    ///
    /// # Errors
    /// [`RelayError::Active`] where another relay has a shard, or had it and was killed, and its lease is not over; else as [`Relay::run`].
    pub async fn reshard(mut self, shards: u32) -> Result<(), RelayError> {
        // Before anything is written: a number that is out of range could not be got rid of.
        self.options.shards = shards;
        self.options.check()?;
        let before = self.store.registration(shards).await?;
        self.options.check_name(before.relay)?;
        self.options.shards = before.shards;
        positions::ensure(&self.client, &self.options).await?;
        self.run_shards(before.database, before.shards, Until::Recovered, std::future::pending()).await?;
        self.options.shards = shards;
        positions::widen(&self.client, &self.options).await?;
        if self.store.reshard(shards).await? { Ok(()) } else { Err(RelayError::Active { left: self.options.lease }) }
    }

    /// Checks what it was told and what is there; the id of the database.
    async fn prepare(&self) -> Result<String, RelayError> {
        self.options.check()?;
        let registration = self.store.registration(self.options.shards).await?;
        if registration.shards != self.options.shards {
            return Err(RelayError::WrongShards { asked: self.options.shards, found: registration.shards });
        }
        self.options.check_name(registration.relay)?;
        positions::ensure(&self.client, &self.options).await?;
        Ok(registration.database)
    }

    async fn run_shards(
        &self,
        database: String,
        shards: u32,
        until: Until,
        stop: impl Future<Output = ()>,
    ) -> Result<u64, RelayError> {
        let mut stop = pin!(stop);
        let (tell, told) = watch::channel(false);
        let (staged, heard) = watch::channel(0);
        let owner = Uuid::now_v7().to_string();
        let options = Arc::new(self.options.clone());
        let mut running = JoinSet::new();
        for index in 0..shards {
            let shard = ShardOfRelay {
                store: self.store.clone(),
                client: self.client.clone(),
                options: Arc::clone(&options),
                figures: self.figures.clone(),
                shard: Shard { index, of: shards },
                database: database.clone(),
                owner: owner.clone(),
                until,
            };
            running.spawn(shard.run(Signals { stop: told.clone(), staged: heard.clone() }));
        }
        let mut listening = pin!(self.store.listen(&staged));
        let mut published = 0;
        let mut failed = None;
        let mut stopping = false;
        loop {
            let ended = tokio::select! {
                ended = running.join_next() => ended,
                () = &mut stop, if !stopping => {
                    stopping = true;
                    let _ = tell.send(true);
                    continue;
                }
                never = &mut listening => match never {},
            };
            match ended {
                None => return failed.map_or(Ok(published), Err),
                Some(Ok(Ok(events))) => published += events,
                Some(Ok(Err(error))) => {
                    failed.get_or_insert(error);
                    let _ = tell.send(true);
                }
                // Only where a shard panicked, or the runtime ends.
                Some(Err(error)) => match error.try_into_panic() {
                    Ok(panic) => std::panic::resume_unwind(panic),
                    Err(_) => return Ok(published),
                },
            }
        }
    }
}
