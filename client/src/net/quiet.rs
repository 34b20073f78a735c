//! What the silence of a connection says: nothing yet, or that whoever should answer does not. Knows what was asked and when something came
//! last, not who could be asked instead.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tidelog_protocol::api::Api;

use super::connection::{Connection, Wire};
use super::monitor;

/// An answer that has not come within this is overdue, where nothing else came either: most take milliseconds.
const OVERDUE: Duration = Duration::from_millis(1_500);
/// A ping is answered at once.
const PING_OVERDUE: Duration = Duration::from_millis(500);

/// A connection of which nothing was heard for a while.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Quiet {
    /// When something came last.
    pub(crate) heard: Instant,
    /// Something was asked since, and should have been answered.
    pub(crate) is_silent: bool,
    /// Something is under way that may be done twice where it is asked again elsewhere.
    pub(crate) has_unrepeatable: bool,
}

/// A question without an answer.
#[derive(Clone, Copy, Debug)]
struct Question {
    api: Api,
    sent_at: Instant,
    repeatable: bool,
}

impl Question {
    fn is_overdue(&self, heard: Instant, now: Instant) -> bool {
        let patience = match self.api {
            // It is meant to wait.
            Api::WaitFor => return false,
            Api::Ping => PING_OVERDUE,
            _ => OVERDUE,
        };
        heard <= self.sent_at && now.saturating_duration_since(self.sent_at) >= patience
    }
}

fn judge(heard: Instant, open: impl Iterator<Item = Question>, now: Instant) -> Quiet {
    let (mut is_silent, mut has_unrepeatable) = (false, false);
    for question in open {
        is_silent |= question.is_overdue(heard, now);
        has_unrepeatable |= !question.repeatable;
    }
    Quiet { heard, is_silent, has_unrepeatable }
}

impl Connection {
    /// What its silence says.
    pub(crate) fn quiet(&self, now: Instant) -> Quiet {
        let wire = self.wire();
        let state = wire.state.lock();
        let questions = state.pending.values().map(|pending| Question {
            api: pending.api,
            sent_at: pending.sent_at,
            repeatable: pending.repeatable,
        });
        judge(heard(wire), questions, now)
    }

    /// Asks for a sign of life.
    pub(crate) fn probe(&self) {
        monitor::probe(self.wire());
    }

    /// Ends it, for a reason that was found elsewhere: everyone who waits hears it.
    pub(crate) fn give_up(&self, reason: &str) {
        let wire = self.wire();
        wire.close(wire.disconnected(reason));
    }
}

/// When something came last.
pub(super) fn heard(wire: &Arc<Wire>) -> Instant {
    wire.started + Duration::from_millis(wire.heard_ms.load(Ordering::Relaxed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn silence_says_something_once_an_answer_is_overdue() {
        let began = Instant::now();
        let asked = |api, sent_ms| Question { api, sent_at: began + ms(sent_ms), repeatable: api != Api::Produce };
        let verdict = |heard_ms, questions: &[Question], now_ms| {
            judge(began + ms(heard_ms), questions.iter().copied(), began + ms(now_ms)).is_silent
        };
        assert!(!verdict(0, &[], 60_000), "nobody asked anything");
        assert!(!verdict(0, &[asked(Api::Ping, 3_000)], 3_499));
        assert!(verdict(0, &[asked(Api::Ping, 3_000)], 3_500));
        assert!(!verdict(0, &[asked(Api::Produce, 100)], 1_599));
        assert!(verdict(0, &[asked(Api::Produce, 100)], 1_600));
        assert!(!verdict(101, &[asked(Api::Produce, 100)], 1_600), "something came since");
        assert!(!verdict(0, &[asked(Api::WaitFor, 100)], 2_000), "that may take long");
    }

    #[test]
    fn what_may_be_done_twice_is_told() {
        let now = Instant::now();
        let asked = |repeatable| Question { api: Api::Produce, sent_at: now, repeatable };
        assert!(!judge(now, [asked(true)].into_iter(), now).has_unrepeatable);
        assert!(judge(now, [asked(true), asked(false)].into_iter(), now).has_unrepeatable);
    }
}
