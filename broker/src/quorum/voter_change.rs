//! Whether the voters may change: only where a majority of those that vote now and a majority of those that are to vote answer now. A change
//! is settled by both, and once it is proposed nothing takes it back. Pure: it is told who answers.

use std::collections::BTreeSet;

use super::raft_types::{Member, Members};

/// A change of the voters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct VoterChange {
    /// Who votes now.
    now: BTreeSet<Member>,
    /// Who is to vote.
    next: BTreeSet<Member>,
}

impl VoterChange {
    /// One more.
    pub(super) fn with(now: BTreeSet<Member>, member: Member) -> Self {
        let mut next = now.clone();
        next.insert(member);
        Self { now, next }
    }

    /// One less.
    pub(super) fn without(now: BTreeSet<Member>, member: Member) -> Self {
        let mut next = now.clone();
        next.remove(&member);
        Self { now, next }
    }

    /// Who is to vote and does not yet: without their answer nothing may be proposed, however many others there are.
    fn newcomers(&self) -> impl Iterator<Item = &Member> {
        self.next.difference(&self.now)
    }

    /// Whether enough answer.
    pub(super) fn is_carried(&self, answers: impl Fn(&Member) -> bool) -> bool {
        has_majority(&self.now, &answers) && has_majority(&self.next, &answers) && self.newcomers().all(&answers)
    }

    /// Whether somebody who is to vote, and does not yet, is silent.
    pub(super) fn lacks_newcomer(&self, answers: impl Fn(&Member) -> bool) -> bool {
        !self.newcomers().all(answers)
    }

    /// Who is to vote and does not answer.
    fn silent(&self, answers: impl Fn(&Member) -> bool) -> Vec<Member> {
        self.next.iter().filter(|member| !answers(member)).copied().collect()
    }

    /// Why it must not be proposed.
    pub(super) fn refusal(&self, answers: impl Fn(&Member) -> bool) -> String {
        let silent = self.silent(&answers);
        let names = silent.iter().map(|member| format!("broker {}", member.broker)).collect::<Vec<_>>().join(", ");
        let (answering, voters) = (self.next.len() - silent.len(), self.next.len());
        match self.newcomers().find(|member| !answers(member)) {
            Some(newcomer) => format!(
                "broker {} does not answer the metadata quorum, so it is given no vote: nothing was changed; start it, and try again once it serves",
                newcomer.broker
            ),
            None => format!(
                "{answering} of {voters} brokers that would vote then answer, which is no majority, and metadata could not be changed any more: nothing was changed; bring back {names} first, or promote others"
            ),
        }
    }
}

/// Whether more than half of them answer.
pub(super) fn has_majority(voters: &BTreeSet<Member>, answers: impl Fn(&Member) -> bool) -> bool {
    2 * voters.iter().filter(|voter| answers(voter)).count() > voters.len()
}

/// Who is to vote once the change is done that is under way; `None` where none is.
pub(super) fn under_way(members: &Members) -> Option<&BTreeSet<Member>> {
    match &members.get_joint_config()[..] {
        [_, .., next] => Some(next),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::{BrokerId, IncarnationId};

    use super::*;

    fn member(id: u32) -> Member {
        Member { broker: BrokerId(id), incarnation: IncarnationId([id as u8; 16]) }
    }

    fn set(ids: &[u32]) -> BTreeSet<Member> {
        ids.iter().copied().map(member).collect()
    }

    fn carried(change: &VoterChange, answering: &[u32]) -> bool {
        change.is_carried(|member| set(answering).contains(member))
    }

    #[test]
    fn a_change_is_carried_by_a_majority_of_both_and_by_whoever_is_new() {
        let promote = VoterChange::with(set(&[1]), member(2));
        assert!(carried(&promote, &[1, 2]));
        assert!(!carried(&promote, &[1]), "it would wait for broker 2 for ever");

        let fourth = VoterChange::with(set(&[1, 2, 3]), member(4));
        assert!(carried(&fourth, &[1, 2, 4]) && carried(&fourth, &[1, 2, 3, 4]));
        assert!(!carried(&fourth, &[1, 2, 3]), "a majority, but a vote for somebody who is not there");
        assert!(!carried(&fourth, &[1, 4]), "two of four, and one of three");

        let demote = VoterChange::without(set(&[1, 2, 3]), member(2));
        assert!(carried(&demote, &[1, 3]), "whoever goes need not be there");
        assert!(!carried(&demote, &[1, 2]), "of the two that stay one is not there");
    }

    #[test]
    fn the_refusal_names_who_is_missing() {
        let promote = VoterChange::with(set(&[1, 2]), member(3));
        let sentence = promote.refusal(|member| *member != self::member(3));
        assert!(sentence.starts_with("broker 3 does not answer"), "{sentence}");
        let demote = VoterChange::without(set(&[1, 2, 3]), member(2));
        let sentence = demote.refusal(|member| *member != self::member(3));
        assert!(sentence.starts_with("1 of 2") && sentence.contains("bring back broker 3"), "{sentence}");
    }

    #[test]
    fn a_change_is_under_way_between_its_halves() {
        let nodes = std::collections::BTreeMap::<Member, crate::member::Address>::new();
        assert_eq!(under_way(&Members::new(vec![set(&[1])], nodes.clone())), None);
        let half = Members::new(vec![set(&[1]), set(&[1, 2])], nodes);
        assert_eq!(under_way(&half), Some(&set(&[1, 2])));
    }
}
