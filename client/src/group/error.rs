//! What can go wrong in a group, split by who must act. Knows nothing of how it came about.

use tidelog_protocol::error::Actor;
use tidelog_protocol::{Offset, PartitionId, TopicName};

use crate::{ClientError, ConsumeError, SendError, TopicPartition};

/// Why a member of a group cannot go on, or not with one partition, or not with one call.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// A question to the cluster failed, or the coordinator refused for good: see [`GroupError::actor`].
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A partition cannot be read. The others go on.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// The group has committed nothing in this partition, and nobody said where to start then. It stands still until the program seeks; the
    /// others go on.
    #[error(
        "the group has no committed offset in {topic}/{partition}: seek, or say with `start` or `reset` where such a partition begins"
    )]
    NoOffset {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
    },
    /// The member was fenced: it was silent for too long, or another took its place. Nothing was committed. It joins anew by itself; records
    /// from these offsets on are handed out again, by whoever owns the partitions then.
    #[error(
        "the member was fenced, and joins anew; nothing was committed, and what is not committed is handed out again{}",
        list(again)
    )]
    Fenced {
        /// The partitions of the commit, and from where on their records come again.
        again: Vec<(TopicPartition, Offset)>,
    },
    /// The member does not own these partitions (any more): nothing was committed, and whoever owns them gets their records again.
    #[error("the member does not own{}; nothing was committed", names(partitions))]
    NotOwned {
        /// The partitions.
        partitions: Vec<TopicPartition>,
    },
    /// The member has left the group.
    #[error("the member has left its group")]
    Left,
    /// A record failed as often as it may, and there is no dead-letter topic for it: it is not done, and whoever reads on begins with it.
    #[error("{topic}/{partition} offset {offset} failed {attempts} times, and nothing takes it: {cause}")]
    Failed {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// The offset.
        offset: Offset,
        /// How often it was tried.
        attempts: u32,
        /// What the last try said.
        cause: String,
    },
    /// A record that failed for good could not be written to its dead-letter topic: it is not done.
    #[error("offset {offset} of {topic}/{partition} cannot be written to {dead_letters}: {source}")]
    DeadLetter {
        /// The topic.
        topic: TopicName,
        /// The partition.
        partition: PartitionId,
        /// The offset.
        offset: Offset,
        /// The dead-letter topic.
        dead_letters: String,
        /// Why.
        source: SendError,
    },
}

impl GroupError {
    /// Who must act.
    #[must_use]
    pub const fn actor(&self) -> Actor {
        match self {
            Self::Client(error) | Self::Consume(ConsumeError::Client(error)) => error.actor(),
            Self::Consume(ConsumeError::Partition { source, .. }) => source.actor(),
            Self::Fenced { .. } | Self::NotOwned { .. } => Actor::ClientRejoins,
            Self::DeadLetter { .. } | Self::Consume(ConsumeError::Corrupt { .. }) => Actor::Operator,
            Self::Consume(_) | Self::NoOffset { .. } | Self::Left | Self::Failed { .. } => Actor::Programmer,
        }
    }
}

fn list(again: &[(TopicPartition, Offset)]) -> String {
    again.iter().map(|(at, from)| format!("; {}/{} from {from}", at.topic, at.partition)).collect()
}

fn names(partitions: &[TopicPartition]) -> String {
    partitions.iter().map(|at| format!(" {}/{}", at.topic, at.partition)).collect()
}
