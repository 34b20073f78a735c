//! Which sagas of a partition go on, and from where on the partition is to be read by whoever takes it up. Pure; knows nothing of what sagas do.
//!
//! A saga that goes on is found again by its latest event: everything before the earliest of these need not be read any more. One that does
//! nothing for long holds that back, until its latest event is carried on.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use tidelog_protocol::Offset;

/// The sagas of a partition.
#[derive(Debug, Default)]
pub(super) struct Held {
    next: Offset,
    latest: BTreeMap<Bytes, Offset>,
    order: BTreeSet<(Offset, Bytes)>,
}

impl Held {
    /// An event of a saga was read.
    pub(super) fn note(&mut self, id: &Bytes, offset: Offset, is_end: bool) {
        self.pass(offset);
        if let Some(before) = self.latest.remove(id) {
            self.order.remove(&(before, id.clone()));
        }
        if !is_end {
            self.latest.insert(id.clone(), offset);
            self.order.insert((offset, id.clone()));
        }
    }

    /// What stands there is no event of a saga.
    pub(super) fn pass(&mut self, offset: Offset) {
        self.next = self.next.max(Offset(offset.0 + 1));
    }

    /// From where on to read: no saga that goes on has its latest event before that. `None` before anything was read.
    pub(super) fn commit(&self) -> Option<Offset> {
        let earliest = self.order.first().map(|(offset, _)| *offset);
        (self.next > Offset::ZERO).then(|| earliest.unwrap_or(self.next))
    }

    /// From where on a saga that goes on is not more than so many records behind.
    pub(super) const fn near(&self, records: u64) -> Offset {
        Offset(self.next.0.saturating_sub(records))
    }

    /// Sagas whose latest event is before that.
    pub(super) fn behind(&self, near: Offset) -> impl Iterator<Item = &Bytes> {
        self.order.iter().take_while(move |(offset, _)| *offset < near).map(|(_, id)| id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn reading_goes_on_at_the_latest_event_of_the_saga_that_has_been_still_for_longest() {
        let mut held = Held::default();
        assert_eq!(held.commit(), None, "nothing was read");
        held.pass(Offset(6));
        assert_eq!(held.commit(), Some(Offset(7)));
        for (saga, offset) in [("a", 7), ("b", 8), ("a", 9)] {
            held.note(&id(saga), Offset(offset), false);
        }
        assert_eq!(held.commit(), Some(Offset(8)), "the first event of a is followed by another");
        held.note(&id("b"), Offset(10), true);
        assert_eq!(held.commit(), Some(Offset(9)));
        held.note(&id("a"), Offset(11), true);
        assert_eq!(held.commit(), Some(Offset(12)));
    }

    #[test]
    fn who_stands_still_is_carried_on() {
        let mut held = Held::default();
        held.note(&id("still"), Offset(0), false);
        (1..=10).for_each(|at| held.note(&id("busy"), Offset(at), false));
        assert_eq!(held.behind(held.near(10)).next(), Some(&id("still")));
        assert_eq!(held.behind(held.near(11)).next(), None);
        held.note(&id("still"), Offset(11), false);
        assert_eq!(held.behind(held.near(10)).next(), None);
        assert_eq!(held.commit(), Some(Offset(10)));
    }
}
