//! Whether a voter that misses the leader would win, asked before it stands: one that is merely cut off from the leader would otherwise raise the
//! term again and again, and depose a leader that all others hear once it comes back. Pure: it is told what the others say.

use std::collections::{BTreeMap, BTreeSet};

use super::raft_types::{Member, Position};
use super::voter_change::has_majority;

/// What another voter says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Word {
    /// It hears a leader. An earlier release does not say.
    pub(super) hears_leader: bool,
    /// The last entry of its log.
    pub(super) last: Option<Position>,
}

/// Whether `member`, whose log ends with `last`, would be voted for by a majority of each of `voters`, where those said `words` that answered.
pub(super) fn would_win(
    (member, last): (Member, Option<Position>),
    voters: &[BTreeSet<Member>],
    words: &BTreeMap<Member, Word>,
) -> bool {
    let votes = |voter: &Member| {
        *voter == member || words.get(voter).is_some_and(|word| !word.hears_leader && word.last <= last)
    };
    voters.iter().all(|voters| has_majority(voters, votes))
}

#[cfg(test)]
mod tests {
    use openraft::CommittedLeaderId;
    use tidelog_protocol::{BrokerId, IncarnationId};

    use super::*;

    const fn voter(id: u32) -> Member {
        Member { broker: BrokerId(id), incarnation: IncarnationId([id as u8; 16]) }
    }

    fn at(term: u64, index: u64) -> Option<Position> {
        Some(Position::new(CommittedLeaderId::new(term, voter(1)), index))
    }

    fn wins(voters: &[&[u32]], words: &[(u32, bool, Option<Position>)]) -> bool {
        let voters: Vec<BTreeSet<_>> = voters.iter().map(|ids| ids.iter().copied().map(voter).collect()).collect();
        let words = words
            .iter()
            .map(|(id, hears_leader, last)| (voter(*id), Word { hears_leader: *hears_leader, last: *last }));
        would_win((voter(1), at(2, 10)), &voters, &words.collect())
    }

    #[test]
    fn whoever_reaches_no_majority_would_not_win() {
        assert!(!wins(&[&[1, 2, 3]], &[]));
        assert!(wins(&[&[1, 2, 3]], &[(3, false, at(2, 10))]));
        assert!(!wins(&[&[1, 2, 3, 4, 5]], &[(3, false, at(2, 10))]));
        assert!(!wins(&[&[1, 2, 3]], &[(4, false, at(2, 10))]), "it does not vote");
        assert!(wins(&[&[1]], &[]), "one alone");
    }

    #[test]
    fn whoever_hears_a_leader_or_has_more_of_the_log_votes_for_nobody_else() {
        assert!(!wins(&[&[1, 2, 3]], &[(2, true, at(2, 10)), (3, true, at(2, 10))]));
        assert!(wins(&[&[1, 2, 3]], &[(2, true, at(2, 10)), (3, false, None)]));
        for more in [at(2, 11), at(3, 1)] {
            assert!(!wins(&[&[1, 2, 3]], &[(2, false, more)]));
        }
        assert!(wins(&[&[1, 2, 3]], &[(2, false, at(1, 99))]), "those of a later term count");
    }

    #[test]
    fn while_the_voters_change_a_majority_of_both_is_needed() {
        let both: [&[u32]; 2] = [&[1, 2, 3], &[1, 3, 4]];
        assert!(!wins(&both, &[(2, false, None)]));
        assert!(wins(&both, &[(3, false, None)]));
        assert!(wins(&both, &[(2, false, None), (4, false, None)]));
    }
}
