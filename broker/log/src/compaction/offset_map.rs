//! The last offset of each key in the part of a log that a pass cleans, in memory of a fixed size.
//!
//! A table of (128 bits of hash, offset), 24 bytes each, open addressing. The hash is two SipHashes with keys of this process, so no producer can
//! choose two keys that count as one, and by chance it happens once in 2⁶⁴ maps of 2³² keys. Knows nothing of batches.

use std::hash::{BuildHasher, RandomState};

use tidelog_protocol::Offset;

/// Bytes of one entry.
pub const ENTRY_BYTES: usize = size_of::<Entry>();

/// A key costs this many eighths of an entry more than one, so that searches stay short.
const LOAD_EIGHTHS: usize = 7;

#[derive(Clone, Copy)]
struct Entry {
    hash: [u64; 2],
    /// [`Entry::NONE`] where there is none.
    offset: u64,
}

impl Entry {
    const NONE: u64 = u64::MAX;
    const EMPTY: Self = Self { hash: [0; 2], offset: Self::NONE };
}

/// The map.
pub(crate) struct OffsetMap {
    entries: Vec<Entry>,
    keys: usize,
    keys_max: usize,
    hashers: [RandomState; 2],
}

impl OffsetMap {
    /// One of at most `bytes` bytes, and no larger than `keys` keys need.
    pub(crate) fn new(bytes: usize, keys: u64) -> Self {
        let wanted = usize::try_from(keys).unwrap_or(usize::MAX).saturating_mul(8) / LOAD_EIGHTHS;
        let count = (bytes / ENTRY_BYTES).min(wanted.saturating_add(1)).max(8);
        Self {
            entries: vec![Entry::EMPTY; count],
            keys: 0,
            keys_max: count * LOAD_EIGHTHS / 8,
            hashers: [RandomState::new(), RandomState::new()],
        }
    }

    /// Takes note that `key` stands at `offset`, which is above all before. False, and nothing is noted, where there is no room for it.
    pub(crate) fn note(&mut self, key: &[u8], offset: Offset) -> bool {
        let (at, hash) = self.find(key);
        if self.entries[at].offset == Entry::NONE {
            if self.keys == self.keys_max {
                return false;
            }
            self.keys += 1;
        }
        self.entries[at] = Entry { hash, offset: offset.0 };
        true
    }

    /// Where `key` stands last.
    pub(crate) fn last(&self, key: &[u8]) -> Option<Offset> {
        let (at, _) = self.find(key);
        let offset = self.entries[at].offset;
        (offset != Entry::NONE).then_some(Offset(offset))
    }

    /// Keys in it.
    pub(crate) fn keys(&self) -> usize {
        self.keys
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.entries.capacity() * ENTRY_BYTES
    }

    /// Where the key is, or would be.
    fn find(&self, key: &[u8]) -> (usize, [u64; 2]) {
        let hash = [self.hashers[0].hash_one(key), self.hashers[1].hash_one(key)];
        let count = self.entries.len();
        let mut at = ((u128::from(hash[0]) * count as u128) >> 64) as usize;
        // Never full, so this ends.
        while self.entries[at].offset != Entry::NONE && self.entries[at].hash != hash {
            at = if at + 1 == count { 0 } else { at + 1 };
        }
        (at, hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_offset_of_every_key_is_known_and_nothing_of_others() {
        let mut map = OffsetMap::new(1 << 20, u64::MAX);
        for offset in 0..40_000u64 {
            assert!(map.note(&(offset % 10_000).to_be_bytes(), Offset(offset)));
        }
        assert_eq!(map.keys(), 10_000);
        for key in 0..10_000u64 {
            assert_eq!(map.last(&key.to_be_bytes()), Some(Offset(30_000 + key)));
        }
        assert_eq!(map.last(&10_000u64.to_be_bytes()), None);
        assert_eq!(map.last(b""), None);
    }

    #[test]
    fn a_full_one_takes_no_key_more_but_later_offsets_of_those_it_has() {
        let mut map = OffsetMap::new(100 * ENTRY_BYTES, u64::MAX);
        let taken = (0..1_000u64).take_while(|key| map.note(&key.to_be_bytes(), Offset(*key))).count();
        assert_eq!(taken, 87);
        assert!(map.bytes() <= 100 * ENTRY_BYTES);
        assert!(!map.note(b"another", Offset(5_000)));
        assert_eq!(map.last(b"another"), None);
        assert!(map.note(&3u64.to_be_bytes(), Offset(5_000)));
        assert_eq!(map.last(&3u64.to_be_bytes()), Some(Offset(5_000)));
    }

    #[test]
    fn few_records_take_little_memory_whatever_is_allowed() {
        assert!(OffsetMap::new(1 << 30, 100).bytes() < 4096);
        let mut map = OffsetMap::new(1 << 30, 1_000);
        assert!((0..1_000u64).all(|key| map.note(&key.to_be_bytes(), Offset(key))));
    }
}
