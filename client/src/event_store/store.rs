//! The store as a program uses it: aggregates by id. Knows which partition an aggregate is in, nothing of what happens there.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::messages::Isolation;
use tidelog_protocol::records::Record as WireRecord;
use tidelog_protocol::{Offset, PartitionId, Timestamp};
use tokio::sync::{Mutex, OnceCell};

use super::builder::Settings;
use super::envelope::{
    self, EVENT_HEADER, EnvelopeFault, EventEnvelope, SNAPSHOT_HEADER, STORE_HEADER, SnapshotEnvelope, StoreEnvelope,
};
use super::error::{AppendError, StoreError};
use super::event::{Appended, Expected, NewEvent, StoredEvent, Version};
use super::observed::{Observed, What, header};
use super::partition::{Partition, StoredSnapshot};
use super::ranges::Ranges;
use super::staging::{Link, Request};
use super::topics::Topics;
use super::writer::{end_of, inconsistent};
use crate::producer::by_key;
use crate::{BatchView, Client, ClientError, ConsumerRecord, ErrorCode, Producer, Record, RecordRef, Start};

/// The longest id of an aggregate or of a command.
const ID_BYTES_MAX: usize = 1_024;

/// An event store. Clones are cheap and share everything; partitions are opened as they are first used.
#[derive(Clone, Debug)]
pub struct EventStore {
    parts: Arc<Parts>,
}

#[derive(Debug)]
struct Parts {
    client: Client,
    topics: Topics,
    settings: Arc<Settings>,
    partitions: Vec<Mutex<Option<Arc<Partition>>>>,
    snapshots: OnceCell<Producer>,
}

/// Events of an aggregate, and the version that it has with them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Loaded {
    /// The version as far as this process knows: what to expect as the next events are appended.
    pub version: Version,
    /// The events, the oldest first.
    pub events: Vec<StoredEvent>,
}

impl EventStore {
    pub(super) async fn open(client: Client, topics: Topics, settings: Arc<Settings>) -> Result<Self, StoreError> {
        let partitions = topics.check(&client.admin()).await?;
        settle_partitions(&client, &topics, partitions).await?;
        let partitions = (0..partitions).map(|_| Mutex::new(None)).collect();
        let parts = Parts { client, topics, settings, partitions, snapshots: OnceCell::new() };
        Ok(Self { parts: Arc::new(parts) })
    }

    /// Appends events to an aggregate, all or none, if it is as expected. Returns once they are stored as the topic's durability says.
    ///
    /// Dropped before it returns, the events may be appended or not.
    ///
    /// # Errors
    /// [`AppendError::Conflict`] where it is not as expected: nothing was appended. [`AppendError::InDoubt`] where that is not known in time.
    pub async fn append(
        &self,
        id: impl AsRef<[u8]> + Send,
        expected: impl Into<Expected> + Send,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        self.append_link(id.as_ref(), expected.into(), None, events).await
    }

    /// As [`EventStore::append`], for a command that is carried out once: where it was carried out already, its outcome is given
    /// again, [`Appended::repeated`], whatever is expected. It is remembered for as many records of the partition as
    /// [`command_window`](super::EventStoreBuilder::command_window) says.
    ///
    /// # Errors
    /// As [`EventStore::append`].
    pub async fn append_once(
        &self,
        id: impl AsRef<[u8]> + Send,
        command: impl AsRef<[u8]> + Send,
        expected: impl Into<Expected> + Send,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        let command = checked(command.as_ref(), "a command")?;
        self.append_link(id.as_ref(), expected.into(), Some(command), events).await
    }

    async fn append_link(
        &self,
        id: &[u8],
        expected: Expected,
        command: Option<Bytes>,
        events: Vec<NewEvent>,
    ) -> Result<Appended, AppendError> {
        let links = vec![link(command, events)?];
        let answers = self.append_links(checked(id, "an aggregate")?, expected, links).await?;
        answers.into_iter().next().unwrap_or_else(|| Err(AppendError::InDoubt("no answer".into())))
    }

    /// Appends that build on each other: all are made, one after the other, or none.
    pub(super) async fn append_links(
        &self,
        id: Bytes,
        expected: Expected,
        links: Vec<Link>,
    ) -> Result<Vec<Result<Appended, AppendError>>, AppendError> {
        let partition = self.partition(&id).await?;
        partition.append(Request { id, expected, links, is_index_sure: false }).await
    }

    /// Has all processes forget an aggregate at this version, which has to be its latest. Its events stay where they are, and the next one
    /// under its id is the first of another aggregate. Not for those with snapshots: they would be taken for those of the other.
    pub(crate) async fn retire(&self, id: &[u8], version: Version) -> Result<(), AppendError> {
        let events = vec![NewEvent::new(envelope::RETIRED_KIND, Bytes::new())];
        let links = vec![Link { append: fastrand::u128(..).to_be_bytes(), command: None, events }];
        let answers = self.append_links(checked(id, "an aggregate")?, Expected::Version(version), links).await?;
        answers.into_iter().next().unwrap_or_else(|| Err(AppendError::InDoubt("no answer".into()))).map(drop)
    }

    /// All events of an aggregate, and its version. None and [`Version::NONE`] where it does not exist.
    ///
    /// What this process appended and what it was told of conflicts is seen; what other processes have just appended may not be yet, which
    /// does no harm to a decision that an append with the version makes sure of. See [`EventStore::catch_up`].
    ///
    /// # Errors
    /// [`StoreError::UnknownSchema`], [`StoreError::Upcast`], [`StoreError::TooLong`]; [`StoreError::Inconsistent`]; those of reading.
    pub async fn load(&self, id: impl AsRef<[u8]> + Send) -> Result<Loaded, StoreError> {
        self.load_after(id, Version::NONE).await
    }

    /// The events of an aggregate above a version, such as that of a snapshot; and its version.
    ///
    /// # Errors
    /// As [`EventStore::load`].
    pub async fn load_after(&self, id: impl AsRef<[u8]> + Send, after: Version) -> Result<Loaded, StoreError> {
        let id = id.as_ref();
        let partition = self.partition(id).await?;
        let entry = partition.entry(id);
        let events = partition.events(id, entry, after).await?;
        Ok(Loaded { version: entry.version, events })
    }

    /// The version of an aggregate as far as this process knows.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub async fn version(&self, id: impl AsRef<[u8]> + Send) -> Result<Version, StoreError> {
        let id = id.as_ref();
        Ok(self.partition(id).await?.entry(id).version)
    }

    /// Waits until this process knows everything that was appended to the aggregate, by whomever, before the call.
    ///
    /// # Errors
    /// Those of asking the cluster.
    pub async fn catch_up(&self, id: impl AsRef<[u8]> + Send) -> Result<(), StoreError> {
        self.partition(id.as_ref()).await?.catch_up(&self.parts.client).await
    }

    /// As [`EventStore::catch_up`], for all aggregates of a partition.
    pub(crate) async fn catch_up_partition(&self, partition: PartitionId) -> Result<(), StoreError> {
        self.opened(partition).await?.catch_up(&self.parts.client).await
    }

    /// What came of a command, where it is remembered.
    ///
    /// # Errors
    /// Those of opening the partition.
    pub async fn command(
        &self,
        id: impl AsRef<[u8]> + Send,
        command: impl AsRef<[u8]> + Send,
    ) -> Result<Option<Appended>, StoreError> {
        let id = id.as_ref();
        Ok(self.partition(id).await?.command(id, command.as_ref()))
    }

    /// The latest snapshot of an aggregate that is known here and can be used.
    ///
    /// # Errors
    /// Those of reading.
    pub async fn snapshot(&self, id: impl AsRef<[u8]> + Send) -> Result<Option<StoredSnapshot>, StoreError> {
        let id = id.as_ref();
        let partition = self.partition(id).await?;
        partition.snapshot(id, partition.entry(id)).await
    }

    /// The version of the latest snapshot that is known here; [`Version::NONE`] where there is none.
    pub(super) async fn snapshot_version(&self, id: &[u8]) -> Result<Version, StoreError> {
        Ok(self.partition(id).await?.entry(id).snapshot_version)
    }

    /// Stores a snapshot: the state of an aggregate at a version. The one of the highest version counts, also where an older one is stored
    /// later.
    ///
    /// # Errors
    /// [`StoreError::Client`] where it could not be sent.
    pub async fn save_snapshot(
        &self,
        id: impl AsRef<[u8]> + Send,
        snapshot: &StoredSnapshot,
    ) -> Result<(), StoreError> {
        let id = id.as_ref();
        let producer = async { self.parts.client.producer().build() };
        let producer = self.parts.snapshots.get_or_try_init(|| producer).await?;
        let StoredSnapshot { version, schema, state } = snapshot;
        let header = envelope::encode(&SnapshotEnvelope { version: version.0, schema: *schema });
        let record = Record::to(self.parts.topics.snapshots.as_str())
            .partition(self.place(id))
            .key(Bytes::copy_from_slice(id))
            .value(state.clone())
            .header(SNAPSHOT_HEADER, header);
        let sent = async { producer.send(record).await?.await };
        sent.await.map(drop).map_err(|error| match error {
            crate::SendError::Client(error) => error.into(),
            error => StoreError::Argument(format!("the snapshot was not stored: {error}")),
        })
    }

    /// Opens the partition of an aggregate, so that the first use of it need not wait for that.
    ///
    /// # Errors
    /// Those of reading it.
    pub async fn warm_up(&self, id: impl AsRef<[u8]> + Send) -> Result<(), StoreError> {
        self.partition(id.as_ref()).await.map(drop)
    }

    /// How many aggregates are known, in the partitions that are open.
    pub async fn known_aggregates(&self) -> usize {
        let mut known = 0;
        for slot in &self.parts.partitions {
            known += slot.lock().await.as_ref().map_or(0, |partition| partition.aggregates());
        }
        known
    }

    /// The partition that an aggregate is in.
    #[must_use]
    pub fn place(&self, id: &[u8]) -> PartitionId {
        by_key(id, self.partitions())
    }

    /// How many partitions there are.
    #[must_use]
    pub fn partitions(&self) -> u32 {
        self.parts.partitions.len() as u32
    }

    /// The topic that holds the events.
    #[must_use]
    pub fn topic(&self) -> &str {
        &self.parts.topics.events
    }

    /// Waits until this process knows an event of the aggregate above this version.
    ///
    /// # Errors
    /// Those of opening and following the partition.
    pub async fn wait_past(&self, id: impl AsRef<[u8]> + Send, version: Version) -> Result<(), StoreError> {
        let id = id.as_ref();
        self.partition(id).await?.wait_past(id, version).await
    }

    /// Shows all events of a partition that are stored as this is called, in their order.
    ///
    /// # Errors
    /// Those of reading; as [`EventStore::load`].
    pub async fn scan(
        &self,
        partition: PartitionId,
        mut visit: impl FnMut(StoredEvent) + Send,
    ) -> Result<(), StoreError> {
        let consumer = self.parts.client.consumer().isolation(Isolation::ReadUncommitted);
        let consumer = consumer.partition_from(self.topic(), partition, Start::Beginning).until_end();
        let mut consumer = consumer.build().await?;
        while let Some(batch) = consumer.next_batch().await? {
            self.events_in(&batch)?.into_iter().for_each(&mut visit);
        }
        Ok(())
    }

    /// The event that a record of the store's topic is, read by whatever means; `None` for one that the store did not write.
    ///
    /// # Errors
    /// As [`EventStore::load`].
    pub fn event_of(&self, record: &ConsumerRecord) -> Result<Option<StoredEvent>, StoreError> {
        let header = record.headers().find(|header| header.name() == EVENT_HEADER);
        let Some(header) = header else { return Ok(None) };
        let (offset, partition) = (record.offset, record.partition());
        let fault = |fault: EnvelopeFault| inconsistent(record.topic(), partition, offset, &fault);
        let envelope: EventEnvelope = envelope::decode(header.value.unwrap_or_default()).map_err(fault)?;
        let id = record.key.as_deref().ok_or_else(|| fault(EnvelopeFault::Malformed("it has no key".into())))?;
        let payload = Bytes::copy_from_slice(record.value.as_deref().unwrap_or_default());
        self.stored((partition, offset, record.timestamp), id, envelope, payload).map(Some)
    }

    /// The events in a batch of the store's topic.
    pub(crate) fn events_in(&self, batch: &BatchView<'_>) -> Result<Vec<StoredEvent>, StoreError> {
        let partition = batch.partition();
        let mut events = Vec::new();
        for record in batch.records() {
            let record = record?;
            let seen =
                Observed::of(&record).map_err(|fault| inconsistent(batch.topic(), partition, record.offset, &fault))?;
            let Some(Observed { offset, id, what: What::Event(envelope) }) = seen else { continue };
            let payload = Bytes::copy_from_slice(record.value.unwrap_or_default());
            events.push(self.stored((partition, offset, record.timestamp), &id, envelope, payload)?);
        }
        Ok(events)
    }

    fn stored(
        &self,
        (partition, offset, timestamp): (PartitionId, Offset, Timestamp),
        id: &[u8],
        envelope: EventEnvelope,
        payload: Bytes,
    ) -> Result<StoredEvent, StoreError> {
        let (schema, payload) = self.settings().upcasters.apply(&envelope.kind, envelope.schema, payload)?;
        Ok(StoredEvent {
            id: Bytes::copy_from_slice(id),
            version: Version(envelope.version),
            partition,
            offset,
            timestamp,
            kind: envelope.kind,
            schema,
            command: envelope.command,
            payload,
        })
    }

    pub(crate) fn client(&self) -> &Client {
        &self.parts.client
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.parts.settings
    }

    /// Where the latest events of aggregates of a partition stand, as far as this process knows.
    pub(crate) async fn latest(
        &self,
        partition: PartitionId,
        ids: impl Iterator<Item = &[u8]> + Send,
    ) -> Result<Vec<Option<Offset>>, StoreError> {
        Ok(self.opened(partition).await?.latest(ids))
    }

    async fn partition(&self, id: &[u8]) -> Result<Arc<Partition>, StoreError> {
        self.opened(self.place(id)).await
    }

    async fn opened(&self, place: PartitionId) -> Result<Arc<Partition>, StoreError> {
        let Parts { client, topics, settings, partitions, .. } = &*self.parts;
        let Some(slot) = partitions.get(place.0 as usize) else {
            return Err(StoreError::Argument(format!("the store has no partition {place}")));
        };
        let mut slot = slot.lock().await;
        if let Some(partition) = slot.as_ref().filter(|partition| partition.is_going()) {
            return Ok(Arc::clone(partition));
        }
        let opened = Arc::new(Partition::open(client, topics, place, settings).await?);
        *slot = Some(Arc::clone(&opened));
        Ok(opened)
    }
}

/// An append, if it may be one.
pub(super) fn link(command: Option<Bytes>, events: Vec<NewEvent>) -> Result<Link, StoreError> {
    if events.is_empty() || events.len() > usize::from(u16::MAX) {
        return Err(StoreError::Argument(format!("an append has 1 to {} events, not {}", u16::MAX, events.len())));
    }
    if let Some(event) = events.iter().find(|event| event.schema == 0 || event.kind.len() > ID_BYTES_MAX) {
        let sentence = "an event's schema is 1 or more, and its kind 1,024 bytes at most";
        return Err(StoreError::Argument(format!("{sentence}; not so of {:?}, schema {}", event.kind, event.schema)));
    }
    if events.iter().any(|event| event.kind == envelope::RETIRED_KIND) {
        return Err(StoreError::Argument(format!("events {:?} are the store's own", envelope::RETIRED_KIND)));
    }
    Ok(Link { append: fastrand::u128(..).to_be_bytes(), command, events })
}

/// An id, if it may be one.
pub(super) fn checked(id: &[u8], what: &str) -> Result<Bytes, StoreError> {
    if id.is_empty() || id.len() > ID_BYTES_MAX {
        return Err(StoreError::Argument(format!("the id of {what} has 1 to {ID_BYTES_MAX} bytes, not {}", id.len())));
    }
    Ok(Bytes::copy_from_slice(id))
}

/// The first record says over how many partitions the aggregates are spread; whoever opens the store first writes it. A topic that has grown
/// since would let an aggregate begin again in another partition.
async fn settle_partitions(client: &Client, topics: &Topics, partitions: u32) -> Result<(), StoreError> {
    const FIRST: PartitionId = PartitionId(0);
    let what = "events";
    let unfit = |reason: String| StoreError::UnfitTopic { topic: topics.events.clone(), what, reason };
    // Somebody else has just written it, and it cannot be read yet; or there is no leader.
    let may_pass = |error: &ClientError| error.code() == Some(ErrorCode::OffsetMismatch) || error.is_retriable();
    let patience = tokio::time::Instant::now() + Duration::from_secs(30);
    while end_of(client, &topics.events, FIRST).await? == Offset::ZERO {
        let value = envelope::encode(&StoreEnvelope { partitions });
        let headers = [(STORE_HEADER, Some(&value[..]))];
        let record = RecordRef { headers: &headers, ..RecordRef::new(None, b"") };
        match client.append_at(&topics.events, FIRST, Offset::ZERO, &[record]).await {
            Ok(_) => break,
            Err(error) if may_pass(&error) && tokio::time::Instant::now() < patience => {}
            Err(error) => return Err(error.into()),
        }
        let stale = std::time::Instant::now();
        tokio::time::sleep(client.cluster.backoff().draw(1, 0)).await;
        client.cluster.refreshed(&topics.events, stale).await?;
    }
    let mut said = None;
    let visit = |record: &WireRecord<'_>| {
        said = header(record, STORE_HEADER).map(envelope::decode::<StoreEnvelope>);
        Ok(())
    };
    let first = Ranges::new(client.clone(), topics.events.clone(), FIRST);
    first.read((Offset::ZERO, Offset::ZERO), visit).await?;
    match said {
        Some(Ok(store)) if store.partitions == partitions => Ok(()),
        Some(Ok(store)) => Err(unfit(format!(
            "it has {partitions} partitions now, and its aggregates are spread over {}: copy them to another store",
            store.partitions
        ))),
        Some(Err(fault)) => Err(unfit(fault.to_string())),
        None => Err(unfit("its first record was not written by an event store; name another topic".into())),
    }
}
