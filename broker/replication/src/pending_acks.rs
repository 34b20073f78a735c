//! Who waits for which offset: "released when the watermark passes X", the one mechanism behind every delayed answer.
//! Knows nothing of what a ticket is or which watermark is meant.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use tidelog_protocol::Offset;

/// Tickets in the order of the offset they wait for. Parking and releasing cost constant time each, and no allocation once
/// the queue has grown to its working size.
#[derive(Debug)]
pub struct PendingAcks<T> {
    parked: VecDeque<Parked<T>>,
    bytes: usize,
}

#[derive(Debug)]
struct Parked<T> {
    at: Offset,
    bytes: usize,
    ticket: T,
}

impl<T> Default for PendingAcks<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T> PendingAcks<T> {
    /// Nobody waits.
    #[must_use]
    pub const fn new() -> Self {
        Self { parked: VecDeque::new(), bytes: 0 }
    }

    /// Parks `ticket` until the watermark is at `at` or beyond. `bytes` is what it keeps alive, for [`Self::bytes`].
    ///
    /// # Panics
    /// Where `at` is below the last one parked: appends come in order.
    pub fn park(&mut self, at: Offset, bytes: usize, ticket: T) {
        assert!(self.last().is_none_or(|last| at >= last), "tickets are parked in the order of their offsets");
        self.bytes += bytes;
        self.parked.push_back(Parked { at, bytes, ticket });
    }

    /// Parks a ticket among those that are parked already, behind those that wait for the same offset.
    pub fn park_among(&mut self, at: Offset, bytes: usize, ticket: T) {
        let place = self.parked.partition_point(|parked| parked.at <= at);
        self.bytes += bytes;
        self.parked.insert(place, Parked { at, bytes, ticket });
    }

    /// Takes the oldest ticket whose offset the watermark has reached, with that offset. Call until it gives `None`.
    #[must_use]
    pub fn release_next(&mut self, watermark: Offset) -> Option<(Offset, T)> {
        if self.first()? > watermark {
            return None;
        }
        let parked = self.parked.pop_front()?;
        self.bytes -= parked.bytes;
        Some((parked.at, parked.ticket))
    }

    /// Takes back the tickets that wait for an offset above `end`, oldest first.
    pub fn drain_above(&mut self, end: Offset) -> impl Iterator<Item = (Offset, T)> {
        let kept = self.parked.partition_point(|parked| parked.at <= end);
        self.bytes -= self.parked.range(kept..).map(|parked| parked.bytes).sum::<usize>();
        self.parked.drain(kept..).map(|parked| (parked.at, parked.ticket))
    }

    /// Takes back the tickets that `due` picks, oldest first; the others keep their order. Looks at every ticket.
    pub fn take_where(&mut self, mut due: impl FnMut(&T) -> bool) -> Vec<(Offset, T)> {
        let mut taken = Vec::new();
        for _ in 0..self.parked.len() {
            let Some(parked) = self.parked.pop_front() else { break };
            if due(&parked.ticket) {
                self.bytes -= parked.bytes;
                taken.push((parked.at, parked.ticket));
            } else {
                self.parked.push_back(parked);
            }
        }
        taken
    }

    /// Takes back every ticket, oldest first: leadership is lost or the log is poisoned.
    pub fn drain_all(&mut self) -> impl Iterator<Item = (Offset, T)> {
        self.bytes = 0;
        self.parked.drain(..).map(|parked| (parked.at, parked.ticket))
    }

    /// The offset that the oldest ticket waits for.
    #[must_use]
    pub fn first(&self) -> Option<Offset> {
        self.parked.front().map(|parked| parked.at)
    }

    /// The offset that the youngest ticket waits for.
    #[must_use]
    pub fn last(&self) -> Option<Offset> {
        self.parked.back().map(|parked| parked.at)
    }

    /// How many tickets wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// True where nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    /// Sum of the bytes given when they were parked.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> PendingAcks<char> {
        let mut pending = PendingAcks::new();
        for (at, ticket) in [(5, 'a'), (9, 'b'), (12, 'c')] {
            pending.park(Offset(at), 100, ticket);
        }
        pending
    }

    #[test]
    fn a_ticket_leaves_when_the_watermark_reaches_its_offset_and_not_before() {
        let mut pending = three();
        assert_eq!(pending.release_next(Offset(4)), None);
        assert_eq!(pending.release_next(Offset(9)), Some((Offset(5), 'a')));
        assert_eq!(pending.release_next(Offset(9)), Some((Offset(9), 'b')));
        assert_eq!(pending.release_next(Offset(9)), None);
        assert_eq!((pending.len(), pending.bytes()), (1, 100));
    }

    #[test]
    fn a_failed_write_takes_back_only_what_was_not_written() {
        let mut pending = three();
        assert_eq!(pending.drain_above(Offset(9)).collect::<Vec<_>>(), [(Offset(12), 'c')]);
        assert_eq!((pending.len(), pending.bytes()), (2, 200));
    }

    #[test]
    fn who_waits_no_longer_leaves_and_the_others_keep_their_order() {
        let mut pending = three();
        assert_eq!(pending.take_where(|ticket| *ticket == 'b'), [(Offset(9), 'b')]);
        assert_eq!((pending.len(), pending.bytes()), (2, 200));
        assert_eq!(pending.release_next(Offset(12)), Some((Offset(5), 'a')));
        assert_eq!(pending.release_next(Offset(12)), Some((Offset(12), 'c')));
    }

    #[test]
    fn losing_leadership_takes_back_everything_once() {
        let mut pending = three();
        assert_eq!(pending.drain_all().count(), 3);
        assert_eq!((pending.len(), pending.bytes()), (0, 0));
        assert_eq!(pending.release_next(Offset::MAX), None);
    }

    #[test]
    #[should_panic(expected = "in the order of their offsets")]
    fn tickets_out_of_order_are_our_bug() {
        three().park(Offset(11), 0, 'd');
    }
}
