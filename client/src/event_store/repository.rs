//! Aggregates of one kind: loaded as states, changed by commands. Knows the store and [`Decisions`]; nothing of partitions.
//!
//! The commands to one aggregate that come while others of them are under way are decided together, each on the state that those before it
//! make, and ride in one conditional batch: a hot aggregate costs a round trip for many commands, not for each. Only other processes
//! conflict with this one, and then all of them are decided anew.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::aggregate::Aggregate;
use super::decisions::{Decide, Decision, Decisions};
use super::error::{AppendError, StoreError};
use super::event::{Appended, Expected, Version};
use super::partition::StoredSnapshot;
use super::recent::Recent;
use super::staging::Link;
use super::store::{EventStore, checked, link};

/// Commands that are decided together at most.
const TOGETHER: usize = 256;
/// Commands to one aggregate that may wait.
const WAITING: usize = 8_192;

/// Aggregates of one kind. Clones are cheap and share everything; use one for each kind in a process, since what it shares makes it fast.
#[derive(Debug)]
pub struct Repository<A: Aggregate> {
    shared: Arc<Shared<A>>,
}

impl<A: Aggregate> Clone for Repository<A> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

struct Shared<A: Aggregate> {
    store: EventStore,
    snapshot_every: u64,
    recent: Mutex<Recent<Known<A>>>,
    /// Commands that wait, by aggregate; an aggregate is in it for as long as somebody carries out its commands.
    lanes: Mutex<HashMap<Bytes, VecDeque<Command<A>>>>,
}

impl<A: Aggregate> std::fmt::Debug for Shared<A> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Repository").field("topic", &self.store.topic()).finish_non_exhaustive()
    }
}

/// An aggregate as it was loaded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Root<A> {
    /// Its version; to be expected where something is appended that follows from this state.
    pub version: Version,
    /// Its state.
    pub state: A,
}

#[derive(Clone, Debug)]
struct Known<A> {
    root: Arc<Root<A>>,
    /// Of which version a snapshot exists or is being stored.
    snapshot: Version,
}

struct Command<A: Aggregate> {
    id: Option<Bytes>,
    decide: Decide<A>,
    answer: oneshot::Sender<Result<Executed, ExecuteError<A::Refusal>>>,
}

/// What came of a command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Executed {
    /// Its events are stored here, now or since it was carried out before.
    Appended(Appended),
    /// There was nothing to do.
    Nothing,
}

/// Why a command was not carried out.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExecuteError<R> {
    /// The aggregate refuses it, in a state that is stored.
    #[error("the command is refused: {0}")]
    Refused(R),
    /// Its events were not appended, or that is not known.
    #[error(transparent)]
    Append(#[from] AppendError),
}

impl EventStore {
    /// The aggregates of one kind in this store. Ids of different kinds must differ: put the kind in front.
    #[must_use]
    pub fn repository<A: Aggregate>(&self) -> Repository<A> {
        self.repository_with(RepositoryOptions::default())
    }

    /// The same, with other options.
    #[must_use]
    pub fn repository_with<A: Aggregate>(&self, options: RepositoryOptions) -> Repository<A> {
        let shared = Shared {
            store: self.clone(),
            snapshot_every: options.snapshot_every,
            recent: Mutex::new(Recent::new(options.recent)),
            lanes: Mutex::new(HashMap::new()),
        };
        Repository { shared: Arc::new(shared) }
    }
}

/// How a repository works.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RepositoryOptions {
    /// A snapshot is stored once an aggregate has so many events since the last; for kinds that have [snapshots](Aggregate::STATE_SCHEMA).
    /// Default: 100.
    pub snapshot_every: u64,
    /// States that are kept in memory, those used last. Default: 10,000.
    pub recent: usize,
}

impl Default for RepositoryOptions {
    fn default() -> Self {
        Self { snapshot_every: 100, recent: 10_000 }
    }
}

impl<A: Aggregate> Repository<A> {
    /// The state of an aggregate, as far as this process knows; the default where it does not exist.
    ///
    /// # Errors
    /// As [`EventStore::load`]; [`StoreError::Undecodable`].
    pub async fn load(&self, id: impl AsRef<[u8]> + Send) -> Result<Root<A>, StoreError> {
        let id = checked(id.as_ref(), "an aggregate")?;
        let known = self.shared.known(&id).await?;
        Ok(Root::clone(&known.root))
    }

    /// Carries out a command: `decide` says what happens, given the state. It is called again where that has changed meanwhile, so it
    /// should do nothing but decide.
    ///
    /// Dropped before it returns, the command may be carried out or not.
    ///
    /// # Errors
    /// [`ExecuteError::Refused`] as `decide` says; [`AppendError::InDoubt`], [`AppendError::Store`]; [`AppendError::Conflict`] only where others
    /// were faster again and again for as long as an append may take.
    pub async fn execute(
        &self,
        id: impl AsRef<[u8]> + Send,
        decide: impl FnMut(&A) -> Result<Vec<A::Event>, A::Refusal> + Send + 'static,
    ) -> Result<Executed, ExecuteError<A::Refusal>> {
        self.submit(id.as_ref(), None, Box::new(decide)).await
    }

    /// As [`Repository::execute`], once: a command that was carried out before is answered as then. See [`EventStore::append_once`] for how
    /// long it is remembered. One that was refused, or had nothing to do, left no trace: it is decided again.
    ///
    /// # Errors
    /// As [`Repository::execute`].
    pub async fn execute_once(
        &self,
        id: impl AsRef<[u8]> + Send,
        command: impl AsRef<[u8]> + Send,
        decide: impl FnMut(&A) -> Result<Vec<A::Event>, A::Refusal> + Send + 'static,
    ) -> Result<Executed, ExecuteError<A::Refusal>> {
        let command = checked(command.as_ref(), "a command").map_err(AppendError::from)?;
        self.submit(id.as_ref(), Some(command), Box::new(decide)).await
    }

    async fn submit(
        &self,
        id: &[u8],
        command: Option<Bytes>,
        decide: Decide<A>,
    ) -> Result<Executed, ExecuteError<A::Refusal>> {
        let id = checked(id, "an aggregate").map_err(AppendError::from)?;
        let (answer, answered) = oneshot::channel();
        let command = Command { id: command, decide, answer };
        let is_first = {
            let mut lanes = self.shared.lanes.lock();
            let is_first = !lanes.contains_key(&id);
            let lane = lanes.entry(id.clone()).or_default();
            if lane.len() >= WAITING {
                let sentence = format!("{WAITING} commands wait for this aggregate already");
                return Err(AppendError::Store(StoreError::Argument(sentence)).into());
            }
            lane.push_back(command);
            is_first
        };
        if is_first {
            // A task of its own: whoever began may be dropped, and others wait behind.
            tokio::spawn(Arc::clone(&self.shared).attend(id));
        }
        let abandoned = "the aggregate's own code panicked, or the runtime is shutting down";
        answered.await.unwrap_or_else(|_| Err(AppendError::InDoubt(abandoned.into()).into()))
    }
}

impl<A: Aggregate> Shared<A> {
    /// Carries out the commands of one aggregate until there are none.
    async fn attend(self: Arc<Self>, id: Bytes) {
        loop {
            let commands: Vec<Command<A>> = {
                let mut lanes = self.lanes.lock();
                let lane = lanes.get_mut(&id).filter(|lane| !lane.is_empty());
                let Some(lane) = lane else {
                    lanes.remove(&id);
                    return;
                };
                let count = lane.len().min(TOGETHER);
                lane.drain(..count).collect()
            };
            // A task of its own: where the application's code panics, those that wait behind are still carried out.
            let carried_out = tokio::spawn(Arc::clone(&self).carry_out(id.clone(), commands));
            if carried_out.await.is_err() {
                self.recent.lock().forget(&id);
            }
        }
    }

    async fn carry_out(self: Arc<Self>, id: Bytes, mut commands: Vec<Command<A>>) {
        let began = Instant::now();
        while !commands.is_empty() {
            // Who has gone waits for nothing.
            commands.retain(|command| !command.answer.is_closed());
            match self.round(&id, commands, began).await {
                Ok(again) => commands = again,
                Err(()) => return,
            }
        }
    }

    /// Decides all and appends what comes of it; gives back those that are to be decided again.
    async fn round(&self, id: &Bytes, commands: Vec<Command<A>>, began: Instant) -> Result<Vec<Command<A>>, ()> {
        let known = match self.known(id).await {
            Ok(known) => known,
            Err(error) => return fail(commands, &AppendError::Store(error)),
        };
        let mut decisions = Decisions::new(known.root.state.clone(), id.len(), self.store.settings().batch_bytes / 2);
        let (mut linked, mut told, mut later) = (Vec::new(), Vec::new(), Vec::new());
        let mut links: Vec<Link> = Vec::new();
        let mut is_state_sure = true;
        let mut commands = commands.into_iter();
        while let Some(mut command) = commands.next() {
            if let Some(done) = self.done_before(id, command.id.as_ref()).await {
                command.tell(Ok(Executed::Appended(done)));
                continue;
            }
            let decide = || decisions.decide(command.id.as_ref(), &mut command.decide);
            let Ok(decision) = catch_unwind(AssertUnwindSafe(decide)) else {
                let sentence = "the command panicked";
                command.tell(Err(AppendError::Store(StoreError::Argument(sentence.into())).into()));
                // Nobody is decided on what it may have left behind.
                let told = told.into_iter().map(|(command, _)| command);
                return Ok(linked.into_iter().chain(told).chain(later).chain(commands).collect());
            };
            match decision {
                Decision::Events(events) => match link(command.id.clone(), events) {
                    Ok(link) => {
                        links.push(link);
                        linked.push(command);
                    }
                    Err(error) => {
                        // Its events were applied all the same: nobody is decided on that.
                        command.tell(Err(AppendError::Store(error).into()));
                        is_state_sure = false;
                        break;
                    }
                },
                Decision::Nothing => told.push((command, Ok(Executed::Nothing))),
                Decision::Refused(refusal) => told.push((command, Err(ExecuteError::Refused(refusal)))),
                Decision::Later => later.push(command),
            }
        }
        later.extend(commands);
        if links.is_empty() {
            told.into_iter().for_each(|(command, answer)| command.tell(answer));
            return Ok(later);
        }
        let expected = Expected::Version(known.root.version);
        let answers = match self.store.append_links(id.clone(), expected, links).await {
            Ok(answers) => answers,
            Err(error) => {
                self.recent.lock().forget(id);
                linked.into_iter().for_each(|command| command.tell(Err(error.clone().into())));
                // The others were not part of it: they are decided on what there is now, for as long as an append may take.
                let others = told.into_iter().map(|(command, _)| command).chain(later);
                let has_time = began.elapsed() < self.store.settings().append_timeout;
                return if has_time { Ok(others.collect()) } else { fail(others, &error) };
            }
        };
        let all_made: Option<Vec<Appended>> =
            answers.iter().map(|answer| answer.as_ref().ok().filter(|made| !made.repeated).copied()).collect();
        if let Some(made) = all_made {
            let version = made.last().map_or(known.root.version, |made| made.version);
            if is_state_sure {
                self.settle(id, &known, decisions.into_state(), version);
            }
            for (command, made) in linked.into_iter().zip(made) {
                command.tell(Ok(Executed::Appended(made)));
            }
            told.into_iter().for_each(|(command, answer)| command.tell(answer));
            return Ok(later);
        }
        let mut again: Vec<Command<A>> = Vec::new();
        for (command, answer) in linked.into_iter().zip(answers) {
            match answer {
                Ok(made) => command.tell(Ok(Executed::Appended(made))),
                Err(AppendError::Conflict { .. }) if began.elapsed() < self.store.settings().append_timeout => {
                    again.push(command);
                }
                Err(error) => command.tell(Err(error.into())),
            }
        }
        // What was told to nobody yet was decided on a state that never was.
        again.extend(told.into_iter().map(|(command, _)| command));
        again.extend(later);
        Ok(again)
    }

    async fn done_before(&self, id: &Bytes, command: Option<&Bytes>) -> Option<Appended> {
        // Where that cannot be asked, the append says so.
        self.store.command(id, command?).await.ok().flatten()
    }

    /// Keeps the state, and stores a snapshot where one is due.
    fn settle(&self, id: &Bytes, known: &Known<A>, state: A, version: Version) {
        let root = Arc::new(Root { version, state });
        let is_due = A::STATE_SCHEMA > 0 && is_due(version, known.snapshot, self.snapshot_every);
        let snapshot = if is_due { version } else { known.snapshot };
        self.recent.lock().put(id.clone(), Known { root: Arc::clone(&root), snapshot });
        if is_due {
            let (store, id) = (self.store.clone(), id.clone());
            tokio::spawn(async move {
                let state = root.state.save();
                let snapshot = StoredSnapshot { version, schema: A::STATE_SCHEMA, state };
                // Without it nothing is wrong but that loading takes longer.
                if let Err(error) = store.save_snapshot(&id, &snapshot).await {
                    tracing::warn!(%error, "a snapshot was not stored");
                }
            });
        }
    }

    /// The state as of the version that is known: of memory, of a snapshot, of events.
    async fn known(&self, id: &Bytes) -> Result<Known<A>, StoreError> {
        let version = self.store.version(id).await?;
        let recent = self.recent.lock().get(id);
        let base = match recent.filter(|known| known.root.version <= version) {
            Some(known) if known.root.version == version => return Ok(known),
            Some(known) => known,
            None => self.restored(id).await?,
        };
        let loaded = self.store.load_after(id, base.root.version).await?;
        let mut root = Root::clone(&base.root);
        for event in &loaded.events {
            let decoded = A::decode(&event.kind, &event.payload)
                .map_err(|source| StoreError::Undecodable { kind: event.kind.clone(), reason: source.to_string() })?;
            root.state.apply(&decoded);
            root.version = event.version;
        }
        let known = Known { root: Arc::new(root), snapshot: base.snapshot };
        self.recent.lock().put(id.clone(), known.clone());
        Ok(known)
    }

    /// What a snapshot says; the beginning where there is none that can be used.
    async fn restored(&self, id: &Bytes) -> Result<Known<A>, StoreError> {
        let snapshot = self.store.snapshot_version(id).await?;
        let beginning = Known { root: Arc::new(Root { version: Version::NONE, state: A::default() }), snapshot };
        if A::STATE_SCHEMA == 0 {
            return Ok(beginning);
        }
        match self.store.snapshot(id).await? {
            Some(stored) if stored.schema == A::STATE_SCHEMA => match A::restore(&stored.state) {
                Ok(state) => Ok(Known { root: Arc::new(Root { version: stored.version, state }), snapshot }),
                Err(error) => {
                    tracing::warn!(%error, "a snapshot cannot be used; events are read instead");
                    Ok(beginning)
                }
            },
            // Of another schema: the next one is in today's.
            Some(_) => Ok(Known { snapshot: Version::NONE, ..beginning }),
            None => Ok(beginning),
        }
    }
}

impl<A: Aggregate> Command<A> {
    fn tell(self, answer: Result<Executed, ExecuteError<A::Refusal>>) {
        // Whoever asked may have gone.
        let _ = self.answer.send(answer);
    }
}

fn fail<A: Aggregate, T>(commands: impl IntoIterator<Item = Command<A>>, error: &AppendError) -> Result<T, ()> {
    commands.into_iter().for_each(|command| command.tell(Err(error.clone().into())));
    Err(())
}

/// Is there to be a snapshot of this version, after the one of `latest`?
const fn is_due(version: Version, latest: Version, every: u64) -> bool {
    every > 0 && version.0.saturating_sub(latest.0) >= every
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_is_due_after_so_many_events() {
        assert!(!is_due(Version(99), Version::NONE, 100));
        assert!(is_due(Version(100), Version::NONE, 100));
        assert!(!is_due(Version(150), Version(100), 100));
        assert!(is_due(Version(205), Version(100), 100), "commands with several events step over the round number");
        assert!(!is_due(Version(1_000), Version::NONE, 0), "never");
    }
}
