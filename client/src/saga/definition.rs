//! A saga's definition: its steps, each with what it does, what undoes that, and how often and how long that is tried. Knows nothing of how
//! sagas are driven.

use std::collections::BTreeSet;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::call::{Call, SagaInput, StepError};
use super::events::{Attempt, Side};
use super::plan::{Plan, Planned, Policy};
use super::state::Saga;
use crate::Backoff;
use crate::group::RetryPolicy;

/// The longest name of a definition or a step, in bytes.
const NAME_BYTES_MAX: usize = 128;
/// The most steps of a definition: all of them stand in the first event of each saga.
const STEPS_MAX: usize = 256;
/// The longest that an attempt, or a saga, may take.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 24 * 3_600);

/// What a try gives back.
pub(super) type Trying = Pin<Box<dyn Future<Output = Result<Bytes, StepError>> + Send>>;
type Work<T> = Arc<dyn Fn(Call<T>) -> Trying + Send + Sync>;

/// A step of a saga: an action, what undoes it, and how both are tried.
///
/// Both may be tried more than once, and a try that was given up may still have its effect later: see the [module](super) for what that asks of
/// the services that are called.
#[must_use = "a step is part of a definition"]
pub struct Step<T> {
    name: String,
    action: (Work<T>, Policy),
    compensation: Option<Work<T>>,
    compensating: Policy,
}

impl<T> fmt::Debug for Step<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Step").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A definition without its steps' names checked. Made by [`Definition::named`].
#[derive(Debug)]
#[must_use = "nothing is defined before `build`"]
pub struct DefinitionBuilder<T> {
    name: String,
    deadline: Option<Duration>,
    stages: Vec<Vec<Step<T>>>,
}

/// What sagas of one kind do. Clones are cheap.
pub struct Definition<T> {
    parts: Arc<Parts<T>>,
}

struct Parts<T> {
    plan: Plan,
    works: Vec<(Work<T>, Option<Work<T>>)>,
}

impl<T> Clone for Definition<T> {
    fn clone(&self) -> Self {
        Self { parts: Arc::clone(&self.parts) }
    }
}

impl<T> fmt::Debug for Definition<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.plan.fmt(f)
    }
}

/// Why a definition is none.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// Two steps have one name: they would share their idempotency keys, and the second would find itself done.
    #[error("{definition:?} has two steps {step:?}")]
    SameName {
        /// The definition.
        definition: String,
        /// The name.
        step: String,
    },
    /// There is nothing to do, or more than a saga keeps.
    #[error("{definition:?} has {steps} steps, not 1 to {STEPS_MAX}")]
    Steps {
        /// The definition.
        definition: String,
        /// How many it has.
        steps: usize,
    },
    /// A name cannot be part of an idempotency key.
    #[error("{name:?} is no name: 1 to {NAME_BYTES_MAX} letters, digits, '-', '_' and '.' would be")]
    Name {
        /// The name.
        name: String,
    },
    /// A time or a number is out of its range.
    #[error("{what} of {name:?} is {value}: {range}")]
    Range {
        /// The definition or the step.
        name: String,
        /// The setting.
        what: &'static str,
        /// Its value.
        value: String,
        /// What it may be.
        range: &'static str,
    },
}

impl<T> Step<T> {
    /// A step of this name, which is part of its idempotency keys: it may not change while sagas are on their way. What `action` gives back is
    /// kept with the saga, for later steps and for what undoes it.
    ///
    /// Usually: five tries with 100 ms to 10 s in between, each of 30 s at most.
    pub fn new<F, Fut, O>(name: impl Into<String>, action: F) -> Self
    where
        F: Fn(Call<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, StepError>> + Send + 'static,
        O: Into<Bytes>,
    {
        let timeout = Duration::from_secs(30);
        let backoff = Backoff { first: Duration::from_millis(100), max: Duration::from_secs(60) };
        Self {
            name: name.into(),
            action: (work(action), Policy { retry: RetryPolicy::default(), timeout }),
            compensation: None,
            compensating: Policy { retry: RetryPolicy { attempts: 20, backoff }, timeout },
        }
    }

    /// What undoes the action; called also where that may not have happened at all. Without it there is nothing to be undone.
    ///
    /// Usually: twenty tries with 100 ms to a minute in between, each of 30 s at most; then the saga is parked.
    pub fn compensation<F, Fut>(mut self, compensation: F) -> Self
    where
        F: Fn(Call<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        self.compensation = Some(Arc::new(move |call| {
            let undoing = compensation(call);
            Box::pin(async move { undoing.await.map(|()| Bytes::new()) })
        }));
        self
    }

    /// How often the action is tried, and how long it rests in between, jittered.
    pub const fn retry(mut self, retry: RetryPolicy) -> Self {
        self.action.1.retry = retry;
        self
    }

    /// How long a try of the action may take. It is dropped then, and counts as one that may have had its effect.
    pub const fn timeout(mut self, timeout: Duration) -> Self {
        self.action.1.timeout = timeout;
        self
    }

    /// As [`Step::retry`], of the compensation: after so many the saga is parked.
    pub const fn compensation_retry(mut self, retry: RetryPolicy) -> Self {
        self.compensating.retry = retry;
        self
    }

    /// As [`Step::timeout`], of the compensation.
    pub const fn compensation_timeout(mut self, timeout: Duration) -> Self {
        self.compensating.timeout = timeout;
        self
    }
}

fn work<T, F, Fut, O>(action: F) -> Work<T>
where
    F: Fn(Call<T>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<O, StepError>> + Send + 'static,
    O: Into<Bytes>,
{
    Arc::new(move |call| {
        let doing = action(call);
        Box::pin(async move { doing.await.map(Into::into) })
    })
}

impl<T> Definition<T> {
    /// Starts to describe a definition of this name, which stands in every saga of it. Where its steps change, give it another.
    pub fn named(name: impl Into<String>) -> DefinitionBuilder<T> {
        DefinitionBuilder { name: name.into(), deadline: None, stages: Vec::new() }
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.parts.plan.definition
    }

    pub(super) fn plan(&self) -> &Plan {
        &self.parts.plan
    }
}

impl<T> DefinitionBuilder<T> {
    /// Then this step.
    pub fn step(mut self, step: Step<T>) -> Self {
        self.stages.push(vec![step]);
        self
    }

    /// Then these steps, side by side. What they did is undone side by side, too.
    pub fn parallel(mut self, steps: impl IntoIterator<Item = Step<T>>) -> Self {
        self.stages.push(steps.into_iter().collect());
        self
    }

    /// After so long a saga that is not done goes back. What undoes its steps takes the time that it takes. Default: never.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// The definition.
    ///
    /// # Errors
    /// [`DefinitionError`].
    pub fn build(self) -> Result<Definition<T>, DefinitionError> {
        let Self { name, deadline, stages } = self;
        check_name(&name)?;
        if let Some(deadline) = deadline {
            check_time(&name, "the deadline", deadline)?;
        }
        let count: usize = stages.iter().map(Vec::len).sum();
        if !(1..=STEPS_MAX).contains(&count) {
            return Err(DefinitionError::Steps { definition: name, steps: count });
        }
        let (mut planned, mut works, mut names) = (Vec::new(), Vec::new(), BTreeSet::new());
        for (stage, steps) in stages.into_iter().filter(|steps| !steps.is_empty()).enumerate() {
            for step in steps {
                step.check()?;
                if !names.insert(step.name.clone()) {
                    return Err(DefinitionError::SameName { definition: name, step: step.name });
                }
                let Step { name, action: (action, policy), compensation, compensating } = step;
                let undone = compensation.as_ref().map(|_| compensating);
                planned.push(Planned { name, stage: stage as u16, action: policy, compensation: undone });
                works.push((action, compensation));
            }
        }
        let plan = Plan { definition: name, deadline, steps: planned };
        Ok(Definition { parts: Arc::new(Parts { plan, works }) })
    }
}

impl<T> Step<T> {
    fn check(&self) -> Result<(), DefinitionError> {
        check_name(&self.name)?;
        let attempts = |what, retry: RetryPolicy| match retry.attempts {
            0 => {
                let (name, range) = (self.name.clone(), "at least 1");
                Err(DefinitionError::Range { name, what, value: "0".into(), range })
            }
            _ => Ok(()),
        };
        attempts("the number of tries", self.action.1.retry)?;
        attempts("the number of tries of the compensation", self.compensating.retry)?;
        check_time(&self.name, "the timeout", self.action.1.timeout)?;
        check_time(&self.name, "the timeout of the compensation", self.compensating.timeout)
    }
}

fn check_time(name: &str, what: &'static str, time: Duration) -> Result<(), DefinitionError> {
    if (Duration::from_millis(1)..=TIME_MAX).contains(&time) {
        return Ok(());
    }
    let range = "1 ms to 10 years";
    Err(DefinitionError::Range { name: name.into(), what, value: format!("{time:?}"), range })
}

fn check_name(name: &str) -> Result<(), DefinitionError> {
    let is_fit = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
    if (1..=NAME_BYTES_MAX).contains(&name.len()) && name.chars().all(is_fit) {
        return Ok(());
    }
    // Whatever it is, it is shown, and not all of it.
    Err(DefinitionError::Name { name: name.chars().take(NAME_BYTES_MAX).collect() })
}

/// A definition as a worker has it, whatever its sagas are about.
pub(super) trait Course: Send + Sync {
    fn plan(&self) -> &Plan;

    /// A try, which does nothing before it is polled.
    fn attempt(&self, store: &str, id: &str, saga: &Saga, attempt: &Attempt) -> Trying;
}

impl<T: SagaInput> Course for Definition<T> {
    fn plan(&self) -> &Plan {
        &self.parts.plan
    }

    fn attempt(&self, store: &str, id: &str, saga: &Saga, attempt: &Attempt) -> Trying {
        let works = self.parts.works.get(usize::from(attempt.step));
        let work = works.and_then(|(action, compensation)| match attempt.side {
            Side::Action => Some(Arc::clone(action)),
            Side::Compensation => compensation.clone(),
        });
        let call = Call::of(store, id, saga, attempt);
        Box::pin(async move {
            let work = work.ok_or_else(|| StepError::failed("the definition has no such step"))?;
            work(call.map_err(StepError::failed)?).await
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(name: &str) -> Step<String> {
        Step::new(name, async |_| Ok(Bytes::new()))
    }

    fn refusal(builder: DefinitionBuilder<String>) -> String {
        builder.build().unwrap_err().to_string()
    }

    #[test]
    fn two_steps_of_one_name_are_refused_wherever_they_stand() {
        let said = "\"order\" has two steps \"pay\"";
        let apart = Definition::named("order").step(step("pay")).step(step("ship")).step(step("pay"));
        assert_eq!(refusal(apart), said);
        assert_eq!(refusal(Definition::named("order").parallel([step("pay"), step("pay")])), said);
    }

    #[test]
    fn what_cannot_be_carried_out_is_refused() {
        let none = || RetryPolicy { attempts: 0, ..RetryPolicy::default() };
        for (builder, part) in [
            (Definition::named("order"), "has 0 steps"),
            (Definition::named("or/der").step(step("pay")), "is no name"),
            (Definition::named("order").step(step("pay:undo")), "is no name"),
            (Definition::named("order").step(step("")), "is no name"),
            (Definition::named("order").step(step("pay").retry(none())), "at least 1"),
            (Definition::named("order").step(step("pay").compensation_retry(none())), "at least 1"),
            (Definition::named("order").step(step("pay").timeout(Duration::ZERO)), "1 ms to 10 years"),
            (Definition::named("order").step(step("pay")).deadline(Duration::ZERO), "1 ms to 10 years"),
            (Definition::named("order").parallel((0..300).map(|at| step(&at.to_string()))), "has 300 steps"),
        ] {
            let said = refusal(builder);
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn stages_are_numbered_without_gaps() {
        let definition = Definition::named("order")
            .step(step("a"))
            .parallel([])
            .parallel([step("b"), step("c").compensation(async |_| Ok(()))])
            .build()
            .unwrap();
        let stages: Vec<_> =
            definition.plan().steps().into_iter().map(|s| (s.name, s.stage, s.is_compensated)).collect();
        assert_eq!(stages, [("a".into(), 0, false), ("b".into(), 1, false), ("c".into(), 1, true)]);
    }
}
