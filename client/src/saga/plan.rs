//! What a definition says of the course of its sagas: steps by stage, how often each is tried, how long it may take. Pure; knows nothing of what
//! a step does.

use std::time::Duration;

use super::events::PlannedStep;
use super::state::Saga;
use crate::group::RetryPolicy;

/// How one side of a step is carried out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Policy {
    pub(super) retry: RetryPolicy,
    /// Of one attempt.
    pub(super) timeout: Duration,
}

/// A step.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Planned {
    pub(super) name: String,
    /// Steps of one stage run side by side; stages one after the other, from 0.
    pub(super) stage: u16,
    pub(super) action: Policy,
    /// `None`: there is nothing to be undone.
    pub(super) compensation: Option<Policy>,
}

/// A definition without what its steps do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Plan {
    pub(super) definition: String,
    pub(super) deadline: Option<Duration>,
    pub(super) steps: Vec<Planned>,
}

impl Plan {
    /// The steps as a saga keeps them from its start on.
    pub(super) fn steps(&self) -> Vec<PlannedStep> {
        let step = |step: &Planned| PlannedStep {
            name: step.name.clone(),
            stage: step.stage,
            is_compensated: step.compensation.is_some(),
        };
        self.steps.iter().map(step).collect()
    }

    /// Refuses a saga that was started with other steps: what it did would be undone by something else.
    pub(super) fn fits(&self, saga: &Saga) -> Result<(), String> {
        let is_same = |(planned, begun): (&Planned, &super::state::StepState)| {
            planned.name == begun.name
                && planned.stage == begun.stage
                && planned.compensation.is_some() == begun.is_compensated
        };
        if self.steps.len() == saga.steps.len() && self.steps.iter().zip(&saga.steps).all(is_same) {
            return Ok(());
        }
        let began: Vec<&str> = saga.steps.iter().map(|step| step.name.as_str()).collect();
        let now: Vec<&str> = self.steps.iter().map(|step| step.name.as_str()).collect();
        Err(format!(
            "it was started with the steps {began:?}, and {:?} has {now:?} now, or in other stages: give a changed definition another name",
            self.definition
        ))
    }
}
