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
use std::pin::{Pin, pin};
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
use super::retiring::Retiring;
use crate::event_store::{EventStore, StoredEvent};
use crate::group::{GroupOffset, Word};
use crate::{Backoff, GroupConsumer, GroupError, GroupRecord, TopicName, TopicPartition};

/// How often it is noted from where on a partition is to be read by whoever takes it up.
const NOTED_EVERY: Duration = Duration::from_secs(1);
/// How often a worker that reads no further asks the store's index for what is said of its sagas.
const ASKED_EVERY: Duration = Duration::from_millis(250);
/// Sagas of a partition that are carried on at once.
const CARRIED_AT_ONCE: usize = 100;

/// What a worker was told.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) sagas_max: usize,
    pub(super) carried_after: u64,
}

/// A worker at work.
pub(super) struct Round {
    shared: Arc<Shared>,
    consumer: GroupConsumer,
    topic: TopicName,
    sagas_max: usize,
    carried_after: u64,
    /// Of any partition.
    retiring: Retiring,
    partitions: BTreeMap<PartitionId, Partition>,
    drivers: JoinSet<()>,
    driven: HashMap<tokio::task::Id, (PartitionId, Bytes)>,
    noting: Option<JoinHandle<()>>,
    asking: Option<JoinHandle<()>>,
}

/// A partition in this worker's hands.
struct Partition {
    held: Held,
    noted: Option<Offset>,
    drivers: HashMap<Bytes, Driven>,
    retiring: AbortHandle,
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.retiring.abort();
    }
}

/// A saga that goes on and is not driven, at its latest event as far as was read.
struct Met {
    at: PartitionId,
    id: String,
    event: StoredEvent,
}

/// What came of a question.
#[derive(PartialEq, Eq, Debug)]
enum Asked<T> {
    Said(T),
    /// It is of no interest any more.
    Moot,
    /// The worker is to end.
    Stopped,
}

/// Sagas, and what tells their drivers.
type Told = Vec<(Bytes, Arc<Signals>)>;

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
        Limits { sagas_max, carried_after }: Limits,
        retiring: Retiring,
    ) -> Self {
        Self {
            shared,
            consumer,
            topic,
            sagas_max,
            carried_after,
            retiring,
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
                    Some(record) => {
                        let Some(met) = self.read(record?)? else { continue };
                        let asked = is_latest(self.shared.sagas.store().clone(), met.event.clone());
                        let heed = |word| {
                            self.heed(word);
                            self.partitions.contains_key(&met.at)
                        };
                        match while_wanted(asked, stop.as_mut(), &mut words, heed).await {
                            Asked::Said(is_latest) => if is_latest? {
                                self.drive(met.at, met.id, met.event);
                            },
                            Asked::Moot => {}
                            // Whoever has the partition next meets it.
                            Asked::Stopped => {
                                is_stopping = true;
                                self.shared.stop.cancel();
                            }
                        }
                    }
                    None => return Err(GroupError::Left.into()),
                },
            }
        }
    }

    fn heed(&mut self, word: Word) {
        match word {
            Word::Assigned(partitions, _done) => {
                for at in partitions {
                    let retiring = Retiring { partition: at.partition, ..self.retiring.clone() };
                    let retiring = tokio::spawn(retiring.run()).abort_handle();
                    let (held, noted, drivers) = (Held::default(), None, HashMap::new());
                    self.partitions.insert(at.partition, Partition { held, noted, drivers, retiring });
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

    /// Reads a record. Returns what it says of a saga that is not driven and goes on, where nothing follows it.
    fn read(&mut self, record: GroupRecord) -> Result<Option<Met>, SagaError> {
        let (at, offset) = (record.partition(), record.offset);
        let event = self.shared.sagas.store().event_of(&record)?;
        record.done();
        let Some(partition) = self.partitions.get_mut(&at) else { return Ok(None) };
        let Some(event) = event else {
            partition.held.pass(offset);
            return Ok(None);
        };
        let Ok(id) = std::str::from_utf8(&event.id).map(str::to_owned) else {
            tracing::warn!(partition = %at, %offset, "an event of something that is no saga, by its id, is passed over");
            partition.held.pass(offset);
            return Ok(None);
        };
        let is_end = SagaEvent::is_end(&event.kind) || event.is_retirement();
        partition.held.note(&event.id, offset, is_end);
        if let Some(driven) = partition.drivers.get(&event.id) {
            driven.signals.read(offset);
            return Ok(None);
        }
        Ok((!is_end).then_some(Met { at, id, event }))
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
        let asked: Vec<(PartitionId, Told)> =
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

/// Is an event the latest of its saga, as far as is known? If not, another is yet to be read.
async fn is_latest(store: EventStore, event: StoredEvent) -> Result<bool, SagaError> {
    let mut failures = 0;
    loop {
        match store.version(&event.id).await {
            Ok(version) => return Ok(version <= event.version),
            Err(error) if error.is_retriable() => {
                failures += 1;
                tokio::time::sleep(Backoff::DEFAULT.wait(failures, fastrand::f64())).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Asks for as long as the answer is wanted: until `stop` is done, or a word came after which `heed` says that it is not.
async fn while_wanted<T>(
    asked: impl Future<Output = T>,
    mut stop: Pin<&mut impl Future<Output = ()>>,
    words: &mut mpsc::Receiver<Word>,
    mut heed: impl FnMut(Word) -> bool,
) -> Asked<T> {
    let mut asked = pin!(asked);
    loop {
        tokio::select! {
            biased;
            () = stop.as_mut() => return Asked::Stopped,
            Some(word) = words.recv() => if !heed(word) {
                return Asked::Moot;
            },
            said = asked.as_mut() => return Asked::Said(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};

    #[tokio::test]
    async fn a_question_without_an_answer_ends_with_the_worker_or_with_its_partition() {
        let (tell, mut words) = mpsc::channel(2);
        let none = |_| true;
        let mut stop = pin!(ready(()));
        let stopped = while_wanted(pending::<()>(), stop.as_mut(), &mut words, none);
        let stopped = tokio::time::timeout(Duration::from_secs(10), stopped).await;
        assert_eq!(stopped, Ok(Asked::Stopped));
        let said = while_wanted(ready(7), pin!(pending()), &mut words, none).await;
        assert_eq!(said, Asked::Said(7));
        for _ in 0..2 {
            tell.send(Word::Gone(Vec::new())).await.unwrap();
        }
        let mut heard = 0;
        let heed = |_| {
            heard += 1;
            heard < 2
        };
        let moot = while_wanted(pending::<()>(), pin!(pending()), &mut words, heed).await;
        assert_eq!((moot, heard), (Asked::Moot, 2));
    }
}
