//! When a voter that stood for election stands again. The consensus library draws one patience for each process as that starts, and looks at it a
//! few times a second: two voters with the same would stand at the same moment again and again, each vote for itself, and nobody would lead
//! for as long as that goes on. So a patience is drawn anew each time a voter stood. Pure: it is told what time it is, and what was drawn.

use std::time::{Duration, Instant};

use openraft::{RaftMetrics, ServerState};

use super::raft_types::{Address, Member};

/// A voter stands again after a time between these, and not before the library's own patience is over, which lies between them.
const STANDS_AGAIN: (Duration, Duration) = (Duration::from_millis(300), Duration::from_millis(900));

/// The last time that this voter stood, if it waits for what comes of that.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Candidacy(Option<Stood>);

#[derive(Clone, Copy, Debug)]
struct Stood {
    term: u64,
    again_at: Instant,
}

impl Candidacy {
    /// What the library reports now; `drawn` lies between 0 and 1, and counts where the voter has just stood.
    pub(super) fn see(&mut self, metrics: &RaftMetrics<Member, Address>, now: Instant, drawn: f64) {
        // One alone has nobody to stand against.
        let is_one_of_several = metrics.membership_config.voter_ids().nth(1).is_some();
        let stands = metrics.state == ServerState::Candidate && is_one_of_several;
        self.note(stands.then_some(metrics.current_term), now, drawn);
    }

    fn note(&mut self, stands_in: Option<u64>, now: Instant, drawn: f64) {
        self.0 = stands_in.map(|term| match self.0 {
            Some(stood) if stood.term == term => stood,
            _ => Stood { term, again_at: now + STANDS_AGAIN.0 + (STANDS_AGAIN.1 - STANDS_AGAIN.0).mul_f64(drawn) },
        });
    }

    /// Until when it does not stand again.
    pub(super) fn rests_until(&self, now: Instant) -> Option<Instant> {
        self.0.map(|stood| stood.again_at).filter(|again_at| *again_at > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_a_voter_stood_another_time_passes_before_it_stands_again() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut candidacy = Candidacy::default();
        candidacy.note(None, start, 0.9);
        assert_eq!(candidacy.rests_until(start), None, "who follows stands as soon as its patience is over");
        candidacy.note(Some(5), start, 0.0);
        assert_eq!(candidacy.rests_until(start), Some(after(300)));
        candidacy.note(Some(5), after(100), 1.0);
        assert_eq!(candidacy.rests_until(after(100)), Some(after(300)), "it stood once");
        assert_eq!(candidacy.rests_until(after(300)), None);
        candidacy.note(Some(6), after(600), 0.5);
        assert_eq!(candidacy.rests_until(after(600)), Some(after(1_200)));
        candidacy.note(None, after(700), 0.5);
        assert_eq!(candidacy.rests_until(after(700)), None, "another stood later, and was given its vote");
        candidacy.note(Some(6), after(700), 1.0);
        assert_eq!(candidacy.rests_until(after(700)), Some(after(1_600)));
    }
}
