//! The entries of `.index` and `.timeindex` files, and where they break the rule that makes them searchable: both numbers grow strictly. Knows
//! nothing of segments.

use tidelog_protocol::Offset;

use super::DumpEntry;
use crate::offset_index::{self, OffsetEntry};
use crate::time_index::{self, TimeEntry};

/// Those of an `.index` file.
pub(super) fn offsets(base: Offset, bytes: &[u8]) -> Vec<DumpEntry> {
    if bytes.is_empty() {
        let reason = "the file is empty: it is made with its first entry";
        return vec![DumpEntry::Misfit { position: 0, bytes: 0, reason }];
    }
    let (chunks, rest) = bytes.as_chunks::<{ offset_index::ENTRY_BYTES }>();
    let entry = |entry: OffsetEntry| DumpEntry::Offset { offset: base.plus(u64::from(entry.relative)), entry };
    let grows = |a: &OffsetEntry, b: &OffsetEntry| a.relative < b.relative && a.position < b.position;
    judged(chunks.iter().map(|chunk| OffsetEntry::decode(*chunk)), entry, grows, (offset_index::ENTRY_BYTES, rest))
}

/// Those of a `.timeindex` file.
pub(super) fn times(base: Offset, bytes: &[u8]) -> Vec<DumpEntry> {
    let (chunks, rest) = bytes.as_chunks::<{ time_index::ENTRY_BYTES }>();
    let entry = |entry: TimeEntry| DumpEntry::Time { offset: base.plus(u64::from(entry.relative)), entry };
    let grows = |a: &TimeEntry, b: &TimeEntry| a.timestamp < b.timestamp && a.relative < b.relative;
    judged(chunks.iter().map(|chunk| TimeEntry::decode(*chunk)), entry, grows, (time_index::ENTRY_BYTES, rest))
}

/// Each entry is shown as it stands; one that breaks the order is followed by the word that it does.
fn judged<E: Copy>(
    entries: impl Iterator<Item = E>,
    shown: impl Fn(E) -> DumpEntry,
    grows: impl Fn(&E, &E) -> bool,
    (entry_bytes, rest): (usize, &[u8]),
) -> Vec<DumpEntry> {
    let mut found = Vec::new();
    let (mut before, mut position) = (None, 0);
    for entry in entries {
        found.push(shown(entry));
        if before.is_some_and(|before| !grows(&before, &entry)) {
            let reason = "this entry is not above the one before in both numbers";
            found.push(DumpEntry::Misfit { position, bytes: entry_bytes as u64, reason });
        }
        before = Some(entry);
        position += entry_bytes as u64;
    }
    if !rest.is_empty() {
        let reason = "the file ends within an entry";
        found.push(DumpEntry::Misfit { position, bytes: rest.len() as u64, reason });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn misfits(entries: &[DumpEntry]) -> Vec<u64> {
        let position = |entry: &DumpEntry| match entry {
            DumpEntry::Misfit { position, .. } => Some(*position),
            _ => None,
        };
        entries.iter().filter_map(position).collect()
    }

    #[test]
    fn an_index_whose_entries_do_not_grow_or_are_not_whole_is_told() {
        let index = |entries: &[(u32, u32)]| -> Vec<u8> {
            entries.iter().flat_map(|&(relative, position)| OffsetEntry { relative, position }.encode()).collect()
        };
        let good = index(&[(4, 0), (9, 5_000), (30, 9_000)]);
        let entries = offsets(Offset(100), &good);
        assert_eq!((entries.len(), misfits(&entries)), (3, vec![]));
        assert!(matches!(entries[2], DumpEntry::Offset { offset: Offset(130), .. }));
        assert_eq!(misfits(&offsets(Offset(0), &good[..20])), [16]);
        assert_eq!(misfits(&offsets(Offset(0), &[0xff; 13])), [8]);
        for bad in [&[(4, 0), (4, 10)], &[(4, 10), (5, 10)], &[(4, 10), (3, 20)]] {
            assert_eq!(misfits(&offsets(Offset(0), &index(bad))), [8], "{bad:?}");
        }
        assert_eq!(misfits(&times(Offset(0), &[0xff; 25])), [12, 24]);
        // Records without timestamps have no entry there.
        assert_eq!((misfits(&offsets(Offset(0), &[])), misfits(&times(Offset(0), &[]))), (vec![0], vec![]));
    }
}
