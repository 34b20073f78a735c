//! The topics that coordinators keep their state in: names, settings, and which partition a key belongs to. Knows nothing of what is kept.

use tidelog_protocol::PartitionId;
use tidelog_protocol::messages::{ConfigEntry, Coordinated};

/// Partitions of such a topic: as many brokers can share the work. It never grows: keys would belong elsewhere.
pub(crate) const PARTITIONS: u32 = 16;

/// Small segments: only those that are full can be compacted, and all of it is read when another broker takes over.
const SEGMENT_BYTES: u32 = 16 << 20;

/// The topic that keeps such state.
#[must_use]
pub(crate) const fn name(kind: Coordinated) -> &'static str {
    match kind {
        Coordinated::Group => "__groups",
        Coordinated::Transaction => tidelog_coordination::transactions::TOPIC,
    }
}

/// What differs from the defaults of a topic: of each key the newest value stays, for ever.
pub(crate) fn settings() -> Vec<ConfigEntry> {
    let setting = |key: &str, value: &str| ConfigEntry { key: key.into(), value: value.into() };
    vec![
        setting("durability", "flushed"),
        setting("retention.ms", "-1"),
        setting("retention.bytes", "-1"),
        setting("cleanup.policy", "compact"),
        setting("segment.bytes", &SEGMENT_BYTES.to_string()),
    ]
}

/// Where the state of `key` is kept, in a topic of so many partitions. The same on every broker and in every release.
#[must_use]
pub(crate) fn partition_of(key: &str, partitions: usize) -> PartitionId {
    let partitions = u32::try_from(partitions).unwrap_or(u32::MAX).max(1);
    PartitionId(crc32c::crc32c(key.as_bytes()) % partitions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_belongs_where_it_always_did() {
        assert_eq!(["orders", "a", ""].map(|key| partition_of(key, 16).0), [10, 0, 0]);
        assert_eq!(partition_of("orders", 0), PartitionId(0));
    }
}
