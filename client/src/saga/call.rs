//! What a step is called with, and what it may say. Knows nothing of how sagas are driven.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::events::{Attempt, Side};
use super::state::{Saga, Standing};
use crate::event_store::BoxError;

/// What a saga is about. It is stored with the saga, so whoever takes that up must understand it.
pub trait SagaInput: Sized + Send + Sync + 'static {
    /// As it is stored.
    fn encode(&self) -> Bytes;

    /// From what is stored.
    ///
    /// # Errors
    /// Where it is none.
    fn decode(bytes: &[u8]) -> Result<Self, BoxError>;
}

impl SagaInput for String {
    fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(self.as_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, BoxError> {
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
}

impl SagaInput for Bytes {
    fn encode(&self) -> Bytes {
        self.clone()
    }

    fn decode(bytes: &[u8]) -> Result<Self, BoxError> {
        Ok(Self::copy_from_slice(bytes))
    }
}

/// A call of a step's action, or of its compensation.
pub struct Call<T> {
    input: Arc<T>,
    id: String,
    step: String,
    keys: Keys,
    side: Side,
    attempt: u32,
    outputs: BTreeMap<String, Bytes>,
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Call({}, attempt {})", self.key(), self.attempt)
    }
}

/// The idempotency keys of a step of a saga.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Keys {
    action: String,
    compensation: String,
}

impl Keys {
    /// No name of a step has a '/' or a ':' in it, so that no two keys are alike.
    fn of(store: &str, id: &str, step: &str) -> Self {
        let action = format!("{store}/{id}/{step}");
        Self { compensation: format!("{action}:undo"), action }
    }
}

impl<T: super::call::SagaInput> Call<T> {
    pub(super) fn of(store: &str, id: &str, saga: &Saga, attempt: &Attempt) -> Result<Self, BoxError> {
        let Attempt { step, side, number } = attempt;
        let step = saga.steps.get(usize::from(*step)).map(|step| step.name.clone()).unwrap_or_default();
        let done = saga.steps.iter().filter(|step| step.action.standing == Standing::Succeeded);
        Ok(Self {
            input: Arc::new(T::decode(&saga.input)?),
            id: id.into(),
            keys: Keys::of(store, id, &step),
            step,
            side: *side,
            attempt: *number,
            outputs: done.map(|step| (step.name.clone(), step.output.clone())).collect(),
        })
    }
}

impl<T> Call<T> {
    /// What the saga is about.
    #[must_use]
    pub fn input(&self) -> &T {
        &self.input
    }

    /// The saga.
    #[must_use]
    pub fn saga(&self) -> &str {
        &self.id
    }

    /// The step.
    #[must_use]
    pub fn step(&self) -> &str {
        &self.step
    }

    /// The idempotency key of this call: the same in every try of it, and another in every other call of every saga.
    #[must_use]
    pub fn key(&self) -> &str {
        match self.side {
            Side::Action => &self.keys.action,
            Side::Compensation => &self.keys.compensation,
        }
    }

    /// The key that the action is, or was, called with: what a compensation has to undo, and to keep from happening later.
    #[must_use]
    pub fn action_key(&self) -> &str {
        &self.keys.action
    }

    /// Which try it is, from 1.
    #[must_use]
    pub const fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What the action of a step gave that is known to have succeeded.
    #[must_use]
    pub fn output(&self, step: &str) -> Option<&Bytes> {
        self.outputs.get(step)
    }
}

/// Why a call did not do what it should. An error that is turned into it by `?` is one that leaves open whether it had an effect.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StepError {
    /// It had no effect, and no further try would have one: the action is not tried again, and need not be undone. A compensation that is refused
    /// parks its saga.
    Refused(String),
    /// It may have had its effect or not: it is tried again, as the policy says, and undone where that does not help.
    Failed(String),
}

impl StepError {
    /// [`StepError::Refused`].
    pub fn refused(cause: impl fmt::Display) -> Self {
        Self::Refused(cause.to_string())
    }

    /// [`StepError::Failed`].
    pub fn failed(cause: impl fmt::Display) -> Self {
        Self::Failed(cause.to_string())
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(cause) => write!(f, "refused: {cause}"),
            Self::Failed(cause) => write!(f, "failed: {cause}"),
        }
    }
}

impl<E: std::error::Error> From<E> for StepError {
    fn from(error: E) -> Self {
        Self::Failed(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_calls_share_a_key_however_sagas_are_called() {
        let mut keys = std::collections::BTreeSet::new();
        for store in ["s", "t"] {
            for id in ["a", "a/b", "a/b:undo", "b"] {
                for step in ["b", "undo", "b.c"] {
                    let Keys { action, compensation } = Keys::of(store, id, step);
                    assert!(keys.insert(action) && keys.insert(compensation), "{store} {id} {step}");
                }
            }
        }
    }

    #[test]
    fn an_error_of_anything_leaves_open_whether_it_had_an_effect() {
        let call = || -> Result<u8, StepError> { Ok("x".parse::<u8>()?) };
        assert!(matches!(call(), Err(StepError::Failed(cause)) if cause.contains("invalid digit")));
    }
}
