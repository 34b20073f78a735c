//! What a worker says of itself while it runs. Knows nothing of how it does its work.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use foldhash::{HashMap, HashMapExt};
use parking_lot::Mutex;
use tidelog_protocol::Timestamp;

use super::events::SagaEvent;
use super::machine::between;
use super::state::{Phase, Saga};

/// How the sagas of a worker stand, and what it did since it began.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Figures {
    /// Sagas that go forward.
    pub running: u64,
    /// Sagas that go back.
    pub compensating: u64,
    /// Sagas that wait for an operator.
    pub parked: u64,
    /// Sagas of definitions that this worker was not given: nobody drives them as long as it has their partition.
    pub unknown: u64,
    /// How long ago the oldest saga was started that goes forward or back.
    pub oldest: Option<Duration>,
    /// For how long the one that waits longest waits for an operator.
    pub parked_for: Option<Duration>,
    /// Sagas that this worker brought to their end: done.
    pub done: u64,
    /// All that may have been done is undone.
    pub compensated: u64,
    /// Sagas in this worker's hands that an operator gave up.
    pub abandoned: u64,
    /// Tries that it began.
    pub attempts: u64,
    /// Tries that failed.
    pub failures: u64,
    /// Tries whose makers were gone as it took their sagas up.
    pub interrupted: u64,
    /// Times that somebody else had changed a saga as it wanted to: an operator, or another worker.
    pub conflicts: u64,
    /// What stood in the way last.
    pub trouble: Option<String>,
}

/// A handle on a worker's figures.
#[derive(Clone, Debug, Default)]
pub struct WorkerFigures(Arc<Mutex<Notes>>);

#[derive(Debug)]
struct Notes {
    sagas: HashMap<Bytes, Note>,
    /// How many of them have nothing to do.
    still: usize,
    counted: Figures,
}

impl Default for Notes {
    fn default() -> Self {
        Self { sagas: HashMap::new(), still: 0, counted: Figures::default() }
    }
}

impl Notes {
    fn set(&mut self, id: &Bytes, note: Option<Note>) {
        let before = match note {
            Some(note) => self.sagas.insert(id.clone(), note),
            None => self.sagas.remove(id),
        };
        let is_still = |note| matches!(note, Some(Note::Parked { .. } | Note::Unknown));
        self.still += usize::from(is_still(note));
        self.still -= usize::from(is_still(before));
    }
}

#[derive(Clone, Copy, Debug)]
enum Note {
    Going { phase: Phase, started_at: Timestamp },
    Parked { since: Timestamp },
    Unknown,
}

impl WorkerFigures {
    /// As they are now.
    #[must_use]
    pub fn now(&self) -> Figures {
        let now = super::now();
        let notes = self.0.lock();
        let mut figures = notes.counted.clone();
        for note in notes.sagas.values() {
            match note {
                Note::Going { phase, started_at } => {
                    let count =
                        if *phase == Phase::Compensating { &mut figures.compensating } else { &mut figures.running };
                    *count += 1;
                    figures.oldest = figures.oldest.max(Some(between(*started_at, now)));
                }
                Note::Parked { since } => {
                    figures.parked += 1;
                    figures.parked_for = figures.parked_for.max(Some(between(*since, now)));
                }
                Note::Unknown => figures.unknown += 1,
            }
        }
        figures
    }

    /// A saga is in this worker's hands, for as long as what this gives is kept.
    pub(super) fn follow(&self, id: Bytes) -> Following {
        Following { figures: self.clone(), id }
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Figures)) {
        change(&mut self.0.lock().counted);
    }

    /// Sagas in this worker's hands that have nothing to do.
    pub(super) fn still(&self) -> usize {
        self.0.lock().still
    }
}

/// A saga in a worker's hands.
#[derive(Debug)]
pub(super) struct Following {
    figures: WorkerFigures,
    id: Bytes,
}

impl Following {
    /// It stands like this now.
    pub(super) fn stands(&self, saga: &Saga) {
        let note = match saga.parked {
            Some(_) => Note::Parked { since: saga.changed_at },
            None => Note::Going { phase: saga.phase, started_at: saga.started_at },
        };
        self.figures.0.lock().set(&self.id, Some(note));
    }

    /// Nobody here knows what it does.
    pub(super) fn is_unknown(&self) {
        self.figures.0.lock().set(&self.id, Some(Note::Unknown));
    }

    /// It was found given up.
    pub(super) fn is_abandoned(&self) {
        self.figures.note(|figures| figures.abandoned += 1);
    }

    /// This was stored.
    pub(super) fn happened(&self, events: &[SagaEvent]) {
        self.figures.note(|figures| {
            for event in events {
                match event {
                    SagaEvent::Began(_) => figures.attempts += 1,
                    SagaEvent::Failed(_) => figures.failures += 1,
                    SagaEvent::Interrupted(_) => figures.interrupted += 1,
                    SagaEvent::Done(_) => figures.done += 1,
                    SagaEvent::Compensated(_) => figures.compensated += 1,
                    _ => {}
                }
            }
        });
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.figures.0.lock().set(&self.id, None);
    }
}
