//! The one task per partition that follows its end and appends there. Drives [`Index`] and [`Batch`]; knows nothing of what events mean.
//!
//! It is always in one of two states: nothing is under way, or one batch is, which was checked against the index as of offset `base`, is
//! written at `base` or nowhere, and is sent again, unchanged, until its fate is known. What stands at `base` decides, whichever comes
//! first: the answer, or the record itself. If that is the batch's own first record, all of it is written, once, since no second copy
//! can begin at `base`; if it is another's, none of it is and none of it will be, however late a copy may still arrive anywhere. So a
//! lost answer, a leader that dies and a second try need no more than this, and an append is never made twice.

use std::collections::VecDeque;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::RwLock;
use tidelog_protocol::messages::Position;
use tidelog_protocol::{ErrorCode, Offset, PartitionId};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use super::checkpoint::Place;
use super::checkpoints;
use super::envelope::EVENT_HEADER;
use super::error::{AppendError, StoreError};
use super::event::Appended;
use super::index::{Index, IndexFault};
use super::observed::{Observed, What};
use super::staging::{Batch, Request, StagedEvent, Verdict};
use super::topics::Topics;
use crate::producer::HeaderRef;
use crate::{Client, ClientError, Consumer, Receipt, RecordRef};

type Answers = Vec<Result<Appended, AppendError>>;
type Asked<T> = Pin<Box<dyn Future<Output = Result<T, ClientError>> + Send>>;

/// A request and who waits for it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) request: Request,
    pub(super) answer: oneshot::Sender<Answers>,
    /// Its share of the memory for what waits.
    pub(super) room: OwnedSemaphorePermit,
}

/// How far a partition is known.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Progress {
    pub(super) events: Offset,
    pub(super) snapshots: Offset,
}

/// The task.
pub(super) struct Writer {
    pub(super) client: Client,
    pub(super) topics: Topics,
    pub(super) partition: PartitionId,
    pub(super) batch_bytes_max: usize,
    pub(super) index: Arc<RwLock<Index>>,
    pub(super) progress: watch::Sender<Progress>,
    pub(super) consumer: Consumer,
    pub(super) incoming: mpsc::Receiver<Waiting>,
    pub(super) checkpoints: Checkpoints,
    pub(super) work: Work,
}

/// What the task has to do.
#[derive(Default)]
pub(super) struct Work {
    waiting: VecDeque<Waiting>,
    flight: Option<Flight>,
    /// Requests that expect a version which is not known here.
    unseen: Vec<Waiting>,
    look: Option<Look>,
    is_closed: bool,
}

/// When the next checkpoint is due.
pub(super) struct Checkpoints {
    every: u64,
    /// Up to where the last one reached.
    latest: Offset,
    writing: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn new(every: u64, latest: Option<Offset>) -> Self {
        Self { every, latest: latest.unwrap_or_default(), writing: None }
    }
}

/// The batch that is under way.
struct Flight {
    base: Offset,
    events: Arc<[StagedEvent]>,
    requests: Vec<(Waiting, Vec<Appended>)>,
    course: Course,
    failures: u32,
    /// It may have been written although no answer says so.
    is_in_doubt: bool,
}

enum Course {
    Sent(Asked<Receipt>),
    /// It is sent again later, unless its fate is known before.
    Resting(Pin<Box<tokio::time::Sleep>>),
}

/// How far is the partition really?
struct Look {
    asked: Option<Asked<Offset>>,
    /// What it will be known for.
    requests: Vec<Waiting>,
    end: Offset,
}

enum Happening {
    Read(Result<Vec<Observed>, StoreError>),
    Asked(Option<Waiting>),
    Sent(Result<Receipt, ClientError>),
    Rested,
    Looked(Result<Offset, ClientError>),
}

/// How long a refused batch waits to see who was faster, where nothing is seen: then the end has gone back, as it may with a leader.
const SIGHT_PATIENCE: Duration = Duration::from_millis(250);

impl Writer {
    /// Runs until nobody holds the partition any more, or it cannot go on.
    pub(super) async fn run(&mut self) -> Result<(), StoreError> {
        let result = self.go().await;
        let error = result.clone().err().unwrap_or(StoreError::Closed);
        self.work.fail(&error);
        result
    }

    async fn go(&mut self) -> Result<(), StoreError> {
        loop {
            self.note_position()?;
            self.settle_look();
            self.checkpoint_if_due();
            if self.work.flight.is_none() {
                while let Ok(waiting) = self.incoming.try_recv() {
                    self.work.waiting.push_back(waiting);
                }
                self.launch();
            }
            self.begin_look();
            if self.work.is_closed && self.work.is_idle() {
                return Ok(());
            }
            match self.next().await {
                Happening::Read(observed) => observed?.into_iter().try_for_each(|observed| self.observe(observed))?,
                Happening::Asked(Some(waiting)) => self.work.waiting.push_back(waiting),
                Happening::Asked(None) => self.work.is_closed = true,
                Happening::Sent(outcome) => self.answered(outcome)?,
                Happening::Rested => self.resend(),
                Happening::Looked(found) => self.looked(found),
            }
        }
    }

    async fn next(&mut self) -> Happening {
        let Self { consumer, incoming, work, topics, partition, .. } = self;
        let Work { flight, look, is_closed, .. } = work;
        tokio::select! {
            read = consumer.next_batch() => Happening::Read(observe_batch(read, topics, *partition)),
            waiting = incoming.recv(), if !*is_closed => Happening::Asked(waiting),
            happening = async { match flight {
                None => pending().await,
                Some(Flight { course: Course::Sent(asked), .. }) => Happening::Sent(asked.await),
                Some(Flight { course: Course::Resting(sleep), .. }) => { sleep.await; Happening::Rested }
            } } => happening,
            found = async { match look.as_mut().and_then(|look| look.asked.as_mut()) {
                None => pending().await,
                Some(asked) => asked.await,
            } } => Happening::Looked(found),
        }
    }

    /// Puts what waits into a batch and sends it.
    fn launch(&mut self) {
        if self.work.waiting.is_empty() {
            return;
        }
        let index = self.index.read();
        let mut batch = Batch::new(&index, self.partition, self.batch_bytes_max);
        let mut requests = Vec::new();
        let mut later = VecDeque::new();
        // Whoever has gone is not waited for, and what it asked for not done.
        for waiting in self.work.waiting.drain(..).filter(|waiting| !waiting.answer.is_closed()) {
            match batch.offer(&waiting.request) {
                Verdict::Staged(appended) => requests.push((waiting, appended)),
                Verdict::Later => later.push_back(waiting),
                Verdict::Unseen => self.work.unseen.push(waiting),
                Verdict::Answered(answers) => waiting.tell(answers),
            }
        }
        self.work.waiting = later;
        let (base, events) = batch.finish();
        drop(index);
        if !requests.is_empty() {
            let events: Arc<[StagedEvent]> = events.into();
            let course = Course::Sent(self.send(base, Arc::clone(&events), None));
            self.work.flight = Some(Flight { base, events, requests, course, failures: 0, is_in_doubt: false });
        }
    }

    fn resend(&mut self) {
        let Some(flight) = &self.work.flight else { return };
        if flight.requests.iter().all(|(waiting, _)| waiting.answer.is_closed()) {
            self.work.flight = None;
            return;
        }
        let (base, events) = (flight.base, Arc::clone(&flight.events));
        let sent = self.send(base, events, Some(Instant::now()));
        if let Some(flight) = &mut self.work.flight {
            flight.course = Course::Sent(sent);
        }
    }

    fn send(&self, base: Offset, events: Arc<[StagedEvent]>, stale: Option<Instant>) -> Asked<Receipt> {
        let (client, topic, partition) = (self.client.clone(), self.topics.events.clone(), self.partition);
        Box::pin(async move {
            if let Some(stale) = stale {
                client.cluster.refreshed(&topic, stale).await?;
            }
            let headers: Vec<[HeaderRef<'_>; 1]> =
                events.iter().map(|event| [(EVENT_HEADER, Some(&event.header[..]))]).collect();
            let records: Vec<RecordRef<'_>> = events
                .iter()
                .zip(&headers)
                .map(|(event, headers)| RecordRef { headers, ..RecordRef::new(Some(&event.id), &event.payload) })
                .collect();
            client.append_at(&topic, partition, base, &records).await
        })
    }

    fn answered(&mut self, outcome: Result<Receipt, ClientError>) -> Result<(), StoreError> {
        let Some(flight) = &mut self.work.flight else { return Ok(()) };
        let error = match outcome {
            Ok(_) => return self.written(),
            Err(error) => error,
        };
        flight.failures += 1;
        let pause = if error.code() == Some(ErrorCode::OffsetMismatch) {
            // Somebody was faster, or an earlier copy of this has arrived: what is read next says which.
            SIGHT_PATIENCE.mul_f64(0.5 + fastrand::f64())
        } else if error.is_retriable() || error.outcome_is_unknown() {
            flight.is_in_doubt |= error.outcome_is_unknown();
            tracing::debug!(topic = %self.topics.events, partition = %self.partition, base = %flight.base, %error, "append is sent again");
            self.client.cluster.backoff().draw(flight.failures, error.retry_after_ms())
        } else {
            if let Some(flight) = self.work.flight.take() {
                flight.fail(&StoreError::Client(error));
            }
            return Ok(());
        };
        flight.course = Course::Resting(Box::pin(tokio::time::sleep(pause)));
        Ok(())
    }

    /// The batch stands in the log.
    fn written(&mut self) -> Result<(), StoreError> {
        let Some(flight) = self.work.flight.take() else { return Ok(()) };
        let mut index = self.index.write();
        let took = flight.events.iter().enumerate().try_for_each(|(place, event)| {
            let offset = flight.base.plus(place as u64);
            index.take(offset, &event.id, &event.envelope).map_err(|fault| self.inconsistent(offset, &fault))
        });
        let end = index.end();
        drop(index);
        // The index first: whoever hears that it is done finds it.
        for (waiting, appended) in flight.requests {
            waiting.tell(appended.into_iter().map(Ok).collect());
        }
        self.progress.send_modify(|progress| progress.events = end);
        took
    }

    /// The batch does not stand in the log and never will.
    fn not_written(&mut self) {
        let Some(flight) = self.work.flight.take() else { return };
        for (waiting, _) in flight.requests.into_iter().rev() {
            self.work.waiting.push_front(waiting);
        }
    }

    fn observe(&mut self, observed: Observed) -> Result<(), StoreError> {
        let Observed { offset, id, what } = observed;
        match what {
            What::Event(envelope) => {
                if let Some(flight) = self.work.flight.as_ref().filter(|flight| flight.base <= offset) {
                    let first = flight.events.first().map(|event| event.envelope.append);
                    let is_own = offset == flight.base && first == Some(envelope.append);
                    if is_own { self.written()? } else { self.not_written() }
                }
                let taken = self.index.write().take(offset, &id, &envelope);
                taken.map_err(|fault| self.inconsistent(offset, &fault))
            }
            What::Snapshot(envelope) => {
                let taken = self.index.write().take_snapshot(offset, &id, super::Version(envelope.version));
                taken.map_err(|fault| self.inconsistent(offset, &fault))
            }
        }
    }

    /// Reading has come to where the consumer stands, also past records that are none of the store's.
    fn note_position(&mut self) -> Result<(), StoreError> {
        let events = self.consumer.position(&self.topics.events, self.partition)?;
        let snapshots = self.consumer.position(&self.topics.snapshots, self.partition)?;
        let (known, is_unsettled) = {
            let index = self.index.read();
            (index.end(), index.is_unsettled())
        };
        if events > known {
            self.index.write().advance(events);
        }
        if is_unsettled {
            let settled = self.index.write().read_to(events);
            settled.map_err(|(offset, fault)| self.inconsistent(offset, &fault))?;
        }
        if self.work.flight.as_ref().is_some_and(|flight| flight.base < events) {
            self.not_written();
        }
        let now = Progress { events: events.max(known), snapshots };
        self.progress.send_if_modified(|progress| std::mem::replace(progress, now) != now);
        Ok(())
    }

    /// Requests that expect what is not known here are judged once everything has been seen that stood there after they were made.
    fn settle_look(&mut self) {
        let end = self.index.read().end();
        if let Some(look) = self.work.look.take_if(|look| look.asked.is_none() && look.end <= end) {
            for mut waiting in look.requests {
                waiting.request.is_index_sure = true;
                self.work.waiting.push_back(waiting);
            }
        }
    }

    fn begin_look(&mut self) {
        if self.work.look.is_none() && !self.work.unseen.is_empty() {
            let (client, topic, partition) = (self.client.clone(), self.topics.events.clone(), self.partition);
            let asked: Asked<Offset> = Box::pin(async move { end_of(&client, &topic, partition).await });
            let requests = std::mem::take(&mut self.work.unseen);
            self.work.look = Some(Look { asked: Some(asked), requests, end: Offset::MAX });
        }
    }

    fn looked(&mut self, found: Result<Offset, ClientError>) {
        let Some(look) = &mut self.work.look else { return };
        look.asked = None;
        match found {
            Ok(end) => look.end = end,
            Err(error) => {
                let error = AppendError::Store(error.into());
                for waiting in self.work.look.take().into_iter().flat_map(|look| look.requests) {
                    waiting.refuse(&error);
                }
            }
        }
    }

    /// Writes a checkpoint beside everything else, one at a time.
    fn checkpoint_if_due(&mut self) {
        let Checkpoints { every, latest, writing } = &mut self.checkpoints;
        if writing.as_ref().is_some_and(|writing| !writing.is_finished()) {
            return;
        }
        let index = self.index.read();
        let records = index.end().since(*latest);
        // Counting the aggregates takes a moment.
        if records < *every || !checkpoints::is_due(records, index.aggregates(), *every) {
            return;
        }
        let snapshots = self.progress.borrow().snapshots;
        let place = Place { events: index.end(), snapshots, witness: index.witness() };
        *latest = place.events;
        let (client, topics, partition) = (self.client.clone(), self.topics.clone(), self.partition);
        let written = checkpoints::write(client, topics, partition, Arc::clone(&self.index), place);
        *writing = Some(tokio::spawn(async move {
            if let Err(error) = written.await {
                tracing::warn!(%error, "a checkpoint was not written; the next one will be");
            }
        }));
    }

    fn inconsistent(&self, offset: Offset, fault: &IndexFault) -> StoreError {
        if let IndexFault::Full { bytes_max } = fault {
            return StoreError::IndexFull {
                topic: self.topics.events.clone(),
                partition: self.partition,
                bytes_max: *bytes_max,
            };
        }
        inconsistent(&self.topics.events, self.partition, offset, fault)
    }
}

impl Work {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.flight.is_none() && self.unseen.is_empty() && self.look.is_none()
    }

    fn fail(&mut self, error: &StoreError) {
        if let Some(flight) = self.flight.take() {
            // Its answer will not be heard.
            Flight { is_in_doubt: true, ..flight }.fail(error);
        }
        let looking = self.look.take().into_iter().flat_map(|look| look.requests);
        for waiting in self.waiting.drain(..).chain(self.unseen.drain(..)).chain(looking) {
            waiting.refuse(&AppendError::Store(error.clone()));
        }
    }
}

impl Flight {
    fn fail(self, error: &StoreError) {
        let error =
            if self.is_in_doubt { AppendError::InDoubt(error.to_string()) } else { AppendError::Store(error.clone()) };
        self.requests.into_iter().for_each(|(waiting, _)| waiting.refuse(&error));
    }
}

impl Waiting {
    fn tell(self, answers: Answers) {
        drop(self.room);
        // Whoever asked may have gone.
        let _ = self.answer.send(answers);
    }

    fn refuse(self, error: &AppendError) {
        let answers = self.request.links.iter().map(|_| Err(error.clone())).collect();
        self.tell(answers);
    }
}

/// The first offset of a partition that cannot be read yet.
pub(super) async fn end_of(client: &Client, topic: &str, partition: PartitionId) -> Result<Offset, ClientError> {
    let answers = client.admin().list_offsets(topic, &[(partition, Position::LATEST)]).await?;
    match answers.into_iter().next() {
        Some(answer) => match answer.fault {
            Some(fault) => Err(ClientError::Broker(fault.into())),
            None => Ok(answer.offset.unwrap_or_default()),
        },
        None => Err(ClientError::NoLeader { topic: topic.into(), partition }),
    }
}

pub(super) fn inconsistent(
    topic: &str,
    partition: PartitionId,
    offset: Offset,
    reason: &impl std::fmt::Display,
) -> StoreError {
    StoreError::Inconsistent { topic: topic.into(), partition, offset, reason: reason.to_string() }
}

/// Those records of a batch that count.
fn observe_batch(
    read: Result<Option<crate::BatchView<'_>>, crate::ConsumeError>,
    topics: &Topics,
    partition: PartitionId,
) -> Result<Vec<Observed>, StoreError> {
    let Some(batch) = read? else { return Err(StoreError::Closed) };
    let mut observed = Vec::new();
    for record in batch.records() {
        let record = record?;
        let topic = batch.topic();
        let seen = Observed::of(&record).map_err(|fault| inconsistent(topic, partition, record.offset, &fault))?;
        let is_here = |seen: &Observed| matches!(seen.what, What::Event(_)) == (topic == topics.events);
        observed.extend(seen.filter(is_here));
    }
    Ok(observed)
}
