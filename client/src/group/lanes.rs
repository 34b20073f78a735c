//! What is processed next, where many records are at once: those of one lane one after the other, in order, and no lane waits for another
//! one that waits for its next try. Pure; knows nothing of records or of what is done with them.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::hash::Hash;

use foldhash::{HashMap, HashMapExt};
use tidelog_protocol::Monotonic;

/// The lanes that have something to do. `K` names a lane, `T` is a piece of work.
#[derive(Debug)]
pub(super) struct Lanes<K, T> {
    lanes: HashMap<K, Lane<T>>,
    /// Lanes whose first piece may begin, in the order in which they became so.
    ready: VecDeque<K>,
    /// Lanes that wait for their next try, soonest first; the number keeps equal times in order.
    waiting: BinaryHeap<Reverse<(Monotonic, u64, K)>>,
    pieces: usize,
    waits: u64,
}

/// The work of one lane. The first piece is being done, may begin, or waits for its next try; the others wait for it.
#[derive(Debug)]
struct Lane<T> {
    /// The piece that is being done is with whoever does it.
    queue: VecDeque<Piece<T>>,
}

/// A piece of work.
#[derive(Debug)]
pub(super) struct Piece<T> {
    pub(super) work: T,
    /// How often it has failed.
    pub(super) failures: u32,
}

impl<K: Clone + Eq + Hash + Ord, T> Lanes<K, T> {
    pub(super) fn new() -> Self {
        Self { lanes: HashMap::new(), ready: VecDeque::new(), waiting: BinaryHeap::new(), pieces: 0, waits: 0 }
    }

    /// Takes in a piece, behind all others of its lane.
    pub(super) fn push(&mut self, lane: K, work: T) {
        self.pieces += 1;
        let piece = Piece { work, failures: 0 };
        match self.lanes.get_mut(&lane) {
            Some(known) => known.queue.push_back(piece),
            None => {
                self.lanes.insert(lane.clone(), Lane { queue: VecDeque::from([piece]) });
                self.ready.push_back(lane);
            }
        }
    }

    /// A piece to begin with, and its lane, which does nothing else until [`Lanes::finished`] or [`Lanes::again_at`].
    pub(super) fn begin(&mut self, now: Monotonic) -> Option<(K, Piece<T>)> {
        while let Some(Reverse((at, ..))) = self.waiting.peek()
            && *at <= now
        {
            let Some(Reverse((.., lane))) = self.waiting.pop() else { break };
            self.ready.push_back(lane);
        }
        let lane = self.ready.pop_front()?;
        let piece = self.lanes.get_mut(&lane)?.queue.pop_front()?;
        Some((lane, piece))
    }

    /// The piece that a lane began with is done: the next one may begin.
    pub(super) fn finished(&mut self, lane: K) {
        self.pieces -= 1;
        let Some(known) = self.lanes.get(&lane) else { return };
        if known.queue.is_empty() {
            self.lanes.remove(&lane);
        } else {
            self.ready.push_back(lane);
        }
    }

    /// The piece that a lane began with failed, and shall be begun again at `at`; until then the lane waits.
    pub(super) fn again_at(&mut self, lane: K, piece: Piece<T>, at: Monotonic) {
        let Some(known) = self.lanes.get_mut(&lane) else { return };
        known.queue.push_front(Piece { failures: piece.failures + 1, ..piece });
        self.waits += 1;
        self.waiting.push(Reverse((at, self.waits, lane)));
    }

    /// When the next of those that wait may begin again.
    pub(super) fn due(&self) -> Option<Monotonic> {
        self.waiting.peek().map(|Reverse((at, ..))| *at)
    }

    /// Pieces taken in and not finished, those being done included.
    pub(super) const fn len(&self) -> usize {
        self.pieces
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn begun(lanes: &mut Lanes<u8, u32>, now: u64) -> Option<(u8, u32)> {
        lanes.begin(Monotonic(now)).map(|(lane, piece)| (lane, piece.work))
    }

    #[test]
    fn a_lane_does_one_thing_at_a_time() {
        let mut lanes = Lanes::new();
        for (lane, work) in [(1, 10), (1, 11), (2, 20)] {
            lanes.push(lane, work);
        }
        assert_eq!(begun(&mut lanes, 0), Some((1, 10)));
        assert_eq!(begun(&mut lanes, 0), Some((2, 20)));
        assert_eq!(begun(&mut lanes, 0), None);
        lanes.finished(1);
        assert_eq!(begun(&mut lanes, 0), Some((1, 11)));
        lanes.finished(2);
        lanes.finished(1);
        assert_eq!((lanes.len(), lanes.lanes.len()), (0, 0));
    }

    #[test]
    fn a_lane_that_waits_for_its_next_try_stops_no_other() {
        let mut lanes = Lanes::new();
        for (lane, work) in [(1, 10), (1, 11), (2, 20)] {
            lanes.push(lane, work);
        }
        let (lane, piece) = lanes.begin(Monotonic(0)).unwrap();
        lanes.again_at(lane, piece, Monotonic(50));
        assert_eq!(begun(&mut lanes, 0), Some((2, 20)));
        assert_eq!((begun(&mut lanes, 49), lanes.due()), (None, Some(Monotonic(50))));
        let (lane, piece) = lanes.begin(Monotonic(50)).unwrap();
        assert_eq!((lane, piece.work, piece.failures), (1, 10, 1), "the failed one comes before what came after it");
    }

    proptest! {
        /// Whatever fails and whenever: each lane's pieces are finished in the order they came, all of them, never two at once.
        #[test]
        fn pieces_of_a_lane_finish_in_order(
            pieces in prop::collection::vec(0u8..5, 1..80),
            fates in prop::collection::vec((any::<bool>(), 0u64..30, any::<bool>()), 1..400),
        ) {
            let mut lanes = Lanes::new();
            let mut to_come: VecDeque<_> = pieces.iter().copied().zip(0u32..).collect();
            let mut finished: BTreeMap<u8, Vec<u32>> = BTreeMap::new();
            let mut doing: VecDeque<(u8, Piece<u32>)> = VecDeque::new();
            let (mut now, mut fates) = (0, fates.into_iter().cycle());
            while !to_come.is_empty() || lanes.len() > 0 {
                let (fails, later, comes) = fates.next().unwrap();
                now += 1;
                if (comes || lanes.len() == 0)
                    && let Some((lane, work)) = to_come.pop_front()
                {
                    lanes.push(lane, work);
                }
                let begun = lanes.begin(Monotonic(now));
                // Where nothing can be begun, something must be finished for anything to go on.
                let finishes = begun.is_none() || doing.len() > 2 || later < 15;
                if let Some(begun) = begun {
                    prop_assert!(doing.iter().all(|(lane, _)| *lane != begun.0), "two at once");
                    doing.push_back(begun);
                }
                if finishes {
                    let Some((lane, piece)) = doing.pop_front() else { continue };
                    if fails && piece.failures < 3 {
                        lanes.again_at(lane, piece, Monotonic(now + later));
                    } else {
                        finished.entry(lane).or_default().push(piece.work);
                        lanes.finished(lane);
                    }
                }
            }
            for (lane, done) in finished {
                let sent: Vec<u32> = pieces.iter().zip(0u32..).filter(|(at, _)| **at == lane).map(|(_, n)| n).collect();
                prop_assert_eq!(done, sent);
            }
        }
    }
}
