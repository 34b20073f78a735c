//! Requests with markers that come when they were given up long ago. A marker that carries the epoch of its own transaction cannot be told from that
//! of the next, so none may be written once the next may have begun: that is, once the request was given up, sent again under a higher number,
//! and that one answered. So each says below which number all are answered or given up, and whoever has heard that takes none of those. Knows nothing
//! of what markers say.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use tidelog_protocol::messages::WriteMarkersRequest;
use tidelog_protocol::{LeaderEpoch, PartitionId};

/// The number of a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Number {
    pub(super) number: u64,
    /// All below are answered or given up.
    pub(super) given_up_below: u64,
}

/// Those of one coordinator that are under way.
#[derive(Default, Debug)]
pub(super) struct Numbers {
    under_way: BTreeSet<u64>,
}

impl Numbers {
    /// Another leaves, under a number above all before.
    pub(super) fn next(&mut self, number: u64) -> Number {
        self.under_way.insert(number);
        Number { number, given_up_below: self.under_way.first().copied().unwrap_or(number) }
    }

    /// It is answered, or given up.
    pub(super) fn done(&mut self, number: Number) {
        self.under_way.remove(&number.number);
    }
}

/// What this broker has sent, and what it has heard from every coordinator.
#[derive(Default, Debug)]
pub(crate) struct Order {
    drawn: AtomicU64,
    /// By the partition in which a coordinator keeps its state: its leadership, and below which number it has given up.
    heard: Mutex<HashMap<PartitionId, (LeaderEpoch, u64)>>,
}

impl Order {
    /// A number that this process has not drawn before: they go on when a coordinator comes anew under the same leadership.
    pub(super) fn draw(&self) -> u64 {
        self.drawn.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Has nobody given this request up, as far as was heard here? What it says of others is heard from now on.
    pub(super) fn hear(&self, request: &WriteMarkersRequest) -> bool {
        let mut heard = self.heard.lock();
        let known = heard.entry(request.shard).or_insert((request.coordinator_epoch, 0));
        let is_current = (request.coordinator_epoch, request.number) >= *known;
        *known = (*known).max((request.coordinator_epoch, request.given_up_below));
        is_current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(epoch: u32, Number { number, given_up_below }: Number) -> WriteMarkersRequest {
        let (coordinator_epoch, shard) = (LeaderEpoch(epoch), PartitionId(3));
        WriteMarkersRequest { coordinator_epoch, markers: Vec::new(), shard, number, given_up_below }
    }

    #[test]
    fn what_was_given_up_and_sent_again_is_not_taken_when_it_comes_late() {
        let (order, mut numbers) = (Order::default(), Numbers::default());
        let lost = numbers.next(order.draw());
        let beside = numbers.next(order.draw());
        assert!(order.hear(&request(1, beside)));
        assert!(order.hear(&request(1, lost)), "it is under way still");
        numbers.done(lost);
        let again = numbers.next(order.draw());
        assert!(order.hear(&request(1, again)));
        assert!(!order.hear(&request(1, lost)));
        assert!(order.hear(&request(1, beside)), "nobody has given that up");
    }

    #[test]
    fn a_coordinator_of_before_is_not_heard_once_the_next_was() {
        let (order, mut before, mut after) = (Order::default(), Numbers::default(), Numbers::default());
        let late = before.next(order.draw());
        assert!(order.hear(&request(2, after.next(1))));
        assert!(!order.hear(&request(1, late)));
    }
}
