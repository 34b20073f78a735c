//! Sparse map from offsets to positions in one segment, about one entry per 4 KiB of log.
//!
//! The entries are those of Kafka's `.index` files: last offset of a batch less the segment's base, and the position where that batch
//! begins, each u32 big-endian. Derived from the log and never trusted past it: whoever follows an entry checks the batch there. Knows
//! nothing of files.

/// Bytes of an entry in the file.
pub(crate) const ENTRY_BYTES: usize = 8;

/// One batch that can be jumped to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OffsetEntry {
    /// Offset of the batch's last record, less the segment's base offset.
    pub relative: u32,
    /// Where the batch begins in the segment, in bytes.
    pub position: u32,
}

impl OffsetEntry {
    pub(crate) fn encode(self) -> [u8; ENTRY_BYTES] {
        let mut bytes = [0; ENTRY_BYTES];
        bytes[..4].copy_from_slice(&self.relative.to_be_bytes());
        bytes[4..].copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(bytes: [u8; ENTRY_BYTES]) -> Self {
        let [a, b, c, d, e, f, g, h] = bytes;
        Self { relative: u32::from_be_bytes([a, b, c, d]), position: u32::from_be_bytes([e, f, g, h]) }
    }
}

/// The entries of one segment; offsets and positions grow strictly.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct OffsetIndex {
    entries: Vec<OffsetEntry>,
}

impl OffsetIndex {
    pub(crate) fn entries(&self) -> &[OffsetEntry] {
        &self.entries
    }

    pub(crate) fn push(&mut self, entry: OffsetEntry) {
        if let Some(last) = self.entries.last() {
            assert!(last.relative < entry.relative && last.position < entry.position, "{last:?} before {entry:?}");
        }
        self.entries.push(entry);
    }

    /// The entries of batches that begin before `position`.
    pub(crate) fn before(&self, position: u64) -> Self {
        let count = self.entries.partition_point(|entry| u64::from(entry.position) < position);
        Self { entries: self.entries[..count].to_vec() }
    }

    /// How many entries lie at or before `relative`; the last of them is where a search for that offset begins.
    pub(crate) fn count_up_to(&self, relative: u64) -> usize {
        self.entries.partition_point(|entry| u64::from(entry.relative) <= relative)
    }

    /// The last batch that begins at or before `position` and whose records all lie below `relative`.
    pub(crate) fn last_within(&self, position: u64, relative: u64) -> Option<OffsetEntry> {
        let within =
            |entry: &OffsetEntry| u64::from(entry.position) <= position && u64::from(entry.relative) < relative;
        let after = self.entries.partition_point(within);
        after.checked_sub(1).map(|index| self.entries[index])
    }

    /// `None` if the entries are not in order or not whole.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let (chunks, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        let entries: Vec<_> = chunks.iter().map(|chunk| OffsetEntry::decode(*chunk)).collect();
        let in_order = entries.is_sorted_by(|a, b| a.relative < b.relative && a.position < b.position);
        (in_order && rest.is_empty()).then_some(Self { entries })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index() -> OffsetIndex {
        let mut index = OffsetIndex::default();
        for (relative, position) in [(4, 0), (9, 5_000), (30, 9_000)] {
            index.push(OffsetEntry { relative, position });
        }
        index
    }

    #[test]
    fn a_search_begins_at_the_last_batch_that_ends_at_or_before_the_offset() {
        assert_eq!(index().count_up_to(3), 0);
        assert_eq!(index().count_up_to(4), 1);
        assert_eq!(index().count_up_to(29), 2);
        assert_eq!(index().count_up_to(1_000), 3);
    }

    #[test]
    fn the_end_is_bounded_by_position_and_by_offset() {
        let position = |position, relative| index().last_within(position, relative).map(|e| e.position);
        assert_eq!(position(8_999, u64::MAX), Some(5_000));
        assert_eq!(position(9_000, u64::MAX), Some(9_000));
        assert_eq!(position(9_000, 30), Some(5_000));
        assert_eq!(position(9_000, 4), None);
    }

    #[test]
    fn entries_out_of_order_or_cut_are_refused() {
        let bytes: Vec<u8> = index().entries().iter().flat_map(|e| e.encode()).collect();
        assert_eq!(OffsetIndex::decode(&bytes), Some(index()));
        assert_eq!(OffsetIndex::decode(&bytes[..20]), None);
        assert_eq!(OffsetIndex::decode(&[&bytes[8..], &bytes[..8]].concat()), None);
    }
}
