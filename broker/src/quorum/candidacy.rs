//! When a voter stands for election. The consensus library has a timer of its own for that, which is off: it draws one patience for each process
//! as that starts and looks at it a few times a second, so that two voters may stand at the same moment again and again, each vote for itself,
//! and nobody leads for as long as that goes on. Here a patience is drawn anew for each vote, and grows while nobody wins. Pure: it is told what
//! time it is, what the library knows, and what was drawn. Whether it would win says [`super::canvass`].

use std::time::{Duration, Instant};

use tidelog_coordination::confirmation::FAITHFUL_MS;

/// A voter that hears nothing from a leader waits until the others would vote again, and then for a time between these: long enough to bear a
/// disk that holds the leader up, and so different that one of two voters has won before the other stands.
const MISSES_LEADER_MS: (u64, u64) = (FAITHFUL_MS + 200, FAITHFUL_MS + 600);
/// One that is leaving is not missed by a slow disk: it said that it stops, and its leases are to be followed by another's before they end.
const LETS_GO_MS: (u64, u64) = (FAITHFUL_MS + 50, FAITHFUL_MS + 250);
/// Where nobody leads, it waits for a time between these: for what comes of its vote, its own or another's.
const WAITS_FOR_WINNER_MS: (u64, u64) = (300, 900);
/// As many times as nobody won is that doubled: where the disks take their time, votes are on their way for longer.
const DOUBLINGS_MAX: u32 = 2;

/// What a voter knows of who leads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Standing {
    /// It gave its vote in this term: to a leader that it heard of, or to one who wants to lead.
    pub(super) term: u64,
    /// Whether that one leads.
    pub(super) is_led: bool,
    /// Whether that one is shutting down, or fenced, as the metadata have it.
    pub(super) is_leaving: bool,
    /// When it gave the vote, or heard last of whom it gave it to.
    pub(super) heard: Instant,
    /// Others vote besides.
    pub(super) has_rivals: bool,
}

/// The patience of a voter.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Candidacy {
    drawn_for: Option<(u64, bool, bool)>,
    patience: Duration,
    /// Votes in a row by which nobody has come to lead.
    in_vain: u32,
    /// It asked the others whether it would win, and would not, or stood; it asks again no sooner than this.
    asks_again: Option<Instant>,
}

impl Candidacy {
    /// When it asks the others whether it would win, and stands where that is so, if nothing changes until then; `drawn` lies between 0 and 1.
    pub(super) fn stands_at(&mut self, standing: Standing, drawn: f64) -> Instant {
        let Standing { term, is_led, is_leaving, heard, has_rivals } = standing;
        if !has_rivals {
            // One alone has nobody to wait for but the leases that a leader gave of whom it heard, and its own disk.
            let faithful = if is_led { heard + Duration::from_millis(FAITHFUL_MS) } else { heard };
            return self.asks_again.map_or(faithful, |again| faithful.max(again));
        }
        let is_leaving = is_led && is_leaving;
        if self.drawn_for != Some((term, is_led, is_leaving)) {
            self.drawn_for = Some((term, is_led, is_leaving));
            self.in_vain = if is_led { 0 } else { self.in_vain.saturating_add(1) };
            let doublings = self.in_vain.saturating_sub(1).min(DOUBLINGS_MAX);
            let (least, most) = match is_led {
                true if is_leaving => LETS_GO_MS,
                true => MISSES_LEADER_MS,
                false => WAITS_FOR_WINNER_MS,
            };
            let spread = Duration::from_millis(most - least).mul_f64(drawn);
            self.patience = (Duration::from_millis(least) + spread) * 2_u32.pow(doublings);
        }
        let stands = heard + self.patience;
        self.asks_again.map_or(stands, |again| stands.max(again))
    }

    /// Whether it has heard nothing of whom it follows for so long that it would stand. Asked after [`Self::stands_at`].
    pub(super) fn misses_leader(&self, standing: Standing, now: Instant) -> bool {
        standing.is_led && standing.has_rivals && standing.heard + self.patience <= now
    }

    /// It would not win.
    pub(super) fn would_lose(&mut self, now: Instant, drawn: f64) {
        let (least, most) = WAITS_FOR_WINNER_MS;
        self.asks_again = Some(now + Duration::from_millis(least) + Duration::from_millis(most - least).mul_f64(drawn));
    }

    /// It stands.
    pub(super) fn stands(&mut self, now: Instant) {
        // Where nothing comes of that, not even another term, not at once again.
        self.asks_again = Some(now + Duration::from_millis(WAITS_FOR_WINNER_MS.0));
    }
}

#[cfg(test)]
mod tests {
    use tidelog_coordination::leases::LEASE_MS;

    use super::*;

    const fn standing(term: u64, is_led: bool, heard: Instant) -> Standing {
        Standing { term, is_led, is_leaving: false, heard, has_rivals: true }
    }

    #[test]
    fn whoever_misses_the_leader_waits_from_when_it_was_heard_last_by_one_patience() {
        let (start, mut candidacy) = (Instant::now(), Candidacy::default());
        let after = |millis| start + Duration::from_millis(millis);
        assert_eq!(candidacy.stands_at(standing(5, true, start), 0.0), after(FAITHFUL_MS + 200));
        let heard = after(500);
        assert_eq!(candidacy.stands_at(standing(5, true, heard), 1.0), after(500 + FAITHFUL_MS + 200));
        let heard = after(600);
        assert_eq!(candidacy.stands_at(standing(6, true, heard), 1.0), after(600 + FAITHFUL_MS + 600), "another");
    }

    #[test]
    fn a_leader_that_is_leaving_is_followed_before_its_leases_end() {
        let (start, mut candidacy) = (Instant::now(), Candidacy::default());
        let there = standing(5, true, start);
        assert!(candidacy.stands_at(there, 1.0) - start > Duration::from_millis(FAITHFUL_MS + 500));
        let leaving = Standing { is_leaving: true, ..there };
        for drawn in [0.0, 1.0] {
            let stands = Candidacy::default().stands_at(leaving, drawn) - start;
            assert!(stands > Duration::from_millis(FAITHFUL_MS), "nobody would vote yet");
            assert!(stands < Duration::from_millis(LEASE_MS - 400), "one of the last leases is that old");
        }
        assert!(candidacy.stands_at(leaving, 1.0) < candidacy.stands_at(there, 1.0), "it is drawn anew");
    }

    #[test]
    fn a_patience_is_drawn_for_each_vote_and_grows_while_nobody_wins() {
        let (start, mut candidacy) = (Instant::now(), Candidacy::default());
        let mut wait = |term, is_led, drawn| candidacy.stands_at(standing(term, is_led, start), drawn) - start;
        assert!(wait(5, true, 0.0) < Duration::from_millis(FAITHFUL_MS + 300));
        let waits =
            [(6, 0.0), (6, 1.0), (7, 1.0), (8, 0.0), (9, 1.0), (10, 1.0)].map(|(term, drawn)| wait(term, false, drawn));
        assert_eq!(waits.map(|wait| wait.as_millis()), [300, 300, 1_800, 1_200, 3_600, 3_600]);
        assert_eq!(wait(10, true, 0.0).as_millis(), u128::from(FAITHFUL_MS) + 200, "one won");
        assert_eq!(wait(11, false, 1.0).as_millis(), 900, "and is gone");
    }

    #[test]
    fn whoever_would_not_win_asks_again_after_a_while_and_not_before_it_would_stand() {
        let (start, mut candidacy) = (Instant::now(), Candidacy::default());
        let after = |millis| start + Duration::from_millis(millis);
        let led = standing(5, true, start);
        let due = after(FAITHFUL_MS + 200);
        assert_eq!(candidacy.stands_at(led, 0.0), due);
        candidacy.would_lose(due, 0.5);
        assert_eq!(candidacy.stands_at(led, 0.0), due + Duration::from_millis(600));
        assert!(candidacy.misses_leader(led, due) && !candidacy.misses_leader(led, start));
        let heard = standing(5, true, due);
        assert!(!candidacy.misses_leader(heard, due));
        assert_eq!(candidacy.stands_at(heard, 0.0), due + Duration::from_millis(FAITHFUL_MS + 200), "a leader is back");
    }

    #[test]
    fn one_alone_waits_for_the_leases_of_whom_it_heard_and_lets_its_disk_write_its_vote() {
        let (start, mut candidacy) = (Instant::now(), Candidacy::default());
        let after = |millis| start + Duration::from_millis(millis);
        let alone = Standing { has_rivals: false, ..standing(5, true, start) };
        assert_eq!(candidacy.stands_at(alone, 1.0), after(FAITHFUL_MS));
        candidacy.stands(after(FAITHFUL_MS));
        let stood = Standing { term: 6, is_led: false, heard: after(FAITHFUL_MS), ..alone };
        assert_eq!(candidacy.stands_at(stood, 1.0), after(FAITHFUL_MS + WAITS_FOR_WINNER_MS.0));
        assert_eq!(Candidacy::default().stands_at(Standing { is_led: false, ..alone }, 1.0), start);
    }

    /// Two of three voters are left, and each vote is on its way for `travel_ms`, flushes included.
    fn votes_until_one_wins(random: &mut fastrand::Rng, travel_ms: u64) -> u64 {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut voters = [(); 2].map(|()| (Candidacy::default(), standing(1, true, start)));
        for votes in 1..1_000 {
            let at = [0, 1].map(|voter| voters[voter].0.stands_at(voters[voter].1, random.f64()));
            let first = usize::from(at[1] < at[0]);
            let (now, other) = (at[first], 1 - first);
            let (arrives, answered) =
                (now + after(travel_ms / 2).duration_since(start), now + after(travel_ms).duration_since(start));
            voters[first].0.stands(now);
            let term = voters[first].1.term + 1;
            voters[first].1 = standing(term, false, now);
            if at[other] < arrives {
                // It gave its own vote away before: both are for themselves.
                voters[other].0.stands(at[other]);
                voters[other].1 = standing(term, false, at[other]);
                continue;
            }
            voters[other].1 = standing(term, false, arrives);
            let again = [0, 1].map(|voter| voters[voter].0.stands_at(voters[voter].1, random.f64()));
            if again[first] > answered && again[other] > answered {
                return votes;
            }
        }
        1_000
    }

    #[test]
    fn two_voters_elect_one_of_them_within_few_votes_however_long_those_travel() {
        let seed = fastrand::u64(..);
        println!("seed {seed}");
        let mut random = fastrand::Rng::with_seed(seed);
        for travel_ms in [10, 100, 400, 800, 1_200] {
            let mut votes: Vec<_> = (0..10_000).map(|_| votes_until_one_wins(&mut random, travel_ms)).collect();
            votes.sort_unstable();
            println!("{travel_ms} ms: {} votes (p50), {} (p99), {} at most", votes[5_000], votes[9_900], votes[9_999]);
            assert!(votes[9_900] <= 12, "{travel_ms} ms: seed {seed}");
        }
    }
}
