//! A worker: a member of the group of those who drive sagas. Whoever has a partition drives the sagas in it, all that go on. Knows nothing of
//! how one saga is driven.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tidelog_protocol::PartitionId;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::call::SagaInput;
use super::definition::{Course, Definition};
use super::driving::Shared;
use super::error::SagaError;
use super::figures::WorkerFigures;
use super::retiring::Retiring;
use super::round::{Limits, Round};
use super::sagas::Sagas;
use crate::group::Ear;
use crate::{CommitMode, GroupConsumerBuilder, Start, TopicName};

/// Words of the group that may wait.
const WORDS: usize = 16;
/// A saga whose latest event is so many records behind gets another, which says nothing, so that taking a partition up stays quick.
const CARRIED_AFTER: u64 = 20_000;

/// How long a saga is known after its end.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3_600);

/// Describes a worker. Made by [`Sagas::worker`].
#[must_use = "nothing happens before `run`"]
pub struct Worker {
    sagas: Sagas,
    group: String,
    definitions: Vec<Arc<dyn Course>>,
    concurrency: usize,
    sagas_max: usize,
    session_timeout: Option<Duration>,
    carried_after: u64,
    kept: Duration,
    figures: WorkerFigures,
}

impl std::fmt::Debug for Worker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Worker").field("group", &self.group).finish_non_exhaustive()
    }
}

impl Worker {
    pub(super) fn of(sagas: Sagas) -> Self {
        Self {
            group: format!("{}.workers", sagas.store().topic()),
            sagas,
            definitions: Vec::new(),
            concurrency: 64,
            sagas_max: 10_000,
            session_timeout: None,
            carried_after: CARRIED_AFTER,
            kept: KEPT,
            figures: WorkerFigures::default(),
        }
    }

    /// Drives sagas of this definition, too. All workers of a store must be given all definitions of it: of a saga whose definition it was not
    /// given a worker only [says](super::Figures::unknown) that there is one.
    pub fn drives<T: SagaInput>(mut self, definition: &Definition<T>) -> Self {
        self.definitions.push(Arc::new(definition.clone()));
        self
    }

    /// The group's name. Default: that of the store, and `.workers`.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.group = group.into();
        self
    }

    /// Sagas that may have tries under way at once. Default: 64.
    pub const fn concurrency(mut self, sagas: usize) -> Self {
        self.concurrency = sagas;
        self
    }

    /// Sagas that it has in memory at once, some kilobytes each: others wait in the store until some have ended, whatever their deadlines are.
    /// For those that it has nothing changes meanwhile: their deadlines pass, and operators are heard. Those that are parked do not count.
    /// Default: 10,000.
    pub const fn sagas_max(mut self, sagas: usize) -> Self {
        self.sagas_max = sagas;
        self
    }

    /// After how long others take over what a worker drove that was killed. Default: the broker's session timeout.
    pub const fn session_timeout(mut self, timeout: Duration) -> Self {
        self.session_timeout = Some(timeout);
        self
    }

    /// After how many records of its partition a saga that stands still gets an event that says nothing. Default: 20,000.
    pub const fn carried_after(mut self, records: u64) -> Self {
        self.carried_after = records;
        self
    }

    /// For how long a saga is known after its end; see [the module](super) for what follows then. At least a second. Default: seven days.
    pub const fn kept(mut self, after_end: Duration) -> Self {
        self.kept = after_end;
        self
    }

    /// What it will say of itself.
    #[must_use]
    pub fn figures(&self) -> WorkerFigures {
        self.figures.clone()
    }

    /// Drives sagas until `stop` is done: then nothing more is begun, what is under way ends, and others take over. Where it is dropped, tries are
    /// dropped where they are; others make them again.
    ///
    /// # Errors
    /// [`SagaError::Argument`] without definitions, with two of one name, or for a number of nothing; [`SagaError::Group`],
    /// [`SagaError::Store`], [`SagaError::NoSaga`] where it cannot go on.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<(), SagaError> {
        let definitions = self.checked()?;
        let client = self.sagas.store().client().clone();
        let topic = self.sagas.store().topic().to_owned();
        let (tell, words) = mpsc::channel(WORDS);
        let retiring = Retiring {
            store: self.sagas.store().clone(),
            partition: PartitionId(0),
            kept: self.kept,
            group: format!("{}.retired", self.group),
        };
        let group = client
            .group(self.group)
            .topics([topic.as_str()])
            .start(Start::Beginning)
            .commit(CommitMode::Manual)
            .on_rebalance(Ear(tell));
        let group = self.session_timeout.into_iter().fold(group, GroupConsumerBuilder::session_timeout);
        let consumer = group.build().await?;
        let topic = TopicName::new(&topic).map_err(|error| SagaError::Argument(error.to_string()))?;
        let shared = Arc::new(Shared {
            sagas: self.sagas,
            definitions,
            room: Arc::new(Semaphore::new(self.concurrency)),
            figures: self.figures,
            unknown: Mutex::default(),
            name: format!("{:016x}", fastrand::u64(..)),
            stop: CancellationToken::new(),
        });
        let limits = Limits { sagas_max: self.sagas_max, carried_after: self.carried_after };
        Round::new(shared, consumer, topic, limits, retiring).run(words, stop).await
    }

    fn checked(&self) -> Result<BTreeMap<String, Arc<dyn Course>>, SagaError> {
        let refuse = |text: String| Err(SagaError::Argument(text));
        let mut definitions = BTreeMap::new();
        for definition in &self.definitions {
            let name = definition.plan().definition.clone();
            if definitions.insert(name.clone(), Arc::clone(definition)).is_some() {
                return refuse(format!("a worker was given two definitions {name:?}"));
            }
        }
        if definitions.is_empty() {
            return refuse("a worker needs a definition of what it drives".into());
        }
        if self.concurrency == 0 || self.sagas_max == 0 || self.carried_after == 0 {
            return refuse("concurrency, sagas_max and carried_after are 1 at least".into());
        }
        if self.kept < Duration::from_secs(1) {
            return refuse("kept is a second at least".into());
        }
        Ok(definitions)
    }
}
