//! What is to be read back next in search of rot, and up to where. What was written since the broker started is due soon after it has settled,
//! and everything again in rounds, with a rest between two of them. Where both have something to do they take turns, so that neither waits for
//! the other: a round over a large disk takes days, and a new copy of a large partition hours.
//!
//! Pure; knows nothing of how anything is read.

use std::collections::{HashMap, VecDeque};

use tidelog_protocol::Offset;

use crate::partition::Replica;

/// What has been read back of each partition, and what is due.
#[derive(Debug, Default)]
pub(crate) struct ScrubPlan {
    known: HashMap<Replica, Known>,
    /// Partitions in which something new is due; one whose log was cut may stand here twice, and once in vain.
    fresh: VecDeque<Replica>,
    /// What is left of the round.
    round: VecDeque<Stretch>,
    is_turn_of_round: bool,
    has_looked: bool,
}

/// What is known of the new records of one partition. Invariant: `next ≤ due ≤ settled`.
#[derive(Clone, Copy, Debug)]
struct Known {
    /// Below, all was read back or is the first round's.
    next: Offset,
    /// Below, all is to be read back now.
    due: Offset,
    /// What was settled at the last look.
    settled: Offset,
}

impl Known {
    /// A look: what was settled at the look before is due. That much has had time to come to the disk, and is seldom read any more.
    fn look(&mut self, settled: Offset) {
        let cut = |offset: Offset| offset.min(settled);
        *self = Self { next: cut(self.next), due: cut(self.settled), settled };
    }

    fn is_due(&self) -> bool {
        self.next < self.due
    }
}

/// Offsets of a partition that are to be read back.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stretch {
    pub(crate) replica: Replica,
    pub(crate) next: Offset,
    pub(crate) end: Offset,
    errand: Errand,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Errand {
    Fresh,
    Round,
}

impl ScrubPlan {
    /// Takes note of how far each partition that is here is settled. Of what is there at the first look nobody knows how long it has been, and the
    /// first round sees to it.
    pub(crate) fn look(&mut self, settled: &HashMap<Replica, Offset>) {
        self.known.retain(|replica, _| settled.contains_key(replica));
        for (replica, settled) in settled {
            let next = if self.has_looked { Offset::ZERO } else { *settled };
            let known = self.known.entry(*replica).or_insert(Known { next, due: next, settled: next });
            let was_due = known.is_due();
            known.look(*settled);
            if known.is_due() && !was_due {
                self.fresh.push_back(*replica);
            }
        }
        self.has_looked = true;
    }

    /// Begins a round over everything that is settled.
    pub(crate) fn begin_round(&mut self, settled: &HashMap<Replica, Offset>) {
        let errand = Errand::Round;
        let stretch =
            |(replica, end): (&Replica, &Offset)| Stretch { replica: *replica, next: Offset::ZERO, end: *end, errand };
        self.round = settled.iter().filter(|(_, end)| **end > Offset::ZERO).map(stretch).collect();
    }

    /// Whether a round is under way.
    pub(crate) fn is_in_round(&self) -> bool {
        !self.round.is_empty()
    }

    /// What is to be read back now, until `went` tells how far that came.
    pub(crate) fn next(&mut self) -> Option<Stretch> {
        self.is_turn_of_round = !self.is_turn_of_round;
        if self.is_turn_of_round {
            self.next_of_round().or_else(|| self.next_fresh())
        } else {
            self.next_fresh().or_else(|| self.next_of_round())
        }
    }

    fn next_fresh(&mut self) -> Option<Stretch> {
        while let Some(replica) = self.fresh.pop_front() {
            if let Some(known) = self.known.get(&replica).filter(|known| known.is_due()) {
                return Some(Stretch { replica, next: known.next, end: known.due, errand: Errand::Fresh });
            }
        }
        None
    }

    fn next_of_round(&mut self) -> Option<Stretch> {
        self.round.pop_front()
    }

    /// The stretch was read back up to `to`, its end or before. Of new records, those of other partitions have their turn first.
    pub(crate) fn went(&mut self, stretch: Stretch, to: Offset) {
        match stretch.errand {
            Errand::Fresh => {
                let Some(known) = self.known.get_mut(&stretch.replica) else { return };
                known.next = to.min(known.due);
                if known.is_due() {
                    self.fresh.push_back(stretch.replica);
                }
            }
            Errand::Round if to < stretch.end => self.round.push_front(Stretch { next: to, ..stretch }),
            Errand::Round => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::{PartitionId, TopicId};

    use super::*;

    fn replica(index: u32) -> Replica {
        Replica { topic_id: TopicId([7; 16]), partition: PartitionId(index) }
    }

    fn settled(offsets: &[u64]) -> HashMap<Replica, Offset> {
        (0..).zip(offsets).map(|(index, offset)| (replica(index), Offset(*offset))).collect()
    }

    /// Reads back all that is due, each stretch as a whole.
    fn all(plan: &mut ScrubPlan) -> Vec<(u32, u64, u64)> {
        let mut read = Vec::new();
        while let Some(stretch) = plan.next() {
            read.push((stretch.replica.partition.0, stretch.next.0, stretch.end.0));
            plan.went(stretch, stretch.end);
        }
        read.sort_unstable();
        read
    }

    #[test]
    fn new_records_are_due_at_the_second_look_after_they_settled_and_once() {
        let mut plan = ScrubPlan::default();
        plan.look(&settled(&[100, 0]));
        assert_eq!(all(&mut plan), [], "what was there is the first round's");
        plan.look(&settled(&[130, 10]));
        assert_eq!(all(&mut plan), [], "they may not have come to the disk yet");
        plan.look(&settled(&[150, 10]));
        assert_eq!(all(&mut plan), [(0, 100, 130), (1, 0, 10)]);
        plan.look(&settled(&[150, 10, 40]));
        assert_eq!(all(&mut plan), [(0, 130, 150)]);
        plan.look(&settled(&[150, 10, 40]));
        assert_eq!(all(&mut plan), [(2, 0, 40)], "a partition that came later is new as a whole");
        plan.look(&settled(&[150, 10, 40]));
        assert_eq!(all(&mut plan), []);
    }

    #[test]
    fn what_was_cut_is_not_looked_for_and_what_takes_its_place_is() {
        let mut plan = ScrubPlan::default();
        plan.look(&settled(&[0]));
        plan.look(&settled(&[100]));
        plan.look(&settled(&[60]));
        assert_eq!(all(&mut plan), [(0, 0, 60)]);
        plan.look(&settled(&[40]));
        plan.look(&settled(&[70]));
        plan.look(&settled(&[70]));
        assert_eq!(all(&mut plan), [(0, 40, 70)]);
    }

    #[test]
    fn a_partition_that_left_is_forgotten_in_the_midst_of_it() {
        let mut plan = ScrubPlan::default();
        plan.look(&settled(&[0]));
        plan.look(&settled(&[100]));
        plan.look(&settled(&[100]));
        let stretch = plan.next().unwrap();
        plan.look(&settled(&[]));
        plan.went(stretch, Offset(50));
        assert_eq!(all(&mut plan), []);
    }

    #[test]
    fn a_round_sees_everything_and_new_records_do_not_wait_for_it() {
        let mut plan = ScrubPlan::default();
        plan.look(&settled(&[1_000, 0]));
        plan.begin_round(&settled(&[1_000, 0]));
        plan.look(&settled(&[1_000, 20]));
        plan.look(&settled(&[1_000, 20]));
        // Ten offsets a step: the round needs a hundred.
        let mut steps = Vec::new();
        while let Some(stretch) = plan.next() {
            steps.push(stretch.replica.partition.0);
            plan.went(stretch, stretch.end.min(stretch.next.plus(10)));
        }
        assert!(!plan.is_in_round());
        let fresh: Vec<_> = (0..).zip(&steps).filter(|(_, index)| **index == 1).map(|(at, _)| at).collect();
        assert!(fresh.len() <= 3 && fresh.iter().all(|at| *at < 6), "{fresh:?} of {}", steps.len());
        assert_eq!(steps.iter().filter(|index| **index == 0).count(), 100);
    }

    #[test]
    fn a_large_new_copy_does_not_hold_up_the_new_records_of_others() {
        let mut plan = ScrubPlan::default();
        plan.look(&settled(&[0, 0]));
        plan.look(&settled(&[1_000_000, 0]));
        plan.look(&settled(&[1_000_000, 5]));
        let step = |plan: &mut ScrubPlan| {
            let stretch = plan.next().unwrap();
            plan.went(stretch, stretch.end.min(stretch.next.plus(10)));
            stretch.replica.partition.0
        };
        assert_eq!([step(&mut plan), step(&mut plan)], [0, 0]);
        plan.look(&settled(&[1_000_000, 5]));
        let next = [step(&mut plan), step(&mut plan), step(&mut plan)];
        assert!(next.contains(&1), "{next:?}");
    }
}
