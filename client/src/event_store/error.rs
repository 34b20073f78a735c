//! What can go wrong with an event store, split by who must act. Knows nothing of how it comes about.

use bytes::Bytes;
use tidelog_protocol::{Offset, PartitionId};

use super::event::{Expected, Version};
use crate::{ClientError, ConsumeError};

/// An error of the application's own code.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Why the store cannot be used, or not for one aggregate.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The program must change.
    #[error("{0}")]
    Argument(String),
    /// A topic would not keep what a store needs. An operator alters it, or the program names another.
    #[error("topic {topic:?} cannot hold {what}: {reason}")]
    UnfitTopic {
        /// The topic.
        topic: String,
        /// What for.
        what: &'static str,
        /// What is wrong, and how it must be.
        reason: String,
    },
    /// The events do not fit into one batch of the topic. The program must append fewer or smaller ones.
    #[error("an append of {bytes} bytes is over the limit of {limit} that one batch of the topic may have")]
    TooLarge {
        /// About so many bytes are to be appended.
        bytes: usize,
        /// So many may be.
        limit: usize,
    },
    /// An event has a schema that this program does not know: a later release of it wrote it, or an upcaster is missing.
    #[error("an event {kind:?} has schema {schema}, and this program knows schemas of that kind from 1 to {current}")]
    UnknownSchema {
        /// Its kind.
        kind: String,
        /// Its schema.
        schema: u16,
        /// The latest that is known.
        current: u16,
    },
    /// An upcaster failed.
    #[error("an event {kind:?} of schema {from} does not become one of the next: {reason}")]
    Upcast {
        /// Its kind.
        kind: String,
        /// From which schema.
        from: u16,
        /// What the upcaster said.
        reason: String,
    },
    /// The application does not understand an event or a state.
    #[error("an event {kind:?} cannot be understood: {reason}")]
    Undecodable {
        /// Its kind.
        kind: String,
        /// What the application said.
        reason: String,
    },
    /// A record in the topic is not what may stand there. Nothing of this partition is served before it is looked into.
    #[error("the record at offset {offset} of {topic}/{partition} does not belong there: {reason}")]
    Inconsistent {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionId,
        /// Where.
        offset: Offset,
        /// What is wrong with it.
        reason: String,
    },
    /// There are more aggregates in a partition than its index may hold. Nothing of this partition is served before the limit is raised.
    #[error(
        "the aggregates of {topic}/{partition} take more than {bytes_max} bytes of memory: raise index_bytes_max of the store's builder \
         (of 'tidelog sagas': --memory), or spread them over more partitions in another store"
    )]
    IndexFull {
        /// The topic.
        topic: String,
        /// The partition.
        partition: PartitionId,
        /// The limit.
        bytes_max: usize,
    },
    /// Events of an aggregate are more than may be loaded at once: take snapshots.
    #[error(
        "the events of the aggregate above version {after} take more than {limit} bytes: take snapshots, or raise load_bytes_max"
    )]
    TooLong {
        /// From where they were loaded.
        after: Version,
        /// The limit.
        limit: usize,
    },
    /// A question to the cluster failed.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Events could not be read.
    #[error(transparent)]
    Consume(#[from] ConsumeError),
    /// The store was closed.
    #[error("the event store was closed")]
    Closed,
}

impl StoreError {
    /// True where the same may succeed later without anyone changing anything.
    #[must_use]
    pub const fn is_retriable(&self) -> bool {
        match self {
            Self::Client(error) | Self::Consume(ConsumeError::Client(error)) => error.is_retriable(),
            _ => false,
        }
    }
}

/// Why events were not appended.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The aggregate is at another version than was expected; nothing was appended. Load it, decide again, append again.
    #[error("aggregate {} is at version {current}, not as expected ({expected:?})", String::from_utf8_lossy(id))]
    Conflict {
        /// The aggregate.
        id: Bytes,
        /// What was expected.
        expected: Expected,
        /// Its version.
        current: Version,
    },
    /// No answer came in time: the events may have been appended, or still be. Append again under the same command id to know, or compare
    /// what is stored.
    #[error("whether the events were appended is not known in time: {0}")]
    InDoubt(String),
    /// Nothing was appended.
    #[error(transparent)]
    Store(#[from] StoreError),
}
