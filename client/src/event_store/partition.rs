//! A partition of a store as it is used: what is known of its aggregates, the way to its writer, and how their events are read. Knows
//! nothing of the other partitions.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parking_lot::RwLock;
use tidelog_protocol::messages::Isolation;
use tidelog_protocol::records::Record;
use tidelog_protocol::{Offset, PartitionId};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};

use super::builder::Settings;
use super::envelope::{SNAPSHOT_HEADER, SnapshotEnvelope};
use super::error::{AppendError, StoreError};
use super::event::{Appended, StoredEvent, Version};
use super::index::{Entry, Index};
use super::observed::{Observed, What, header};
use super::ranges::Ranges;
use super::staging::Request;
use super::topics::Topics;
use super::walk::{Found, Walk};
use super::writer::{Checkpoints, Progress, Waiting, Writer, end_of, inconsistent};
use super::{checkpoint::Place, checkpoints};
use crate::{Client, Start};

/// Requests that wait for the writer, at most; their bytes have a limit of their own.
const REQUESTS: usize = 4_096;

/// A partition.
#[derive(Debug)]
pub(super) struct Partition {
    topics: Topics,
    partition: PartitionId,
    settings: Arc<Settings>,
    /// Of one append.
    bytes_max: usize,
    index: Arc<RwLock<Index>>,
    requests: mpsc::Sender<Waiting>,
    room: Arc<Semaphore>,
    progress: watch::Receiver<Progress>,
    failure: Arc<OnceLock<StoreError>>,
    events: Ranges,
    snapshots: Ranges,
}

/// A snapshot as it is stored.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoredSnapshot {
    /// The version of the aggregate that it is the state of.
    pub version: Version,
    /// The version of the state's schema.
    pub schema: u16,
    /// The state, as the application wrote it.
    pub state: Bytes,
}

impl Partition {
    /// Starts the writer and waits until it knows all there was.
    pub(super) async fn open(
        client: &Client,
        topics: &Topics,
        partition: PartitionId,
        settings: &Arc<Settings>,
    ) -> Result<Self, StoreError> {
        let (place, index) = resumed(client, topics, partition, settings).await?;
        let (from, snapshots_from) =
            (index.end(), place.map_or(Start::Beginning, |place| Start::Offset(place.snapshots)));
        let image = client.cluster.topic(&topics.events).await?;
        let batch_bytes_max = settings.batch_bytes.min(image.batch_bytes_max as usize);
        let consumer = client
            .consumer()
            .isolation(Isolation::ReadUncommitted)
            .partition_from(&topics.events, partition, Start::Offset(from))
            .partition_from(&topics.snapshots, partition, snapshots_from)
            .build()
            .await?;
        let there = Progress {
            events: end_of(client, &topics.events, partition).await?,
            snapshots: end_of(client, &topics.snapshots, partition).await?,
        };
        let (requests, incoming) = mpsc::channel(REQUESTS);
        let (sender, progress) = watch::channel(Progress::default());
        let index = Arc::new(RwLock::new(index));
        let failure = Arc::new(OnceLock::new());
        let mut writer = Writer {
            client: client.clone(),
            topics: topics.clone(),
            partition,
            batch_bytes_max,
            index: Arc::clone(&index),
            progress: sender,
            consumer,
            incoming,
            checkpoints: Checkpoints::new(settings.checkpoint_every, place.map(|place| place.events)),
            work: Default::default(),
        };
        let failed = Arc::clone(&failure);
        tokio::spawn(async move {
            if let Err(error) = writer.run().await {
                tracing::warn!(%error, "a partition of an event store stopped");
                // Nobody else sets it.
                let _ = failed.set(error);
            }
        });
        let ranges = |topic: &String| Ranges::new(client.clone(), topic.clone(), partition);
        let opened = Self {
            events: ranges(&topics.events),
            snapshots: ranges(&topics.snapshots),
            topics: topics.clone(),
            partition,
            settings: Arc::clone(settings),
            bytes_max: batch_bytes_max.min(settings.queue_bytes),
            index,
            requests,
            room: Arc::new(Semaphore::new(settings.queue_bytes)),
            progress,
            failure,
        };
        opened.reach(|known| known.events >= there.events && known.snapshots >= there.snapshots).await?;
        Ok(opened)
    }

    /// False where it has stopped: it is opened anew then.
    pub(super) fn is_going(&self) -> bool {
        !self.requests.is_closed()
    }

    /// Waits until so much is known.
    async fn reach(&self, is_there: impl Fn(&Progress) -> bool) -> Result<(), StoreError> {
        let mut progress = self.progress.clone();
        let reached = progress.wait_for(is_there).await.map(drop);
        reached.map_err(|_| self.failure())
    }

    fn failure(&self) -> StoreError {
        self.failure.get().cloned().unwrap_or(StoreError::Closed)
    }

    /// Waits until everything is known that stood in the partition as this was called.
    pub(super) async fn catch_up(&self, client: &Client) -> Result<(), StoreError> {
        let end = end_of(client, &self.topics.events, self.partition).await?;
        self.reach(|known| known.events >= end).await
    }

    /// Waits until an event of the aggregate above this version is known.
    pub(super) async fn wait_past(&self, id: &[u8], version: Version) -> Result<(), StoreError> {
        self.reach(|_| self.entry(id).version > version).await
    }

    pub(super) fn entry(&self, id: &[u8]) -> Entry {
        self.index.read().entry(id)
    }

    /// Where the latest events of these stand.
    pub(super) fn latest<'i>(&self, ids: impl Iterator<Item = &'i [u8]>) -> Vec<Option<Offset>> {
        let index = self.index.read();
        ids.map(|id| index.entry(id).latest()).collect()
    }

    /// How many aggregates are known.
    pub(super) fn aggregates(&self) -> usize {
        self.index.read().aggregates()
    }

    /// What came of a command that is remembered.
    pub(super) fn command(&self, id: &[u8], command: &[u8]) -> Option<Appended> {
        let seen = self.index.read().command(id, command)?;
        let (version, offset) = (seen.version, seen.offset);
        Some(Appended { version, partition: self.partition, offset, repeated: true })
    }

    /// Appends what the request says; one answer for each of its links.
    pub(super) async fn append(&self, request: Request) -> Result<Vec<Result<Appended, AppendError>>, AppendError> {
        let bytes = request.bytes();
        if bytes > self.bytes_max {
            return Err(StoreError::TooLarge { bytes, limit: self.bytes_max }.into());
        }
        let patience = self.settings.append_timeout;
        let asked = async {
            let room = Arc::clone(&self.room).acquire_many_owned(bytes as u32).await.map_err(|_| StoreError::Closed)?;
            let (answer, answered) = oneshot::channel();
            self.requests.send(Waiting { request, answer, room }).await.map_err(|_| self.failure())?;
            answered.await.map_err(|_| AppendError::InDoubt(self.failure().to_string()))
        };
        match tokio::time::timeout(patience, asked).await {
            Ok(answers) => answers,
            Err(_) => Err(AppendError::InDoubt(format!("no answer within {patience:?}"))),
        }
    }

    /// The events of an aggregate above a version, as of `entry`, the oldest first.
    pub(super) async fn events(&self, id: &[u8], entry: Entry, after: Version) -> Result<Vec<StoredEvent>, StoreError> {
        let mut walk = Walk::new(entry.version, entry.latest(), after);
        let limit = self.settings.load_bytes_max;
        let (mut parts, mut bytes) = (Vec::new(), 0);
        while let Some(range) = walk.range() {
            let mut part: Vec<StoredEvent> = Vec::new();
            let mut found: Option<Found> = None;
            let visit = |record: &Record<'_>| {
                if record.key != Some(id) {
                    return Ok(());
                }
                let seen = Observed::of(record)
                    .map_err(|fault| inconsistent(&self.topics.events, self.partition, record.offset, &fault))?;
                let Some(Observed { what: What::Event(envelope), offset, .. }) = seen else { return Ok(()) };
                if envelope.is_retirement() {
                    // What stands before it is of another aggregate, which had the same id.
                    bytes -= part.drain(..).map(|event| event_bytes(&event.payload, &event.kind)).sum::<usize>();
                    found = None;
                    return Ok(());
                }
                let version = Version(envelope.version);
                let first = found.get_or_insert(Found { version, previous: envelope.previous, count: 0 });
                first.count += 1;
                if version <= after || version > entry.version {
                    return Ok(());
                }
                let payload = record.value.unwrap_or_default();
                bytes += event_bytes(payload, &envelope.kind);
                if bytes > limit {
                    return Err(StoreError::TooLong { after, limit });
                }
                let (schema, payload) =
                    self.settings.upcasters.apply(&envelope.kind, envelope.schema, Bytes::copy_from_slice(payload))?;
                part.push(StoredEvent {
                    id: Bytes::copy_from_slice(id),
                    version,
                    partition: self.partition,
                    offset,
                    timestamp: record.timestamp,
                    kind: envelope.kind,
                    schema,
                    command: envelope.command,
                    payload,
                });
                Ok(())
            };
            self.events.read(range, visit).await?;
            parts.push(part);
            let missing = |at: Option<Offset>| {
                let reason = "an event of the aggregate is not where the one after it says";
                inconsistent(&self.topics.events, self.partition, at.unwrap_or_default(), &reason)
            };
            walk.read(found).map_err(missing)?;
        }
        let events: Vec<StoredEvent> = parts.into_iter().rev().flatten().collect();
        let is_whole = events.iter().zip(after.0 + 1..).all(|(event, version)| event.version.0 == version);
        if !is_whole || events.len() as u64 != entry.version.0.saturating_sub(after.0) {
            let (at, reason) = (entry.latest().unwrap_or_default(), "the versions before it are not complete");
            return Err(inconsistent(&self.topics.events, self.partition, at, &reason));
        }
        Ok(events)
    }

    /// The latest snapshot of an aggregate as of `entry`; `None` where there is none, or it was replaced meanwhile.
    pub(super) async fn snapshot(&self, id: &[u8], entry: Entry) -> Result<Option<StoredSnapshot>, StoreError> {
        // Beyond the end it stands where a checkpoint tells of a topic that was lost since.
        let end = self.progress.borrow().snapshots;
        let is_there = |offset: &Offset| *offset < end && entry.snapshot_version <= entry.version;
        let Some(offset) = entry.snapshot().filter(is_there) else { return Ok(None) };
        let mut found = None;
        let visit = |record: &Record<'_>| {
            if record.key == Some(id)
                && let Some(bytes) = header(record, SNAPSHOT_HEADER)
            {
                let envelope: SnapshotEnvelope = super::envelope::decode(bytes)
                    .map_err(|fault| inconsistent(&self.topics.snapshots, self.partition, offset, &fault))?;
                let state = Bytes::copy_from_slice(record.value.unwrap_or_default());
                found = Some(StoredSnapshot { version: Version(envelope.version), schema: envelope.schema, state });
            }
            Ok(())
        };
        self.snapshots.read((offset, offset), visit).await?;
        Ok(found)
    }
}

/// About what an event takes in memory.
const fn event_bytes(payload: &[u8], kind: &str) -> usize {
    payload.len() + size_of::<StoredEvent>() + kind.len()
}

/// What a checkpoint says, ready to read on; an empty index where there is none that can be used.
async fn resumed(
    client: &Client,
    topics: &Topics,
    partition: PartitionId,
    settings: &Settings,
) -> Result<(Option<Place>, Index), StoreError> {
    match checkpoints::read(client, topics, partition, settings).await {
        Ok(Some((place, mut index))) => {
            // Far enough back to know the commands again that are remembered.
            let from = Offset(place.events.0.saturating_sub(settings.command_window));
            match end_of(client, &topics.events, partition).await {
                Ok(end) => index.begin_at(from, end, place.witness),
                Err(error) => return Err(error.into()),
            }
            Ok((Some(place), index))
        }
        found => {
            if let Err(error) = found {
                tracing::warn!(%error, "a checkpoint cannot be used: all events are read");
            }
            Ok((None, Index::new(settings.command_window, settings.index_bytes_max)))
        }
    }
}
