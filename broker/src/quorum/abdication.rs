//! When a leader lets go that the others cannot reach: it reaches them, so they take what it sends and elect nobody else, but what they ask of it
//! never arrives, and all of them lose their leases. It falls silent, so that they elect one that they reach; where they cannot, it goes on.
//! Pure: it is told what they say and what time it is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::raft_types::Member;
use super::voter_change::has_majority;

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

/// Whether a majority of `voters` says that it cannot reach the leader.
pub(super) fn is_unreachable(voters: &[BTreeSet<Member>], says_so: impl Fn(&Member) -> bool) -> bool {
    voters.iter().all(|voters| has_majority(voters, &says_so))
}

impl Abdication {
    /// Whether it is silent from `now` on.
    pub(super) fn is_silent(&mut self, is_unreachable: bool, now: Instant) -> bool {
        *self = match *self {
            Self::Leads if is_unreachable => Self::Silent { until: now + SILENT },
            Self::Silent { until } if now >= until => Self::Returned { until: now + SPEAKS },
            Self::Returned { until } if now >= until => Self::Leads,
            same => same,
        };
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
    fn it_is_silent_for_a_while_and_then_speaks_for_longer() {
        let (start, mut abdication) = (Instant::now(), Abdication::default());
        assert!(!abdication.is_silent(false, start));
        assert!(abdication.is_silent(true, start));
        assert!(abdication.is_silent(false, start + SILENT / 2), "nobody can tell it meanwhile that they reach it");
        let returned = start + SILENT;
        assert!(!abdication.is_silent(true, returned));
        assert!(!abdication.is_silent(true, returned + SPEAKS / 2));
        assert!(!abdication.is_silent(true, returned + SPEAKS), "what was said before does not count");
        assert!(abdication.is_silent(true, returned + SPEAKS));
    }
}
