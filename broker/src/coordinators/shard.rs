//! Drives the machine of one partition while this broker leads it. A decision is appended, replayed at once, and its answer leaves when
//! the high watermark has passed whatever it depends on: what a later leader would not know is never told. Where an append fails, the machine
//! has seen what is not stored, and is thrown away. Knows nothing of the rules.

mod salvage;

use std::sync::Arc;

use parking_lot::Mutex;
use tidelog_coordination::Refusal;
use tidelog_protocol::messages::Acks;
use tidelog_protocol::records::{
    BatchBuilder, BuildError, Compression, NO_HEADERS, ProduceLimits, ValidBatches, validate_produce,
};
use tidelog_protocol::{ErrorCode, LeaderEpoch, Offset, PartitionId, WireError};
use tidelog_replication::ProduceTerms;
use tokio::sync::{oneshot, watch};
use tracing::{debug, info, warn};

use super::loading;
use super::machine::{Machine, Moment};
use super::unread::Unread;
use crate::clock;
use crate::node::Node;
use crate::partition::{Acked, Append, Handle, refusals};

/// Bytes of the records of one decision: they are one batch, for a crash leaves a batch whole or not at all.
const BATCH_BYTES: usize = 8 << 20;

/// When to ask again while the log is read.
pub(super) const RETRY_MS: u32 = 100;

/// The coordinator of the keys of one partition, under one leadership.
pub(crate) struct Shard<M: Machine> {
    partition: Handle,
    epoch: LeaderEpoch,
    /// What came of reading the log when it was last tried, where it could not be read.
    before: Option<Unread>,
    state: Mutex<State<M>>,
    /// Counts what was replayed, for those who wait for something to change.
    changes: watch::Sender<u64>,
}

enum State<M> {
    Loading,
    Ready {
        machine: M,
        /// Where the log ends that the machine has seen.
        end: Offset,
    },
    /// The machine has seen what is not stored.
    Lost,
    /// The log cannot be read.
    Unread(Unread),
}

/// What an answer waits for.
enum Wait {
    /// The append that it led to.
    Append(oneshot::Receiver<Result<Acked, WireError>>),
    /// That what the machine had seen is settled.
    Settled(Offset),
}

impl<M: Machine> Shard<M> {
    /// Begins to read the log, up to where this leadership began.
    pub(super) fn open(partition: Handle, epoch: LeaderEpoch, before: Option<Unread>) -> Arc<Self> {
        let (state, changes) = (Mutex::new(State::Loading), watch::Sender::new(0));
        let shard = Arc::new(Self { partition, epoch, before, state, changes });
        let loading = shard.clone();
        tokio::task::spawn_blocking(move || loading.load());
        shard
    }

    pub(super) fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Which partition of the topic it is.
    pub(super) fn place(&self) -> PartitionId {
        self.partition.partition()
    }

    /// True where another must take its place, though it may still lead.
    pub(super) fn is_lost(&self) -> bool {
        matches!(*self.state.lock(), State::Lost | State::Unread(_))
    }

    /// What is known of its log, where that cannot be read.
    pub(super) fn unread_state(&self) -> Option<Unread> {
        match &*self.state.lock() {
            State::Unread(unread) => Some(unread.clone()),
            State::Loading => self.before.clone(),
            State::Ready { .. } | State::Lost => None,
        }
    }

    /// Is its log being read?
    pub(super) fn is_loading(&self) -> bool {
        matches!(*self.state.lock(), State::Loading)
    }

    /// Why whoever asks is told nothing, where the log cannot be read.
    pub(super) fn unread(&self) -> Option<WireError> {
        self.unread_state().map(|unread| unread.error)
    }

    /// The partition that holds its log.
    pub(super) fn partition(&self) -> &Handle {
        &self.partition
    }

    fn not_ready(&self, state: &State<M>) -> WireError {
        match state {
            State::Unread(unread) => unread.error.clone(),
            // It is tried again, and what came of it last is likely to come of it again.
            State::Loading => self.before.as_ref().map_or_else(loading, |before| before.error.clone()),
            State::Ready { .. } | State::Lost => loading(),
        }
    }

    fn load(&self) {
        // Nobody else appends to this topic: what is written now is all there is.
        let end = self.partition.tail().borrow().log_end;
        let loaded = loading::load::<M>(self.partition.reader(), end);
        let (topic, partition) = (self.partition.topic(), self.partition.partition());
        let mut state = self.state.lock();
        *state = match loaded {
            Ok(machine) => {
                debug!(%topic, %partition, epoch = %self.epoch, %end, "coordinates");
                State::Ready { machine, end }
            }
            Err(why) => {
                let unread = Unread::new(&self.partition, why);
                let why = &unread.error.message;
                // Once, however often it is tried.
                match &self.before {
                    Some(before) if before.error == unread.error => {
                        debug!(%topic, %partition, why, "what is coordinated here still cannot be read");
                    }
                    _ => warn!(%topic, %partition, why, "what is coordinated here cannot be read; it is tried again"),
                }
                State::Unread(unread)
            }
        };
        drop(state);
        self.changes.send_modify(|changes| *changes += 1);
    }

    /// Decides on a command, and waits until the answer holds on all in-sync replicas.
    ///
    /// # Errors
    /// What the rules say; NotCoordinator, CoordinatorLoading; why it could not be stored.
    pub(crate) async fn ask(&self, node: &Node, command: &M::Command) -> Result<M::Reply, WireError> {
        let (decided, wait) = {
            let mut state = self.state.lock();
            let (machine, end) = match &mut *state {
                State::Ready { machine, end } => (machine, end),
                other => return Err(self.not_ready(other)),
            };
            let image = node.controllers.image();
            match machine.decide(command, moment(&image)) {
                Ok((records, reply)) if records.is_empty() => (Ok(reply), Wait::Settled(*end)),
                Ok((records, reply)) => (Ok(reply), Wait::Append(self.store(machine, end, &records)?)),
                // It may rest on what is not settled yet, too.
                Err(refusal) => (Err(refusal), Wait::Settled(*end)),
            }
        };
        self.wait(wait).await?;
        decided.map_err(Refusal::into)
    }

    /// This broker was away: whoever was not heard of meanwhile may have spoken.
    pub(super) fn forgive(&self) {
        if let State::Ready { machine, .. } = &mut *self.state.lock() {
            machine.forgive(clock::monotonic());
        }
    }

    /// Does what is due.
    pub(super) fn expire(self: &Arc<Self>, node: &Node) {
        self.decide_unheard(node, |machine, moment| machine.expire(moment));
    }

    /// Decides on a command whose answer nobody waits for.
    pub(super) fn tell(self: &Arc<Self>, node: &Node, command: &M::Command) {
        self.decide_unheard(node, |machine, moment| match machine.decide(command, moment) {
            Ok((records, _)) => records,
            Err(Refusal { code, message, .. }) => {
                debug!(%code, message, "the coordinator was told in vain");
                Vec::new()
            }
        });
        // It may have changed what is not stored, too.
        self.changes.send_modify(|changes| *changes += 1);
    }

    fn decide_unheard(self: &Arc<Self>, node: &Node, decide: impl FnOnce(&mut M, Moment<'_>) -> Vec<M::Record>) {
        let stored = {
            let mut state = self.state.lock();
            let State::Ready { machine, end } = &mut *state else { return };
            let image = node.controllers.image();
            let records = decide(machine, moment(&image));
            if records.is_empty() {
                return;
            }
            self.store(machine, end, &records)
        };
        match stored {
            Ok(appended) => {
                let shard = self.clone();
                tokio::spawn(async move {
                    if let Err(error) = shard.wait(Wait::Append(appended)).await {
                        debug!(%error, "what was due could not be stored");
                    }
                });
            }
            Err(error) => warn!(%error, "what is due cannot be stored"),
        }
    }

    /// What `found` finds in the machine, and where the log ends that it has seen. `None` while the log is read, and once the machine is lost.
    pub(super) fn look<T>(&self, found: impl FnOnce(&M) -> T) -> Option<(T, Offset)> {
        match &*self.state.lock() {
            State::Ready { machine, end } => Some((found(machine), *end)),
            State::Loading | State::Lost | State::Unread(_) => None,
        }
    }

    /// Waits until the log up to `end` is on all in-sync replicas.
    ///
    /// # Errors
    /// NotCoordinator.
    pub(super) async fn settled(&self, end: Offset) -> Result<(), WireError> {
        self.wait(Wait::Settled(end)).await
    }

    /// Waits until this leadership has ended.
    pub(super) async fn led_no_more(&self) {
        let mut tail = self.partition.tail();
        // An owner that is gone leads no more either.
        let _ = tail.wait_for(|tail| tail.ended.is_some() || !tail.leads || tail.leader_epoch != self.epoch).await;
    }

    /// Looks at the machine again and again, as it changes, until `found` finds something that is settled. Whoever waits changes nothing, and asks
    /// the next coordinator as soon as this broker drains.
    ///
    /// # Errors
    /// NotCoordinator, CoordinatorLoading, ShuttingDown.
    pub(crate) async fn watch<T>(&self, node: &Node, found: impl FnMut(&M) -> Option<T>) -> Result<T, WireError> {
        tokio::select! {
            biased;
            found = self.find(found) => found,
            () = node.draining.cancelled() => Err(refusals::closed()),
        }
    }

    async fn find<T>(&self, mut found: impl FnMut(&M) -> Option<T>) -> Result<T, WireError> {
        let mut changes = self.changes.subscribe();
        loop {
            changes.mark_unchanged();
            let seen = match &*self.state.lock() {
                State::Ready { machine, end } => found(machine).map(|found| (found, *end)),
                State::Loading => None,
                State::Lost => return Err(loading()),
                State::Unread(unread) => return Err(unread.error.clone()),
            };
            if let Some((found, end)) = seen {
                self.wait(Wait::Settled(end)).await?;
                return Ok(found);
            }
            tokio::select! {
                _ = changes.changed() => {}
                () = self.led_no_more() => return Err(not_coordinator()),
            }
        }
    }

    /// Tells of each change of the machine.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Appends and replays, all of it or nothing. Under the lock of the state: what is appended stands in the order of the decisions.
    fn store(
        &self,
        machine: &mut M,
        end: &mut Offset,
        records: &[M::Record],
    ) -> Result<oneshot::Receiver<Result<Acked, WireError>>, WireError> {
        let batches = to_batches::<M>(records)?;
        let at = std::mem::replace(end, end.plus(batches.records()));
        for record in records {
            machine.replay(record);
        }
        let answered = self.append(batches, at);
        self.changes.send_modify(|changes| *changes += 1);
        Ok(answered)
    }

    /// Appends at `end`, under this leadership.
    fn append(&self, batches: ValidBatches, end: Offset) -> oneshot::Receiver<Result<Acked, WireError>> {
        let (answer, answered) = oneshot::channel();
        let terms = ProduceTerms { leader_epoch: Some(self.epoch), acks: Acks::All, expected_log_end: Some(end) };
        let ticket = Box::new(move |result| {
            // Whoever asked may be gone.
            let _ = answer.send(result);
        });
        self.partition.append(Append { batches, terms, deadline: None, ticket, lent: None, ask: None });
        answered
    }

    async fn wait(&self, wait: Wait) -> Result<(), WireError> {
        match wait {
            Wait::Append(answered) => match answered.await {
                Ok(Ok(_)) => Ok(()),
                Ok(Err(error)) => Err(self.lose(error)),
                Err(_) => {
                    let sentence = "the partition went away; what became of the request is unknown";
                    Err(self.lose(WireError::new(ErrorCode::Internal, sentence)))
                }
            },
            Wait::Settled(end) => {
                let mut tail = self.partition.tail();
                let gone = |tail: &crate::partition::Tail| {
                    tail.ended.is_some() || !tail.leads || tail.leader_epoch != self.epoch
                };
                match tail.wait_for(|tail| gone(tail) || tail.high_watermark >= end).await {
                    Ok(tail) if !gone(&tail) => Ok(()),
                    Ok(_) | Err(_) => Err(not_coordinator()),
                }
            }
        }
    }

    /// The machine has seen what is not stored.
    fn lose(&self, error: WireError) -> WireError {
        let (topic, partition) = (self.partition.topic(), self.partition.partition());
        info!(%topic, %partition, epoch = %self.epoch, %error, "what was coordinated here is read anew");
        *self.state.lock() = State::Lost;
        self.changes.send_modify(|changes| *changes += 1);
        match error.code {
            ErrorCode::NotLeader | ErrorCode::FencedEpoch | ErrorCode::UnknownEpoch | ErrorCode::LeadershipEnded => {
                not_coordinator()
            }
            // An earlier append failed, so this one did not fit behind it.
            ErrorCode::OffsetMismatch => loading(),
            _ => error,
        }
    }
}

fn moment(image: &tidelog_coordination::ClusterImage) -> Moment<'_> {
    Moment { image, now: clock::monotonic(), wall: clock::now() }
}

/// All of them in one batch.
fn to_batches<M: Machine>(records: &[M::Record]) -> Result<ValidBatches, WireError> {
    let failed = |error: BuildError| {
        WireError::new(ErrorCode::TooLarge, format!("what is to be stored does not fit into a batch: {error}"))
    };
    let now = clock::now();
    let mut builder = BatchBuilder::new(BATCH_BYTES);
    for record in records {
        let (key, value) = M::to_log(record);
        builder.append(now, Some(&key), value.as_deref(), NO_HEADERS).map_err(failed)?;
    }
    let payload = builder.finish(Compression::None).map_err(failed)?;
    let limits = ProduceLimits { batch_bytes_max: usize::MAX, ..ProduceLimits::default() };
    validate_produce(payload, limits)
        .map_err(|error| WireError::new(ErrorCode::Internal, format!("a coordinator's batch: {error}")))
}

pub(super) fn loading() -> WireError {
    let sentence = "the coordinator is reading its state";
    WireError { retry_after_ms: RETRY_MS, ..WireError::new(ErrorCode::CoordinatorLoading, sentence) }
}

pub(super) fn not_coordinator() -> WireError {
    WireError::new(ErrorCode::NotCoordinator, "another broker coordinates this; ask which")
}
