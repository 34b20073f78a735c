//! What can go wrong with sagas, split by who must act. Knows nothing of how it comes about.

use super::definition::DefinitionError;
use super::machine::OperatorRefusal;
use crate::event_store::{AppendError, StoreError, Version};
use crate::{ClientError, ConsumeError, GroupError};

/// Why something cannot be said or done of a saga.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SagaError {
    /// The program must change.
    #[error("{0}")]
    Argument(String),
    /// A definition is none.
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    /// There is no saga of this id.
    #[error("there is no saga {0:?}")]
    NotFound(String),
    /// A saga of this id was started before, and is about something else.
    #[error("saga {id:?} was started before, {why}")]
    Taken {
        /// The id.
        id: String,
        /// What is different.
        why: String,
    },
    /// An operator's wish does not go with how the saga stands.
    #[error("saga {id:?}: {refusal}")]
    Refused {
        /// The id.
        id: String,
        /// Why.
        refusal: OperatorRefusal,
    },
    /// What stands there was not written by a saga, or by one of a later release.
    #[error("event {version} of {id:?} is none of a saga: {reason}")]
    NoSaga {
        /// The id.
        id: String,
        /// The event.
        version: Version,
        /// What is wrong with it.
        reason: String,
    },
    /// It did not come to its end in time.
    #[error("saga {0:?} has not ended in time")]
    NotEnded(String),
    /// It could not be stored, or that is not known: ask again.
    #[error(transparent)]
    Append(AppendError),
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The group of the workers cannot go on.
    #[error(transparent)]
    Group(#[from] GroupError),
}

impl SagaError {
    /// True where the same may succeed later without anyone changing anything.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Append(AppendError::Conflict { .. } | AppendError::InDoubt(_)) => true,
            Self::Append(AppendError::Store(error)) | Self::Store(error) => error.is_retriable(),
            Self::Group(GroupError::Client(error) | GroupError::Consume(ConsumeError::Client(error))) => {
                error.is_retriable()
            }
            _ => false,
        }
    }
}

impl From<AppendError> for SagaError {
    fn from(error: AppendError) -> Self {
        match error {
            AppendError::Store(error) => Self::Store(error),
            error => Self::Append(error),
        }
    }
}

impl From<ClientError> for SagaError {
    fn from(error: ClientError) -> Self {
        Self::Store(error.into())
    }
}
