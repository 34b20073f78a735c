//! Which partition a record goes to. Knows keys and counts, nothing of topics or brokers.

use std::fmt;
use std::sync::Arc;

use tidelog_protocol::PartitionId;

use super::murmur2::murmur2;

/// Chooses a partition. Called for every record without an explicit partition, on the thread that sends; so it must be quick.
pub trait Partitioner: Send + Sync {
    /// The partition for a record with this key, below `partitions` (at least 1); anything above is taken modulo `partitions`. `None`
    /// leaves the record to the sticky choice: one partition until its batch is full, then another.
    fn partition(&self, topic: &str, key: Option<&[u8]>, partitions: u32) -> Option<PartitionId>;
}

/// How the producer chooses.
#[derive(Clone, Default)]
pub(crate) enum Choice {
    /// By the hash of the key, as Kafka's clients do; sticky for records without one.
    #[default]
    ByKey,
    /// Sticky for all.
    Sticky,
    /// As the program says.
    Custom(Arc<dyn Partitioner>),
}

impl fmt::Debug for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ByKey => "ByKey",
            Self::Sticky => "Sticky",
            Self::Custom(_) => "Custom",
        })
    }
}

impl Choice {
    /// The partition, or `None` for the sticky one.
    #[inline]
    pub(crate) fn partition(&self, topic: &str, key: Option<&[u8]>, partitions: u32) -> Option<PartitionId> {
        match (self, key) {
            (Self::ByKey, Some(key)) => Some(by_key(key, partitions)),
            (Self::ByKey, None) | (Self::Sticky, _) => None,
            (Self::Custom(partitioner), key) => {
                partitioner.partition(topic, key, partitions).map(|chosen| PartitionId(chosen.0 % partitions.max(1)))
            }
        }
    }
}

/// The partition that Kafka's clients choose for a key: the hash without its sign bit, modulo the count.
///
/// ```
/// use tidelog_client::{PartitionId, producer::by_key};
///
/// assert_eq!(by_key(b"foobar", 1), PartitionId(0));
/// ```
#[must_use]
pub fn by_key(key: &[u8], partitions: u32) -> PartitionId {
    PartitionId((murmur2(key) & 0x7fff_ffff) % partitions.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_goes_to_the_partition_that_kafka_chooses() {
        // -973_932_308 without its sign bit is 1_173_551_340.
        assert_eq!(by_key(b"21", 1_000), PartitionId(340));
        assert_eq!(Choice::ByKey.partition("t", Some(b"21"), 1_000), Some(PartitionId(340)));
        assert_eq!(Choice::ByKey.partition("t", None, 1_000), None);
    }

    #[test]
    fn a_custom_choice_beyond_the_last_partition_wraps() {
        struct Seventh;
        impl Partitioner for Seventh {
            fn partition(&self, _: &str, _: Option<&[u8]>, _: u32) -> Option<PartitionId> {
                Some(PartitionId(7))
            }
        }
        assert_eq!(Choice::Custom(Arc::new(Seventh)).partition("t", None, 5), Some(PartitionId(2)));
    }
}
