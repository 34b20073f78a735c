//! Arithmetic of sequences: they count records from 0 and begin again at 0 after 2³¹ − 1 (KIP-98). Knows nothing of producers.

use tidelog_protocol::Sequence;
use tidelog_protocol::records::BatchHeader;

/// How many sequences there are.
const COUNT: i64 = 1 << 31;

/// The sequence `records` after `from`.
#[must_use]
pub const fn plus(from: Sequence, records: u32) -> Sequence {
    Sequence(((from.0 as i64 + records as i64) % COUNT) as i32)
}

/// How many sequences lie from `from` up to `to`, going forward.
#[must_use]
pub const fn distance(from: Sequence, to: Sequence) -> u32 {
    ((to.0 as i64 - from.0 as i64 + COUNT) % COUNT) as u32
}

/// Does `found` come after `expected`, and not before? Of two sequences the one that is less than half the way ahead comes after.
#[must_use]
pub const fn is_ahead(expected: Sequence, found: Sequence) -> bool {
    (distance(expected, found) as i64) < COUNT / 2
}

/// Sequence of a batch's last record. Compaction may have thinned the records, but not the offsets that they took.
#[must_use]
pub const fn last_of(header: &BatchHeader) -> Sequence {
    plus(header.base_sequence, header.last_offset_delta)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_the_largest_comes_zero() {
        assert_eq!(plus(Sequence(i32::MAX), 1), Sequence(0));
        assert_eq!(plus(Sequence(i32::MAX - 1), 3), Sequence(1));
        assert_eq!(distance(Sequence(i32::MAX), Sequence(2)), 3);
        assert_eq!(distance(Sequence(5), Sequence(5)), 0);
    }

    #[test]
    fn what_is_just_behind_is_not_ahead_even_across_the_wrap() {
        assert!(is_ahead(Sequence(i32::MAX), Sequence(3)));
        assert!(!is_ahead(Sequence(3), Sequence(i32::MAX)));
        assert!(is_ahead(Sequence(3), Sequence(4)) && !is_ahead(Sequence(4), Sequence(3)));
    }
}
