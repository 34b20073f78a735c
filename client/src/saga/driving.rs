//! Drives one saga, from where it stands to its end: stores what the rules say, then makes the tries that they name. Knows nothing of partitions
//! or groups.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_protocol::{Offset, Timestamp};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::call::StepError;
use super::definition::Course;
use super::error::SagaError;
use super::events::{Attempt, Changed, SagaEvent};
use super::figures::{Following, WorkerFigures};
use super::machine::{Commands, Input, Moment, Outcome, Run, between, decide};
use super::sagas::{History, Sagas, read};
use super::state::{Phase, Saga};
use crate::Backoff;
use crate::event_store::{AppendError, StoredEvent, Version};

/// What a step gives, at most; more than that belongs somewhere else, and its name here.
const OUTPUT_BYTES_MAX: usize = 64 << 10;
/// Of what a step says of its failure, so much is kept.
const CAUSE_CHARS_MAX: usize = 1_000;

/// How often a worker that ends tries to store what it has to say of a saga.
const FAILURES_AT_END_MAX: u32 = 10;

/// How long somebody else's tries are respected who changed a saga that this worker drives: until one of the two has heard from the group.
const RESPECT: Backoff = Backoff { first: Duration::from_secs(1), max: Duration::from_secs(10) };

/// What the sagas of a worker share.
pub(super) struct Shared {
    pub(super) sagas: Sagas,
    pub(super) definitions: BTreeMap<String, Arc<dyn Course>>,
    /// One for each saga that has tries under way.
    pub(super) room: Arc<Semaphore>,
    pub(super) figures: WorkerFigures,
    /// Definitions that it was not given, and has said so.
    pub(super) unknown: Mutex<BTreeSet<String>>,
    /// Drawn anew for each worker.
    pub(super) name: String,
    /// Nothing more is begun.
    pub(super) stop: CancellationToken,
}

/// What the reader of a partition tells whoever drives one of its sagas.
#[derive(Debug, Default)]
pub(super) struct Signals {
    /// The latest event that the driver knows.
    known: AtomicU64,
    /// The latest that was read.
    read: AtomicU64,
    is_to_be_carried: AtomicBool,
    changed: Notify,
}

impl Signals {
    /// An event of the saga stands there.
    pub(super) fn read(&self, offset: Offset) {
        self.read.fetch_max(offset.0, Ordering::AcqRel);
        if self.known.load(Ordering::Acquire) < offset.0 {
            self.changed.notify_one();
        }
    }

    /// The driver knows all up to there.
    fn know(&self, offset: u64) {
        self.known.fetch_max(offset, Ordering::AcqRel);
    }

    /// Its latest event is to be at this offset at least.
    pub(super) fn carry_to(&self, offset: Offset) {
        if self.known.load(Ordering::Acquire) < offset.0 {
            self.is_to_be_carried.store(true, Ordering::Release);
            self.changed.notify_one();
        }
    }
}

/// One saga.
pub(super) struct Driver {
    shared: Arc<Shared>,
    id: String,
    signals: Arc<Signals>,
    following: Following,
    saga: Saga,
    version: Version,
    runs: JoinSet<Outcome>,
    attempts: HashMap<tokio::task::Id, Attempt>,
    /// What has come and was not decided on.
    inputs: VecDeque<Input>,
    /// Held for as long as tries are under way.
    permit: Option<OwnedSemaphorePermit>,
    failures: u32,
    contentions: u32,
}

/// Why a saga is let go of before its end.
enum Stopped {
    /// The worker ends.
    Asked,
    /// Nothing is known of what it does.
    Unknown,
    /// It is not there any more.
    Forgotten,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>, id: String, signals: Arc<Signals>) -> Self {
        let following = shared.figures.follow(Bytes::copy_from_slice(id.as_bytes()));
        Self {
            shared,
            id,
            signals,
            following,
            saga: Saga::default(),
            version: Version::NONE,
            runs: JoinSet::new(),
            attempts: HashMap::new(),
            inputs: VecDeque::new(),
            permit: None,
            failures: 0,
            contentions: 0,
        }
    }

    /// Drives it until it has ended, or the worker ends. `latest` is the latest event that was read of it.
    pub(super) async fn drive(mut self, latest: StoredEvent) {
        if latest.version == Version(1)
            && let Ok(started @ SagaEvent::Started(_)) = read(&latest)
        {
            // Nothing else to be read: most sagas are met like this.
            self.saga.apply(&started);
            self.version = latest.version;
            self.inputs.push_back(Input::TakenUp { own: Vec::new() });
        } else if self.reload(latest.version).await.is_err() {
            return;
        }
        self.signals.know(latest.offset.0);
        let mut ended = self.go().await;
        while let Err(Stopped::Unknown) = ended {
            // It is counted for as long as its partition is this worker's, and nobody ends it.
            ended = match self.leave_alone().await {
                Ok(()) => self.go().await,
                Err(stopped) => Err(stopped),
            };
        }
        if ended.is_ok() && self.saga.phase == Phase::Abandoned {
            self.following.is_abandoned();
        }
    }

    /// Says that nothing is known of what the saga does, once to whoever reads the log of the worker, and with the saga to operators; then waits
    /// until somebody changes it.
    async fn leave_alone(&mut self) -> Result<(), Stopped> {
        self.following.is_unknown();
        let definition = self.saga.definition.clone();
        if self.shared.unknown.lock().insert(definition.clone()) {
            tracing::warn!(
                id = self.id,
                definition,
                "this worker was not given the definition of a saga, and leaves it and others of its kind alone"
            );
        }
        let is_to_be_carried = self.inputs.contains(&Input::Carry);
        self.inputs.clear();
        if self.saga.left_alone.is_none() || is_to_be_carried {
            let cause = format!("a worker of its partition was not given the definition {definition:?}");
            let carried = SagaEvent::Carried(Changed { at: super::now(), cause });
            if !self.store(&[carried]).await? {
                if self.failures == 0 {
                    self.take_up_again().await?;
                }
                return Ok(());
            }
            self.following.is_unknown();
        }
        tokio::select! {
            () = self.shared.stop.cancelled() => Err(Stopped::Asked),
            () = self.signals.changed.notified() => self.heed().await,
        }
    }

    async fn go(&mut self) -> Result<(), Stopped> {
        while !self.saga.phase.is_end() {
            let Some(course) = self.shared.definitions.get(&self.saga.definition).cloned() else {
                return Err(Stopped::Unknown);
            };
            self.following.stands(&self.saga);
            let commands = self.settle_inputs(&course).await?;
            if commands.is_held_back && !self.shared.stop.is_cancelled() {
                // Room first, so that no try is said to have begun that waits for its turn. Time passes all the same.
                let due = commands.wake_at.map(|at| between(super::now(), at));
                tokio::select! {
                    permit = Arc::clone(&self.shared.room).acquire_owned() => self.permit = permit.ok(),
                    () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
                    () = self.signals.changed.notified() => self.heed().await?,
                    () = self.shared.stop.cancelled() => {}
                }
                continue;
            }
            if self.saga.phase.is_end() {
                break;
            }
            if self.runs.is_empty() {
                self.permit = None;
                if self.shared.stop.is_cancelled() {
                    return Err(Stopped::Asked);
                }
            }
            self.wait(commands.wake_at).await?;
        }
        Ok(())
    }

    /// Decides on all that has come, stores what follows, and makes the tries. Returns what the last decision says of what comes next.
    async fn settle_inputs(&mut self, course: &Arc<dyn Course>) -> Result<Commands, Stopped> {
        let mut last = Commands::default();
        if self.inputs.is_empty() {
            // Something else than an input woke it: what comes next is to be said anew.
            self.inputs.push_back(Input::Wake);
        }
        while let Some(input) = self.inputs.pop_front() {
            let commands = decide(course.plan(), &self.saga, input.clone(), &self.moment());
            if !commands.events.is_empty() && !self.store(&commands.events).await? {
                // It is decided on again, on what there is then.
                self.inputs.push_front(input);
                if self.failures == 0 {
                    self.take_up_again().await?;
                }
                continue;
            }
            for run in &commands.runs {
                self.run(course, run);
            }
            last = commands;
        }
        Ok(last)
    }

    fn moment(&self) -> Moment<'_> {
        let may_begin = self.permit.is_some() && !self.shared.stop.is_cancelled();
        Moment { now: super::now(), jitter: fastrand::f64(), worker: &self.shared.name, may_begin }
    }

    /// Stores events at the version that was decided on; false where that did not happen, after a rest. `failures` is 0 then where somebody
    /// else was faster.
    async fn store(&mut self, events: &[SagaEvent]) -> Result<bool, Stopped> {
        let encoded = events.iter().map(SagaEvent::encode).collect();
        match self.shared.sagas.store().append(&self.id, self.version, encoded).await {
            Ok(appended) => {
                events.iter().for_each(|event| self.saga.apply(event));
                self.version = appended.version;
                self.signals.know(appended.offset.0);
                self.following.happened(events);
                self.following.stands(&self.saga);
                self.failures = 0;
                Ok(true)
            }
            Err(error @ (AppendError::Conflict { .. } | AppendError::InDoubt(_))) => {
                tracing::debug!(id = self.id, %error, "a saga is looked at again");
                self.shared.figures.note(|figures| figures.conflicts += 1);
                self.failures = 0;
                Ok(false)
            }
            Err(error) => {
                self.rest(&error.into()).await?;
                Ok(false)
            }
        }
    }

    /// Somebody else changed the saga, or may have. Its tries go on that are this worker's still.
    async fn take_up_again(&mut self) -> Result<(), Stopped> {
        self.reload(Version::NONE).await?;
        let is_foreign = self.saga.under_way().any(|(_, worker)| worker != self.shared.name);
        if is_foreign {
            // Two workers think that the saga is theirs, and one of them is about to hear otherwise: it is dropped then.
            self.contentions += 1;
            tokio::select! {
                () = tokio::time::sleep(RESPECT.wait(self.contentions, fastrand::f64())) => {}
                () = self.shared.stop.cancelled() => {}
            }
            self.reload(Version::NONE).await?;
        }
        Ok(())
    }

    /// Reads how it stands, at this version at least. What was under way elsewhere is to be looked after first.
    async fn reload(&mut self, version: Version) -> Result<(), Stopped> {
        let read = self.signals.read.load(Ordering::Acquire);
        loop {
            match self.look(version).await {
                Ok(History { saga, version, .. }) => {
                    (self.saga, self.version, self.failures) = (saga, version, 0);
                    self.signals.know(read);
                    break;
                }
                // It has ended, and was forgotten since.
                Err(SagaError::NotFound(_)) => return Err(Stopped::Forgotten),
                Err(error) => self.rest(&error).await?,
            }
        }
        let ended = self.inputs.iter().filter_map(|input| match input {
            Input::Ended { attempt, .. } => Some(attempt.clone()),
            _ => None,
        });
        let own = self.attempts.values().cloned().chain(ended).collect();
        self.inputs.retain(|input| matches!(input, Input::Ended { .. }));
        self.inputs.push_front(Input::TakenUp { own });
        Ok(())
    }

    async fn look(&self, version: Version) -> Result<History, SagaError> {
        let store = self.shared.sagas.store();
        if version == Version::NONE || store.version(&self.id).await? < version {
            store.catch_up(&self.id).await?;
        }
        let history = self.shared.sagas.known(&self.id).await?;
        if history.version == Version::NONE { Err(SagaError::NotFound(self.id.clone())) } else { Ok(history) }
    }

    /// Rests before another try. A worker that ends has patience only with what passes.
    async fn rest(&mut self, error: &SagaError) -> Result<(), Stopped> {
        self.failures += 1;
        if !error.is_retriable() {
            tracing::warn!(id = self.id, %error, "a saga cannot go on, and it is tried again");
        }
        self.shared.figures.note(|figures| figures.trouble = Some(error.to_string()));
        let is_hopeless = !error.is_retriable() || self.failures > FAILURES_AT_END_MAX;
        tokio::select! {
            () = self.shared.stop.cancelled(), if is_hopeless => Err(Stopped::Asked),
            () = tokio::time::sleep(Backoff::DEFAULT.wait(self.failures, fastrand::f64())) => Ok(()),
        }
    }

    fn run(&mut self, course: &Arc<dyn Course>, run: &Run) {
        let trying = course.attempt(self.shared.sagas.store().topic(), &self.id, &self.saga, &run.attempt);
        let timeout = run.timeout;
        let handle = self.runs.spawn(async move {
            match tokio::time::timeout(timeout, trying).await {
                Ok(Ok(output)) if output.len() > OUTPUT_BYTES_MAX => {
                    let size = output.len();
                    Outcome::Failed(format!("its output has {size} bytes, and {OUTPUT_BYTES_MAX} may be kept"))
                }
                Ok(Ok(output)) => Outcome::Succeeded(output),
                Ok(Err(StepError::Refused(cause))) => Outcome::Refused(shortened(&cause)),
                Ok(Err(StepError::Failed(cause))) => Outcome::Failed(shortened(&cause)),
                Err(_) => Outcome::Failed(format!("no answer within {timeout:?}")),
            }
        });
        self.attempts.insert(handle.id(), run.attempt.clone());
    }

    /// Waits until something comes.
    async fn wait(&mut self, wake_at: Option<Timestamp>) -> Result<(), Stopped> {
        let due = wake_at.map(|at| between(super::now(), at));
        let is_working = !self.runs.is_empty();
        tokio::select! {
            Some(ended) = self.runs.join_next_with_id() => self.ended(ended),
            () = self.signals.changed.notified() => self.heed().await?,
            () = tokio::time::sleep(due.unwrap_or_default()), if due.is_some() => {}
            // With tries under way they are waited for.
            () = self.shared.stop.cancelled(), if !is_working => {}
        }
        Ok(())
    }

    fn ended(&mut self, ended: Result<(tokio::task::Id, Outcome), JoinError>) {
        let (id, outcome) = match ended {
            Ok((id, outcome)) => (id, outcome),
            Err(error) => (error.id(), Outcome::Failed(shortened(&format!("it panicked: {error}")))),
        };
        if let Some(attempt) = self.attempts.remove(&id) {
            self.inputs.push_back(Input::Ended { attempt, outcome });
        }
    }

    /// Looks at what the reader of the partition has to say.
    async fn heed(&mut self) -> Result<(), Stopped> {
        if self.signals.is_to_be_carried.swap(false, Ordering::AcqRel) {
            self.inputs.push_back(Input::Carry);
        }
        // What this worker has just stored is read, too.
        if self.signals.known.load(Ordering::Acquire) < self.signals.read.load(Ordering::Acquire) {
            self.take_up_again().await?;
        }
        Ok(())
    }
}

fn shortened(cause: &str) -> String {
    cause.chars().take(CAUSE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_step_says_so_much_is_kept() {
        assert_eq!(shortened(&"é".repeat(5_000)).chars().count(), CAUSE_CHARS_MAX);
        assert_eq!(shortened("no"), "no");
    }
}
