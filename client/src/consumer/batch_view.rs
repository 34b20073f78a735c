//! One batch, borrowed from the consumer: its records without a copy. Knows nothing of streams.

use tidelog_protocol::records::{BatchHeader, Record, Records};
use tidelog_protocol::{Offset, PartitionId};

use super::{ConsumeError, TopicPartition};

/// One record batch: checked, decompressed where need be, borrowed until the next call on the consumer.
#[derive(Clone, Debug)]
pub struct BatchView<'c> {
    pub(super) source: &'c TopicPartition,
    pub(super) header: &'c BatchHeader,
    pub(super) bytes: usize,
    pub(super) records: Records<'c>,
    /// Records below are not the program's: they lie before the start.
    pub(super) from: Offset,
    /// Records from here on are not either: they lie behind the end.
    pub(super) until: Offset,
}

impl<'c> BatchView<'c> {
    /// The topic's name.
    #[must_use]
    pub fn topic(&self) -> &'c str {
        self.source.topic.as_str()
    }

    /// The partition.
    #[must_use]
    pub const fn partition(&self) -> PartitionId {
        self.source.partition
    }

    /// The batch's header.
    #[must_use]
    pub const fn header(&self) -> &'c BatchHeader {
        self.header
    }

    /// Bytes of the batch as it was received, header included and still compressed.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its records, from the first on; may be called again. Records before the consumer's start or behind its end are left out.
    #[must_use]
    pub fn records(&self) -> BatchRecords<'c> {
        BatchRecords { records: self.records.clone(), source: self.source, from: self.from, until: self.until }
    }
}

/// Iterates the records of a [`BatchView`]. After an error it ends.
#[derive(Clone, Debug)]
pub struct BatchRecords<'c> {
    records: Records<'c>,
    source: &'c TopicPartition,
    from: Offset,
    until: Offset,
}

impl<'c> Iterator for BatchRecords<'c> {
    type Item = Result<Record<'c>, ConsumeError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            return match self.records.next()? {
                Ok(record) if record.offset < self.from => continue,
                Ok(record) if record.offset >= self.until => None,
                Ok(record) => Some(Ok(record)),
                Err(source) => Some(Err(ConsumeError::Corrupt {
                    topic: self.source.topic.clone(),
                    partition: self.source.partition,
                    offset: self.from,
                    source,
                })),
            };
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.records.size_hint()
    }
}

impl core::iter::FusedIterator for BatchRecords<'_> {}
