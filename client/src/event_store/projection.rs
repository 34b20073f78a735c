//! Views that follow the events: rebuilt from zero, resumed, and waited for. Knows nothing of what a view is.

use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

use tidelog_protocol::messages::{CommittedOffset, Isolation};
use tidelog_protocol::{Offset, PartitionId, TopicId};
use tokio::sync::watch;

use super::error::StoreError;
use super::event::{Appended, StoredEvent};
use super::store::EventStore;
use crate::{ClientError, Start};

/// A view that is made of the events. It keeps with itself how far it is, so that it is never ahead of or behind what it says.
pub trait Projection: Send {
    /// Why it cannot go on.
    type Error: Send;

    /// The offset that it goes on with in a partition; zero where it has nothing of it yet, or is to be built anew.
    fn position(&mut self, partition: PartitionId) -> impl Future<Output = Result<Offset, Self::Error>> + Send;

    /// Takes the next events of a partition, and that it goes on at `next`: both or neither, where it is kept somewhere. Events of one
    /// aggregate come in their order; of different partitions in any.
    fn apply(
        &mut self,
        partition: PartitionId,
        events: Vec<StoredEvent>,
        next: Offset,
    ) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Why a projection stopped.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProjectionError<E> {
    /// It says so itself.
    #[error("the projection cannot go on: {0}")]
    Projection(E),
    /// Its events cannot be read, or not be understood.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another run of a projection of this name began later, here or in another process, and goes on.
    #[error(
        "another run of the projection {name:?} began after this one: one at a time may say how far it is; give views of their own, such as \
         one in each process, names of their own"
    )]
    Replaced {
        /// The projection's name.
        name: String,
    },
}

/// How far a projection is, to be waited for in its own process.
#[derive(Clone, Debug)]
pub struct ProjectionProgress {
    positions: watch::Receiver<BTreeMap<PartitionId, Offset>>,
}

impl ProjectionProgress {
    /// Waits until the projection has taken what was appended.
    ///
    /// # Errors
    /// [`StoreError::Closed`] where the projection has stopped.
    pub async fn reach(&self, appended: &Appended) -> Result<(), StoreError> {
        let mut positions = self.positions.clone();
        let is_there = |positions: &BTreeMap<PartitionId, Offset>| {
            positions.get(&appended.partition).is_some_and(|position| *position > appended.offset)
        };
        positions.wait_for(is_there).await.map(drop).map_err(|_| StoreError::Closed)
    }
}

/// A projection that is to be run. Made by [`EventStore::projection`].
#[derive(Debug)]
#[must_use = "nothing happens before `run`"]
pub struct ProjectionRun {
    store: EventStore,
    name: String,
    /// Drawn anew for each run; stands beside the offsets.
    run: String,
    positions: watch::Sender<BTreeMap<PartitionId, Offset>>,
}

impl EventStore {
    /// A projection of this name, to be run once at a time. The name is that of a group whose offsets say, to all processes, how
    /// far it is; what counts is what the projection itself says.
    ///
    /// A run that begins under the name of another takes its place, and the other ends with [`ProjectionError::Replaced`] as soon as it has taken
    /// further events. A view that each process has for itself, such as one in memory, needs a name for each process, or none to wait by:
    /// [`ProjectionProgress`] tells of the one in this process only.
    pub fn projection(&self, name: impl Into<String>) -> ProjectionRun {
        let run = format!("{RUN}{:032x}", fastrand::u128(..));
        ProjectionRun { store: self.clone(), name: name.into(), run, positions: watch::Sender::new(BTreeMap::new()) }
    }

    /// Waits until the projection of this name, wherever it runs, has taken what was appended: what is read from it then contains that.
    /// That is the view of the run that began last under this name; one that it replaces may still be read, and be behind, until it has
    /// noticed and [ended](ProjectionError::Replaced).
    ///
    /// # Errors
    /// [`ClientError::TimedOut`] where it did not come so far in time; else as [`Admin::wait_for_group`](crate::Admin::wait_for_group).
    pub async fn wait_for(&self, projection: &str, appended: &Appended, timeout: Duration) -> Result<(), ClientError> {
        let admin = self.client().admin();
        admin.wait_for_group(projection, self.topic(), appended.partition, appended.offset, timeout).await.map(drop)
    }
}

impl ProjectionRun {
    /// How far it is.
    #[must_use]
    pub fn progress(&self) -> ProjectionProgress {
        ProjectionProgress { positions: self.positions.subscribe() }
    }

    /// Runs it for as long as this is waited for, or until it cannot go on.
    ///
    /// # Errors
    /// [`ProjectionError`], always: it does not end otherwise.
    pub async fn run<P: Projection>(
        self,
        projection: &mut P,
    ) -> Result<std::convert::Infallible, ProjectionError<P::Error>> {
        let mut positions = BTreeMap::new();
        for partition in (0..self.store.partitions()).map(PartitionId) {
            let position = projection.position(partition).await.map_err(ProjectionError::Projection)?;
            positions.insert(partition, position);
        }
        // Before anything else, so that nobody finds in a view that is rebuilt what an earlier one had.
        self.tell(&positions).await.map_err(StoreError::from)?;
        self.positions.send_replace(positions.clone());
        tokio::select! {
            ended = self.follow(projection, positions) => ended,
            end = self.keep_telling() => Err(end),
        }
    }

    async fn follow<P: Projection>(
        &self,
        projection: &mut P,
        positions: BTreeMap<PartitionId, Offset>,
    ) -> Result<std::convert::Infallible, ProjectionError<P::Error>> {
        let topic = self.store.topic().to_owned();
        let mut consumer = self.store.client().consumer().isolation(Isolation::ReadUncommitted);
        for (partition, position) in positions {
            consumer = consumer.partition_from(&topic, partition, Start::Offset(position));
        }
        let mut consumer = consumer.build().await.map_err(StoreError::from)?;
        loop {
            let (partition, events) = {
                let read = consumer.next_batch().await.map_err(StoreError::from)?;
                let Some(batch) = read else { return Err(StoreError::Closed.into()) };
                (batch.partition(), self.store.events_in(&batch)?)
            };
            let next = consumer.position(&topic, partition).map_err(StoreError::from)?;
            projection.apply(partition, events, next).await.map_err(ProjectionError::Projection)?;
            self.positions.send_modify(|positions| {
                positions.insert(partition, next);
            });
        }
    }

    /// Tells the group how far the projection is, the latest at a time: what waits is never behind by more than one telling, and the
    /// projection does not wait for it.
    async fn keep_telling<E>(&self) -> ProjectionError<E> {
        let mut positions = self.positions.subscribe();
        while positions.changed().await.is_ok() {
            let now = positions.borrow_and_update().clone();
            let told = match self.is_replaced().await {
                Ok(true) => return ProjectionError::Replaced { name: self.name.clone() },
                Ok(false) => self.tell(&now).await,
                Err(error) => Err(error),
            };
            if let Err(error) = told {
                tracing::warn!(projection = self.name, %error, "how far the projection is could not be told; it goes on");
                positions.mark_changed();
                tokio::time::sleep(self.store.client().cluster.backoff().draw(1, 0)).await;
            }
        }
        StoreError::Closed.into()
    }

    /// Asked before each telling: of two runs at once the one that told last finds itself, so that one of them always goes on.
    async fn is_replaced(&self) -> Result<bool, ClientError> {
        let client = self.store.client();
        let topic_id = client.cluster.topic(self.store.topic()).await?.id;
        let told = client.admin().group_offsets(&self.name).await?;
        Ok(told.iter().any(|at| at.topic_id == topic_id && is_another(&self.run, &at.metadata)))
    }

    async fn tell(&self, positions: &BTreeMap<PartitionId, Offset>) -> Result<(), ClientError> {
        let client = self.store.client();
        let topic_id = client.cluster.topic(self.store.topic()).await?.id;
        let offsets =
            positions.iter().map(|(partition, offset)| committed(topic_id, *partition, *offset, &self.run)).collect();
        client.admin().set_group_offsets(&self.name, offsets).await
    }
}

/// What the number of a run begins with.
const RUN: &str = "projection-run:";

/// Whether what stands beside an offset is the number of another run. An operator's word is that of none.
fn is_another(run: &str, metadata: &str) -> bool {
    metadata.starts_with(RUN) && metadata != run
}

fn committed(topic_id: TopicId, partition: PartitionId, offset: Offset, run: &str) -> CommittedOffset {
    CommittedOffset { topic_id, partition, offset, leader_epoch: None, metadata: run.into() }
}
