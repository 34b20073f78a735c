//! Turns at something that only so much of is there: memory, in which frames are completed, few large ones at a time or many small ones. Who
//! came first is next, as long as turns are used. Behind one that came to nothing it is now one of those whose kind wasted least (`waste.rs`), of
//! them who came last, now who came first, so that many who waste their turns keep nobody else waiting for all of theirs: neither who comes after
//! they have queued, nor, where they come back again and again, who came before. Before them are those that have proved to use what they get;
//! behind one of those that wasted its turn all the same, and behind a row of those that used theirs, one of the others is next (`order.rs`). A
//! turn that was told to somebody who no longer wants it is passed on, and says nothing of anybody. Whoever is next and needs more than is free
//! waits for that, and nobody passes it. Knows nothing of frames.

mod order;
mod rank;
#[cfg(test)]
mod simulation;
mod waste;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use order::Order;
pub(crate) use rank::Ranks;
pub use rank::{Rank, Source};

/// Hands out turns, which together take no more than there is.
#[derive(Clone, Debug)]
pub(crate) struct Turns(Arc<Mutex<Queue>>);

#[derive(Debug)]
struct Queue {
    size: usize,
    free: usize,
    order: Order,
    /// Those who wait.
    told: BTreeMap<Rank, oneshot::Sender<Turn>>,
}

impl Queue {
    fn enqueue(&mut self, rank: Rank, needs: usize, told: oneshot::Sender<Turn>) {
        self.order.enqueue(rank, needs);
        self.told.insert(rank, told);
    }

    fn dequeue(&mut self, rank: Rank) -> Option<oneshot::Sender<Turn>> {
        self.order.dequeue(rank);
        self.told.remove(&rank)
    }
}

/// It is the holder's turn until this is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    /// `None` where it was never told to anybody.
    of: Option<Turns>,
    rank: Rank,
    takes: usize,
    /// Whoever it was told to has it.
    is_begun: bool,
    is_used: bool,
}

impl Turn {
    fn new(of: &Turns, rank: Rank, takes: usize) -> Self {
        Self { of: Some(of.clone()), rank, takes, is_begun: false, is_used: false }
    }

    fn begin(mut self) -> Self {
        self.is_begun = true;
        self
    }

    /// What it was for is done.
    pub(crate) fn note_used(&mut self) {
        self.is_used = true;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(turns) = self.of.take() {
            let ended = self.is_begun.then_some((self.rank, self.is_used));
            turns.pass_on(self.takes, ended);
        }
    }
}

/// A place in the queue, given up on drop.
struct Place(Turns, Rank);

impl Drop for Place {
    fn drop(&mut self) {
        let mut queue = self.0.0.lock();
        if queue.dequeue(self.1).is_some() {
            // It may be the one that the others waited for.
            self.0.hand_out(&mut queue, false);
        }
    }
}

impl Turns {
    /// Of so much.
    pub(crate) fn of(size: usize) -> Self {
        let queue = Queue { size, free: size, order: Order::default(), told: BTreeMap::new() };
        Self(Arc::new(Mutex::new(queue)))
    }

    /// How many times all that there is those take together who wait, the last time counted as whole.
    pub(crate) fn rounds_waiting(&self) -> usize {
        let queue = self.0.lock();
        queue.order.wanted().div_ceil(queue.size.max(1))
    }

    /// The next turn that is this caller's, at so much; where it needs more than there is, it has all of it. One of a rank waits at a time.
    pub(crate) fn take(&self, rank: Rank, needs: usize) -> impl Future<Output = Turn> + Send + 'static {
        let queued = {
            let mut queue = self.0.lock();
            let needs = needs.min(queue.size);
            if needs > queue.free || !queue.order.is_empty() {
                let (told, tells) = oneshot::channel();
                queue.enqueue(rank, needs, told);
                Err((Place(self.clone(), rank), tells))
            } else {
                queue.free -= needs;
                Ok(Turn::new(self, rank, needs))
            }
        };
        async move {
            match queued {
                Ok(turn) => turn.begin(),
                Err((_place, tells)) => match tells.await {
                    Ok(turn) => turn.begin(),
                    // Nobody drops what tells of a turn but the place itself.
                    Err(_) => std::future::pending().await,
                },
            }
        }
    }

    /// `ended` tells, where it had begun, whose it was, and whether it was used.
    fn pass_on(&self, took: usize, ended: Option<(Rank, bool)>) {
        let mut queue = self.0.lock();
        queue.free += took;
        if let Some((rank, was_used)) = ended {
            queue.order.note_ended(rank, took, was_used);
        }
        self.hand_out(&mut queue, ended.is_some());
    }

    /// As many turns as there is room for, behind one that has ended, or not.
    fn hand_out(&self, queue: &mut Queue, mut has_ended: bool) {
        while let Some((rank, needs)) = queue.order.next() {
            if needs > queue.free {
                // By how that ended it is the next; who is behind it is not known before the next has ended.
                if has_ended {
                    queue.order.choose(Some(rank));
                }
                return;
            }
            queue.order.choose(None);
            let Some(told) = queue.dequeue(rank) else { return };
            match told.send(Turn::new(self, rank, needs)) {
                Ok(()) => {
                    queue.free -= needs;
                    queue.order.note_begun(rank);
                    has_ended = false;
                }
                // It waits no more. Dropped as a turn it would be passed on from within.
                Err(mut turn) => turn.of = None,
            }
        }
        queue.order.forget();
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::order::PROVED_IN_A_ROW;
    use super::*;

    type Waiting = std::pin::Pin<Box<dyn Future<Output = Turn>>>;

    fn poll(waiting: &mut Waiting) -> Option<Turn> {
        match waiting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(turn) => Some(turn),
            Poll::Pending => None,
        }
    }

    fn queued(turns: &Turns, count: usize) -> Vec<Waiting> {
        let ranks = Ranks::default();
        (0..count).map(|_| Box::pin(turns.take(ranks.next(false), 1)) as Waiting).collect()
    }

    /// Whose turn it is.
    fn next(waiting: &mut [Waiting], done: &mut Vec<usize>) -> Option<Turn> {
        for (index, place) in waiting.iter_mut().enumerate() {
            if !done.contains(&index)
                && let Some(turn) = poll(place)
            {
                done.push(index);
                return Some(turn);
            }
        }
        None
    }

    #[test]
    fn turns_that_are_used_come_in_the_order_of_their_places() {
        let turns = Turns::of(1);
        let (mut waiting, mut done) = (queued(&turns, 4), Vec::new());
        while let Some(mut turn) = next(&mut waiting, &mut done) {
            assert!(waiting.iter_mut().enumerate().all(|(index, w)| done.contains(&index) || poll(w).is_none()));
            turn.note_used();
        }
        assert_eq!(done, [0, 1, 2, 3]);
    }

    #[test]
    fn behind_turns_that_are_wasted_the_last_and_the_first_are_next_in_turn() {
        let turns = Turns::of(1);
        let (mut waiting, mut done) = (queued(&turns, 6), Vec::new());
        while let Some(turn) = next(&mut waiting, &mut done) {
            drop(turn);
        }
        assert_eq!(done, [0, 5, 1, 4, 2, 3]);
        let (mut waiting, mut done) = (queued(&turns, 4), Vec::new());
        while let Some(mut turn) = next(&mut waiting, &mut done) {
            // Whoever uses theirs are not kept waiting for the others.
            if done != [0] {
                turn.note_used();
            }
        }
        assert_eq!(done, [0, 3, 2, 1]);
    }

    #[test]
    fn who_waits_no_more_takes_no_turn_whether_it_was_told_or_not() {
        let turns = Turns::of(1);
        let (mut waiting, mut done) = (queued(&turns, 4), Vec::new());
        let first = next(&mut waiting, &mut done).unwrap();
        drop(waiting.remove(1));
        assert_eq!(turns.0.lock().told.len(), 2, "nothing is kept of it");
        assert!(poll(&mut waiting[1]).is_none());
        drop(first);
        // The last was told, and goes before it hears of it.
        drop(waiting.pop());
        assert!(poll(&mut waiting[1]).is_some());
        assert!(poll(&mut queued(&turns, 1)[0]).is_some(), "nobody holds one");
    }

    #[test]
    fn as_many_turns_are_taken_at_a_time_as_there_are() {
        let turns = Turns::of(2);
        let (mut waiting, mut done) = (queued(&turns, 4), Vec::new());
        let mut taken: Vec<_> = std::iter::from_fn(|| next(&mut waiting, &mut done)).collect();
        assert_eq!(done, [0, 1]);
        taken[1].note_used();
        drop(taken.pop());
        taken.extend(std::iter::from_fn(|| next(&mut waiting, &mut done)));
        assert_eq!(done, [0, 1, 2]);
        drop((waiting, taken));
        let all: Vec<_> = queued(&turns, 3).iter_mut().map(poll).collect();
        assert_eq!(all.iter().flatten().count(), 2, "all came back");
    }

    #[test]
    fn as_much_is_taken_at_a_time_as_there_is_and_nobody_passes_who_needs_more_than_is_free() {
        let (turns, ranks) = (Turns::of(10), Ranks::default());
        let mut waiting: Vec<Waiting> = Vec::new();
        for needs in [6, 3, 100, 1, 1] {
            waiting.push(Box::pin(turns.take(ranks.next(false), needs)));
        }
        let mut done = Vec::new();
        let mut taken: Vec<_> = std::iter::from_fn(|| next(&mut waiting, &mut done)).collect();
        assert_eq!(done, [0, 1], "one is free, and the third needs all");
        taken[0].note_used();
        drop(taken.remove(0));
        taken.extend(std::iter::from_fn(|| next(&mut waiting, &mut done)));
        assert_eq!(done, [0, 1], "it goes on waiting, though others would have room");
        taken[0].note_used();
        drop(taken.remove(0));
        taken.extend(std::iter::from_fn(|| next(&mut waiting, &mut done)));
        assert_eq!(done, [0, 1, 2]);
        assert!(poll(&mut waiting[3]).is_none());
        drop(taken);
        let taken: Vec<_> = std::iter::from_fn(|| next(&mut waiting, &mut done)).collect();
        assert_eq!(done.len(), 5);
        drop(taken);
        // Where the one that is waited for gives up, the others do not go on waiting.
        let mut waiting = [6, 5, 1].map(|needs| Box::pin(turns.take(ranks.next(false), needs)) as Waiting).into_iter();
        let (mut first, second, mut third) =
            (waiting.next().unwrap(), waiting.next().unwrap(), waiting.next().unwrap());
        let _first = poll(&mut first).unwrap();
        assert!(poll(&mut third).is_none());
        drop(second);
        assert!(poll(&mut third).is_some());
    }

    #[test]
    fn those_that_are_proved_come_before_all_others_in_their_order() {
        let (turns, ranks) = (Turns::of(1), Ranks::default());
        let (mut waiting, mut done) = (Vec::new(), Vec::new());
        for is_proved in [false, false, true, false, true, false] {
            waiting.push(Box::pin(turns.take(ranks.next(is_proved), 1)) as Waiting);
        }
        while let Some(mut turn) = next(&mut waiting, &mut done) {
            turn.note_used();
        }
        assert_eq!(done, [0, 2, 4, 1, 3, 5]);
    }

    #[test]
    fn those_that_are_proved_and_waste_their_turns_keep_nobody_waiting_for_all_of_them() {
        let (turns, ranks) = (Turns::of(1), Ranks::default());
        let (mut waiting, mut done) = (Vec::new(), Vec::new());
        for is_proved in [true, true, true, true, true, false, false, false] {
            waiting.push(Box::pin(turns.take(ranks.next(is_proved), 1)) as Waiting);
        }
        while let Some(mut turn) = next(&mut waiting, &mut done) {
            if done.last() == Some(&5) {
                turn.note_used();
            }
        }
        assert_eq!(done, [0, 5, 4, 6, 1, 7, 3, 2], "neither of the others nor, among the proved, who came last");
    }

    #[test]
    fn those_that_are_proved_and_use_their_turns_do_not_keep_the_others_waiting_for_ever() {
        let (turns, ranks) = (Turns::of(1), Ranks::default());
        let other = ranks.next(false);
        let mut turn = poll(&mut (Box::pin(turns.take(ranks.next(false), 1)) as Waiting)).unwrap();
        let mut other: Waiting = Box::pin(turns.take(other, 1));
        let mut passed = 0;
        while passed < 10 * PROVED_IN_A_ROW {
            // Another of the proved is there whenever a turn ends.
            let mut proved: Waiting = Box::pin(turns.take(ranks.next(true), 1));
            turn.note_used();
            drop(turn);
            if poll(&mut other).is_some() {
                break;
            }
            turn = poll(&mut proved).unwrap();
            passed += 1;
        }
        assert_eq!(passed, PROVED_IN_A_ROW);
    }

    #[test]
    fn a_turn_that_was_told_and_not_wanted_says_nothing_of_anybody() {
        let (turns, ranks) = (Turns::of(1), Ranks::default());
        let mut first = poll(&mut (Box::pin(turns.take(ranks.next(false), 1)) as Waiting)).unwrap();
        let mut waiting: Vec<Waiting> = (0..3).map(|_| Box::pin(turns.take(ranks.next(false), 1)) as Waiting).collect();
        first.note_used();
        drop(first);
        // The first of them was told, and took something else.
        drop(waiting.remove(0));
        assert!(poll(&mut waiting[1]).is_none(), "no turn was wasted");
        assert!(poll(&mut waiting[0]).is_some());
        // Nor is one that nobody waited for.
        let idle = Turns::of(1);
        let held = poll(&mut (Box::pin(idle.take(ranks.next(false), 1)) as Waiting));
        let mut waiting: Vec<Waiting> = (0..2).map(|_| Box::pin(idle.take(ranks.next(false), 1)) as Waiting).collect();
        drop(held);
        assert!(poll(&mut waiting[0]).is_none() && poll(&mut waiting[1]).is_some(), "but one that was had is");
    }

    #[test]
    fn what_waits_is_counted_in_how_many_times_it_takes_all_that_there_is() {
        let (turns, ranks) = (Turns::of(10), Ranks::default());
        let mut take = |needs| Box::pin(turns.take(ranks.next(false), needs)) as Waiting;
        let mut first = take(10);
        assert_eq!(turns.rounds_waiting(), 0);
        let mut waiting: Vec<Waiting> = [4, 4, 2, 100, 1].map(&mut take).into_iter().collect();
        assert_eq!(turns.rounds_waiting(), 3);
        drop(waiting.pop());
        assert_eq!(turns.rounds_waiting(), 2);
        drop(poll(&mut first));
        assert_eq!(turns.rounds_waiting(), 1);
        drop(waiting);
        assert_eq!(turns.rounds_waiting(), 0);
    }

    #[test]
    fn who_asks_again_has_not_come_again() {
        let turns = Turns::of(1);
        let ranks = Ranks::default();
        let (first, second, third) = (ranks.next(false), ranks.next(false), ranks.next(false));
        let wasted = poll(&mut (Box::pin(turns.take(first, 1)) as Waiting)).unwrap();
        let mut third: Waiting = Box::pin(turns.take(third, 1));
        for _ in 0..3 {
            drop(turns.take(second, 1));
        }
        let mut second: Waiting = Box::pin(turns.take(second, 1));
        drop(wasted);
        assert!(poll(&mut second).is_none() && poll(&mut third).is_some());
    }
}
