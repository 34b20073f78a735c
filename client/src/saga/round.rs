//! The course of a worker: partitions come and go, sagas are met as their events are read, and each that goes on gets a driver. Knows nothing of
//! what drivers do.
//!
//! What is read are the events of the store's topic, from where on somebody noted that sagas go on. Only the latest event of a saga counts: any
//! other is followed by one that is yet to come. Reading is therefore all it takes to take a partition up, to meet new sagas, and to hear what
//! operators want.
//!
//! A worker that has as many sagas as it may reads no further, so that those that it has yet to meet stay in the store. What is said of the ones
//! that it has it hears from the store's index then, which follows the end of each partition whatever is read here.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::{Offset, PartitionId};
use tokio::sync::mpsc;
use tokio::task::{AbortHandle, JoinHandle, JoinSet};

use super::driving::{Driver, Shared, Signals};
use super::error::SagaError;
use super::events::SagaEvent;
use super::held::Held;
use crate::event_store::StoredEvent;
use crate::group::{GroupOffset, Word};
use crate::{Backoff, GroupConsumer, GroupError, GroupRecord, TopicName, TopicPartition};

/// How often it is noted from where on a partition is to be read by whoever takes it up.
const NOTED_EVERY: Duration = Duration::from_secs(1);
/// How often a worker that reads no further asks the store's index for what is said of its sagas.
const ASKED_EVERY: Duration = Duration::from_millis(250);
/// Sagas of a partition that are carried on at once.
const CARRIED_AT_ONCE: usize = 100;

/// A worker at work.
pub(super) struct Round {
    shared: Arc<Shared>,
    consumer: GroupConsumer,
    topic: TopicName,
    sagas_max: usize,
    carried_after: u64,
    partitions: BTreeMap<PartitionId, Partition>,
    drivers: JoinSet<()>,
    driven: HashMap<tokio::task::Id, (PartitionId, Bytes)>,
    noting: Option<JoinHandle<()>>,
    asking: Option<JoinHandle<()>>,
}

/// A partition in this worker's hands.
#[derive(Default)]
struct Partition {
    held: Held,
    noted: Option<Offset>,
    drivers: HashMap<Bytes, Driven>,
}

/// A saga that is driven.
struct Driven {
    signals: Arc<Signals>,
    task: AbortHandle,
}

impl Drop for Driven {
    fn drop(&mut self) {
        // One that has ended is none the worse for it.
        self.task.abort();
    }
}

impl Round {
    pub(super) fn new(
        shared: Arc<Shared>,
        consumer: GroupConsumer,
        topic: TopicName,
        sagas_max: usize,
        carried_after: u64,
    ) -> Self {
        Self {
            shared,
            consumer,
            topic,
            sagas_max,
            carried_after,
            partitions: BTreeMap::new(),
            drivers: JoinSet::new(),
            driven: HashMap::new(),
            noting: None,
            asking: None,
        }
    }

    /// Runs until `stop` is done and what was under way then has ended.
    pub(super) async fn run(
        mut self,
        words: mpsc::Receiver<Word>,
        stop: impl Future<Output = ()>,
    ) -> Result<(), SagaError> {
        let ended = self.go(words, stop).await;
        // Dropped before it leaves: nobody else may have its partitions while it still tries something.
        self.partitions.clear();
        self.drivers.shutdown().await;
        for task in [self.noting.take(), self.asking.take()].into_iter().flatten() {
            task.abort();
        }
        match self.consumer.leave().await {
            Err(error) if ended.is_ok() => Err(error.into()),
            Ok(()) | Err(_) => ended,
        }
    }

    async fn go(&mut self, mut words: mpsc::Receiver<Word>, stop: impl Future<Output = ()>) -> Result<(), SagaError> {
        let mut stop = pin!(stop);
        let mut is_stopping = false;
        let mut note_next = tokio::time::interval(NOTED_EVERY);
        note_next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut ask_next = tokio::time::interval(ASKED_EVERY);
        ask_next.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            if is_stopping && self.drivers.is_empty() {
                return Ok(());
            }
            let has_room = self.drivers.len().saturating_sub(self.shared.figures.still()) < self.sagas_max;
            tokio::select! {
                biased;
                () = &mut stop, if !is_stopping => {
                    is_stopping = true;
                    self.shared.stop.cancel();
                }
                Some(word) = words.recv() => self.heed(word),
                Some(ended) = self.drivers.join_next_with_id(), if !self.drivers.is_empty() => self.ended(ended),
                _ = note_next.tick() => self.note(),
                _ = ask_next.tick(), if !has_room && !is_stopping => self.ask(),
                record = self.consumer.take(), if has_room && !is_stopping => match record {
                    Some(record) => self.read(record?).await?,
                    None => return Err(GroupError::Left.into()),
                },
            }
        }
    }

    fn heed(&mut self, word: Word) {
        match word {
            Word::Assigned(partitions, _done) => {
                for at in partitions {
                    self.partitions.insert(at.partition, Partition::default());
                }
            }
            // With it go its drivers, and what they are trying.
            Word::Gone(partitions) => partitions.iter().for_each(|at| drop(self.partitions.remove(&at.partition))),
        }
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, ()), tokio::task::JoinError>) {
        let id = match ended {
            Ok((id, ())) => id,
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(%error, "a saga stands still until it is taken up anew");
                }
                error.id()
            }
        };
        let Some((partition, saga)) = self.driven.remove(&id) else { return };
        if let Some(partition) = self.partitions.get_mut(&partition)
            && partition.drivers.get(&saga).is_some_and(|driven| driven.task.id() == id)
        {
            partition.drivers.remove(&saga);
        }
    }

    /// Reads a record: it may be the latest event of a saga.
    async fn read(&mut self, record: GroupRecord) -> Result<(), SagaError> {
        let (at, offset) = (record.partition(), record.offset);
        let event = self.shared.sagas.store().event_of(&record)?;
        record.done();
        let Some(partition) = self.partitions.get_mut(&at) else { return Ok(()) };
        let Some(event) = event else {
            partition.held.pass(offset);
            return Ok(());
        };
        let Ok(id) = std::str::from_utf8(&event.id).map(str::to_owned) else {
            tracing::warn!(partition = %at, %offset, "an event of something that is no saga, by its id, is passed over");
            partition.held.pass(offset);
            return Ok(());
        };
        let is_end = SagaEvent::is_end(&event.kind);
        partition.held.note(&event.id, offset, is_end);
        if let Some(driven) = partition.drivers.get(&event.id) {
            driven.signals.read(offset);
            return Ok(());
        }
        if !is_end && self.is_latest(&event).await? {
            self.drive(at, id, event);
        }
        Ok(())
    }

    /// Is an event the latest of its saga, as far as is known? If not, another is yet to be read.
    async fn is_latest(&self, event: &StoredEvent) -> Result<bool, SagaError> {
        let mut failures = 0;
        loop {
            match self.shared.sagas.store().version(&event.id).await {
                Ok(version) => return Ok(version <= event.version),
                Err(error) if error.is_retriable() => {
                    failures += 1;
                    tokio::time::sleep(Backoff::DEFAULT.wait(failures, fastrand::f64())).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn drive(&mut self, at: PartitionId, id: String, latest: StoredEvent) {
        let Some(partition) = self.partitions.get_mut(&at) else { return };
        let saga = latest.id.clone();
        let signals = Arc::new(Signals::default());
        let driver = Driver::new(Arc::clone(&self.shared), id, Arc::clone(&signals));
        let task = self.drivers.spawn(driver.drive(latest));
        self.driven.insert(task.id(), (at, saga.clone()));
        partition.drivers.insert(saga, Driven { signals, task });
    }

    /// Has the drivers told what the store's index knows of their sagas.
    fn ask(&mut self) {
        if self.asking.as_ref().is_some_and(|asking| !asking.is_finished()) {
            return;
        }
        let told = |driven: &Driven| Arc::clone(&driven.signals);
        let of =
            |partition: &Partition| partition.drivers.iter().map(|(id, driven)| (id.clone(), told(driven))).collect();
        let asked: Vec<(PartitionId, Vec<(Bytes, Arc<Signals>)>)> =
            self.partitions.iter().map(|(at, partition)| (*at, of(partition))).collect();
        let store = self.shared.sagas.store().clone();
        self.asking = Some(tokio::spawn(async move {
            for (at, sagas) in asked.into_iter().filter(|(_, sagas)| !sagas.is_empty()) {
                match store.latest(at, sagas.iter().map(|(id, _)| &id[..])).await {
                    Ok(latest) => sagas.iter().zip(latest).for_each(|((_, signals), latest)| {
                        latest.into_iter().for_each(|offset| signals.read(offset));
                    }),
                    Err(error) => tracing::debug!(%error, partition = %at, "what is said of sagas is asked again"),
                }
            }
        }));
    }

    /// Notes from where on partitions are to be read, and has sagas carried on that hold that back.
    fn note(&mut self) {
        for partition in self.partitions.values() {
            let near = partition.held.near(self.carried_after);
            for id in partition.held.behind(near).take(CARRIED_AT_ONCE) {
                if let Some(driven) = partition.drivers.get(id) {
                    driven.signals.carry_to(near);
                }
            }
        }
        if self.noting.as_ref().is_some_and(|noting| !noting.is_finished()) {
            return;
        }
        let mut offsets = Vec::new();
        for (at, partition) in &mut self.partitions {
            let from = partition.held.commit();
            if from.is_some() && from != partition.noted {
                partition.noted = from;
                let at = TopicPartition { topic: self.topic.clone(), partition: *at };
                offsets.push(GroupOffset { at, offset: from.unwrap_or_default(), metadata: String::new() });
            }
        }
        if !offsets.is_empty() {
            let commits = self.consumer.commits();
            self.noting = Some(tokio::spawn(async move {
                // What was not noted is read again by whoever takes the partition up, and does no harm.
                if let Err(error) = commits.commit_offsets(&offsets).await {
                    tracing::debug!(%error, "how far sagas are was not noted");
                }
            }));
        }
    }
}
