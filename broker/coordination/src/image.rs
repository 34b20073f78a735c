//! The metadata as of one index of its log: brokers, topics, partitions. Every broker applies the same records in the same order
//! and so holds the same image. Knows nothing of who decided on a record, nor of how it travelled.

use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{BrokerEpoch, BrokerId, ControllerEpoch, MetadataIndex, PartitionId, ProducerId, Timestamp};
use tidelog_protocol::{TopicId, TopicName};

use crate::records::{
    BrokerDraining, BrokerEpochReached, BrokerFenced, BrokerLeaving, BrokerRegistered, BrokerRemoved, BrokerUnfenced,
    ControllerEpochBegun, FeatureLevel, FolderStamped, MetadataRecord, PartitionChanged, PartitionCreated,
    PartitionState, ProducerIdBlock, TopicConfigured, TopicCreated, TopicDeleted,
};
use crate::topic_config::{Overrides, TopicConfig};

/// The metadata of the cluster. A clone costs two counters; what is applied after one copies only what it touches, so keep
/// clones per batch of records and not per record.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ClusterImage {
    as_of: MetadataIndex,
    feature_level: u16,
    last_broker_epoch: BrokerEpoch,
    controller: Option<ControllerEpochBegun>,
    producer_ids: Option<ProducerIdBlock>,
    brokers: Arc<BTreeMap<BrokerId, BrokerImage>>,
    topics: Arc<Topics>,
}

/// Invariant: both maps hold the same topics.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Topics {
    by_id: BTreeMap<TopicId, Arc<TopicImage>>,
    by_name: BTreeMap<TopicName, TopicId>,
}

/// A broker: what its last registration said, and what came of it since.
pub type BrokerImage = BrokerRegistered;

impl BrokerImage {
    /// Can it lead, and count as in sync?
    #[must_use]
    pub const fn is_live(&self) -> bool {
        !self.fenced && !self.leaving
    }

    /// Can it be given new replicas?
    #[must_use]
    pub const fn takes_replicas(&self) -> bool {
        self.is_live() && !self.draining
    }
}

/// Who holds a partition.
pub type PartitionImage = PartitionState;

/// A topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicImage {
    /// Its identity.
    pub id: TopicId,
    /// Its name.
    pub name: TopicName,
    /// True where the broker itself owns it.
    pub internal: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// What it sets itself.
    pub overrides: Overrides,
    /// What holds for it.
    pub config: TopicConfig,
    /// By index, without gaps.
    pub partitions: Vec<PartitionImage>,
}

impl TopicImage {
    /// A partition.
    #[must_use]
    pub fn partition(&self, partition: PartitionId) -> Option<&PartitionImage> {
        self.partitions.get(partition.0 as usize)
    }

    /// Its partitions with their indexes.
    pub fn partitions(&self) -> impl Iterator<Item = (PartitionId, &PartitionImage)> {
        self.partitions.iter().enumerate().map(|(index, state)| (PartitionId(index as u32), state))
    }

    /// How many replicas its partitions have once nothing is reassigned, by the first one; 0 while it has none.
    #[must_use]
    pub fn replication_factor(&self) -> usize {
        self.partitions.first().map_or(0, |partition| partition.target().count())
    }

    /// Its overrides as records and messages carry them.
    #[must_use]
    pub fn override_entries(&self) -> Vec<ConfigEntry> {
        entries(&self.overrides)
    }
}

/// Overrides as records and messages carry them, in the order of their keys.
#[must_use]
pub fn entries(overrides: &Overrides) -> Vec<ConfigEntry> {
    overrides.iter().map(|(key, value)| ConfigEntry { key: key.clone(), value: value.clone() }).collect()
}

fn overrides(entries: &[ConfigEntry]) -> Overrides {
    entries.iter().map(|entry| (entry.key.clone(), entry.value.clone())).collect()
}

impl ClusterImage {
    /// Index of the last record applied; 0 before the first.
    #[must_use]
    pub const fn as_of(&self) -> MetadataIndex {
        self.as_of
    }

    /// The feature level; 0 before the first record.
    #[must_use]
    pub const fn feature_level(&self) -> u16 {
        self.feature_level
    }

    /// The epoch of the youngest registration of any broker.
    #[must_use]
    pub const fn last_broker_epoch(&self) -> BrokerEpoch {
        self.last_broker_epoch
    }

    /// The epoch of the controller in office; 0 before the first.
    #[must_use]
    pub fn controller_epoch(&self) -> ControllerEpoch {
        self.controller.as_ref().map_or_else(ControllerEpoch::default, |begun| begun.epoch)
    }

    /// The broker whose controller is in office.
    #[must_use]
    pub fn controller(&self) -> Option<BrokerId> {
        self.controller.as_ref().map(|begun| begun.broker_id)
    }

    /// The first producer id that no broker has got.
    #[must_use]
    pub fn next_producer_id(&self) -> ProducerId {
        self.producer_ids.as_ref().map_or(ProducerId(0), |block| block.end)
    }

    /// The brokers, by id.
    pub fn brokers(&self) -> impl ExactSizeIterator<Item = &BrokerImage> {
        self.brokers.values()
    }

    /// A broker.
    #[must_use]
    pub fn broker(&self, id: BrokerId) -> Option<&BrokerImage> {
        self.brokers.get(&id)
    }

    /// The topics, by name.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicImage>> {
        self.topics.by_name.values().map(|id| &self.topics.by_id[id])
    }

    /// A topic by its identity.
    #[must_use]
    pub fn topic(&self, id: TopicId) -> Option<&Arc<TopicImage>> {
        self.topics.by_id.get(&id)
    }

    /// A topic by its name.
    #[must_use]
    pub fn topic_named(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topic(*self.topics.by_name.get(name)?)
    }

    /// Applies the record at `index`. Records of one entry share its index.
    ///
    /// # Panics
    /// Where the record does not follow from the image: the log carries checksums and is written by
    /// [`crate::Controller`] alone, so that is a bug of ours, and going on would let the brokers' images part.
    pub fn apply(&mut self, index: MetadataIndex, record: &MetadataRecord) {
        assert!(index >= self.as_of, "metadata goes back from {} to {index}", self.as_of);
        self.as_of = index;
        match record {
            MetadataRecord::FeatureLevel(FeatureLevel { level }) => {
                assert!(*level >= self.feature_level, "feature level goes back from {} to {level}", self.feature_level);
                self.feature_level = *level;
            }
            MetadataRecord::BrokerRegistered(record) => self.register(record),
            MetadataRecord::TopicCreated(record) => self.create(record),
            MetadataRecord::TopicDeleted(TopicDeleted { topic_id }) => {
                let topics = Arc::make_mut(&mut self.topics);
                let topic = topics.by_id.remove(topic_id);
                let named = topic.and_then(|topic| topics.by_name.remove(&topic.name));
                assert!(named == Some(*topic_id), "a deleted topic existed: {topic_id}");
            }
            MetadataRecord::TopicConfigured(TopicConfigured { topic_id, overrides: entries }) => {
                let topic = self.topic_mut(*topic_id);
                topic.overrides = overrides(entries);
                topic.config = TopicConfig::resolve(&topic.overrides);
            }
            MetadataRecord::PartitionCreated(PartitionCreated { topic_id, partition, state }) => {
                state.assert_sound();
                let partitions = &mut self.topic_mut(*topic_id).partitions;
                assert!(partition.0 as usize == partitions.len(), "partitions have no gaps: {topic_id} {partition}");
                partitions.push(state.clone());
            }
            MetadataRecord::PartitionChanged(PartitionChanged { topic_id, partition, state }) => {
                state.assert_sound();
                let held = self.topic_mut(*topic_id).partitions.get_mut(partition.0 as usize);
                let held = held.unwrap_or_else(|| unreachable!("a changed partition exists: {topic_id} {partition}"));
                state.assert_follows(held);
                *held = state.clone();
            }
            MetadataRecord::BrokerFenced(BrokerFenced { broker_id, epoch }) => {
                self.registered_mut(*broker_id, *epoch).fenced = true;
            }
            MetadataRecord::BrokerUnfenced(BrokerUnfenced { broker_id, epoch }) => {
                self.registered_mut(*broker_id, *epoch).fenced = false;
            }
            MetadataRecord::FolderStamped(FolderStamped { broker_id, epoch, stamp }) => {
                let broker = self.registered_mut(*broker_id, *epoch);
                (broker.stamp, broker.copy) = (Some(*stamp), None);
            }
            MetadataRecord::BrokerLeaving(BrokerLeaving { broker_id, epoch }) => {
                self.registered_mut(*broker_id, *epoch).leaving = true;
            }
            MetadataRecord::BrokerDraining(BrokerDraining { broker_id, draining }) => {
                self.broker_mut(*broker_id).draining = *draining;
            }
            MetadataRecord::BrokerRemoved(BrokerRemoved { broker_id }) => {
                let broker = Arc::make_mut(&mut self.brokers).remove(broker_id);
                assert!(broker.is_some(), "a removed broker existed: {broker_id}");
            }
            MetadataRecord::BrokerEpochReached(BrokerEpochReached { epoch }) => {
                self.reach_broker_epoch(*epoch);
            }
            MetadataRecord::ControllerEpochBegun(begun) => {
                assert!(begun.epoch > self.controller_epoch(), "controller epochs grow: {begun:?}");
                self.controller = Some(begun.clone());
            }
            MetadataRecord::ProducerIdBlock(block) => {
                let fresh = self.next_producer_id() <= block.first && block.first < block.end;
                assert!(fresh, "producer ids are given out once: {block:?} after {:?}", self.producer_ids);
                self.producer_ids = Some(block.clone());
            }
        }
    }

    /// The records that make this image from an empty one, for snapshots: the feature level, the controller, the last producer ids, brokers by their epoch,
    /// then topics by name, each with its partitions. To be applied with [`ClusterImage::as_of`] as index.
    #[must_use]
    pub fn to_records(&self) -> Vec<MetadataRecord> {
        let mut records = Vec::new();
        if self.feature_level > 0 {
            records.push(FeatureLevel { level: self.feature_level }.into());
        }
        records.extend(self.controller.clone().map(MetadataRecord::from));
        records.extend(self.producer_ids.clone().map(MetadataRecord::from));
        let mut brokers: Vec<_> = self.brokers().cloned().collect();
        brokers.sort_by_key(|broker| broker.epoch);
        let youngest = brokers.last().map(|broker| broker.epoch).unwrap_or_default();
        records.extend(brokers.into_iter().map(MetadataRecord::from));
        if self.last_broker_epoch > youngest {
            records.push(BrokerEpochReached { epoch: self.last_broker_epoch }.into());
        }
        for topic in self.topics() {
            let created = TopicCreated {
                topic_id: topic.id,
                name: topic.name.clone(),
                internal: topic.internal,
                created_at: topic.created_at,
                overrides: topic.override_entries(),
            };
            records.push(created.into());
            let partition = |(partition, state): (_, &PartitionState)| {
                PartitionCreated { topic_id: topic.id, partition, state: state.clone() }.into()
            };
            records.extend(topic.partitions().map(partition));
        }
        records
    }

    fn register(&mut self, record: &BrokerRegistered) {
        self.reach_broker_epoch(record.epoch);
        Arc::make_mut(&mut self.brokers).insert(record.broker_id, record.clone());
    }

    fn reach_broker_epoch(&mut self, epoch: BrokerEpoch) {
        assert!(epoch > self.last_broker_epoch, "broker epochs grow: {epoch} after {}", self.last_broker_epoch);
        self.last_broker_epoch = epoch;
    }

    fn broker_mut(&mut self, id: BrokerId) -> &mut BrokerImage {
        let broker = Arc::make_mut(&mut self.brokers).get_mut(&id);
        broker.unwrap_or_else(|| unreachable!("a changed broker exists: {id}"))
    }

    fn registered_mut(&mut self, id: BrokerId, epoch: BrokerEpoch) -> &mut BrokerImage {
        let broker = self.broker_mut(id);
        assert!(broker.epoch == epoch, "a registration changes as long as it is the newest: {broker:?} and {epoch}");
        broker
    }

    fn create(&mut self, record: &TopicCreated) {
        let overrides = overrides(&record.overrides);
        let topic = TopicImage {
            id: record.topic_id,
            name: record.name.clone(),
            internal: record.internal,
            created_at: record.created_at,
            config: TopicConfig::resolve(&overrides),
            overrides,
            partitions: Vec::new(),
        };
        let topics = Arc::make_mut(&mut self.topics);
        let twin = topics.by_name.insert(record.name.clone(), record.topic_id);
        assert!(twin.is_none(), "topic names are unique: {}", record.name);
        let twin = topics.by_id.insert(record.topic_id, Arc::new(topic));
        assert!(twin.is_none(), "topic ids are unique: {}", record.topic_id);
    }

    fn topic_mut(&mut self, id: TopicId) -> &mut TopicImage {
        let topic = Arc::make_mut(&mut self.topics).by_id.get_mut(&id);
        Arc::make_mut(topic.unwrap_or_else(|| unreachable!("a changed topic exists: {id}")))
    }
}
