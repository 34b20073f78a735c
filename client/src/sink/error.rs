//! Why a sink ended. Knows nothing of how it came about.

use std::sync::Arc;

use tidelog_protocol::{Offset, PartitionId, TopicName};

use crate::GroupError;
use crate::sql::DatabaseError;

/// Why a sink ended, but for being told to. Whatever it is, every record before had its effect once, and the next run goes on behind them.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SinkError {
    /// The effect of a record failed, and so that of all records of its transaction was undone.
    #[error("the effect of {topic}/{partition} offset {offset} failed: {cause}")]
    Effect {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// The offset.
        offset: Offset,
        /// What it failed with.
        #[source]
        cause: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// The database, for good. What passes is waited for.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The group, or a partition of it.
    #[error(transparent)]
    Group(#[from] GroupError),
}

impl SinkError {
    /// True where the same may succeed later without anyone changing it.
    pub(super) const fn is_retriable(&self) -> bool {
        match self {
            Self::Effect { .. } => false,
            Self::Database(error) => error.is_retriable(),
            Self::Group(GroupError::Client(error)) => error.is_retriable(),
            Self::Group(_) => false,
        }
    }
}
