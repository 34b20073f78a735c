//! Which members of the quorum answer its leader, and with what: of each, when it was last sent something that it took, and up to which
//! entry it has confirmed the log. One that lacks what it confirmed under the same leadership runs on an old copy of its folder. Knows
//! nothing of what was sent, nor of who has to answer.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::raft_types::Member;

/// What each member took. Clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Attendance {
    taken: Arc<watch::Sender<BTreeMap<Member, Taken>>>,
}

/// What one member took.
#[derive(Clone, Copy, Debug)]
struct Taken {
    /// When that was sent which it took last.
    sent: Instant,
    /// Under which leadership, and up to which entry.
    confirmed: (u64, u64),
    /// It lacks entries that it had confirmed under this leadership.
    has_lost: bool,
    /// It says that it cannot reach the leader.
    cannot_reach: bool,
}

impl Attendance {
    /// A member took what the leader of `term` sent it at `sent`, and so has the log up to the entry `up_to`.
    pub(super) fn took(&self, member: Member, sent: Instant, (term, up_to): (u64, u64)) {
        self.taken.send_modify(|taken| {
            let new = Taken { sent, confirmed: (term, up_to), has_lost: false, cannot_reach: false };
            let taken = taken.entry(member).or_insert(new);
            taken.sent = sent.max(taken.sent);
            // Less than it confirmed before says nothing: a sign that the leader is there carries no entries.
            if (term, up_to) >= taken.confirmed {
                (taken.confirmed, taken.has_lost) = ((term, up_to), false);
            }
        });
    }

    /// A member says to the leader of `term` that it does not have the entry `at`. Whether it had confirmed it: what it confirmed under
    /// another leadership may have been replaced since.
    pub(super) fn lacks(&self, member: Member, term: u64, at: u64) -> Lacking {
        let mut lacking = Lacking::Nothing;
        self.taken.send_if_modified(|taken| {
            let Some(taken) = taken.get_mut(&member) else { return false };
            let (confirmed_in, up_to) = taken.confirmed;
            if confirmed_in != term || at > up_to {
                return false;
            }
            lacking = if std::mem::replace(&mut taken.has_lost, true) { Lacking::Still } else { Lacking::Since };
            true
        });
        lacking
    }

    /// A member says, with its answer, whether it can reach the leader.
    pub(super) fn says(&self, member: Member, cannot_reach: bool) {
        self.taken.send_if_modified(|taken| {
            let Some(taken) = taken.get_mut(&member) else { return false };
            std::mem::replace(&mut taken.cannot_reach, cannot_reach) != cannot_reach
        });
    }

    /// Whether a member that took something lately said that it cannot reach the leader.
    pub(super) fn cannot_reach(&self, member: Member, lately: Duration) -> bool {
        let taken = self.taken.borrow();
        taken.get(&member).is_some_and(|taken| taken.cannot_reach && taken.sent.elapsed() <= lately)
    }

    /// Whether a member lacks entries that it had confirmed.
    pub(super) fn has_lost(&self, member: Member) -> bool {
        self.taken.borrow().get(&member).is_some_and(|taken| taken.has_lost)
    }

    /// Waits until `enough` of those that took something sent at `since` or later, for no longer than `patience`. Says which did.
    pub(super) async fn answering(
        &self,
        since: Instant,
        patience: Duration,
        enough: impl Fn(&dyn Fn(&Member) -> bool) -> bool,
    ) -> Vec<Member> {
        let mut taken = self.taken.subscribe();
        let took = |taken: &BTreeMap<Member, Taken>, member: &Member| {
            taken.get(member).is_some_and(|taken| taken.sent >= since && !taken.has_lost)
        };
        let wait = taken.wait_for(|taken| enough(&|member: &Member| took(taken, member)));
        // The sender lives as long as this.
        let _ = tokio::time::timeout(patience, wait).await;
        let taken = self.taken.borrow();
        taken.keys().filter(|member| took(&taken, member)).copied().collect()
    }
}

/// What a member lacks of what it had confirmed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Lacking {
    /// Nothing, as far as is known here.
    Nothing,
    /// Entries, as was not known before.
    Since,
    /// Entries, as was known.
    Still,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_member_says_counts_for_as_long_as_it_is_heard_of() {
        let (attendance, member, lately) = (Attendance::default(), Member::default(), Duration::from_secs(1));
        attendance.says(member, true);
        assert!(!attendance.cannot_reach(member, lately), "it took nothing yet");
        attendance.took(member, Instant::now(), (3, 10));
        attendance.says(member, true);
        assert!(attendance.cannot_reach(member, lately) && !attendance.cannot_reach(member, Duration::ZERO));
        attendance.says(member, false);
        assert!(!attendance.cannot_reach(member, lately));
    }

    #[test]
    fn who_lacks_what_it_confirmed_under_the_same_leadership_has_lost_it() {
        let (attendance, member) = (Attendance::default(), Member::default());
        assert_eq!(attendance.lacks(member, 3, 1), Lacking::Nothing, "nothing is known of it");
        attendance.took(member, Instant::now(), (3, 10));
        assert_eq!(attendance.lacks(member, 3, 11), Lacking::Nothing, "it never had that");
        assert_eq!(attendance.lacks(member, 4, 10), Lacking::Nothing, "another leader may have replaced it");
        assert_eq!(attendance.lacks(member, 3, 10), Lacking::Since);
        assert_eq!(attendance.lacks(member, 3, 9), Lacking::Still);
        attendance.took(member, Instant::now(), (3, 0));
        assert!(attendance.has_lost(member), "it heard that the leader is there, and no more");
        attendance.took(member, Instant::now(), (3, 10));
        assert!(!attendance.has_lost(member), "it has it, after all");
    }
}
