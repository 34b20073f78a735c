//! In what pieces the events of one aggregate are read: backward from the latest one, each piece a range of the partition. Pure: knows
//! offsets and versions, nothing of how a range is read.
//!
//! Each event says where the one before it stands. Where they lie close together, as those of a hot aggregate do, the ranges grow and
//! many come with each; where they are scattered, a range is little more than one event. So a reader needs to know of an aggregate
//! but its latest offset, and reads a part of the log that is within a constant of what it must.

use tidelog_protocol::Offset;

use super::event::Version;

/// A walk through the events of an aggregate above a version.
#[derive(Debug)]
pub(super) struct Walk {
    /// The latest event that is missing.
    need: Option<Offset>,
    /// Events up to this version are not needed.
    after: Version,
    span: u64,
}

const SPAN_MIN: u64 = 16;
const SPAN_MAX: u64 = 1 << 14;

/// What a range has shown of the aggregate: its first event there.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) version: Version,
    pub(super) previous: Option<Offset>,
    /// How many of its events the range holds.
    pub(super) count: u64,
}

impl Walk {
    /// All events above `after` of an aggregate at `version`, whose latest stands at `latest`.
    pub(super) fn new(version: Version, latest: Option<Offset>, after: Version) -> Self {
        Self { need: latest.filter(|_| version > after), after, span: SPAN_MIN }
    }

    /// The range to be read next, both ends inclusive; `None` once nothing is missing.
    pub(super) fn range(&self) -> Option<(Offset, Offset)> {
        self.need.map(|need| (Offset(need.0.saturating_sub(self.span - 1)), need))
    }

    /// The range was read. `None`: the event that was to be there is not.
    pub(super) fn read(&mut self, found: Option<Found>) -> Result<(), Option<Offset>> {
        let Some(Found { version, previous, count }) = found else { return Err(self.need) };
        if version <= self.after.plus(1) {
            self.need = None;
            return Ok(());
        }
        // Each step leads down, so that it ends whatever the records say.
        match (previous, self.need) {
            (Some(previous), Some(need)) if previous < need => self.need = Some(previous),
            (_, need) => return Err(need),
        }
        self.span = if count >= self.span / 8 { (self.span * 4).min(SPAN_MAX) } else { (self.span / 4).max(SPAN_MIN) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Walks through a log of which `offsets` are the aggregate's events; the versions that it gave, and the ranges that it read.
    fn walked(offsets: &[u64], after: u64) -> (Vec<u64>, Vec<(u64, u64)>) {
        let version = Version(offsets.len() as u64);
        let mut walk = Walk::new(version, offsets.last().map(|last| Offset(*last)), Version(after));
        let (mut versions, mut ranges) = (Vec::new(), Vec::new());
        while let Some((from, to)) = walk.range() {
            ranges.push((from.0, to.0));
            let here: Vec<usize> = (0..offsets.len()).filter(|at| (from.0..=to.0).contains(&offsets[*at])).collect();
            versions.extend(here.iter().rev().map(|at| *at as u64 + 1).filter(|version| *version > after));
            let found = here.first().map(|first| Found {
                version: Version(*first as u64 + 1),
                previous: first.checked_sub(1).map(|before| Offset(offsets[before])),
                count: here.len() as u64,
            });
            walk.read(found).unwrap();
        }
        versions.reverse();
        (versions, ranges)
    }

    #[test]
    fn a_hot_aggregate_comes_in_few_ranges() {
        let (versions, ranges) = walked(&(0..100_000).collect::<Vec<_>>(), 0);
        assert_eq!(versions.len(), 100_000);
        assert!(ranges.len() < 15, "{}", ranges.len());
    }

    #[test]
    fn of_scattered_events_little_more_is_read_than_they_are() {
        let (versions, ranges) = walked(&(0..50).map(|at| at * 1_000_000).collect::<Vec<_>>(), 0);
        assert_eq!((versions.len(), ranges.len()), (50, 50));
        assert!(ranges.iter().all(|(from, to)| to - from < SPAN_MIN));
    }

    #[test]
    fn nothing_is_read_of_what_is_known_already() {
        assert_eq!(walked(&[5, 9], 2), (Vec::new(), Vec::new()));
        assert_eq!(walked(&[], 0), (Vec::new(), Vec::new()));
        assert_eq!(walked(&[5, 900], 1), (vec![2], vec![(885, 900)]));
    }

    #[test]
    fn a_chain_that_does_not_lead_down_is_a_fault_not_a_loop() {
        let mut walk = Walk::new(Version(3), Some(Offset(10)), Version::NONE);
        let found = Found { version: Version(3), previous: Some(Offset(10)), count: 1 };
        assert_eq!(walk.read(Some(found)), Err(Some(Offset(10))));
        assert_eq!(walk.read(None), Err(Some(Offset(10))));
    }

    proptest! {
        #[test]
        fn every_event_above_the_version_comes_once_in_order(
            gaps in proptest::collection::vec(prop_oneof![1u64..3, 1u64..40, 1u64..100_000], 0..300),
            after in 0u64..300,
        ) {
            let mut at = 0;
            let offsets: Vec<u64> = gaps.iter().map(|gap| { at += gap; at }).collect();
            let (versions, ranges) = walked(&offsets, after);
            prop_assert_eq!(versions, (after + 1..=offsets.len() as u64).collect::<Vec<_>>());
            let read: u64 = ranges.iter().map(|(from, to)| to - from + 1).sum();
            let needed = (offsets.len() as u64).saturating_sub(after);
            prop_assert!(read <= 64 * (needed + 1), "{} for {}", read, needed);
        }
    }
}
