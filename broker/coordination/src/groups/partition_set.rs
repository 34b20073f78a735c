//! A set of partitions, and its form on the wire. Knows nothing of who owns them.

use alloc::collections::BTreeSet;
use alloc::vec::Vec;

use tidelog_protocol::messages::TopicPartitions;
use tidelog_protocol::{PartitionId, TopicId};

/// A partition of a topic.
pub type TopicPartition = (TopicId, PartitionId);

/// A set of partitions.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PartitionSet(BTreeSet<TopicPartition>);

impl PartitionSet {
    /// None at all.
    pub const EMPTY: Self = Self(BTreeSet::new());

    /// As a message or record says it; the order and doubles do not matter.
    #[must_use]
    pub fn from_wire(topics: &[TopicPartitions]) -> Self {
        topics.iter().flat_map(|topic| topic.partitions.iter().map(|partition| (topic.topic_id, *partition))).collect()
    }

    /// By topic, both ascending.
    #[must_use]
    pub fn to_wire(&self) -> Vec<TopicPartitions> {
        let mut topics: Vec<TopicPartitions> = Vec::new();
        for (topic_id, partition) in &self.0 {
            match topics.last_mut().filter(|last| last.topic_id == *topic_id) {
                Some(last) => last.partitions.push(*partition),
                None => topics.push(TopicPartitions { topic_id: *topic_id, partitions: Vec::from([*partition]) }),
            }
        }
        topics
    }

    /// How many.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is it none at all?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Is it one of them?
    #[must_use]
    pub fn contains(&self, partition: &TopicPartition) -> bool {
        self.0.contains(partition)
    }

    /// Are all of them in `other`?
    #[must_use]
    pub fn is_within(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }

    /// Is none of them in `other`?
    #[must_use]
    pub fn is_apart_from(&self, other: &Self) -> bool {
        self.0.is_disjoint(&other.0)
    }

    /// Those that are not in `other`.
    #[must_use]
    pub fn without(&self, other: &Self) -> Self {
        self.0.difference(&other.0).copied().collect()
    }

    /// Those that are in `other` too.
    #[must_use]
    pub fn shared_with(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).copied().collect()
    }

    /// Takes in those of `other`.
    pub fn take_in(&mut self, other: &Self) {
        self.0.extend(other.iter());
    }

    /// Takes in one.
    pub fn insert(&mut self, partition: TopicPartition) {
        self.0.insert(partition);
    }

    /// By topic and partition.
    pub fn iter(&self) -> impl Iterator<Item = &TopicPartition> {
        self.0.iter()
    }
}

impl FromIterator<TopicPartition> for PartitionSet {
    fn from_iter<T: IntoIterator<Item = TopicPartition>>(partitions: T) -> Self {
        Self(partitions.into_iter().collect())
    }
}
