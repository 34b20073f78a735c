//! What can be asked of a partition's owner. Knows nothing of how it is done.

use std::fmt;
use std::time::Instant;

use tidelog_coordination::TopicConfig;
use tidelog_protocol::records::ValidBatches;
use tidelog_protocol::{LeaderEpoch, Offset, Timestamp, WireError};
use tidelog_replication::ProduceTerms;

use crate::budget::Lent;

/// What a produce was promised.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Acked {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset after its last record.
    pub next_offset: Offset,
    /// The leadership that wrote it.
    pub leader_epoch: LeaderEpoch,
    /// First offset that can be read.
    pub log_start: Offset,
    /// Replicas known to have written it.
    pub replicas_written: u16,
    /// Replicas known to have flushed it.
    pub replicas_flushed: u16,
}

/// Who waits for a result. Called exactly once, on whatever thread the result comes about; must not block.
pub type Ticket<T> = Box<dyn FnOnce(Result<T, WireError>) + Send>;

/// Batches to append.
pub struct Append {
    /// The batches, checked.
    pub batches: ValidBatches,
    /// On which terms.
    pub terms: ProduceTerms,
    /// After this nobody waits any more.
    pub deadline: Option<Instant>,
    /// Who waits.
    pub ticket: Ticket<Acked>,
    /// The memory that the batches take; given back once they are written.
    pub lent: Option<Lent>,
}

/// What can be asked of an owner.
pub enum Command {
    /// Append batches.
    Append(Append),
    /// The flusher: everything below this offset is durable.
    Flushed(Offset),
    /// The flusher: a flush failed.
    Poisoned(String),
    /// Delete what is below an offset, or below the high watermark.
    DeleteRecords {
        /// The first offset to keep.
        before: Option<Offset>,
        /// Who waits for the new log start.
        ticket: Ticket<Offset>,
    },
    /// Deadlines of requests that wait may have passed.
    Expire,
    /// The topic's configuration, or the leadership, is another one now.
    Reconfigure {
        /// The configuration.
        config: TopicConfig,
        /// The leadership.
        leader_epoch: LeaderEpoch,
    },
    /// Retention removed everything below this offset.
    LogStartMoved(Offset),
    /// Start another segment if the active one is older than `segment.ms`.
    RollIfDue {
        /// The clock.
        now: Timestamp,
    },
    /// Close: flush, mark clean. Nothing is served afterwards.
    Close {
        /// Who waits.
        ticket: Ticket<()>,
    },
    /// The partition was deleted: fail what waits, serve nothing.
    Delete {
        /// Who waits.
        ticket: Ticket<()>,
    },
}

impl Command {
    /// Bytes that the command keeps in memory while it waits.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        match self {
            Self::Append(append) => append.batches.payload().len() as u64,
            Self::Flushed(_)
            | Self::Poisoned(_)
            | Self::DeleteRecords { .. }
            | Self::Expire
            | Self::Reconfigure { .. }
            | Self::LogStartMoved(_)
            | Self::RollIfDue { .. }
            | Self::Close { .. }
            | Self::Delete { .. } => 0,
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append(_) => "Append",
            Self::Flushed(_) => "Flushed",
            Self::Poisoned(_) => "Poisoned",
            Self::DeleteRecords { .. } => "DeleteRecords",
            Self::Expire => "Expire",
            Self::Reconfigure { .. } => "Reconfigure",
            Self::LogStartMoved(_) => "LogStartMoved",
            Self::RollIfDue { .. } => "RollIfDue",
            Self::Close { .. } => "Close",
            Self::Delete { .. } => "Delete",
        })
    }
}
