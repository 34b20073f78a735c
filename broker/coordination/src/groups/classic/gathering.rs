//! Who was heard of and who waits for the others: soft state beside the records, made afresh when another broker coordinates; whoever waited asks
//! that one. Knows nothing of what is decided by it.

use alloc::borrow::ToOwned;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::String;

use tidelog_protocol::Monotonic;

use super::state::ClassicState;
use crate::groups::records::ClassicPhase;

/// What is known of the lives of a classic group's members.
#[derive(Clone, Debug, Default)]
pub struct Gathering {
    /// Ids that were given out and not used yet: since when, and for how long they hold.
    promised: BTreeMap<String, (Monotonic, u32)>,
    /// Members that did in this phase what all are to do: they joined, or asked for their part, and wait.
    arrived: BTreeSet<String>,
    /// When members were heard of.
    heard: BTreeMap<String, Monotonic>,
    /// The phase and the generation that `arrived` and `since` belong to.
    phase: Option<(ClassicPhase, i32)>,
    since: Monotonic,
    /// The phase does not end before.
    not_before: Option<Monotonic>,
}

impl Gathering {
    /// Looks at the group: a new phase begins now, and so does the time of members that were not known.
    pub fn look(&mut self, state: &ClassicState, now: Monotonic) {
        let phase = (state.phase(), state.generation());
        if self.phase != Some(phase) {
            self.phase = Some(phase);
            self.since = now;
            self.not_before = None;
            self.arrived.clear();
        }
        self.arrived.retain(|id| state.member(id).is_some());
        self.heard.retain(|id, _| state.member(id).is_some());
        for (id, _) in state.members() {
            if !self.heard.contains_key(id) {
                self.heard.insert(id.to_owned(), now);
            }
        }
    }

    /// Everyone's time counts from now on: nobody could be heard for a while.
    pub fn forgive(&mut self, now: Monotonic) {
        self.since = now;
        self.heard.values_mut().for_each(|heard| *heard = now);
        self.promised.values_mut().for_each(|(since, _)| *since = now);
    }

    /// A member was heard of.
    pub fn hear(&mut self, id: &str, now: Monotonic) {
        self.heard.insert(id.to_owned(), now);
    }

    /// When it was.
    pub fn heard(&self, id: &str) -> Option<Monotonic> {
        self.heard.get(id).copied()
    }

    /// It did what all are to do in this phase.
    pub fn arrive(&mut self, id: &str, now: Monotonic) {
        self.arrived.insert(id.to_owned());
        self.hear(id, now);
    }

    /// Has it?
    pub fn has_arrived(&self, id: &str) -> bool {
        self.arrived.contains(id)
    }

    /// The phase does not end before.
    pub fn hold(&mut self, until: Monotonic) {
        self.not_before = Some(until);
    }

    /// When it may end, if it may not now.
    pub fn held_until(&self, now: Monotonic) -> Option<Monotonic> {
        self.not_before.filter(|until| now < *until)
    }

    /// The time of the phase begins anew.
    pub fn prolong(&mut self, now: Monotonic) {
        self.since = now;
    }

    /// When the phase ends for those who did not arrive: each is given as long as the slowest member may take.
    pub fn deadline(&self, state: &ClassicState) -> Monotonic {
        let slowest = state.members().map(|(_, member)| member.rebalance_ms).max().unwrap_or(0);
        self.since.plus_ms(u64::from(slowest))
    }

    /// Gives out an id.
    pub fn promise(&mut self, id: &str, for_ms: u32, now: Monotonic) {
        self.promised.insert(id.to_owned(), (now, for_ms));
    }

    /// Is this id one that was given out? It is used now, or not needed any more.
    pub fn redeem(&mut self, id: &str) -> bool {
        self.promised.remove(id).is_some()
    }

    /// Ids that are given out and not used.
    pub fn promised(&self) -> usize {
        self.promised.len()
    }

    /// Forgets those whose time is over.
    pub fn forget_promises(&mut self, now: Monotonic) {
        self.promised.retain(|_, (since, ms)| now < since.plus_ms(u64::from(*ms)));
    }

    /// Nobody who was given an id is waited for any longer.
    pub fn break_promises(&mut self) {
        self.promised.clear();
    }

    /// When the first of them is over.
    pub fn promise_due(&self) -> Option<Monotonic> {
        self.promised.values().map(|(since, ms)| since.plus_ms(u64::from(*ms))).min()
    }
}
