//! How the compaction of each log here is, for whoever asks and for the metrics: what is done now, when it was done last, why it does not get on.
//! The compactor writes it down. Knows nothing of how a log is compacted, nor of when.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tidelog_log::{Backlog, CompactionStep};
use tidelog_protocol::messages::{CompactionStage, CompactionState};
use tidelog_protocol::{PartitionId, Timestamp, TopicId};

/// The first wait after a failure, doubled with each in a row.
const BACKOFF: Duration = Duration::from_secs(1);
const BACKOFF_MAX: Duration = Duration::from_secs(600);
/// Of a longer reason the rest is in the broker's log.
const REASON_CHARS_MAX: usize = 500;

/// A log.
pub(crate) type Place = (TopicId, PartitionId);

/// All of them.
#[derive(Debug, Default)]
pub struct Compactions {
    known: Mutex<HashMap<Place, Progress>>,
}

/// One of them.
#[derive(Clone, Debug, Default)]
struct Progress {
    step: Option<CompactionStep>,
    finished_at: Option<Timestamp>,
    failing: Option<Failing>,
}

/// Its last pass failed.
#[derive(Clone, Debug)]
struct Failing {
    failures: u32,
    why: String,
    not_before: Instant,
}

/// What became of a failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Failed {
    /// In a row.
    pub(crate) failures: u32,
    /// Until it is tried again.
    pub(crate) wait: Duration,
}

impl Compactions {
    /// A pass is there.
    pub(crate) fn steps(&self, place: Place, step: CompactionStep) {
        self.known.lock().entry(place).or_default().step = Some(step);
    }

    /// A pass has ended before its end, and is neither done nor failed.
    pub(crate) fn stops(&self, place: Place) {
        if let Some(progress) = self.known.lock().get_mut(&place) {
            progress.step = None;
        }
    }

    /// A pass has ended well. Did the one before fail?
    pub(crate) fn finished(&self, place: Place, at: Timestamp) -> bool {
        let mut known = self.known.lock();
        let progress = known.entry(place).or_default();
        (progress.step, progress.finished_at) = (None, Some(at));
        progress.failing.take().is_some()
    }

    /// A pass has failed; it is tried again later each time.
    pub(crate) fn failed(&self, place: Place, why: &str, now: Instant) -> Failed {
        let mut known = self.known.lock();
        let progress = known.entry(place).or_default();
        progress.step = None;
        let before = progress.failing.as_ref().map_or(0, |failing| failing.failures);
        let wait = BACKOFF_MAX.min(BACKOFF * 2u32.saturating_pow(before.min(16)));
        let failures = before.saturating_add(1);
        let why = why.chars().take(REASON_CHARS_MAX).collect();
        progress.failing = Some(Failing { failures, why, not_before: now + wait });
        Failed { failures, wait }
    }

    /// Is it too early to try this one again?
    pub(crate) fn waits(&self, place: Place, now: Instant) -> bool {
        let known = self.known.lock();
        known.get(&place).and_then(|progress| progress.failing.as_ref()).is_some_and(|failing| now < failing.not_before)
    }

    /// Forgets all that `is_there` does not say of.
    pub(crate) fn keep(&self, is_there: impl Fn(Place) -> bool) {
        self.known.lock().retain(|place, _| is_there(*place));
    }

    /// How it is with a log that has so much to do, and was cleaned last when its folder says.
    pub(crate) fn state(
        &self,
        place: Place,
        backlog: &Backlog,
        cleaned_at: Option<Timestamp>,
        now: Instant,
    ) -> CompactionState {
        let progress = self.known.lock().get(&place).cloned().unwrap_or_default();
        let number = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        let (stage, segment, segments) = match (progress.step, &progress.failing) {
            (Some(CompactionStep::Learns { segment, of }), _) => {
                (CompactionStage::Learning, number(segment), number(of))
            }
            (Some(CompactionStep::Rewrites { segment, of }), _) => {
                (CompactionStage::Rewriting, number(segment), number(of))
            }
            (None, Some(_)) => (CompactionStage::Waiting, 0, 0),
            (None, None) => (CompactionStage::Idle, 0, 0),
        };
        let left = |failing: &Failing| failing.not_before.saturating_duration_since(now).as_millis();
        let retry_in_ms = progress.failing.as_ref().map_or(0, left);
        CompactionState {
            dirty_bytes: backlog.dirty_bytes,
            clean_bytes: backlog.clean_bytes,
            cleaned_at: progress.finished_at.max(cleaned_at),
            stage,
            segment,
            segments,
            failures: progress.failing.as_ref().map_or(0, |failing| failing.failures),
            last_error: progress.failing.map(|failing| failing.why),
            retry_in_ms: u32::try_from(retry_in_ms).unwrap_or(u32::MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = (TopicId([1; 16]), PartitionId(0));
    const BACKLOG: Backlog = Backlog { clean_bytes: 30, dirty_bytes: 10, has_due_tombstones: false };

    #[test]
    fn what_fails_waits_longer_each_time_and_is_forgotten_by_a_success() {
        let (compactions, now) = (Compactions::default(), Instant::now());
        let waits: Vec<_> = (0..12).map(|_| compactions.failed(PLACE, "rot", now).wait.as_secs()).collect();
        assert_eq!(waits, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600]);
        assert!(compactions.waits(PLACE, now) && !compactions.waits(PLACE, now + BACKOFF_MAX));
        let state = compactions.state(PLACE, &BACKLOG, None, now + Duration::from_secs(599));
        assert_eq!((state.stage, state.failures, state.retry_in_ms), (CompactionStage::Waiting, 12, 1_000));
        assert_eq!((state.last_error.as_deref(), state.cleaned_at), (Some("rot"), None));
        assert!((state.dirty_ratio() - 0.25).abs() < 1e-9);
        // While it is tried again, what it does now comes first; why it failed is still told.
        compactions.steps(PLACE, CompactionStep::Learns { segment: 2, of: 5 });
        let state = compactions.state(PLACE, &BACKLOG, None, now);
        assert_eq!((state.stage, state.segment, state.segments), (CompactionStage::Learning, 2, 5));
        assert!(state.last_error.is_some());
        assert!(compactions.finished(PLACE, Timestamp(7)), "it works again");
        let state = compactions.state(PLACE, &BACKLOG, Some(Timestamp(5)), now);
        assert_eq!((state.stage, state.failures, state.last_error), (CompactionStage::Idle, 0, None));
        assert_eq!(state.cleaned_at, Some(Timestamp(7)));
        assert!(!compactions.finished(PLACE, Timestamp(9)));
        compactions.keep(|_| false);
        assert_eq!(compactions.state(PLACE, &BACKLOG, Some(Timestamp(5)), now).cleaned_at, Some(Timestamp(5)));
    }
}
