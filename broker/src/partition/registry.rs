//! Which partitions live here, kept in step with the metadata image: opens what is new, tells the others what is wanted of them now,
//! removes what was deleted or moved away. A partition that cannot be opened is answered for with the reason; the others go on. Knows nothing of who asks.

mod anew;
mod place;

use std::collections::{BTreeSet, HashMap};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidelog_coordination::{ClusterImage, PartitionImage, TopicConfig, TopicImage};
use tidelog_log::{DataDirError, FlushMetrics, SpaceGuard};
use tidelog_protocol::messages::{ReplicaHolding, ReplicaReport};
use tidelog_protocol::{BrokerEpoch, BrokerId, ErrorCode, MetadataIndex, PartitionId, TopicId, WireError};
use tokio::sync::watch;
use tracing::{debug, error, info, warn};

use super::assignment::{Assignment, Member, Part};
use super::command::Command;
use super::handle::Handle;
use super::leftovers::Note;
use super::opening::Opening;
use super::recoveries::Recoveries;
use super::refusals;
use super::upstream::Replica;
use crate::metrics::Metrics;
use place::{Place, Slot, Topic};

/// Threads that open partitions side by side; they mostly wait for the disk.
const OPENING_THREADS: usize = 4;

type Topics = HashMap<TopicId, Arc<Topic>, foldhash::fast::RandomState>;

/// Everything that opening a partition takes.
pub struct RegistryOptions {
    /// This broker.
    pub broker: BrokerId,
    /// How partitions are opened and removed.
    pub opening: Opening,
    /// What is counted.
    pub metrics: Arc<Metrics>,
}

/// The partitions here.
pub struct Registry {
    options: RegistryOptions,
    topics: ArcSwap<Topics>,
    count: AtomicUsize,
    applied: watch::Sender<MetadataIndex>,
    one_at_a_time: Mutex<()>,
    note: Note,
    /// The registration of this start; 0 before it.
    epoch: AtomicU64,
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("partitions", &self.len()).finish_non_exhaustive()
    }
}

impl Registry {
    /// Empty, until an image is applied.
    #[must_use]
    pub fn new(options: RegistryOptions) -> Self {
        Self {
            options,
            topics: ArcSwap::default(),
            count: AtomicUsize::new(0),
            applied: watch::Sender::new(MetadataIndex(0)),
            one_at_a_time: Mutex::new(()),
            note: Note::default(),
            epoch: AtomicU64::new(0),
        }
    }

    /// Notes under which registration this broker serves, before the first image is applied.
    pub fn registered(&self, epoch: BrokerEpoch) {
        self.epoch.store(epoch.0, Ordering::Release);
    }

    /// This broker, as it has registered.
    #[must_use]
    pub fn member(&self) -> Member {
        Member { broker: self.options.broker, epoch: BrokerEpoch(self.epoch.load(Ordering::Acquire)) }
    }

    /// How many partitions are open.
    #[must_use]
    pub fn len(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// True where none is open.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The guard of free space.
    #[must_use]
    pub fn space(&self) -> &SpaceGuard {
        self.options.opening.space()
    }

    /// What the flusher has done.
    #[must_use]
    pub fn flush_metrics(&self) -> FlushMetrics {
        self.options.opening.flusher.metrics()
    }

    /// Writes, flushes and removes a small file in the data folder.
    ///
    /// # Errors
    /// What the disk says.
    pub fn probe_disk(&self) -> Result<(), String> {
        self.options.opening.probe_disk().map_err(|error| error.to_string())
    }

    /// A partition and its topic's configuration.
    ///
    /// # Errors
    /// UnknownTopic, UnknownPartition, NotLeader, or why it could not be opened.
    pub fn find(&self, topic_id: TopicId, partition: PartitionId) -> Result<(Handle, TopicConfig), WireError> {
        let topics = self.topics.load();
        let Some(topic) = topics.get(&topic_id) else {
            return Err(refusals::unknown_topic(topic_id));
        };
        match topic.places.get(partition.0 as usize).map(|place| &place.slot) {
            Some(Slot::Open(handle)) => Ok((handle.clone(), topic.image.config)),
            Some(Slot::Failed(error, _) | Slot::NotYet(error)) => Err(error.clone()),
            Some(Slot::Elsewhere) => {
                let sentence =
                    format!("this broker holds no replica of {}-{partition}; refresh the metadata", topic.image.name);
                Err(WireError::new(ErrorCode::NotLeader, sentence))
            }
            None => Err(refusals::unknown_partition(&topic.image, partition)),
        }
    }

    /// True where there is a topic of this identity.
    #[must_use]
    pub fn knows(&self, topic_id: TopicId) -> bool {
        self.topics.load().contains_key(&topic_id)
    }

    /// How many partitions could not be opened.
    #[must_use]
    pub fn failed(&self) -> usize {
        let topics = self.topics.load();
        topics.values().flat_map(|topic| &topic.places).filter(|place| place.slot.is_failed()).count()
    }

    /// True where partitions wait to be opened for room on the disk or a file descriptor: applying the image again tries.
    #[must_use]
    pub fn has_waiting(&self) -> bool {
        self.topics.load().values().any(|topic| topic.has_waiting())
    }

    /// The replicas here that others count on although they are not whole, each as of the newest image that was applied: the controller must
    /// know. To be asked again: what is said may come to nothing.
    #[must_use]
    pub fn not_whole(&self) -> Vec<ReplicaReport> {
        let mut reports = Vec::new();
        for (topic_id, topic) in self.topics.load().iter() {
            let places = topic.places.iter().zip(&topic.image.partitions);
            // The controller knows already; or there is nobody who could stand in, and the broker here says why it does nothing.
            let worth_it = |state: &PartitionImage| state.unreadable.is_none() && state.replicas.len() > 1;
            for (index, (place, state)) in places.enumerate().filter(|(_, (_, state))| worth_it(state)) {
                let (topic_id, partition) = (*topic_id, PartitionId(index as u32));
                let report =
                    |holds| ReplicaReport { topic_id, partition, partition_epoch: state.partition_epoch, holds };
                reports.extend(place.lacks().map(report));
            }
        }
        reports
    }

    /// Removes what an interrupted deletion left: folders of partitions that the metadata does not know. To be called before
    /// anything is opened. Blocks.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn remove_leftovers(&self, image: &ClusterImage) -> Result<(), DataDirError> {
        if !self.speaks_of_us(image) {
            return Ok(());
        }
        self.options.opening.remove_leftovers(image, self.member())
    }

    /// Every replica here that is not open.
    #[must_use]
    pub fn not_open(&self) -> Vec<Replica> {
        let mut replicas = Vec::new();
        for (topic_id, topic) in self.topics.load().iter() {
            let failed = topic.places.iter().enumerate().filter(|(_, place)| place.slot.is_failed());
            let replica = |index| Replica { topic_id: *topic_id, partition: PartitionId(index as u32) };
            replicas.extend(failed.map(|(index, _)| replica(index)));
        }
        replicas
    }

    /// Every open partition.
    #[must_use]
    pub fn all(&self) -> Vec<Handle> {
        self.open_where(|_| true)
    }

    /// Every open partition of which other brokers hold replicas too.
    #[must_use]
    pub fn replicated(&self) -> Vec<Handle> {
        self.open_where(|place| !place.assignment.as_ref().is_some_and(Assignment::is_alone))
    }

    fn open_where(&self, picked: impl Fn(&Place) -> bool) -> Vec<Handle> {
        let topics = self.topics.load();
        let open = |place: &Place| match &place.slot {
            Slot::Open(handle) if picked(place) => Some(handle.clone()),
            Slot::Open(_) | Slot::Failed(..) | Slot::NotYet(_) | Slot::Elsewhere => None,
        };
        topics.values().flat_map(|topic| &topic.places).filter_map(open).collect()
    }

    /// The newest image that was applied.
    #[must_use]
    pub fn applied_index(&self) -> MetadataIndex {
        *self.applied.borrow()
    }

    /// The newest image that was applied, and its changes.
    #[must_use]
    pub fn applications(&self) -> watch::Receiver<MetadataIndex> {
        self.applied.subscribe()
    }

    /// Waits until the image of `index` has been applied.
    pub async fn applied(&self, index: MetadataIndex) {
        let mut applied = self.applied.subscribe();
        // The sender lives as long as this registry.
        let _ = applied.wait_for(|reached| *reached >= index).await;
    }

    /// Brings the partitions here in step with `image`. Blocks on the disk.
    pub fn apply(&self, image: &ClusterImage) {
        let _turn = self.one_at_a_time.lock();
        if self.speaks_of_us(image) {
            self.keep_step(image);
        }
        self.applied.send_replace(image.as_of());
    }

    /// Metadata from before this broker's registration speaks of an earlier life of it, which held what it may lack now.
    fn speaks_of_us(&self, image: &ClusterImage) -> bool {
        let Member { broker, epoch } = self.member();
        image.broker(broker).is_some_and(|known| known.epoch == epoch)
    }

    fn keep_step(&self, image: &ClusterImage) {
        let mut topics = Topics::clone(&self.topics.load());
        topics.retain(|id, topic| {
            let kept = image.topic(*id).is_some();
            if !kept {
                self.remove(topic);
            }
            kept
        });
        let mut missing = Vec::new();
        for wanted in image.topics() {
            let known = topics.get(&wanted.id);
            if known.is_none() {
                debug!(topic = %wanted.name, partitions = wanted.partitions.len(), "topic");
            }
            if known.is_some_and(|known| Arc::ptr_eq(&known.image, wanted) && !known.has_waiting()) {
                continue;
            }
            let places = self.renewed(known.map(Arc::as_ref), wanted);
            let is_missing =
                |place: &Place| place.assignment.is_some() && matches!(place.slot, Slot::Elsewhere | Slot::NotYet(_));
            let indexes = places.iter().enumerate().filter(|(_, place)| is_missing(place));
            missing.extend(indexes.map(|(index, _)| (wanted.clone(), PartitionId(index as u32))));
            topics.insert(wanted.id, Arc::new(Topic { image: wanted.clone(), places }));
        }
        let watermarks = &self.options.opening.watermarks;
        let known = |(topic, partition): &(Arc<TopicImage>, PartitionId)| {
            let epoch = topic.partition(*partition).map(|state| state.leader_epoch).unwrap_or_default();
            (Replica { topic_id: topic.id, partition: *partition }, epoch)
        };
        watermarks.begin(&missing.iter().map(known).collect::<Vec<_>>());
        let opened = self.open_all(&missing, image.as_of());
        let founded =
            opened.iter().filter_map(|slot| if let Slot::Open(handle) = slot { Some(handle.clone()) } else { None });
        self.note_founded(&founded.collect::<Vec<_>>());
        for ((wanted, partition), slot) in missing.iter().zip(opened) {
            if let Some(topic) = topics.get_mut(&wanted.id) {
                Arc::make_mut(topic).places[partition.0 as usize].slot = slot;
            }
        }
        self.publish(topics);
    }

    /// To be called before anybody can write to them: from then on the loss of a folder is told from one that was never made.
    fn note_founded(&self, founded: &[Handle]) {
        let Opening { watermarks, data, .. } = &self.options.opening;
        if let Err(error) = watermarks.found(data, founded) {
            warn!(%error, "which folders of partitions were made cannot be noted; it is tried again");
        }
    }

    fn publish(&self, topics: Topics) {
        let is_open = |place: &&Place| matches!(place.slot, Slot::Open(_));
        let count = topics.values().map(|topic| topic.places.iter().filter(is_open).count()).sum();
        self.count.store(count, Ordering::Relaxed);
        self.options.metrics.partitions.set(count as i64);
        self.topics.store(Arc::new(topics));
    }

    /// The places of a topic as it is wanted now. What is open is told; what is to be opened is [`Slot::Elsewhere`] still.
    fn renewed(&self, known: Option<&Topic>, wanted: &TopicImage) -> Vec<Place> {
        let place = |index: usize| {
            let partition = PartitionId(index as u32);
            let assignment = Assignment::of(wanted, partition, self.member());
            let slot = match (known.and_then(|topic| topic.places.get(index)), &assignment) {
                (None, _) => Slot::Elsewhere,
                (Some(place), Some(assignment)) => self.retold(place, assignment),
                (Some(place), None) => {
                    if place.assignment.is_some() {
                        info!(topic = %wanted.name, %partition, "the replica here is no longer wanted");
                        self.vacate(wanted, partition, &place.slot);
                    }
                    Slot::Elsewhere
                }
            };
            Place { assignment, slot }
        };
        (0..wanted.partitions.len()).map(place).collect()
    }

    fn retold(&self, place: &Place, wanted: &Assignment) -> Slot {
        if place.assignment.as_ref() == Some(wanted) {
            return place.slot.clone();
        }
        match &place.slot {
            Slot::Open(handle) => {
                handle.submit(Command::Assign(Box::new(wanted.clone())));
                place.slot.clone()
            }
            // As one of many, not counted on, it may begin anew.
            Slot::Failed(..) if !wanted.counts && matches!(wanted.part, Part::Follow(_)) => Slot::Elsewhere,
            // Nobody has more any more.
            Slot::Failed(_, ReplicaHolding::Short) if !wanted.has_heirs => Slot::Elsewhere,
            Slot::Failed(..) | Slot::NotYet(_) | Slot::Elsewhere => place.slot.clone(),
        }
    }

    /// Opens what is missing, side by side; the result is in the same order.
    fn open_all(&self, missing: &[(Arc<TopicImage>, PartitionId)], as_of: MetadataIndex) -> Vec<Slot> {
        if missing.is_empty() {
            return Vec::new();
        }
        let unnoted = self.note.raise(&self.options.opening.data, as_of).err();
        // What is there already needs no note: a full disk keeps nobody from reading it.
        let with_folder = if unnoted.is_some() { self.options.opening.folders() } else { BTreeSet::new() };
        let waits_for_note = |topic: &TopicImage, partition: PartitionId| {
            unnoted.as_ref().filter(|_| !with_folder.contains(&(topic.name.clone(), partition)))
        };
        if let Some(error) = &unnoted
            && missing.iter().any(|(topic, partition)| waits_for_note(topic, *partition).is_some())
        {
            self.note.tell_refused(error);
        }
        let (next, recoveries) = (AtomicUsize::new(0), Recoveries::default());
        let slots: Vec<Mutex<Option<Slot>>> = missing.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((topic, partition)) = missing.get(at) else { break };
                let slot = match waits_for_note(topic, *partition) {
                    Some(error) => not_yet(topic, *partition, error),
                    None => self.open(topic, *partition, &recoveries),
                };
                *slots[at].lock() = Some(slot);
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..OPENING_THREADS.min(missing.len()) {
                scope.spawn(work);
            }
            work();
        });
        recoveries.tell();
        slots.into_iter().map(|slot| slot.into_inner().unwrap_or(Slot::Elsewhere)).collect()
    }

    fn open(&self, topic: &TopicImage, partition: PartitionId, recoveries: &Recoveries) -> Slot {
        let Some(assignment) = Assignment::of(topic, partition, self.member()) else { return Slot::Elsewhere };
        let is_ours_alone = topic.internal && assignment.is_sole;
        match self.options.opening.open(topic, partition, assignment, recoveries) {
            Ok(handle) => Slot::Open(handle),
            Err(error) if error.is_transient() => {
                warn!(topic = %topic.name, %partition, %error, "a partition cannot be opened yet; it is tried again");
                not_yet(topic, partition, &error)
            }
            Err(error) => {
                let remedy = error.remedy(&topic.name, partition, is_ours_alone);
                let why = remedy.map_or_else(|| error.to_string(), |remedy| format!("{error}: {remedy}"));
                error!(topic = %topic.name, %partition, error = why, "a partition cannot be opened; the others are served");
                let sentence = format!("{}-{partition} could not be opened, nothing was done: {why}", topic.name);
                Slot::Failed(WireError::new(ErrorCode::OutOfService, sentence), error.holding())
            }
        }
    }

    fn remove(&self, topic: &Topic) {
        let name = &topic.image.name;
        info!(topic = %name, "topic deleted");
        for (index, place) in topic.places.iter().enumerate() {
            if place.assignment.is_some() {
                self.vacate(&topic.image, PartitionId(index as u32), &place.slot);
            }
        }
        self.options.metrics.forget_topic(name.as_str());
    }

    /// The replica here goes, and its folder with it.
    fn vacate(&self, topic: &TopicImage, partition: PartitionId, slot: &Slot) {
        if let Slot::Open(handle) = slot {
            let (sender, receiver) = std::sync::mpsc::sync_channel(1);
            handle.submit(Command::Delete {
                ticket: Box::new(move |_| {
                    // The receiver waits below.
                    let _ = sender.send(());
                }),
            });
            // The owner answers on this thread or on another that is running it; either way soon.
            let _ = receiver.recv();
        }
        if let Err(error) = self.options.opening.remove(topic, partition) {
            error!(topic = %topic.name, %partition, %error, "the folder of a replica that is gone cannot be removed; remove it by hand");
        }
    }
}

/// When a client may ask again for what is to be opened, in milliseconds.
const OPENING_RETRY_MS: u32 = 500;

/// Retriable: the client tries again, and so does the broker.
fn not_yet(topic: &TopicImage, partition: PartitionId, error: &dyn fmt::Display) -> Slot {
    let sentence = format!(
        "{}-{partition} cannot be opened yet, nothing was done: {error}; free space, or raise the limit of open files, whichever is short: the broker tries again by itself",
        topic.name
    );
    Slot::NotYet(WireError { retry_after_ms: OPENING_RETRY_MS, ..WireError::new(ErrorCode::StorageFull, sentence) })
}
