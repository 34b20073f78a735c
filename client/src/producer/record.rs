//! A record on its way in: owned, or borrowed where no byte shall be copied but into its batch. Knows nothing of batches.

use std::sync::Arc;

use bytes::Bytes;
use tidelog_protocol::{PartitionId, Timestamp};

/// A record to be sent, with its topic.
///
/// ```
/// use tidelog_client::Record;
///
/// let record = Record::to("orders").key("customer-7").value("one crate").header("origin", "web");
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Record {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition; `None` leaves it to the partitioner.
    pub partition: Option<PartitionId>,
    /// The key, by which the partitioner chooses and compaction keeps the latest.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone to compaction.
    pub value: Option<Bytes>,
    /// Names and values, in their order.
    pub headers: Vec<(String, Option<Bytes>)>,
    /// When it happened, in milliseconds since 1970; `None` means when it is sent.
    pub timestamp: Option<Timestamp>,
}

impl Record {
    /// A record for `topic`, so far without key and value.
    #[must_use]
    pub fn to(topic: impl Into<Arc<str>>) -> Self {
        Self { topic: topic.into(), partition: None, key: None, value: None, headers: Vec::new(), timestamp: None }
    }

    /// With this key.
    #[must_use]
    pub fn key(mut self, key: impl Into<Bytes>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// With this value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(value.into());
        self
    }

    /// To this partition, whatever the partitioner would choose.
    #[must_use]
    pub const fn partition(mut self, partition: PartitionId) -> Self {
        self.partition = Some(partition);
        self
    }

    /// With one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<Bytes>) -> Self {
        self.headers.push((name.into(), Some(value.into())));
        self
    }

    /// With this timestamp.
    #[must_use]
    pub const fn timestamp(mut self, timestamp: Timestamp) -> Self {
        self.timestamp = Some(timestamp);
        self
    }

    /// Its headers as the batch takes them.
    pub(crate) fn header_refs(&self) -> Vec<HeaderRef<'_>> {
        self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect()
    }

    /// The record but its topic, borrowed, with `headers` made by [`Record::header_refs`].
    pub(crate) fn lend<'a>(&'a self, headers: &'a [HeaderRef<'a>]) -> RecordRef<'a> {
        RecordRef {
            partition: self.partition,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers,
            timestamp: self.timestamp,
        }
    }
}

/// A header, borrowed: its name and its value.
pub type HeaderRef<'a> = (&'a str, Option<&'a [u8]>);

/// A record to be sent to a known topic; its bytes are copied once, into the batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RecordRef<'a> {
    /// The partition; `None` leaves it to the partitioner.
    pub partition: Option<PartitionId>,
    /// The key.
    pub key: Option<&'a [u8]>,
    /// The value; `None` is a tombstone to compaction.
    pub value: Option<&'a [u8]>,
    /// Names and values, in their order.
    pub headers: &'a [HeaderRef<'a>],
    /// When it happened, in milliseconds since 1970; `None` means when it is sent.
    pub timestamp: Option<Timestamp>,
}

impl<'a> RecordRef<'a> {
    /// A record with a key, where there is one, and a value.
    #[must_use]
    pub const fn new(key: Option<&'a [u8]>, value: &'a [u8]) -> Self {
        Self { partition: None, key, value: Some(value), headers: &[], timestamp: None }
    }
}
