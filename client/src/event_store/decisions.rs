//! Commands to one aggregate, decided one after the other as if those before them had been carried out. Pure: knows states and events,
//! nothing of the store.
//!
//! What a command is told stands on what those before it did, and those are not stored yet: so nobody is told anything before that is so,
//! and where it turns out otherwise all are decided anew.

use bytes::Bytes;
use foldhash::{HashSet, HashSetExt};

use super::aggregate::Aggregate;
use super::event::NewEvent;
use super::staging::events_bytes;

/// Decides: the events that a command makes of a state, or why it makes none.
pub(super) type Decide<A> =
    Box<dyn FnMut(&A) -> Result<Vec<<A as Aggregate>::Event>, <A as Aggregate>::Refusal> + Send>;

/// What was decided.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Decision<R> {
    /// Its events are to be appended.
    Events(Vec<NewEvent>),
    /// There is nothing to append.
    Nothing,
    /// It is refused.
    Refused(R),
    /// Not decided yet: it comes after one of the same id, or there was no more room.
    Later,
}

/// Decides one command after the other.
#[derive(Debug)]
pub(super) struct Decisions<A> {
    state: A,
    id_bytes: usize,
    bytes: usize,
    bytes_max: usize,
    commands: HashSet<Bytes>,
    is_full: bool,
}

impl<A: Aggregate> Decisions<A> {
    /// From this state on of an aggregate whose id has so many bytes, until there are so many bytes of events.
    pub(super) fn new(state: A, id_bytes: usize, bytes_max: usize) -> Self {
        Self { state, id_bytes, bytes: 0, bytes_max, commands: HashSet::new(), is_full: false }
    }

    pub(super) fn decide(&mut self, command: Option<&Bytes>, decide: &mut Decide<A>) -> Decision<A::Refusal> {
        if self.is_full || command.is_some_and(|command| self.commands.contains(command)) {
            return Decision::Later;
        }
        let events = match decide(&self.state) {
            Ok(events) if events.is_empty() => return Decision::Nothing,
            Ok(events) => events,
            Err(refusal) => return Decision::Refused(refusal),
        };
        let encoded: Vec<NewEvent> = events.iter().map(A::encode).collect();
        let bytes = events_bytes(self.id_bytes, command, &encoded);
        if self.bytes > 0 && self.bytes + bytes > self.bytes_max {
            // Those behind it must not be decided before it.
            self.is_full = true;
            return Decision::Later;
        }
        self.bytes += bytes;
        self.commands.extend(command.cloned());
        events.iter().for_each(|event| self.state.apply(event));
        Decision::Events(encoded)
    }

    /// The state after all that was decided.
    pub(super) fn into_state(self) -> A {
        self.state
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::event_store::BoxError;

    #[derive(Clone, Default, Debug, PartialEq)]
    pub(in crate::event_store) struct Account(i64);

    impl Aggregate for Account {
        type Event = i64;
        type Refusal = i64;

        fn apply(&mut self, moved: &i64) {
            self.0 += moved;
        }

        fn encode(moved: &i64) -> NewEvent {
            NewEvent::new("moved", moved.to_string())
        }

        fn decode(_: &str, payload: &[u8]) -> Result<i64, BoxError> {
            Ok(std::str::from_utf8(payload)?.parse()?)
        }
    }

    fn withdraw(amount: i64) -> Decide<Account> {
        Box::new(move |account: &Account| if account.0 < amount { Err(account.0) } else { Ok(vec![-amount]) })
    }

    #[test]
    fn each_command_meets_the_state_that_those_before_it_made() {
        let mut decisions = Decisions::new(Account(10), 1, 1 << 20);
        assert!(matches!(decisions.decide(None, &mut withdraw(7)), Decision::Events(events) if events.len() == 1));
        assert_eq!(decisions.decide(None, &mut withdraw(7)), Decision::Refused(3));
        assert!(matches!(decisions.decide(None, &mut withdraw(3)), Decision::Events(_)));
        assert_eq!(
            decisions.decide(None, &mut (Box::new(|_: &Account| Ok(Vec::new())) as Decide<Account>)),
            Decision::Nothing
        );
        assert_eq!(decisions.into_state(), Account(0));
    }

    #[test]
    fn a_command_id_is_decided_once_in_a_round() {
        let mut decisions = Decisions::new(Account(10), 1, 1 << 20);
        let id = Bytes::from_static(b"c");
        assert!(matches!(decisions.decide(Some(&id), &mut withdraw(1)), Decision::Events(_)));
        assert_eq!(decisions.decide(Some(&id), &mut withdraw(1)), Decision::Later);
        assert_eq!(decisions.into_state(), Account(9));
    }

    #[test]
    fn what_has_no_room_waits_and_so_do_all_behind_it() {
        let mut decisions = Decisions::new(Account(10), 1, 300);
        assert!(matches!(decisions.decide(None, &mut withdraw(1)), Decision::Events(_)));
        assert!(matches!(decisions.decide(None, &mut withdraw(1)), Decision::Events(_)));
        assert_eq!(decisions.decide(None, &mut withdraw(1)), Decision::Later);
        assert_eq!(
            decisions.decide(None, &mut (Box::new(|_: &Account| Err(0i64)) as Decide<Account>)),
            Decision::Later
        );
        assert_eq!(decisions.into_state(), Account(8));
    }
}
