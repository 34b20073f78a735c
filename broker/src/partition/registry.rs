//! Which partitions live here, kept in step with the metadata image: opens what is new, reconfigures what changed, removes what was
//! deleted. A partition that cannot be opened is answered for with the reason; the others go on. Knows nothing of who asks.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tidelog_coordination::{ClusterImage, TopicConfig, TopicImage};
use tidelog_log::{DataDirError, FlushMetrics, SpaceGuard};
use tidelog_protocol::{BrokerId, ErrorCode, LeaderEpoch, MetadataIndex, PartitionId, TopicId, TopicName, WireError};
use tokio::sync::watch;
use tracing::{debug, error, info};

use super::command::Command;
use super::handle::Handle;
use super::opening::Opening;
use super::refusals;
use crate::metrics::Metrics;

/// Threads that open partitions side by side; they mostly wait for the disk.
const OPENING_THREADS: usize = 4;

#[derive(Clone, Debug)]
enum Slot {
    Open(Handle),
    /// Why not.
    Failed(WireError),
    /// Another broker leads it.
    Elsewhere,
}

#[derive(Clone, Debug)]
struct Topic {
    name: TopicName,
    config: TopicConfig,
    epochs: Vec<LeaderEpoch>,
    slots: Vec<Slot>,
}

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
        }
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
        match topic.slots.get(partition.0 as usize) {
            Some(Slot::Open(handle)) => Ok((handle.clone(), topic.config)),
            Some(Slot::Failed(error)) => Err(error.clone()),
            Some(Slot::Elsewhere) => {
                let sentence = format!("this broker does not lead {}-{partition}; refresh the metadata", topic.name);
                Err(WireError::new(ErrorCode::NotLeader, sentence))
            }
            None => {
                let sentence =
                    format!("topic '{}' has {} partitions, none of index {partition}", topic.name, topic.slots.len());
                Err(WireError::new(ErrorCode::UnknownPartition, sentence))
            }
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
        topics.values().flat_map(|topic| &topic.slots).filter(|slot| matches!(slot, Slot::Failed(_))).count()
    }

    /// Removes what an interrupted deletion left: folders of partitions that the metadata does not know. To be called before
    /// anything is opened. Blocks.
    ///
    /// # Errors
    /// Where the disk refuses.
    pub fn remove_leftovers(&self, image: &ClusterImage) -> Result<(), DataDirError> {
        self.options.opening.remove_leftovers(image)
    }

    /// Every open partition.
    #[must_use]
    pub fn all(&self) -> Vec<Handle> {
        let topics = self.topics.load();
        let slots = topics.values().flat_map(|topic| &topic.slots);
        let open = |slot: &Slot| if let Slot::Open(handle) = slot { Some(handle.clone()) } else { None };
        slots.filter_map(open).collect()
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
            match topics.get(&wanted.id) {
                Some(known) => self.reconfigure(known, wanted),
                None => debug!(topic = %wanted.name, partitions = wanted.partitions.len(), "topic"),
            }
            let known = topics.get(&wanted.id).map_or(0, |topic| topic.slots.len());
            missing.extend((known..wanted.partitions.len()).map(|index| (wanted.clone(), PartitionId(index as u32))));
        }
        let opened = self.open_all(&missing);
        for wanted in image.topics() {
            let slots = topics.get(&wanted.id).map(|topic| topic.slots.clone()).unwrap_or_default();
            let epochs = wanted.partitions.iter().map(|state| state.leader_epoch).collect();
            let topic = Topic { name: wanted.name.clone(), config: wanted.config, epochs, slots };
            topics.insert(wanted.id, Arc::new(topic));
        }
        for ((wanted, _), slot) in missing.iter().zip(opened) {
            if let Some(topic) = topics.get_mut(&wanted.id) {
                Arc::make_mut(topic).slots.push(slot);
            }
        }
        let open = |topic: &Arc<Topic>| topic.slots.iter().filter(|slot| matches!(slot, Slot::Open(_))).count();
        let count = topics.values().map(open).sum();
        self.count.store(count, Ordering::Relaxed);
        self.options.metrics.partitions.set(count as i64);
        self.topics.store(Arc::new(topics));
        self.applied.send_replace(image.as_of());
    }

    /// Opens what is missing, side by side; the result is in the same order.
    fn open_all(&self, missing: &[(Arc<TopicImage>, PartitionId)]) -> Vec<Slot> {
        let next = AtomicUsize::new(0);
        let slots: Vec<Mutex<Option<Slot>>> = missing.iter().map(|_| Mutex::new(None)).collect();
        let work = || {
            loop {
                let at = next.fetch_add(1, Ordering::Relaxed);
                let Some((topic, partition)) = missing.get(at) else { break };
                *slots[at].lock() = Some(self.open(topic, *partition));
            }
        };
        std::thread::scope(|scope| {
            for _ in 1..OPENING_THREADS.min(missing.len()) {
                scope.spawn(work);
            }
            work();
        });
        slots.into_iter().map(|slot| slot.into_inner().unwrap_or(Slot::Elsewhere)).collect()
    }

    fn open(&self, topic: &TopicImage, partition: PartitionId) -> Slot {
        let state = &topic.partitions[partition.0 as usize];
        if state.leader != Some(self.options.broker) {
            return Slot::Elsewhere;
        }
        match self.options.opening.open(topic, partition, self.options.broker) {
            Ok(handle) => Slot::Open(handle),
            Err(error) => {
                error!(topic = %topic.name, %partition, %error, "a partition cannot be opened; the others are served");
                let sentence = format!("{}-{partition} could not be opened, nothing was done: {error}", topic.name);
                Slot::Failed(WireError::new(ErrorCode::OutOfService, sentence))
            }
        }
    }

    fn reconfigure(&self, known: &Topic, wanted: &TopicImage) {
        for (index, slot) in known.slots.iter().enumerate() {
            let Slot::Open(handle) = slot else { continue };
            let leader_epoch = wanted.partitions[index].leader_epoch;
            if known.config != wanted.config || known.epochs.get(index) != Some(&leader_epoch) {
                handle.submit(Command::Reconfigure { config: wanted.config, leader_epoch });
            }
        }
    }

    fn remove(&self, topic: &Topic) {
        info!(topic = %topic.name, "topic deleted");
        for (index, slot) in topic.slots.iter().enumerate() {
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
            let partition = PartitionId(index as u32);
            if let Err(error) = self.options.opening.remove(&topic.name, partition) {
                error!(topic = %topic.name, %partition, %error, "the folder of a deleted partition cannot be removed; remove it by hand");
            }
        }
        self.options.metrics.forget_topic(topic.name.as_str());
    }
}
