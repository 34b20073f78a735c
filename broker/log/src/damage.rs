//! Damage that a recovery walk has met and not yet seen the end of: a torn tail, or a hole? What comes next decides. Pure.

use tidelog_protocol::Offset;

use crate::hole::Hole;
use crate::scan::Next;

/// Bytes of one segment that did not continue the chain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Damage {
    /// The offset that should have begun there.
    pub(crate) from: Offset,
    /// Base offset of the segment.
    pub(crate) segment: Offset,
    /// Where it begins in the segment.
    pub(crate) position: u64,
    /// Length of the segment's file.
    pub(crate) length: u64,
    /// What stands there.
    pub(crate) rest: Next,
}

/// At most one piece of damage per segment, each reaching to the end of its file, but for the last.
#[derive(Debug, Default)]
pub(crate) struct Unresolved(Vec<Damage>);

impl Unresolved {
    pub(crate) fn note(&mut self, damage: Damage) {
        if self.0.last().is_none_or(|last| last.segment != damage.segment) {
            self.0.push(damage);
        }
    }

    pub(crate) fn first(&self) -> Option<&Damage> {
        self.0.first()
    }

    /// A tail after all: forgets everything.
    pub(crate) fn take_first(&mut self) -> Option<Damage> {
        std::mem::take(&mut self.0).into_iter().next()
    }

    /// A valid batch follows: it begins at `to`, in the segment at `base`, at `position`.
    pub(crate) fn resolve(&mut self, to: Offset, base: Offset, position: u64) -> Vec<Hole> {
        let damages = std::mem::take(&mut self.0);
        let mut holes = Vec::new();
        for (index, damage) in damages.iter().enumerate() {
            let next = damages.get(index + 1).map_or(to, |next| next.from);
            let end = if damage.segment == base { position } else { damage.length };
            let bytes = damage.position..end.max(damage.position);
            // Reserved space behind a segment's last batch loses nothing.
            if damage.from < next {
                holes.push(Hole { from: damage.from, to: next, segment: damage.segment, bytes });
            }
        }
        holes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn damage(from: u64, segment: u64, position: u64) -> Damage {
        Damage { from: Offset(from), segment: Offset(segment), position, length: 900, rest: Next::Garbage }
    }

    #[test]
    fn damage_across_two_segments_is_one_hole_in_each() {
        let mut unresolved = Unresolved::default();
        unresolved.note(damage(7, 0, 300));
        unresolved.note(damage(7, 0, 300));
        unresolved.note(damage(10, 10, 0));
        let holes = unresolved.resolve(Offset(12), Offset(10), 200);
        let bounds: Vec<_> =
            holes.iter().map(|hole| (hole.from.0, hole.to.0, hole.segment.0, hole.bytes.clone())).collect();
        assert_eq!(bounds, [(7, 10, 0, 300..900), (10, 12, 10, 0..200)]);
        assert_eq!(unresolved.first(), None);
    }

    #[test]
    fn reserved_space_before_the_next_segment_is_no_hole() {
        let mut unresolved = Unresolved::default();
        unresolved.note(damage(10, 0, 300));
        assert_eq!(unresolved.resolve(Offset(10), Offset(10), 0), []);
    }
}
