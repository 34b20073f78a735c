//! Which dead letters were sent back to where they come from: offsets by partition. Pure; knows nothing of how that is noted in the topic.

use std::collections::BTreeMap;

use tidelog_protocol::{Offset, PartitionId};

/// Offsets as ranges, so that a topic of which all was sent back takes no more memory than one of which nothing was.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct SentBack {
    /// By partition: first offset of a range, and the one behind its last.
    ranges: BTreeMap<PartitionId, BTreeMap<Offset, Offset>>,
}

impl SentBack {
    pub(super) fn note(&mut self, partition: PartitionId, offset: Offset) {
        if self.holds(partition, offset) {
            return;
        }
        let ranges = self.ranges.entry(partition).or_default();
        let behind = ranges.remove(&offset.plus(1)).unwrap_or_else(|| offset.plus(1));
        match ranges.range_mut(..offset).next_back() {
            Some((_, end)) if *end == offset => *end = behind,
            _ => drop(ranges.insert(offset, behind)),
        }
    }

    pub(super) fn holds(&self, partition: PartitionId, offset: Offset) -> bool {
        let range = self.ranges.get(&partition).and_then(|ranges| ranges.range(..=offset).next_back());
        range.is_some_and(|(_, end)| offset < *end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn neighbours_become_one_range() {
        let mut sent = SentBack::default();
        for offset in [5, 3, 4, 4, 9] {
            sent.note(PartitionId(1), Offset(offset));
        }
        let ranges: Vec<_> = sent.ranges[&PartitionId(1)].iter().map(|(from, to)| (from.0, to.0)).collect();
        assert_eq!(ranges, [(3, 6), (9, 10)]);
        assert!(!sent.holds(PartitionId(0), Offset(4)), "another partition's");
    }

    proptest! {
        #[test]
        fn it_holds_what_was_noted_and_nothing_else(noted in prop::collection::vec(0u64..40, 0..60)) {
            let mut sent = SentBack::default();
            noted.iter().for_each(|offset| sent.note(PartitionId(0), Offset(*offset)));
            let model: BTreeSet<u64> = noted.into_iter().collect();
            for offset in 0..41 {
                prop_assert_eq!(sent.holds(PartitionId(0), Offset(offset)), model.contains(&offset));
            }
        }
    }
}
