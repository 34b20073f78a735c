//! Where a log that was not closed ends: what recovery decides at the first batch that does not continue the chain. Pure.
//!
//! Knows the promises that were made about a log and what was found behind the damage; knows nothing of files. Reading, and asking the disk
//! for proof, is left to [`crate::recovery`].

use tidelog_protocol::records::BatchHeader;
use tidelog_protocol::{LeaderEpoch, Offset};

use crate::scan::Next;

/// What was promised about the records of a log's tail.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TailRules {
    /// Where the tail begins that no checkpoint covers; `None` where that is not known.
    pub(crate) tail_from: Option<Offset>,
    /// Since when acks wait for no flush; `None` where they do.
    pub(crate) written_since: Option<Offset>,
}

/// Whether the log ends at damage, even if whole batches lie behind it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// It does not: the damage is fenced if anything lies behind it.
    GoesOn,
    /// It does: nobody was promised what is there.
    Ends,
    /// Only with proof that no flush ever covered the damaged batch; the next whole batch of the file begins at `behind`.
    EndsIfProven { behind: Option<u64> },
}

impl TailRules {
    /// Whether nothing at or after `from` was promised to survive power loss.
    pub(crate) fn is_unpromised(&self, from: Offset) -> bool {
        self.tail_from.zip(self.written_since).is_some_and(|(tail_from, since)| from >= tail_from.max(since))
    }

    /// Of damage where `from` should have begun, which `next` follows in the same file; the next segment begins at `upper`, [`Offset::MAX`]
    /// without one.
    pub(crate) fn judge(&self, from: Offset, upper: Offset, next: &Next) -> Verdict {
        let behind = if let Next::Batch(behind, _) = next { Some(*behind) } else { None };
        let goes_on_behind = upper != Offset::MAX && upper != from;
        if behind.is_none() && !goes_on_behind {
            return Verdict::GoesOn;
        }
        if self.is_unpromised(from) {
            return Verdict::Ends;
        }
        // Nothing but zeros: what is missing may have stood in a segment that is gone, and this is the rest of a full one.
        let may_be_tail = self.tail_from.is_some_and(|tail_from| from >= tail_from) && *next != Next::Zeros;
        if may_be_tail { Verdict::EndsIfProven { behind } } else { Verdict::GoesOn }
    }
}

/// Whether a batch whose epoch is not the `latest` claims one that the two behind it know nothing of: a flipped bit, for epochs never go down.
/// One behind it that carries none, or falls while the next one does not, is itself the one that is wrong.
pub(crate) fn is_false_rise(
    latest: Option<LeaderEpoch>,
    header: &BatchHeader,
    behind: &[Option<BatchHeader>; 2],
) -> bool {
    let [first, second] = behind;
    let Some(first) = first.filter(|first| first.base_offset == header.next_offset()) else { return false };
    let falls = |behind: &BatchHeader| behind.leader_epoch.is_some() && behind.leader_epoch < header.leader_epoch;
    let stays = |second: BatchHeader| second.base_offset == first.next_offset() && !falls(&second);
    latest != header.leader_epoch && falls(&first) && !second.is_some_and(stays)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECKPOINTED: TailRules = TailRules { tail_from: Some(Offset(10)), written_since: None };

    #[test]
    fn damage_below_the_checkpoint_never_ends_a_log() {
        assert_eq!(CHECKPOINTED.judge(Offset(9), Offset(20), &Next::Garbage), Verdict::GoesOn);
        let unknown = TailRules { tail_from: None, written_since: Some(Offset(0)) };
        assert_eq!(unknown.judge(Offset(9), Offset(20), &Next::Garbage), Verdict::GoesOn);
    }

    #[test]
    fn damage_behind_it_ends_one_that_was_promised_no_flush_and_else_needs_proof() {
        let proof = Verdict::EndsIfProven { behind: None };
        assert_eq!(CHECKPOINTED.judge(Offset(10), Offset(20), &Next::Garbage), proof);
        assert_eq!(CHECKPOINTED.judge(Offset(10), Offset(20), &Next::Zeros), Verdict::GoesOn, "reserved space");
        let unpromised = TailRules { written_since: Some(Offset(12)), ..CHECKPOINTED };
        assert_eq!(unpromised.judge(Offset(12), Offset(20), &Next::Garbage), Verdict::Ends);
        assert_eq!(unpromised.judge(Offset(11), Offset(20), &Next::Garbage), proof);
    }

    #[test]
    fn a_tail_with_nothing_behind_it_is_no_matter_of_promises() {
        for upper in [Offset::MAX, Offset(10)] {
            assert_eq!(CHECKPOINTED.judge(Offset(10), upper, &Next::Garbage), Verdict::GoesOn);
        }
    }
}
