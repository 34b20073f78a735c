//! Where records find their lane. Knows topics, partitions and memory; what becomes of a batch is its lane's business.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use foldhash::{HashMap, HashMapExt};
use parking_lot::{Mutex, RwLock};
use tidelog_protocol::records::BatchBuilder;
use tidelog_protocol::{PartitionId, Timestamp};

use super::delivery::Completion;
use super::identity::Identity;
use super::lane::NoRoom;
use super::memory::{Buffers, Memory, Reservation};
use super::partition::{Partition, Shared, State};
use super::scope::Scope;
use super::{Delivery, RecordRef, SendError, Settings};
use crate::ClientError;
use crate::cluster::{Cluster, TopicImage};

/// The lanes of all topics that a producer has used.
pub(super) struct Dispatch {
    shared: Arc<Shared>,
    topics: RwLock<HashMap<Arc<str>, Arc<TopicLanes>>>,
}

/// What a producer works with, and the transactions of one share.
#[derive(Clone, Debug)]
pub(crate) struct Supplies {
    settings: Settings,
    memory: Arc<Memory>,
    buffers: Arc<Buffers>,
}

impl Supplies {
    pub(crate) fn new(settings: Settings) -> Self {
        let memory = Memory::new(settings.memory_bytes);
        let buffers = Arc::new(Buffers::new(settings.batch_bytes, settings.memory_bytes));
        Self { settings, memory, buffers }
    }
}

/// The lanes of one topic, as many as it had partitions when they were made.
pub(super) struct TopicLanes {
    name: Arc<str>,
    /// As it was heard last.
    batch_bytes_max: Arc<AtomicUsize>,
    partitions: Vec<Arc<Partition>>,
    /// Where records without a choice of their own go.
    sticky: AtomicU32,
    /// The topic has grown: these are used now.
    newer: OnceLock<Arc<TopicLanes>>,
}

impl TopicLanes {
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn partitions(&self) -> u32 {
        self.current().partitions.len() as u32
    }

    #[inline]
    fn current(&self) -> &Self {
        let mut lanes = self;
        while let Some(newer) = lanes.newer.get() {
            lanes = newer;
        }
        lanes
    }

    fn limits(&self, shared: &Shared) -> Limits {
        let record_bytes = self.batch_bytes_max.load(Ordering::Relaxed).min(shared.memory.limit());
        Limits { batch_bytes: shared.settings.batch_bytes.min(record_bytes), record_bytes }
    }

    /// Where records without a choice of their own go from now on, instead of `from`.
    fn move_sticky(&self, from: u32) -> u32 {
        let next = (from + 1) % self.partitions.len().max(1) as u32;
        // Somebody else may have moved it already; theirs is as good.
        match self.sticky.compare_exchange(from, next, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => next,
            Err(theirs) => theirs,
        }
    }
}

impl fmt::Debug for Dispatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dispatch({:?})", self.shared.settings)
    }
}

/// How large batches may be, in bytes.
#[derive(Clone, Copy)]
struct Limits {
    /// Usually.
    batch_bytes: usize,
    /// Where one record needs a batch of its own.
    record_bytes: usize,
}

/// How old a topic's limit may be where a record is refused by it.
const LIMIT_AGE: Duration = Duration::from_secs(1);

/// Why a record was not taken.
enum Refused {
    /// This much memory is needed.
    Memory(usize),
    /// For good.
    For(SendError),
}

impl Dispatch {
    pub(super) fn new(cluster: Arc<Cluster>, settings: Settings) -> Arc<Self> {
        let dispatch = Arc::new(Self::of(cluster, Supplies::new(settings), None));
        dispatch.shared.cluster.runtime.spawn(notice_growth(Arc::downgrade(&dispatch)));
        dispatch
    }

    /// The lanes of one transaction. They end with it, and with them all that was on its way: nothing of it can meet the next.
    pub(super) fn of_transaction(cluster: Arc<Cluster>, supplies: Supplies, transaction: Scope) -> Arc<Self> {
        Arc::new(Self::of(cluster, supplies, Some(transaction)))
    }

    fn of(cluster: Arc<Cluster>, supplies: Supplies, transaction: Option<Scope>) -> Self {
        let Supplies { settings, memory, buffers } = supplies;
        let (identity, closed, first_failure) = (Identity::default(), AtomicBool::new(false), Mutex::default());
        let shared = Shared { cluster, settings, memory, buffers, identity, transaction, closed, first_failure };
        let shared = Arc::new(shared);
        Self { shared, topics: RwLock::new(HashMap::new()) }
    }

    /// The lanes of a topic that was used before.
    pub(super) fn known_topic(&self, name: &str) -> Option<Arc<TopicLanes>> {
        self.topics.read().get(name).cloned()
    }

    /// The lanes of a topic; asks the cluster where it is new or what is known has grown old.
    pub(super) async fn topic(&self, name: &str) -> Result<Arc<TopicLanes>, ClientError> {
        let image = self.shared.cluster.topic(name).await?;
        if image.partitions.is_empty() {
            return Err(ClientError::NoLeader { topic: name.into(), partition: PartitionId(0) });
        }
        let mut topics = self.topics.write();
        let known = topics.get(name);
        if let Some(lanes) = known.filter(|lanes| lanes.partitions.len() >= image.partitions.len()) {
            lanes.batch_bytes_max.store(image.batch_bytes_max as usize, Ordering::Relaxed);
            return Ok(Arc::clone(lanes));
        }
        let lanes = Arc::new(self.lanes(&image, known.map(Arc::as_ref)));
        if let Some(older) = topics.insert(Arc::clone(&image.name), Arc::clone(&lanes)) {
            // Set once: only whoever replaces it in the map does, under the lock.
            let _ = older.newer.set(Arc::clone(&lanes));
        }
        Ok(lanes)
    }

    fn lanes(&self, image: &TopicImage, older: Option<&TopicLanes>) -> TopicLanes {
        let batch_bytes_max = older.map(|older| Arc::clone(&older.batch_bytes_max)).unwrap_or_default();
        batch_bytes_max.store(image.batch_bytes_max as usize, Ordering::Relaxed);
        let mut partitions: Vec<Arc<Partition>> = older.map(|older| older.partitions.clone()).unwrap_or_default();
        for id in partitions.len()..image.partitions.len() {
            let (shared, topic, id) = (Arc::clone(&self.shared), Arc::clone(&image.name), PartitionId(id as u32));
            partitions.push(Partition::new(shared, topic, Arc::clone(&batch_bytes_max), id));
        }
        TopicLanes {
            name: Arc::clone(&image.name),
            batch_bytes_max,
            // Many producers that start together shall not all start with the first.
            sticky: AtomicU32::new(fastrand::u32(..partitions.len().max(1) as u32)),
            partitions,
            newer: OnceLock::new(),
        }
    }

    #[inline]
    pub(super) async fn send(&self, lanes: &TopicLanes, record: &RecordRef<'_>) -> Result<Delivery, SendError> {
        match self.append(lanes, record, &mut None) {
            Ok(delivery) => Ok(delivery),
            // On the heap, so that the usual way through here does not carry the size of these.
            Err(Refused::For(error @ SendError::TooLarge { .. })) => {
                Box::pin(self.ask_and_send(lanes, record, error)).await
            }
            Err(Refused::For(error)) => Err(error),
            Err(Refused::Memory(bytes)) => Box::pin(self.wait_and_send(lanes, record, bytes)).await,
        }
    }

    /// Sends a record that the limit as known refuses, where the cluster has raised it since.
    async fn ask_and_send(
        &self,
        lanes: &TopicLanes,
        record: &RecordRef<'_>,
        refusal: SendError,
    ) -> Result<Delivery, SendError> {
        // Many such records in a row shall not all ask.
        let Some(stale) = Instant::now().checked_sub(LIMIT_AGE) else { return Err(refusal) };
        let Ok(image) = self.shared.cluster.refreshed(&lanes.name, stale).await else { return Err(refusal) };
        lanes.batch_bytes_max.store(image.batch_bytes_max as usize, Ordering::Relaxed);
        match self.append(lanes, record, &mut None) {
            Ok(delivery) => Ok(delivery),
            Err(Refused::For(error)) => Err(error),
            Err(Refused::Memory(bytes)) => self.wait_and_send(lanes, record, bytes).await,
        }
    }

    async fn wait_and_send(
        &self,
        lanes: &TopicLanes,
        record: &RecordRef<'_>,
        mut bytes: usize,
    ) -> Result<Delivery, SendError> {
        loop {
            if !self.shared.settings.linger.is_zero() {
                // Batches that wait for company hold the memory that others wait for.
                self.let_all_leave();
            }
            let mut reserved = self.shared.memory.reserve(bytes).await;
            match self.append(lanes, record, &mut reserved) {
                Ok(delivery) => return Ok(delivery),
                Err(Refused::For(error)) => return Err(error),
                Err(Refused::Memory(more)) => bytes = more,
            }
        }
    }

    #[inline]
    pub(super) fn try_send(&self, lanes: &TopicLanes, record: &RecordRef<'_>) -> Result<Delivery, SendError> {
        self.append(lanes, record, &mut None).map_err(|refused| match refused {
            Refused::For(error) => error,
            Refused::Memory(_) => SendError::Full,
        })
    }

    /// Takes a record into its batch; opens one where need be, from `reserved` where that suffices.
    #[inline]
    fn append(
        &self,
        lanes: &TopicLanes,
        record: &RecordRef<'_>,
        reserved: &mut Option<Reservation>,
    ) -> Result<Delivery, Refused> {
        if self.shared.closed.load(Ordering::Relaxed) {
            return Err(Refused::For(self.why_closed()));
        }
        let lanes = lanes.current();
        let timestamp = record.timestamp.unwrap_or_else(now);
        let count = lanes.partitions.len() as u32;
        let chosen = record.partition.or_else(|| self.shared.settings.choice.partition(&lanes.name, record.key, count));
        let index = chosen.map_or_else(|| lanes.sticky.load(Ordering::Relaxed), |chosen| chosen.0);
        let Some(partition) = lanes.partitions.get(index as usize) else {
            return Err(Refused::For(self.unknown_partition(lanes, PartitionId(index))));
        };
        let mut state = partition.lock();
        if state.lane.is_abandoned() {
            return Err(Refused::For(SendError::Undone));
        }
        let appended = match state.lane.append(timestamp, record) {
            Ok(appended) => Ok(appended),
            Err(_) if chosen.is_none() && self.moves_on(&mut state) => {
                let drive = state.lane.begin_drive();
                drop(state);
                if drive {
                    partition.drive();
                }
                // Explicit now, so this is tried once.
                let record = RecordRef { partition: Some(PartitionId(lanes.move_sticky(index))), ..*record };
                return self.append(lanes, &record, reserved);
            }
            Err(_) => {
                self.append_to_new(partition, &mut state, lanes.limits(&self.shared), (timestamp, record), reserved)
            }
        };
        let drive = state.lane.begin_drive();
        drop(state);
        if drive {
            partition.drive();
        }
        appended.map(|(batch, index)| Delivery::new(batch, index))
    }

    /// Closes the open batch; true where the partition had its share of records that may go anywhere.
    #[cold]
    fn moves_on(&self, state: &mut State) -> bool {
        state.lane.close_open();
        state.lane.had_its_share(self.shared.settings.batch_bytes)
    }

    /// Opens a batch in which the record finds room and appends it there.
    #[cold]
    fn append_to_new(
        &self,
        partition: &Arc<Partition>,
        state: &mut State,
        limits: Limits,
        (timestamp, record): (Timestamp, &RecordRef<'_>),
        reserved: &mut Option<Reservation>,
    ) -> Result<(Arc<Completion>, u32), Refused> {
        let mut bytes = limits.batch_bytes;
        loop {
            // What is open is as full as it gets; it may leave even where the new one has to wait for memory.
            state.lane.close_open();
            let usable = reserved.take().filter(|reservation| reservation.bytes() >= bytes);
            let Some(memory) = usable.or_else(|| self.shared.memory.try_reserve(bytes)) else {
                return Err(Refused::Memory(bytes));
            };
            let builder = BatchBuilder::with_buffer(self.shared.buffers.take(), bytes);
            let id = state.lane.open(builder, memory, Instant::now());
            match state.lane.append(timestamp, record) {
                Ok(appended) => {
                    self.let_leave_in_time(partition, id);
                    return Ok(appended);
                }
                Err(NoRoom::Batch { bytes: alone }) if alone > bytes && alone <= limits.record_bytes => bytes = alone,
                Err(NoRoom::Batch { bytes: alone }) => {
                    state.lane.close_open();
                    return Err(Refused::For(SendError::TooLarge { bytes: alone, limit: limits.record_bytes }));
                }
                Err(NoRoom::Never(error)) => {
                    state.lane.close_open();
                    return Err(Refused::For(ClientError::Argument(error.to_string()).into()));
                }
            }
        }
    }

    /// A batch that does not fill up leaves when its linger time is over.
    fn let_leave_in_time(&self, partition: &Arc<Partition>, id: u64) {
        let linger = self.shared.settings.linger;
        if linger.is_zero() {
            return;
        }
        let partition = Arc::clone(partition);
        self.shared.cluster.runtime.spawn(async move {
            tokio::time::sleep(linger).await;
            partition.let_leave(Some(id));
        });
    }

    fn let_all_leave(&self) {
        for partition in self.all_partitions() {
            partition.let_leave(None);
        }
    }

    fn all_partitions(&self) -> Vec<Arc<Partition>> {
        self.topics.read().values().flat_map(|lanes| lanes.partitions.iter().cloned()).collect()
    }

    /// Sends what was taken so far and waits for its fate; the first failure since the last call, if any.
    pub(super) async fn flush(&self) -> Result<(), SendError> {
        let mut unsettled = Vec::new();
        for partition in self.all_partitions() {
            unsettled.extend(partition.lock().lane.unsettled());
            partition.let_leave(None);
        }
        let mut result = Ok(());
        for completion in unsettled {
            let outcome = completion.settled().await;
            result = result.and(outcome.map(|_| ()));
        }
        // What failed before this call counts as well: whoever asks only here must hear of it.
        self.shared.first_failure.lock().take().map_or(result, Err)
    }

    /// Takes no more records.
    pub(super) fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
    }

    #[cold]
    fn why_closed(&self) -> SendError {
        match &self.shared.transaction {
            None => SendError::Closed,
            Some(transaction) if transaction.failure().is_some() => SendError::Undone,
            Some(_) => SendError::TransactionEnded,
        }
    }

    /// Takes no more records, and gives up those that have no answer.
    pub(super) fn abandon(&self) {
        self.close();
        for partition in self.all_partitions() {
            partition.abandon();
        }
    }

    /// Why a record of the transaction was not written, where one was not.
    pub(super) fn failure(&self) -> Option<SendError> {
        self.shared.transaction.as_ref().and_then(|transaction| transaction.failure().cloned())
    }

    /// True where no record was ever taken.
    pub(super) fn is_untouched(&self) -> bool {
        self.all_partitions().iter().all(|partition| partition.lock().lane.is_untouched())
    }

    /// True where records are numbered, or will be.
    pub(super) fn is_idempotent(&self) -> bool {
        self.shared.settings.is_idempotent() && !self.shared.identity.is_unavailable()
    }

    pub(super) fn memory_in_use(&self) -> usize {
        self.shared.memory.in_use()
    }

    #[cold]
    fn unknown_partition(&self, lanes: &TopicLanes, partition: PartitionId) -> SendError {
        let (topic, partitions) = (lanes.name.to_string(), lanes.partitions.len() as u32);
        ClientError::UnknownPartition { topic, partition, partitions }.into()
    }
}

/// Looks now and then whether topics have got more partitions, as long as the producer is there.
async fn notice_growth(dispatch: Weak<Dispatch>) {
    while let Some(interval) = dispatch.upgrade().map(|dispatch| dispatch.shared.cluster.options.metadata_max_age) {
        // A little later than metadata are taken for old.
        tokio::time::sleep(interval + Duration::from_millis(1)).await;
        let Some(dispatch) = dispatch.upgrade() else { return };
        let names: Vec<Arc<str>> = dispatch.topics.read().keys().cloned().collect();
        for name in names {
            if let Err(error) = dispatch.topic(&name).await {
                tracing::debug!(topic = %name, %error, "could not look whether the topic has grown");
            }
        }
    }
}

/// The clock that stamps records: milliseconds since 1970.
#[inline]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(since.as_millis() as i64)
}
