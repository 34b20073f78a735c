//! A saga as it stands: what follows from its events. Pure; knows nothing of what is to be done about it.

use bytes::Bytes;
use tidelog_protocol::Timestamp;

use super::events::{Attempt, Side};

/// Where a saga is on its way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub enum Phase {
    /// Its steps are being done.
    #[default]
    Running,
    /// What was done is being undone.
    Compensating,
    /// All its steps are done.
    Done,
    /// All that may have been done is undone.
    Compensated,
    /// An operator gave it up as it was.
    Abandoned,
}

impl Phase {
    /// Nothing happens any more.
    #[must_use]
    pub const fn is_end(self) -> bool {
        matches!(self, Self::Done | Self::Compensated | Self::Abandoned)
    }
}

/// How one side of a step stands.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Standing {
    /// It was not tried, or is to be tried at once.
    #[default]
    Idle,
    /// It is being tried.
    UnderWay {
        /// By whom.
        worker: String,
        /// Since when.
        since: Timestamp,
    },
    /// It failed, and is tried again.
    Waiting {
        /// When.
        until: Timestamp,
        /// Why it failed.
        cause: String,
    },
    /// It did what it should.
    Succeeded,
    /// It failed for good.
    Failed {
        /// Why.
        cause: String,
    },
}

/// One side of a step.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Course {
    /// Tries so far.
    pub attempts: u32,
    /// Those of them that failed, since an operator last had it tried again. One that was interrupted is not among them.
    pub failures: u32,
    /// Those of them that were interrupted, since then: whoever made them is gone. Of those there may be ten, or as many as the policy allows tries,
    /// if that is more.
    pub interruptions: u32,
    /// How it stands.
    pub standing: Standing,
}

/// A step of a saga.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StepState {
    /// Its name.
    pub name: String,
    /// Its stage.
    pub stage: u16,
    /// What it does can be undone.
    pub is_compensated: bool,
    /// What it does was done, or may have been, or may still be: a try of it ended in another way than by being refused.
    pub may_have_happened: bool,
    /// What the action said, for later steps.
    pub output: Bytes,
    /// What it is there for.
    pub action: Course,
    /// What undoes that.
    pub compensation: Course,
}

/// A saga. The default is that of one that does not exist.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Saga {
    /// The name of its definition.
    pub definition: String,
    /// What it is about, as the application writes it.
    pub input: Bytes,
    /// When it was started.
    pub started_at: Timestamp,
    /// From when on it goes back rather than on.
    pub deadline: Option<Timestamp>,
    /// Where it is on its way.
    pub phase: Phase,
    /// Why it goes back, where it does.
    pub turned: Option<String>,
    /// It stands still until an operator acts, for this reason.
    pub parked: Option<String>,
    /// A worker that had it in its hands could do nothing with it, for this reason, and nothing has happened since.
    pub left_alone: Option<String>,
    /// When it entered its phase, or was parked.
    pub changed_at: Timestamp,
    /// Its steps.
    pub steps: Vec<StepState>,
}

impl StepState {
    /// What undoes it is still to be done.
    #[must_use]
    pub fn is_to_be_undone(&self) -> bool {
        self.may_have_happened && self.is_compensated && self.compensation.standing != Standing::Succeeded
    }

    pub(super) const fn course(&self, side: Side) -> &Course {
        match side {
            Side::Action => &self.action,
            Side::Compensation => &self.compensation,
        }
    }

    pub(super) const fn course_mut(&mut self, side: Side) -> &mut Course {
        match side {
            Side::Action => &mut self.action,
            Side::Compensation => &mut self.compensation,
        }
    }
}

impl Saga {
    /// It is at work, or waits for a time to come.
    #[must_use]
    pub const fn is_going(&self) -> bool {
        !self.phase.is_end() && self.parked.is_none()
    }

    /// The tries that are being made, and by whom.
    pub(super) fn under_way(&self) -> impl Iterator<Item = (Attempt, &str)> {
        let sides = |at| [(at, Side::Action), (at, Side::Compensation)];
        (0..self.steps.len()).flat_map(sides).filter_map(|(at, side)| {
            let course = self.steps[at].course(side);
            let Standing::UnderWay { worker, .. } = &course.standing else { return None };
            Some((Attempt { step: at as u16, side, number: course.attempts }, worker.as_str()))
        })
    }

    /// Who makes this try, where it is being made.
    pub(super) fn worker_of(&self, attempt: &Attempt) -> Option<&str> {
        let course = self.steps.get(usize::from(attempt.step))?.course(attempt.side);
        match &course.standing {
            Standing::UnderWay { worker, .. } if course.attempts == attempt.number => Some(worker),
            _ => None,
        }
    }
}
