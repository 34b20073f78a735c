//! What open transactions have noted in one group, which counts once they are committed (KIP-447). Knows nothing of when they end.

use alloc::collections::BTreeMap;
use alloc::collections::btree_map::Entry;

use tidelog_protocol::{ProducerEpoch, ProducerId};

use super::partition_set::TopicPartition;
use super::records::{OffsetValue, PendingOffsetKey, PendingOffsetValue};

/// What is noted, by producer and partition.
#[derive(Clone, Debug, Default)]
pub(super) struct Pending {
    noted: BTreeMap<ProducerId, BTreeMap<TopicPartition, PendingOffsetValue>>,
}

impl Pending {
    pub fn is_empty(&self) -> bool {
        self.noted.is_empty()
    }

    /// Applies a record.
    pub fn replay(&mut self, key: &PendingOffsetKey, value: Option<&PendingOffsetValue>) {
        let partition = (key.topic_id, key.partition);
        match (self.noted.entry(key.producer_id), value) {
            (entry, Some(value)) => drop(entry.or_default().insert(partition, value.clone())),
            (Entry::Occupied(mut entry), None) => {
                entry.get_mut().remove(&partition);
                if entry.get().is_empty() {
                    entry.remove();
                }
            }
            (Entry::Vacant(_), None) => {}
        }
    }

    /// What a producer has noted.
    pub fn of(&self, producer_id: ProducerId) -> impl Iterator<Item = (&TopicPartition, &PendingOffsetValue)> {
        self.noted.get(&producer_id).into_iter().flatten()
    }

    /// The epochs in which a producer has something noted; there is one.
    pub fn epochs(&self, producer_id: ProducerId) -> impl Iterator<Item = ProducerEpoch> {
        self.of(producer_id).map(|(_, value)| value.epoch)
    }

    /// Who has something noted, each under one epoch.
    pub fn transactions(&self) -> impl Iterator<Item = (ProducerId, ProducerEpoch)> {
        self.noted.iter().filter_map(|(id, noted)| Some((*id, noted.values().next()?.epoch)))
    }

    /// Has anybody noted something for this partition, but for `producer_id`?
    pub fn is_noted_by_another(&self, partition: &TopicPartition, producer_id: Option<ProducerId>) -> bool {
        let others = self.noted.iter().filter(|(other, _)| Some(**other) != producer_id);
        others.into_iter().any(|(_, noted)| noted.contains_key(partition))
    }

    /// A partition that anybody has noted something for.
    pub fn any(&self) -> Option<&TopicPartition> {
        self.noted.values().flat_map(BTreeMap::keys).next()
    }
}

impl PendingOffsetValue {
    /// In this epoch.
    pub(super) fn new(epoch: ProducerEpoch, value: OffsetValue) -> Self {
        let OffsetValue { offset, leader_epoch, metadata, committed_at } = value;
        Self { epoch, offset, leader_epoch, metadata, committed_at }
    }

    /// What counts once the transaction is committed.
    pub(super) fn committed(&self) -> OffsetValue {
        let Self { epoch: _, offset, leader_epoch, metadata, committed_at } = self.clone();
        OffsetValue { offset, leader_epoch, metadata, committed_at }
    }
}
