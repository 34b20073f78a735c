//! What the consumer of a partition was handed, held against what stands there: every record once, in the order of their offsets, none left
//! out. Offsets at which nothing stands are no gap. Knows nothing of values.

use std::collections::BTreeMap;
use std::ops::Range;

/// One partition: what stands there at the end, and how far its consumer has come.
#[derive(Debug, Default)]
pub(super) struct ReadingAlong {
    /// Where records stand, end by start; what adjoins is one.
    standing: BTreeMap<u64, u64>,
    /// One past the last offset that was handed out.
    next: u64,
}

/// What a consumer did wrong.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Misstep {
    /// It went past these offsets, the first and the last of which hold records.
    Skipped(Range<u64>),
    /// It was handed these once more, or behind later ones.
    Repeated(Range<u64>),
}

impl ReadingAlong {
    /// So many records stand from this offset on.
    pub(super) fn stand(&mut self, offset: u64, count: u64) {
        let end = offset.saturating_add(count);
        match self.standing.range_mut(..=offset).next_back() {
            Some((_, before)) if *before >= offset => *before = end.max(*before),
            _ if count > 0 => {
                self.standing.insert(offset, end);
            }
            _ => {}
        }
    }

    /// The consumer is handed so many records from this offset on.
    pub(super) fn hand_out(&mut self, offset: u64, count: u64) -> Option<Misstep> {
        let end = offset.saturating_add(count);
        let misstep = if offset < self.next {
            (count > 0).then(|| Misstep::Repeated(offset..end.min(self.next)))
        } else {
            self.standing_in(self.next..offset).map(Misstep::Skipped)
        };
        self.next = self.next.max(end);
        misstep
    }

    /// The consumer says that it has come this far.
    pub(super) fn finish(&mut self, end: u64) -> Option<Misstep> {
        let misstep = self.standing_in(self.next..end).map(Misstep::Skipped);
        self.next = self.next.max(end);
        misstep
    }

    /// From the first to the last of the records that stand in this range.
    fn standing_in(&self, range: Range<u64>) -> Option<Range<u64>> {
        let (start, end) = (range.start, range.end);
        if start >= end {
            return None;
        }
        let last = self.standing.range(..end).next_back().filter(|(_, stands_to)| **stands_to > start)?;
        let first = self.standing.range(..=start).next_back().filter(|(_, stands_to)| **stands_to > start);
        let first = first.map(|_| start).or_else(|| self.standing.range(start..end).next().map(|(first, _)| *first))?;
        Some(first..end.min(*last.1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(runs: &[(u64, u64)]) -> ReadingAlong {
        let mut partition = ReadingAlong::default();
        runs.iter().for_each(|(offset, count)| partition.stand(*offset, *count));
        partition
    }

    #[test]
    fn who_reads_everything_once_is_right_wherever_offsets_are_missing() {
        let mut partition = standing(&[(5, 3), (8, 2), (12, 1), (12, 1)]);
        assert_eq!(partition.hand_out(5, 4), None, "nothing stands before");
        assert_eq!(partition.hand_out(9, 1), None);
        assert_eq!(partition.hand_out(12, 1), None, "nothing stands at 10 and 11");
        assert_eq!(partition.hand_out(13, 0), None);
    }

    #[test]
    fn what_was_left_out_is_told_from_its_first_to_its_last() {
        assert_eq!(standing(&[(5, 10)]).hand_out(7, 1), Some(Misstep::Skipped(5..7)), "at the beginning");
        let mut partition = standing(&[(0, 4), (6, 2), (9, 9)]);
        assert_eq!(partition.hand_out(0, 2), None);
        assert_eq!(partition.hand_out(9, 1), Some(Misstep::Skipped(2..8)));
        assert_eq!(partition.hand_out(11, 1), Some(Misstep::Skipped(10..11)));
        assert_eq!(partition.hand_out(12, 1), None, "each is told once");
    }

    #[test]
    fn who_says_that_it_came_to_an_end_was_handed_what_stands_before() {
        assert_eq!(standing(&[(5, 10)]).finish(15), Some(Misstep::Skipped(5..15)), "it was handed nothing at all");
        let mut partition = standing(&[(5, 10)]);
        assert_eq!(partition.hand_out(5, 4), None);
        assert_eq!(partition.finish(12), Some(Misstep::Skipped(9..12)));
        assert_eq!(partition.finish(12), None, "each is told once");
        assert_eq!(standing(&[(5, 10)]).finish(5), None, "nothing stands before");
    }

    #[test]
    fn what_comes_once_more_or_too_late_is_a_repetition() {
        let mut partition = standing(&[(0, 10)]);
        assert_eq!(partition.hand_out(0, 5), None);
        assert_eq!(partition.hand_out(3, 4), Some(Misstep::Repeated(3..5)));
        assert_eq!(partition.hand_out(7, 1), None, "the place is kept");
        assert_eq!(partition.hand_out(9, 1), Some(Misstep::Skipped(8..9)));
        assert_eq!(partition.hand_out(8, 1), Some(Misstep::Repeated(8..9)), "behind a later one");
    }
}
