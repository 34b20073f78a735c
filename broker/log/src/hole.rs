//! A range of offsets that this replica cannot serve: its bytes are damaged or gone.
//!
//! A hole is answered with an explicit corruption error, never skipped and never cut off together with what follows it. Pure.

use std::ops::Range;

use tidelog_protocol::Offset;

/// Offsets `from..to` are lost here. Repairing them from a peer is the broker's work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hole {
    /// First offset that cannot be served.
    pub from: Offset,
    /// First offset after it that can.
    pub to: Offset,
    /// Base offset of the segment with the damaged bytes (or of the one before, where a whole segment is missing).
    pub segment: Offset,
    /// The damaged bytes within that segment; empty where they are missing altogether.
    pub bytes: Range<u64>,
}

/// All holes of a log, in order, never touching one another.
#[derive(Clone, Debug, Default)]
pub(crate) struct Holes(Vec<Hole>);

impl Holes {
    pub(crate) fn new(mut holes: Vec<Hole>) -> Self {
        holes.retain(|hole| hole.from < hole.to);
        holes.sort_by_key(|hole| hole.from);
        holes.dedup_by(|later, earlier| later.from < earlier.to);
        Self(holes)
    }

    pub(crate) fn all(&self) -> &[Hole] {
        &self.0
    }

    /// The first hole that ends after `offset`.
    pub(crate) fn next_after(&self, offset: Offset) -> Option<&Hole> {
        self.0.get(self.0.partition_point(|hole| hole.to <= offset))
    }

    /// The hole whose bytes begin at `position` of the segment at `base`.
    pub(crate) fn starting_at(&self, base: Offset, position: u64) -> Option<&Hole> {
        self.0.iter().find(|hole| hole.segment == base && hole.bytes.start == position && !hole.bytes.is_empty())
    }

    /// These and one more.
    pub(crate) fn with(&self, hole: Hole) -> Self {
        let mut holes = self.0.clone();
        // A rescan may find the same damage again, from a little earlier or to a little later.
        holes.retain(|known| known.to <= hole.from || hole.to <= known.from);
        holes.push(hole);
        Self::new(holes)
    }

    /// These without one.
    pub(crate) fn without(&self, hole: &Hole) -> Self {
        Self(self.0.iter().filter(|known| *known != hole).cloned().collect())
    }

    /// Those that still matter for a log that holds `start..end`.
    pub(crate) fn within(&self, range: Range<Offset>) -> Self {
        Self::new(self.0.iter().filter(|hole| hole.from < range.end && range.start < hole.to).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hole(from: u64, to: u64) -> Hole {
        Hole { from: Offset(from), to: Offset(to), segment: Offset(0), bytes: from * 10..to * 10 }
    }

    #[test]
    fn an_offset_is_inside_a_hole_or_before_the_next_one() {
        let holes = Holes::default().with(hole(20, 25)).with(hole(5, 6)).with(hole(20, 25));
        assert_eq!(holes.all(), [hole(5, 6), hole(20, 25)]);
        assert_eq!(holes.next_after(Offset(5)), Some(&hole(5, 6)));
        assert_eq!(holes.next_after(Offset(6)), Some(&hole(20, 25)));
        assert_eq!(holes.next_after(Offset(25)), None);
        assert_eq!(holes.starting_at(Offset(0), 200), Some(&hole(20, 25)));
        assert_eq!(holes.within(Offset(6)..Offset(21)).all(), [hole(20, 25)]);
    }
}
