//! Who wasted turns lately. Those that come from one place and take about as much are one kind, since clients that waste their turns come back on new
//! connections: what one of them did is held against all like it, and against nobody else. Pure, and bounded.

use std::collections::HashMap;

use super::rank::Source;

/// So many kinds are kept.
const KINDS_MAX: usize = 1_024;

/// Those that are not told from each other.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(super) struct Kind {
    source: Source,
    /// The power of two that what they take reaches.
    magnitude: u32,
}

impl Kind {
    /// Of one that comes from there and takes so much.
    pub(super) fn new(source: Source, takes: usize) -> Self {
        Self { source, magnitude: takes.max(1).ilog2() }
    }
}

/// How many turns those of each kind have wasted.
#[derive(Debug, Default)]
pub(super) struct Waste(HashMap<Kind, u32>);

impl Waste {
    /// How many turns those of this kind have wasted, of which a turn that was used takes back half.
    pub(super) fn of(&self, kind: Kind) -> u32 {
        self.0.get(&kind).copied().unwrap_or_default()
    }

    /// One of this kind has used its turn, or wasted it.
    pub(super) fn note(&mut self, kind: Kind, was_used: bool) {
        if was_used {
            if let Some(count) = self.0.get_mut(&kind) {
                *count /= 2;
                if *count == 0 {
                    self.0.remove(&kind);
                }
            }
            return;
        }
        if self.0.len() >= KINDS_MAX && !self.0.contains_key(&kind) {
            self.forget_least();
        }
        let count = self.0.entry(kind).or_default();
        *count = count.saturating_add(1);
    }

    fn forget_least(&mut self) {
        let least = self.0.iter().min_by_key(|(_, count)| **count).map(|(kind, _)| *kind);
        if let Some(kind) = least {
            self.0.remove(&kind);
        }
    }

    /// Nobody waits: whoever wasted turns has kept nobody else waiting for long.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn from(number: u32) -> Source {
        IpAddr::from(Ipv4Addr::from(number)).into()
    }

    #[test]
    fn what_is_wasted_is_held_against_those_from_the_same_place_who_take_about_as_much() {
        let mut waste = Waste::default();
        let kind = Kind::new(from(1), 60 << 20);
        for _ in 0..5 {
            waste.note(kind, false);
        }
        assert_eq!(waste.of(Kind::new(from(1), 40 << 20)), 5);
        assert_eq!(waste.of(Kind::new(from(1), 30 << 20)), 0, "it takes less");
        assert_eq!(waste.of(Kind::new(from(2), 60 << 20)), 0, "it comes from elsewhere");
        waste.note(kind, true);
        assert_eq!(waste.of(kind), 2);
        waste.note(kind, true);
        waste.note(kind, true);
        assert_eq!((waste.of(kind), waste.0.len()), (0, 0), "nothing is kept of who uses their turns");
        waste.note(Kind::new(from(1), 0), true);
    }

    #[test]
    fn of_more_kinds_than_are_kept_those_are_kept_that_wasted_most() {
        let mut waste = Waste::default();
        let most = Kind::new(from(0), 1);
        waste.note(most, false);
        for number in 0..3 * KINDS_MAX as u32 {
            waste.note(Kind::new(from(number), 1), false);
            assert!(waste.0.len() <= KINDS_MAX);
        }
        assert_eq!(waste.of(most), 2);
        assert_eq!(waste.of(Kind::new(from(3 * KINDS_MAX as u32 - 1), 1)), 1, "the last one is noted");
        waste.clear();
        assert_eq!(waste.of(most), 0);
    }
}
