//! How far the program has come in one partition: which records it was handed and has not done yet, and so what may be committed. Pure;
//! knows nothing of streams or of who commits.
//!
//! What is committed is the offset of the oldest record that is not done: everything before it is, whatever the order in which records
//! were done. Where nothing is unfinished it is the place of the next record to be handed out.

use std::collections::VecDeque;

use tidelog_protocol::{LeaderEpoch, Monotonic, Offset};

/// A place that may be committed: everything before `offset` is done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Reached {
    pub(super) offset: Offset,
    /// The leadership that wrote the last record before it.
    pub(super) leader_epoch: Option<LeaderEpoch>,
}

/// The records of one partition that were handed out, from the oldest unfinished one on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Progress {
    /// In the order of their offsets. The first is unfinished; done ones behind it wait for it.
    handed: VecDeque<Handed>,
    /// The leadership that wrote the last record before all of `handed`.
    before: Option<LeaderEpoch>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Handed {
    offset: Offset,
    leader_epoch: Option<LeaderEpoch>,
    at: Monotonic,
    done: bool,
}

impl Progress {
    /// Nothing handed out yet; what lies before was written under `before`.
    pub(super) const fn starting(before: Option<LeaderEpoch>) -> Self {
        Self { handed: VecDeque::new(), before }
    }

    /// A record is handed out. Offsets only grow.
    pub(super) fn hand_out(&mut self, offset: Offset, leader_epoch: Option<LeaderEpoch>, at: Monotonic) {
        assert!(self.handed.back().is_none_or(|last| last.offset < offset), "records are handed out in order");
        self.handed.push_back(Handed { offset, leader_epoch, at, done: false });
    }

    /// A record is done. A second time it changes nothing.
    pub(super) fn done(&mut self, offset: Offset) {
        let Ok(place) = self.handed.binary_search_by_key(&offset, |handed| handed.offset) else { return };
        self.handed[place].done = true;
        while let Some(first) = self.handed.front()
            && first.done
        {
            self.before = first.leader_epoch;
            self.handed.pop_front();
        }
    }

    /// What may be committed, where the next record to be handed out is at `next`, behind records written under `written_by`.
    pub(super) fn reached(&self, next: Offset, written_by: Option<LeaderEpoch>) -> Reached {
        match self.handed.front() {
            Some(oldest) => Reached { offset: oldest.offset, leader_epoch: self.before },
            None => Reached { offset: next, leader_epoch: written_by.or(self.before) },
        }
    }

    /// Records kept in mind: the unfinished ones and those that wait for an older one.
    pub(super) fn kept(&self) -> usize {
        self.handed.len()
    }

    /// When the oldest unfinished record was handed out.
    pub(super) fn busy_since(&self) -> Option<Monotonic> {
        self.handed.front().map(|oldest| oldest.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn an_unfinished_record_holds_back_those_done_after_it() {
        let mut progress = Progress::starting(Some(LeaderEpoch(1)));
        let reached = |progress: &Progress| progress.reached(Offset(12), Some(LeaderEpoch(3)));
        for (offset, epoch) in [(7, 1), (9, 2), (10, 3)] {
            progress.hand_out(Offset(offset), Some(LeaderEpoch(epoch)), Monotonic(offset));
        }
        progress.done(Offset(10));
        progress.done(Offset(10));
        assert_eq!(reached(&progress), Reached { offset: Offset(7), leader_epoch: Some(LeaderEpoch(1)) });
        assert_eq!((progress.kept(), progress.busy_since()), (3, Some(Monotonic(7))));
        progress.done(Offset(7));
        assert_eq!(reached(&progress), Reached { offset: Offset(9), leader_epoch: Some(LeaderEpoch(1)) });
        progress.done(Offset(9));
        assert_eq!(reached(&progress), Reached { offset: Offset(12), leader_epoch: Some(LeaderEpoch(3)) });
        assert_eq!((progress.kept(), progress.busy_since()), (0, None));
    }

    #[test]
    fn a_record_that_was_never_handed_out_is_not_done() {
        let mut progress = Progress::default();
        progress.hand_out(Offset(5), None, Monotonic(0));
        progress.done(Offset(4));
        progress.done(Offset(6));
        assert_eq!(progress.reached(Offset(6), None).offset, Offset(5));
    }

    proptest! {
        #[test]
        fn what_may_be_committed_is_below_every_unfinished_record_and_above_every_done_prefix(
            gaps in prop::collection::vec(1u64..4, 1..60),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..60),
        ) {
            let mut progress = Progress::default();
            let mut offsets = Vec::new();
            let mut next = 0;
            for gap in gaps {
                next += gap;
                offsets.push(next);
                progress.hand_out(Offset(next), None, Monotonic(next));
            }
            let mut unfinished: BTreeSet<u64> = offsets.iter().copied().collect();
            for index in order {
                let offset = *index.get(&offsets);
                progress.done(Offset(offset));
                unfinished.remove(&offset);
                let reached = progress.reached(Offset(next + 1), None).offset.0;
                // The model: the oldest of those not done, else the next to come.
                prop_assert_eq!(reached, unfinished.first().copied().unwrap_or(next + 1));
            }
        }
    }
}
