//! Sparse map from timestamps to offsets in one segment.
//!
//! The entries are those of Kafka's `.timeindex` files: the largest timestamp so far (i64 big-endian milliseconds) and, relative to
//! the segment's base, the last offset of the batch that carries it (u32 big-endian). Derived, never trusted past the log.
//! Knows nothing of files.

use tidelog_protocol::Timestamp;

/// Bytes of an entry in the file.
pub(crate) const ENTRY_BYTES: usize = 12;

/// Every batch that was in the segment when the entry was made has at most this timestamp.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TimeEntry {
    /// The largest timestamp so far.
    pub timestamp: Timestamp,
    /// Last offset of the batch that carries it, less the segment's base offset.
    pub relative: u32,
}

impl TimeEntry {
    pub(crate) fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..8].copy_from_slice(&self.timestamp.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.relative.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; ENTRY_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h, i, j, k, l] = bytes;
        Self {
            timestamp: Timestamp(i64::from_be_bytes([a, b, c, d, e, f, g, h])),
            relative: u32::from_be_bytes([i, j, k, l]),
        }
    }
}

/// The entries of one segment; timestamps and offsets grow strictly.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct TimeIndex {
    entries: Vec<TimeEntry>,
}

impl TimeIndex {
    pub(crate) fn entries(&self) -> &[TimeEntry] {
        &self.entries
    }

    /// Adds an entry, unless it says nothing new.
    pub(crate) fn push(&mut self, entry: TimeEntry) {
        if self.entries.last().is_none_or(|last| last.timestamp < entry.timestamp && last.relative < entry.relative) {
            self.entries.push(entry);
        }
    }

    /// The entries that point to `relative` or before.
    pub(crate) fn up_to(&self, relative: u32) -> Self {
        let count = self.entries.partition_point(|entry| entry.relative <= relative);
        Self { entries: self.entries[..count].to_vec() }
    }

    /// Where a search for the first record at or after `timestamp` begins: no batch before the answer (relative to
    /// the base offset) has such a record.
    pub(crate) fn search_from(&self, timestamp: Timestamp) -> u32 {
        let after = self.entries.partition_point(|entry| entry.timestamp < timestamp);
        after.checked_sub(1).map_or(0, |index| self.entries[index].relative)
    }

    /// `None` if the entries are not in order or not whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        let entries: Vec<_> = chunks.iter().map(|chunk| TimeEntry::decode(*chunk)).collect();
        let in_order = entries.is_sorted_by(|a, b| a.timestamp < b.timestamp && a.relative < b.relative);
        (in_order && rest.is_empty()).then_some(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_begins_where_everything_before_is_older() {
        let mut index = TimeIndex::default();
        for (timestamp, relative) in [(100, 4), (100, 9), (90, 12), (200, 30)] {
            index.push(TimeEntry { timestamp: Timestamp(timestamp), relative });
        }
        assert_eq!(index.entries().len(), 2);
        assert_eq!(index.search_from(Timestamp(100)), 0);
        assert_eq!(index.search_from(Timestamp(101)), 4);
        assert_eq!(index.search_from(Timestamp(200)), 4);
        assert_eq!(index.search_from(Timestamp(201)), 30);
        let bytes: Vec<u8> = index.entries().iter().flat_map(|e| e.encode()).collect();
        assert_eq!(TimeIndex::decode(&bytes), Some(index));
        assert_eq!(TimeIndex::decode(&bytes[1..]), None);
    }
}
