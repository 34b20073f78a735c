//! When a leader lets go: where the others cannot reach it, though it reaches them, so that they take what it sends and elect nobody else, but what
//! they ask of it never arrives, and all of them lose their leases; and where its log of metadata does not answer. It falls silent, so that they
//! elect another; where they cannot, it goes on.
//! Pure: it is told what they say and what time it is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use tidelog_coordination::leases::LEASE_MS;

use super::raft_types::Member;
use super::voter_change::has_majority;

/// A leader that was asked in vain for so long is not merely taking office: twice a lease.
const IN_VAIN: Duration = Duration::from_millis(2 * LEASE_MS);
/// Its log of metadata is asked so often, and may take so long to answer.
const PROBES_EVERY: Duration = Duration::from_secs(1);
const JOURNAL_PATIENCE: Duration = Duration::from_secs(5);
/// How long it is silent: the others miss it after 1.4 s at most, and have a few elections' time.
const SILENT: Duration = Duration::from_secs(5);
/// How long it does not fall silent again where nobody else was elected.
const SPEAKS: Duration = Duration::from_secs(10);

/// Whether a leader is silent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Abdication {
    #[default]
    Leads,
    Silent {
        until: Instant,
    },
    /// Nobody was elected meanwhile.
    Returned {
        until: Instant,
    },
}

/// Whether a member reaches whoever leads.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reach {
    leader: Option<Member>,
    /// Since when it was asked in vain, and when last.
    failing: Option<(Instant, Instant)>,
}

impl Reach {
    pub(super) fn answered(&mut self, leader: Member) {
        (self.leader, self.failing) = (Some(leader), None);
    }

    pub(super) fn failed(&mut self, leader: Member, now: Instant) {
        // After a while in which it was not asked, it is counted anew.
        let goes_on = |last: Instant| self.leader == Some(leader) && now.saturating_duration_since(last) < IN_VAIN;
        let since = self.failing.filter(|(_, last)| goes_on(*last)).map_or(now, |(since, _)| since);
        (self.leader, self.failing) = (Some(leader), Some((since, now)));
    }

    /// Whether `leader` is asked again and again, and has been in vain for so long that it does not merely take its time.
    pub(super) fn is_lost(&self, leader: Member, now: Instant) -> bool {
        let is_long = |(since, last): (Instant, Instant)| {
            now.saturating_duration_since(since) >= IN_VAIN && now.saturating_duration_since(last) < IN_VAIN
        };
        self.leader == Some(leader) && self.failing.is_some_and(is_long)
    }
}

/// Whether the leader's log of metadata answers, which it does at once unless its disk hangs: then nothing can be decided, though heartbeats go on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct JournalProbe {
    asked: Option<Instant>,
}

impl JournalProbe {
    /// Whether it is to be asked now; `is_answered` says whether the question before was.
    pub(super) fn asks(&mut self, is_answered: bool, now: Instant) -> bool {
        let asks = is_answered && self.asked.is_none_or(|asked| now.saturating_duration_since(asked) >= PROBES_EVERY);
        if asks {
            self.asked = Some(now);
        }
        asks
    }

    /// Whether it has not answered for so long that it hangs.
    pub(super) fn hangs(&self, is_answered: bool, now: Instant) -> bool {
        let is_long = |asked: Instant| now.saturating_duration_since(asked) >= JOURNAL_PATIENCE;
        !is_answered && self.asked.is_some_and(is_long)
    }
}

/// Whether a majority of `voters` says that it cannot reach the leader.
pub(super) fn is_unreachable(voters: &[BTreeSet<Member>], says_so: impl Fn(&Member) -> bool) -> bool {
    voters.iter().all(|voters| has_majority(voters, &says_so))
}

/// What has become of a leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Change {
    FellSilent,
    /// Nobody else was elected.
    Speaks,
}

impl Abdication {
    /// `lets_go`: there is a reason to fall silent at `now`.
    pub(super) fn look(&mut self, lets_go: bool, now: Instant) -> Option<Change> {
        let (next, change) = match *self {
            Self::Leads if lets_go => (Self::Silent { until: now + SILENT }, Some(Change::FellSilent)),
            Self::Silent { until } if now >= until => (Self::Returned { until: now + SPEAKS }, Some(Change::Speaks)),
            Self::Returned { until } if now >= until => (Self::Leads, None),
            same => (same, None),
        };
        *self = next;
        change
    }

    pub(super) const fn is_silent(self) -> bool {
        matches!(self, Self::Silent { .. })
    }
}

#[cfg(test)]
mod tests {
    use tidelog_protocol::{BrokerId, IncarnationId};

    use super::*;

    const fn voter(id: u32) -> Member {
        Member { broker: BrokerId(id), incarnation: IncarnationId([id as u8; 16]) }
    }

    #[test]
    fn a_majority_that_cannot_reach_it_is_needed_and_of_both_while_the_voters_change() {
        let set = |ids: &[u32]| ids.iter().copied().map(voter).collect::<BTreeSet<_>>();
        let says = |ids: &'static [u32]| move |member: &Member| ids.contains(&member.broker.0);
        assert!(!is_unreachable(&[set(&[1, 2, 3])], says(&[2])), "the leader and another reach each other");
        assert!(is_unreachable(&[set(&[1, 2, 3])], says(&[2, 3])));
        assert!(!is_unreachable(&[set(&[1, 2, 3, 4, 5])], says(&[2, 3])));
        assert!(!is_unreachable(&[set(&[1, 2, 3]), set(&[1, 2, 4])], says(&[2, 3])));
        assert!(!is_unreachable(&[set(&[1])], says(&[])), "one alone");
    }

    #[test]
    fn a_leader_is_lost_that_was_asked_in_vain_again_and_again_for_long() {
        let (start, mut reach) = (Instant::now(), Reach::default());
        let at = |halves: u32| start + IN_VAIN / 2 * halves;
        assert!(!reach.is_lost(voter(1), at(2)), "it was not asked");
        let fail = |reach: &mut Reach, id: u32, halves: std::ops::RangeInclusive<u32>| {
            halves.for_each(|half| reach.failed(voter(id), at(half)));
        };
        fail(&mut reach, 1, 0..=2);
        assert!(reach.is_lost(voter(1), at(2)) && !reach.is_lost(voter(2), at(2)));
        assert!(!reach.is_lost(voter(1), at(4)), "it is not asked any more");
        fail(&mut reach, 1, 4..=4);
        assert!(!reach.is_lost(voter(1), at(4)), "counted anew after a while without a question");
        fail(&mut reach, 2, 4..=5);
        assert!(!reach.is_lost(voter(2), at(5)), "before that it was another");
        fail(&mut reach, 2, 6..=6);
        assert!(reach.is_lost(voter(2), at(6)));
        reach.answered(voter(2));
        fail(&mut reach, 2, 7..=7);
        assert!(!reach.is_lost(voter(2), at(7)), "it has answered since");
    }

    #[test]
    fn a_journal_hangs_that_has_not_answered_for_long_and_is_asked_again_once_it_has() {
        let (start, mut probe) = (Instant::now(), JournalProbe::default());
        assert!(probe.asks(true, start) && !probe.hangs(false, start));
        assert!(!probe.asks(false, start + PROBES_EVERY), "one question at a time");
        let long = start + JOURNAL_PATIENCE;
        assert!(probe.hangs(false, long) && !probe.hangs(true, long));
        assert!(probe.asks(true, long) && !probe.asks(true, long) && !probe.hangs(true, long));
    }

    #[test]
    fn it_is_silent_for_a_while_and_then_speaks_for_longer() {
        let (start, mut abdication) = (Instant::now(), Abdication::default());
        assert_eq!(abdication.look(false, start), None, "one that was elected just now says nothing of it");
        assert_eq!(abdication.look(true, start), Some(Change::FellSilent));
        assert_eq!(abdication.look(false, start + SILENT / 2), None);
        assert!(abdication.is_silent(), "nobody can tell it meanwhile that they reach it");
        let returned = start + SILENT;
        assert_eq!(abdication.look(true, returned), Some(Change::Speaks));
        assert_eq!(abdication.look(true, returned + SPEAKS / 2), None);
        assert!(!abdication.is_silent());
        assert_eq!(abdication.look(true, returned + SPEAKS), None, "what was said before does not count");
        assert_eq!(abdication.look(true, returned + SPEAKS), Some(Change::FellSilent));
    }
}
