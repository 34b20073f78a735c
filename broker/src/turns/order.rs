//! Who of those that wait for a turn is next. Pure: what has ended, and how, is told.

use std::collections::BTreeMap;

use super::rank::Rank;
use super::waste::{Kind, Waste};

/// So many of the proved have turns one behind the other before one of the others has one.
pub(super) const PROVED_IN_A_ROW: u8 = 8;

/// Those who wait, and what is known of how turns ended.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// In the order in which they came, the proved first; with what each needs.
    waiting: BTreeMap<Rank, usize>,
    /// What all that wait need.
    wanted: usize,
    /// Of those that are proved, and of the others: not who came first is next, but one whose kind wasted least.
    takes_unsuspected: [bool; 2],
    waste: Waste,
    /// The last turn was wasted by one of the proved.
    passes_proved: bool,
    /// So many turns of the proved one behind the other, while others waited.
    proved_in_a_row: u8,
    /// Who is next, and needs more than is free.
    chosen: Option<Rank>,
}

impl Order {
    pub(super) fn wanted(&self) -> usize {
        self.wanted
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    pub(super) fn enqueue(&mut self, rank: Rank, needs: usize) {
        self.wanted += needs;
        self.waiting.insert(rank, needs);
    }

    pub(super) fn dequeue(&mut self, rank: Rank) {
        if let Some(needs) = self.waiting.remove(&rank) {
            self.wanted -= needs;
        }
    }

    /// Notes how a turn ended.
    pub(super) fn note_ended(&mut self, rank: Rank, took: usize, was_used: bool) {
        self.waste.note(Kind::new(rank.source(), took), was_used);
        if !was_used {
            self.takes_unsuspected[usize::from(rank.is_proved())] ^= true;
        }
        self.passes_proved = rank.is_proved() && !was_used;
    }

    /// Notes that this one has a turn.
    pub(super) fn note_begun(&mut self, rank: Rank) {
        self.passes_proved = false;
        let others_wait = self.waiting.range(Rank::FIRST_UNPROVED..).next().is_some();
        self.proved_in_a_row = if rank.is_proved() && others_wait { self.proved_in_a_row.saturating_add(1) } else { 0 };
    }

    /// Nobody passes this one any more, or there is none like that.
    pub(super) fn choose(&mut self, rank: Option<Rank>) {
        self.chosen = rank;
    }

    /// Nobody waits: what was before says nothing of those who come later.
    pub(super) fn forget(&mut self) {
        (self.takes_unsuspected, self.passes_proved, self.proved_in_a_row) = ([false; 2], false, 0);
        self.waste.clear();
    }

    /// Who is next, with what it needs.
    pub(super) fn next(&self) -> Option<(Rank, usize)> {
        if let Some(chosen) = self.chosen
            && let Some(needs) = self.waiting.get(&chosen)
        {
            return Some((chosen, *needs));
        }
        let proved = || self.next_of(true);
        let other = || self.next_of(false);
        if self.passes_proved || self.proved_in_a_row >= PROVED_IN_A_ROW {
            other().or_else(proved)
        } else {
            proved().or_else(other)
        }
    }

    fn next_of(&self, proved: bool) -> Option<(Rank, usize)> {
        let mut waiting = if proved {
            self.waiting.range(..Rank::FIRST_UNPROVED)
        } else {
            self.waiting.range(Rank::FIRST_UNPROVED..)
        };
        let next = if self.takes_unsuspected[usize::from(proved)] {
            // Backwards: the last of those that are alike.
            waiting.rev().min_by_key(|(rank, needs)| self.waste.of(Kind::new(rank.source(), **needs)))
        } else {
            waiting.next()
        };
        next.map(|(rank, needs)| (*rank, *needs))
    }
}
