//! The rules of a saga: what follows from an event, and what is to be done next. Pure: time, chance and what tries came to are arguments; knows
//! nothing of where events are stored or what steps do.
//!
//! [`decide`] changes nothing. What it says happened is to be stored first, at the version that was decided on, and only then may the tries be
//! made that it names. So a try that nobody knows of is never made; and of two workers that decide on one version one is refused, and makes none.
//!
//! A saga goes forward stage by stage. Where a step fails for good, or the deadline passes, it turns: it waits for the tries that are being
//! made (a compensation must not overtake its action where that can be helped), and then undoes, stage by stage from the latest one back, every
//! step that may have happened. That is a step of which any try ended otherwise than by being refused: it succeeded, failed in a way that leaves
//! open whether it had an effect, took too long, or was interrupted.

use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::Timestamp;

use super::events::{Attempt, Began, Changed, Failed, Interrupted, PlannedStep, SagaEvent, Side, Started, Succeeded};
use super::plan::{Plan, Policy};
use super::state::{Phase, Saga, Standing, StepState};

/// What comes to a saga.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Input {
    /// A worker takes it up: of the tries that are being made these are its own, and those of others are nobody's any more.
    TakenUp { own: Vec<Attempt> },
    /// Time has passed, or there is room for tries.
    Wake,
    /// A try has ended.
    Ended { attempt: Attempt, outcome: Outcome },
    /// Its latest event is far behind.
    Carry,
}

/// What a try came to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Outcome {
    /// It did what it should.
    Succeeded(Bytes),
    /// It had no effect, and another try would have none either.
    Refused(String),
    /// It did not do what it should, or nobody knows.
    Failed(String),
}

/// Under what circumstances.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment<'a> {
    pub(super) now: Timestamp,
    /// Drawn evenly from 0 to 1.
    pub(super) jitter: f64,
    /// Who decides.
    pub(super) worker: &'a str,
    /// There is room for tries.
    pub(super) may_begin: bool,
}

/// What is to be done: the first first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Commands {
    /// To be stored.
    pub(super) events: Vec<SagaEvent>,
    /// Tries to be made once that is so.
    pub(super) runs: Vec<Run>,
    /// Tries would be made if there were room.
    pub(super) is_held_back: bool,
    /// When to ask again, where nothing happens before.
    pub(super) wake_at: Option<Timestamp>,
}

/// A try to be made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Run {
    pub(super) attempt: Attempt,
    /// Then it has failed.
    pub(super) timeout: Duration,
}

/// An operator's wish that does not go with how a saga stands.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum OperatorRefusal {
    /// There is nothing to be tried again.
    #[error("it is not parked")]
    NotParked,
    /// Nothing happens to it any more.
    #[error("it has ended: {0:?}")]
    Ended(Phase),
}

/// The first event of a saga.
pub(super) fn start(plan: &Plan, input: Bytes, now: Timestamp) -> SagaEvent {
    SagaEvent::Started(Started {
        definition: plan.definition.clone(),
        input,
        at: now,
        deadline: plan.deadline.map(|deadline| plus(now, deadline)),
        steps: plan.steps(),
    })
}

/// An operator has a parked saga tried again.
pub(super) fn resume(saga: &Saga, now: Timestamp) -> Result<SagaEvent, OperatorRefusal> {
    match (saga.phase.is_end(), &saga.parked) {
        (true, _) => Err(OperatorRefusal::Ended(saga.phase)),
        (false, None) => Err(OperatorRefusal::NotParked),
        (false, Some(_)) => Ok(SagaEvent::Resumed(Changed { at: now, cause: String::new() })),
    }
}

/// An operator gives a saga up as it is.
pub(super) fn abandon(saga: &Saga, cause: String, now: Timestamp) -> Result<SagaEvent, OperatorRefusal> {
    if saga.phase.is_end() {
        return Err(OperatorRefusal::Ended(saga.phase));
    }
    Ok(SagaEvent::Abandoned(Changed { at: now, cause }))
}

/// What is to be done about `input`.
pub(super) fn decide(plan: &Plan, saga: &Saga, input: Input, moment: &Moment<'_>) -> Commands {
    let mut decision = Decision { plan, moment, saga: saga.clone(), commands: Commands::default() };
    if !saga.phase.is_end() {
        decision.heed(input);
    }
    decision.commands
}

impl Saga {
    /// What follows from an event. It has happened, so this cannot refuse it; one that makes no sense changes nothing.
    pub(super) fn apply(&mut self, event: &SagaEvent) {
        match event {
            SagaEvent::Started(started) => {
                let Started { definition, input, at, deadline, steps } = started.clone();
                let step = |PlannedStep { name, stage, is_compensated }| StepState {
                    name,
                    stage,
                    is_compensated,
                    ..StepState::default()
                };
                let steps = steps.into_iter().map(step).collect();
                *self = Self { definition, input, started_at: at, changed_at: at, deadline, steps, ..Self::default() };
            }
            SagaEvent::Began(Began { attempt, worker, at }) => {
                if let Some(step) = self.steps.get_mut(usize::from(attempt.step)) {
                    let course = step.course_mut(attempt.side);
                    course.attempts = attempt.number;
                    course.standing = Standing::UnderWay { worker: worker.clone(), since: *at };
                }
            }
            SagaEvent::Succeeded(Succeeded { attempt, output }) => {
                if let Some(step) = self.under_way_mut(attempt) {
                    step.course_mut(attempt.side).standing = Standing::Succeeded;
                    if attempt.side == Side::Action {
                        step.may_have_happened = true;
                        step.output = output.clone();
                    }
                }
            }
            SagaEvent::Failed(Failed { attempt, cause, is_doubtful, again_at }) => {
                if let Some(step) = self.under_way_mut(attempt) {
                    step.may_have_happened |= *is_doubtful && attempt.side == Side::Action;
                    let course = step.course_mut(attempt.side);
                    course.failures += 1;
                    course.standing = match again_at {
                        Some(until) => Standing::Waiting { until: *until, cause: cause.clone() },
                        None => Standing::Failed { cause: cause.clone() },
                    };
                }
            }
            SagaEvent::Interrupted(Interrupted { attempt }) => {
                if let Some(step) = self.under_way_mut(attempt) {
                    step.may_have_happened |= attempt.side == Side::Action;
                    let course = step.course_mut(attempt.side);
                    course.interruptions += 1;
                    course.standing = Standing::Idle;
                }
            }
            SagaEvent::Turned(Changed { at, cause }) => {
                self.phase = Phase::Compensating;
                self.turned = Some(cause.clone());
                self.changed_at = *at;
            }
            SagaEvent::Parked(Changed { at, cause }) => {
                self.parked = Some(cause.clone());
                self.changed_at = *at;
            }
            SagaEvent::Resumed(Changed { at, .. }) => {
                self.parked = None;
                self.changed_at = *at;
                for step in &mut self.steps {
                    let course = &mut step.compensation;
                    if matches!(course.standing, Standing::Failed { .. } | Standing::Waiting { .. } | Standing::Idle) {
                        course.standing = Standing::Idle;
                        (course.failures, course.interruptions) = (0, 0);
                    }
                }
            }
            SagaEvent::Done(Changed { at, .. }) => self.end(Phase::Done, *at),
            SagaEvent::Compensated(Changed { at, .. }) => self.end(Phase::Compensated, *at),
            SagaEvent::Abandoned(Changed { at, .. }) => self.end(Phase::Abandoned, *at),
            SagaEvent::Carried(Changed { cause, .. }) if cause.is_empty() => {}
            SagaEvent::Carried(Changed { cause, .. }) => self.left_alone = Some(cause.clone()),
        }
        if !matches!(event, SagaEvent::Carried(_)) {
            self.left_alone = None;
        }
    }

    fn end(&mut self, phase: Phase, at: Timestamp) {
        self.phase = phase;
        self.parked = None;
        self.changed_at = at;
    }

    fn under_way_mut(&mut self, attempt: &Attempt) -> Option<&mut StepState> {
        self.worker_of(attempt)?;
        self.steps.get_mut(usize::from(attempt.step))
    }
}

/// A decision as it is being made, on the state that what it says happened makes.
struct Decision<'a> {
    plan: &'a Plan,
    moment: &'a Moment<'a>,
    saga: Saga,
    commands: Commands,
}

impl Decision<'_> {
    fn heed(&mut self, input: Input) {
        let lost = match &input {
            Input::TakenUp { own } => self.interrupt(own),
            _ => Vec::new(),
        };
        if let Err(cause) = self.plan.fits(&self.saga) {
            if self.saga.parked.is_none() {
                self.interrupt(&[]);
                self.note(SagaEvent::Parked(self.changed(cause)));
            }
            return;
        }
        match input {
            Input::TakenUp { .. } => lost.iter().for_each(|attempt| self.give_up_if_spent(attempt)),
            Input::Wake => {}
            Input::Ended { attempt, outcome } => self.ended(attempt, outcome),
            Input::Carry => self.note(SagaEvent::Carried(self.changed(String::new()))),
        }
        if self.saga.phase == Phase::Running && self.saga.parked.is_none() {
            self.forward();
        }
        if self.saga.phase == Phase::Compensating && self.saga.parked.is_none() {
            self.back();
        }
    }

    /// What others were trying may have had its effect; nobody will say.
    fn interrupt(&mut self, own: &[Attempt]) -> Vec<Attempt> {
        let is_own = |attempt: &Attempt, worker: &str| worker == self.moment.worker && own.contains(attempt);
        let under_way = self.saga.under_way();
        let lost: Vec<Attempt> =
            under_way.filter(|(attempt, worker)| !is_own(attempt, worker)).map(|(attempt, _)| attempt).collect();
        lost.iter().for_each(|attempt| self.note(SagaEvent::Interrupted(Interrupted { attempt: attempt.clone() })));
        lost
    }

    /// A try that was interrupted may have been the last: what makes it kills whoever does, it seems, and would for ever.
    fn give_up_if_spent(&mut self, attempt: &Attempt) {
        let Some(Policy { retry, .. }) = self.policy(attempt) else { return };
        let step = &self.saga.steps[usize::from(attempt.step)];
        let interruptions = step.course(attempt.side).interruptions;
        if interruptions < retry.attempts.max(INTERRUPTIONS) {
            return;
        }
        let cause = format!("whoever tried it was gone before it ended, {interruptions} times");
        let name = step.name.clone();
        match attempt.side {
            Side::Action if self.saga.phase == Phase::Running && self.saga.parked.is_none() => {
                self.note(SagaEvent::Turned(self.changed(format!("{name}: {cause}"))));
            }
            Side::Compensation if self.saga.parked.is_none() => {
                self.note(SagaEvent::Parked(self.changed(format!("{name} cannot be undone: {cause}"))));
            }
            Side::Action | Side::Compensation => {}
        }
    }

    fn ended(&mut self, attempt: Attempt, outcome: Outcome) {
        if self.saga.worker_of(&attempt) != Some(self.moment.worker) {
            // Somebody took it for lost and went on.
            return;
        }
        let (is_final, is_doubtful, cause) = match outcome {
            Outcome::Succeeded(output) => return self.note(SagaEvent::Succeeded(Succeeded { attempt, output })),
            Outcome::Refused(cause) => (true, false, cause),
            Outcome::Failed(cause) => (false, true, cause),
        };
        let step = &self.saga.steps[usize::from(attempt.step)];
        let name = step.name.clone();
        let failures = step.course(attempt.side).failures + 1;
        let Some(Policy { retry, .. }) = self.policy(&attempt) else { return };
        // Where it goes back, nothing of the way forward is tried again.
        let is_moot = attempt.side == Side::Action && (self.saga.phase != Phase::Running || self.is_late());
        let is_final = is_final || is_moot || failures >= retry.attempts;
        let again_at = (!is_final).then(|| plus(self.moment.now, retry.backoff.wait(failures, self.moment.jitter)));
        let side = attempt.side;
        self.note(SagaEvent::Failed(Failed { attempt, cause: cause.clone(), is_doubtful, again_at }));
        match side {
            _ if !is_final => {}
            Side::Action if self.saga.phase == Phase::Running => {
                let cause = if is_moot { LATE.to_owned() } else { format!("{name}: {cause}") };
                self.note(SagaEvent::Turned(self.changed(cause)));
            }
            Side::Action => {}
            Side::Compensation if self.saga.parked.is_none() => {
                self.note(SagaEvent::Parked(self.changed(format!("{name} cannot be undone: {cause}"))));
            }
            Side::Compensation => {}
        }
    }

    /// Goes on, or finds that it is done, or late.
    fn forward(&mut self) {
        let is_done = |step: &&StepState| step.action.standing == Standing::Succeeded;
        let Some(stage) = self.saga.steps.iter().filter(|step| !is_done(step)).map(|step| step.stage).min() else {
            return self.note(SagaEvent::Done(self.changed(String::new())));
        };
        if self.is_late() {
            return self.note(SagaEvent::Turned(self.changed(LATE.into())));
        }
        self.begin(stage, Side::Action);
        if let Some(deadline) = self.saga.deadline {
            self.wake_at(deadline);
        }
    }

    /// Undoes the latest of what is to be undone, or finds that all of it is.
    fn back(&mut self) {
        if self.saga.under_way().any(|(attempt, _)| attempt.side == Side::Action) {
            return;
        }
        match self.saga.steps.iter().filter(|step| step.is_to_be_undone()).map(|step| step.stage).max() {
            Some(stage) => self.begin(stage, Side::Compensation),
            None => self.note(SagaEvent::Compensated(self.changed(String::new()))),
        }
    }

    /// Begins what may of a stage.
    fn begin(&mut self, stage: u16, side: Side) {
        for at in 0..self.saga.steps.len() {
            let step = &self.saga.steps[at];
            let is_wanted = step.stage == stage && (side == Side::Action || step.is_to_be_undone());
            let is_due = match &step.course(side).standing {
                Standing::Idle => true,
                Standing::Waiting { until, .. } if *until <= self.moment.now => true,
                Standing::Waiting { until, .. } if is_wanted => {
                    let until = *until;
                    self.wake_at(until);
                    false
                }
                _ => false,
            };
            if !is_wanted || !is_due {
                continue;
            }
            if !self.moment.may_begin {
                self.commands.is_held_back = true;
                continue;
            }
            let number = self.saga.steps[at].course(side).attempts + 1;
            let attempt = Attempt { step: at as u16, side, number };
            let Some(policy) = self.policy(&attempt) else { continue };
            // Beyond the deadline nobody waits for an action.
            let left = self.saga.deadline.filter(|_| side == Side::Action);
            let left = left.map_or(Duration::MAX, |deadline| between(self.moment.now, deadline));
            let began = Began { attempt: attempt.clone(), worker: self.moment.worker.into(), at: self.moment.now };
            self.note(SagaEvent::Began(began));
            self.commands.runs.push(Run { attempt, timeout: policy.timeout.min(left) });
        }
    }

    fn policy(&self, attempt: &Attempt) -> Option<Policy> {
        let planned = self.plan.steps.get(usize::from(attempt.step))?;
        match attempt.side {
            Side::Action => Some(planned.action),
            Side::Compensation => planned.compensation,
        }
    }

    fn is_late(&self) -> bool {
        self.saga.deadline.is_some_and(|deadline| deadline <= self.moment.now)
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.commands.wake_at = Some(self.commands.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn changed(&self, cause: String) -> Changed {
        Changed { at: self.moment.now, cause }
    }

    fn note(&mut self, event: SagaEvent) {
        self.saga.apply(&event);
        self.commands.events.push(event);
    }
}

/// Why a saga turns that took too long.
const LATE: &str = "its deadline has passed";
/// Tries of a step that may be interrupted, where its policy does not allow more: one that kills its worker each time must end.
const INTERRUPTIONS: u32 = 10;

fn plus(at: Timestamp, more: Duration) -> Timestamp {
    Timestamp(at.0.saturating_add(i64::try_from(more.as_millis()).unwrap_or(i64::MAX)))
}

/// How long it is from one time to another.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
    Duration::from_millis(u64::try_from(to.0.saturating_sub(from.0)).unwrap_or(0))
}
