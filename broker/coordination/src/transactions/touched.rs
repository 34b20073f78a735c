//! What a transaction touches: partitions that it writes to, and groups whose offsets it commits. Knows nothing of how it ends.

use alloc::collections::BTreeSet;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::TopicPartitions;

use crate::groups::partition_set::PartitionSet;

/// Partitions and groups.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Touched {
    pub partitions: PartitionSet,
    pub groups: BTreeSet<String>,
}

impl Touched {
    /// As a message or record says it; the order and doubles do not matter.
    pub fn from_wire(partitions: &[TopicPartitions], groups: &[String]) -> Self {
        Self { partitions: PartitionSet::from_wire(partitions), groups: groups.iter().cloned().collect() }
    }

    pub fn groups_to_wire(&self) -> Vec<String> {
        self.groups.iter().cloned().collect()
    }

    pub fn is_empty(&self) -> bool {
        self.partitions.is_empty() && self.groups.is_empty()
    }

    pub fn is_within(&self, other: &Self) -> bool {
        self.groups.is_subset(&other.groups)
            && self.partitions.iter().all(|partition| other.partitions.contains(partition))
    }

    pub fn take_in(&mut self, other: &Self) {
        self.partitions.take_in(&other.partitions);
        self.groups.extend(other.groups.iter().cloned());
    }

    pub fn without(&self, other: &Self) -> Self {
        Self {
            partitions: self.partitions.without(&other.partitions),
            groups: self.groups.difference(&other.groups).cloned().collect(),
        }
    }
}
