//! A record on its way out, sharing the bytes it was received in. Knows nothing of streams.

use std::ops::Deref;
use std::sync::Arc;

use tidelog_protocol::records::OwnedRecord;
use tidelog_protocol::{PartitionId, TopicId, TopicName};

/// A partition of a topic.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicPartition {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: PartitionId,
}

/// A record as a consumer hands it out: where it comes from, and (by deref) its offset, timestamp, key, value and headers.
///
/// Key, value and headers are slices of the buffer they were received in. Nothing is copied, but a record that is kept keeps
/// about a megabyte alive with it: copy what shall live long.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsumerRecord {
    source: Arc<TopicPartition>,
    topic_id: TopicId,
    record: OwnedRecord,
}

impl ConsumerRecord {
    pub(crate) const fn new(source: Arc<TopicPartition>, topic_id: TopicId, record: OwnedRecord) -> Self {
        Self { source, topic_id, record }
    }

    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &str {
        self.source.topic.as_str()
    }

    /// The topic's id: another one where a topic was deleted and made again under its name.
    #[must_use]
    pub const fn topic_id(&self) -> TopicId {
        self.topic_id
    }

    /// The partition.
    #[must_use]
    pub fn partition(&self) -> PartitionId {
        self.source.partition
    }

    /// The topic and the partition.
    #[must_use]
    pub fn source(&self) -> &TopicPartition {
        &self.source
    }

    /// The record alone.
    #[must_use]
    pub fn into_record(self) -> OwnedRecord {
        self.record
    }
}

impl Deref for ConsumerRecord {
    type Target = OwnedRecord;

    fn deref(&self) -> &OwnedRecord {
        &self.record
    }
}
