//! Answers on their way to one client, in the order of its requests, in whatever order they come about. Bounded by what bounds a connection's
//! unanswered requests. Knows nothing of what they mean.

use std::collections::VecDeque;

use parking_lot::Mutex;

use crate::outbox::{OutFrame, Outbox};

/// The place of an answer among the others.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Turn(u64);

/// What is known of an answer.
#[derive(Debug)]
enum Place {
    Open,
    Settled(Option<OutFrame>),
}

#[derive(Debug, Default)]
struct Queue {
    /// The turn of the first place.
    first: u64,
    places: VecDeque<Place>,
    /// Bytes of answers that wait for others.
    bytes: usize,
}

/// Those that are not out yet.
#[derive(Debug, Default)]
pub(super) struct Answers {
    queue: Mutex<Queue>,
}

impl Answers {
    /// The next place.
    pub(super) fn begin(&self) -> Turn {
        let mut queue = self.queue.lock();
        let turn = queue.first + queue.places.len() as u64;
        queue.places.push_back(Place::Open);
        Turn(turn)
    }

    /// Bytes of answers that wait for others.
    pub(super) fn bytes(&self) -> usize {
        self.queue.lock().bytes
    }

    /// The answer of a place, or that there is none. Whatever has nothing open before it goes out.
    pub(super) fn settle(&self, turn: Turn, answer: Option<OutFrame>, outbox: &Outbox) {
        let mut queue = self.queue.lock();
        let at = turn.0.wrapping_sub(queue.first) as usize;
        queue.bytes += answer.as_ref().map_or(0, OutFrame::bytes);
        if let Some(place) = queue.places.get_mut(at) {
            *place = Place::Settled(answer);
        }
        // Under the lock, so that two that settle at once do not overtake each other.
        while let Some(Place::Settled(_)) = queue.places.front() {
            queue.first += 1;
            if let Some(Place::Settled(Some(frame))) = queue.places.pop_front() {
                queue.bytes -= frame.bytes();
                outbox.push(frame);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use bytes::Bytes;

    use super::*;

    #[test]
    fn answers_leave_in_the_order_of_the_requests() {
        let (answers, outbox) = (Answers::default(), Outbox::default());
        let frame = |name: &'static str| {
            Some(OutFrame { head: Bytes::from_static(name.as_bytes()), payload: Vec::new(), lent: None })
        };
        let out = || {
            let mut frames = VecDeque::new();
            outbox.take(&mut frames, 10);
            frames.into_iter().map(|frame| frame.head).collect::<Vec<_>>()
        };
        let turns = [(); 4].map(|()| answers.begin());
        answers.settle(turns[2], frame("c"), &outbox);
        answers.settle(turns[1], None, &outbox);
        assert!(out().is_empty());
        assert_eq!(answers.bytes(), 1);
        answers.settle(turns[0], frame("a"), &outbox);
        assert_eq!((out(), answers.bytes()), (vec![Bytes::from("a"), Bytes::from("c")], 0));
        let last = answers.begin();
        answers.settle(last, frame("e"), &outbox);
        answers.settle(turns[3], frame("d"), &outbox);
        assert_eq!(out(), ["d", "e"]);
    }
}
