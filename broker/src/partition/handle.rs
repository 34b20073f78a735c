//! What the rest of the broker holds of a partition: a mailbox, the published tail, a reader of the log.
//!
//! The owner is run by combining: whoever puts a command into an idle mailbox runs the owner there and then, and takes along
//! what others put in meanwhile; so exactly one thread at a time touches the owner, a lone request costs no hop, and many at once
//! become one vectored write. Knows nothing of what the commands do.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, MutexGuard};
use tidelog_coordination::TopicConfig;
use tidelog_log::retention::{DeleteError, Deleted, Retention, RetentionLimits};
use tidelog_log::{Compaction, LogReader};
use tidelog_protocol::{BrokerId, ErrorCode, Offset, PartitionId, Timestamp, TopicId, TopicName, WireError};
use tokio::runtime;
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::command::{Append, Command};
use super::marker::Marker;
use super::owner::Owner;
use super::refusals;
use super::repair_attempts::RepairAttempts;
use super::replica_cursor::Followers;
use super::tail::Tail;
use crate::metrics::TopicMetrics;

/// Rounds that one caller runs for others before the rest goes to a task of its own.
const ROUNDS_MAX: usize = 16;

/// Deadlines are looked at no more often than this: a look costs time for every request that waits.
const DEADLINE_GRAIN: Duration = Duration::from_millis(10);

/// A partition. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

/// A handle that keeps nothing alive.
#[derive(Clone, Debug)]
pub(super) struct WeakHandle {
    shared: Weak<Shared>,
}

impl WeakHandle {
    pub(super) fn upgrade(&self) -> Option<Handle> {
        self.shared.upgrade().map(|shared| Handle { shared })
    }
}

/// What a handle is made of.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) topic_id: TopicId,
    pub(super) topic: TopicName,
    pub(super) partition: PartitionId,
    pub(super) owner: Owner,
    pub(super) reader: LogReader,
    pub(super) retention: Retention,
    pub(super) compaction: Compaction,
    pub(super) tail: watch::Receiver<Tail>,
    pub(super) followers: Followers,
    pub(super) metrics: TopicMetrics,
    pub(super) queue_bytes_max: u64,
    pub(super) runtime: runtime::Handle,
}

#[derive(Debug)]
struct Shared {
    topic_id: TopicId,
    topic: TopicName,
    partition: PartitionId,
    mailbox: Mutex<Mailbox>,
    /// Locked by whoever set `running`, and by nobody else: never contended. `None` once it is broken.
    owner: Mutex<Option<Owner>>,
    /// By whoever runs the owner, too.
    alarm: Mutex<Option<Alarm>>,
    reader: LogReader,
    retention: Retention,
    compaction: Compaction,
    tail: watch::Receiver<Tail>,
    followers: Followers,
    /// The one stream that each follower has.
    streams: Mutex<HashMap<BrokerId, CancellationToken>>,
    repair_attempts: Mutex<RepairAttempts>,
    metrics: TopicMetrics,
    queue_bytes_max: u64,
    runtime: runtime::Handle,
}

/// Tells the owner when a deadline has passed. There is one for a partition, whatever deadlines its clients think of.
#[derive(Debug)]
struct Alarm {
    at: Instant,
    task: AbortHandle,
}

impl Drop for Alarm {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug, Default)]
struct Mailbox {
    commands: VecDeque<Command>,
    bytes: u64,
    running: bool,
    /// The owner met a state it did not expect: nothing is run any more, whoever asks is told so.
    broken: bool,
}

/// Set while the owner runs. A bug that unwinds through it must not leave askers waiting for ever.
struct Running<'a>(&'a Shared);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let mut mailbox = self.0.mailbox.lock();
            mailbox.broken = true;
            let waiting = std::mem::take(&mut mailbox.commands);
            drop(mailbox);
            let owner = self.0.owner.lock().take();
            // Dropped tickets answer that what became of them is unknown, those that the owner holds as well. Elsewhere: nothing
            // may go wrong a second time while this unwinds.
            self.0.runtime.spawn_blocking(move || drop((waiting, owner)));
        }
    }
}

impl Handle {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            topic_id, topic, partition, owner, reader, retention, compaction, tail, followers, metrics, ..
        } = parts;
        let (queue_bytes_max, runtime) = (parts.queue_bytes_max, parts.runtime);
        let owner = Mutex::new(Some(owner));
        let mailbox = Mutex::default();
        let shared = Shared {
            topic_id,
            topic,
            partition,
            mailbox,
            owner,
            alarm: Mutex::new(None),
            reader,
            retention,
            compaction,
            tail,
            followers,
            streams: Mutex::default(),
            repair_attempts: Mutex::default(),
            metrics,
            queue_bytes_max,
            runtime,
        };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn downgrade(&self) -> WeakHandle {
        WeakHandle { shared: Arc::downgrade(&self.shared) }
    }

    /// The topic.
    #[must_use]
    pub fn topic_id(&self) -> TopicId {
        self.shared.topic_id
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &TopicName {
        &self.shared.topic
    }

    /// Which partition of it.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.shared.partition
    }

    /// The log, for reading.
    #[must_use]
    pub fn reader(&self) -> &LogReader {
        &self.shared.reader
    }

    /// What compacts the log.
    #[must_use]
    pub fn compaction(&self) -> &Compaction {
        &self.shared.compaction
    }

    /// The published offsets, and the way to wait for their next change.
    #[must_use]
    pub fn tail(&self) -> watch::Receiver<Tail> {
        self.shared.tail.clone()
    }

    pub(super) fn followers(&self) -> Followers {
        self.shared.followers.clone()
    }

    /// A follower's stream begins, and an earlier one of it ends.
    pub fn begin_stream(&self, follower: BrokerId, ends: CancellationToken) {
        if let Some(earlier) = self.shared.streams.lock().insert(follower, ends) {
            earlier.cancel();
        }
    }

    /// What came of the attempts to repair what is damaged here. To be locked for a look or a note, and not while one is under way.
    pub fn repair_attempts(&self) -> MutexGuard<'_, RepairAttempts> {
        self.shared.repair_attempts.lock()
    }

    /// The topic's counters.
    #[must_use]
    pub fn metrics(&self) -> &TopicMetrics {
        &self.shared.metrics
    }

    /// Appends batches, unless too many bytes wait already.
    pub fn append(&self, append: Append) {
        let bytes = append.batches.payload().len() as u64;
        let mut mailbox = self.shared.mailbox.lock();
        if mailbox.bytes > 0 && mailbox.bytes + bytes > self.shared.queue_bytes_max {
            drop(mailbox);
            let sentence = format!("{}-{} has too much waiting to be written", self.topic(), self.partition());
            let error = WireError { retry_after_ms: 50, ..WireError::new(ErrorCode::Overloaded, sentence) };
            (append.ticket)(Err(error));
            return;
        }
        if mailbox.broken {
            return;
        }
        mailbox.bytes += bytes;
        mailbox.commands.push_back(Command::Append(append));
        let idle = !std::mem::replace(&mut mailbox.running, true);
        drop(mailbox);
        if idle {
            self.run();
        }
    }

    /// Gives the owner a command, and runs it here if nobody else does.
    pub fn submit(&self, command: Command) {
        if self.enqueue(command) {
            self.run();
        }
    }

    /// Gives the owner a command from a thread that must not run it.
    pub fn submit_elsewhere(&self, command: Command) {
        if self.enqueue(command) {
            self.run_elsewhere();
        }
    }

    /// Gives the owner a command and waits for its result.
    ///
    /// # Errors
    /// As the command says; Internal where the owner went away.
    pub async fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(super::command::Ticket<T>) -> Command,
    ) -> Result<T, WireError> {
        let (sender, receiver) = tokio::sync::oneshot::channel();
        self.submit(command(Box::new(move |result| {
            // The asker may have stopped waiting.
            let _ = sender.send(result);
        })));
        let gone =
            || WireError::new(ErrorCode::Internal, "the partition went away; what became of the request is unknown");
        receiver.await.unwrap_or_else(|_| Err(gone()))
    }

    /// Ends a transaction here, and waits until the marker stands on all in-sync replicas; it may have stood before.
    ///
    /// # Errors
    /// NotLeader, NotEnoughReplicas, LeadershipEnded, StorageFull, Overloaded, DeadlineExceeded: it is to be sent again, to whoever leads.
    pub(crate) async fn write_marker(&self, marker: Marker) -> Result<(), WireError> {
        self.ask(|ticket| Command::WriteMarker { marker, ticket }).await
    }

    /// Deletes what is below `before`, or everything readable.
    ///
    /// # Errors
    /// OffsetOutOfRange above the high watermark; StorageFailed.
    pub async fn delete_records(&self, before: Option<Offset>) -> Result<Offset, WireError> {
        let log_start = self.ask(|ticket| Command::DeleteRecords { before, ticket }).await?;
        let mut start = self.delete_up_to(log_start).await?;
        if self.shared.reader.is_emptied() {
            self.ask(|ticket| Command::RollIfEmptied { ticket }).await?;
            start = self.delete_up_to(log_start).await?;
        }
        Ok(start)
    }

    async fn delete_up_to(&self, log_start: Offset) -> Result<Offset, WireError> {
        let retention = self.shared.retention.clone();
        let deleted = tokio::task::spawn_blocking(move || retention.delete_records(log_start)).await;
        deleted
            .map_err(|_| WireError::new(ErrorCode::Internal, "deleting records failed unexpectedly"))?
            .map_err(|error| refusals::of_deletion(&error))
    }

    /// Removes what the topic's retention no longer keeps. Blocks.
    ///
    /// # Errors
    /// [`DeleteError`]; trying again is safe.
    pub fn apply_retention(&self, now: Timestamp, config: &TopicConfig) -> Result<Deleted, DeleteError> {
        // One that is only compacted keeps its keys for ever; what a request has deleted may still be to be unlinked.
        let deletes = config.cleanup_policy.deletes();
        let limits = RetentionLimits {
            bytes: config.retention_bytes.filter(|_| deletes),
            age: config.retention_ms.map(Duration::from_millis).filter(|_| deletes),
            below: self.shared.tail.borrow().high_watermark,
        };
        let deleted = self.shared.retention.apply(now, &limits)?;
        if deleted.segments > 0 {
            self.submit(Command::LogStartMoved(self.shared.reader.log_start()));
        }
        Ok(deleted)
    }

    /// True where the caller shall run the owner.
    fn enqueue(&self, command: Command) -> bool {
        let mut mailbox = self.shared.mailbox.lock();
        if mailbox.broken {
            return false;
        }
        mailbox.bytes += command.bytes();
        mailbox.commands.push_back(command);
        !std::mem::replace(&mut mailbox.running, true)
    }

    fn run(&self) {
        let _running = Running(&self.shared);
        let mut held = self.shared.owner.lock();
        let Some(owner) = held.as_mut() else { return };
        let mut round = VecDeque::new();
        for _ in 0..ROUNDS_MAX {
            {
                let mut mailbox = self.shared.mailbox.lock();
                if mailbox.commands.is_empty() {
                    // Under the lock: a command that comes now finds the mailbox idle and runs the owner itself.
                    mailbox.running = false;
                    // Keep the larger of the two buffers for next time.
                    if round.capacity() > mailbox.commands.capacity() {
                        std::mem::swap(&mut round, &mut mailbox.commands);
                    }
                    drop(held);
                    return;
                }
                std::mem::swap(&mut round, &mut mailbox.commands);
                mailbox.bytes = 0;
            }
            let now = Instant::now();
            owner.step(&mut round, now);
            if let Some(deadline) = owner.earliest_deadline() {
                self.set_alarm(deadline, now);
            }
            if let Some(to) = owner.take_deletable() {
                self.delete_elsewhere(to);
            }
        }
        drop(held);
        self.run_elsewhere();
    }

    fn set_alarm(&self, deadline: Instant, now: Instant) {
        let at = deadline.max(now + DEADLINE_GRAIN);
        let mut alarm = self.shared.alarm.lock();
        // One that is due was heard, or is about to be, and is not for the deadlines that are left.
        if alarm.as_ref().is_some_and(|set| now < set.at && set.at <= at) {
            return;
        }
        let partition = self.downgrade();
        let ring = async move {
            tokio::time::sleep_until(at.into()).await;
            if let Some(partition) = partition.upgrade() {
                partition.submit(Command::Expire);
            }
        };
        *alarm = Some(Alarm { at, task: self.shared.runtime.spawn(ring).abort_handle() });
    }

    /// Deletes what the leader has deleted.
    fn delete_elsewhere(&self, to: Offset) {
        let partition = self.clone();
        self.shared.runtime.spawn_blocking(move || {
            if let Err(error) = partition.shared.retention.delete_records(to) {
                let (topic, index) = (partition.topic(), partition.partition());
                warn!(%topic, partition = %index, %error, "what the leader deleted stays here for now");
            }
            partition.submit(Command::LogStartMoved(partition.shared.reader.log_start()));
            if partition.shared.reader.is_emptied() {
                // The next look of retention unlinks what this seals.
                partition.submit(Command::RollIfEmptied { ticket: Box::new(|_| {}) });
            }
        });
    }

    fn run_elsewhere(&self) {
        let handle = self.clone();
        self.shared.runtime.spawn(async move { handle.run() });
    }
}
