//! What can be asked of a partition's owner. Knows nothing of how it is done.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;
use tidelog_protocol::messages::ProducersSnapshot;
use tidelog_protocol::records::{BatchHeader, ValidBatches};
use tidelog_protocol::{BrokerId, LeaderEpoch, Monotonic, Offset, PartitionEpoch, Timestamp, WireError};
use tidelog_replication::{EpochEndAnswer, FollowAnswer, FollowTerms, Offer, ProduceTerms, ReplicaProgress, Word};

use super::assignment::Assignment;
use super::marker::Marker;
use super::upstream::Attempt;
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
    /// Where they may begin a transaction: asks its coordinator whether the partition is part of it. The answer comes as [`Command::Word`].
    pub ask: Option<Box<dyn FnOnce(Word) + Send>>,
}

/// What a leader pushed to a follower.
pub struct Replicated {
    /// The question that opened the stream.
    pub attempt: Attempt,
    /// What came with the batches.
    pub offer: Offer,
    /// Whole batches back to back, their CRCs verified.
    pub payload: Bytes,
    /// Their headers, in order.
    pub headers: SmallVec<[BatchHeader; 4]>,
    /// Called once they are taken, or dropped: the leader may push as many bytes again.
    pub taken: Box<dyn FnOnce() + Send>,
}

/// What a leader answers a follower.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Followed {
    /// What becomes of its stream.
    pub answer: FollowAnswer,
    /// What is known of producers here, where that was wanted and the stream is open.
    pub producers: Option<ProducersSnapshot>,
}

/// How things stand as time passes.
pub struct Tick {
    /// The clock.
    pub now: Monotonic,
    /// Whether the broker holds a lease; the partition may have been opened while that changed.
    pub leased: bool,
    /// The brokers that are fenced or shutting down: none of them can join an in-sync set.
    pub barred: Arc<[BrokerId]>,
}

/// What can be asked of an owner.
pub enum Command {
    /// Append batches.
    Append(Append),
    /// End a transaction.
    WriteMarker {
        /// How.
        marker: Marker,
        /// Who waits until it stands on all in-sync replicas.
        ticket: Ticket<()>,
    },
    /// The coordinator of a transaction has answered.
    Word {
        /// What was asked for.
        word: Word,
        /// Why the partition is no part of it.
        result: Result<(), WireError>,
    },
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
    /// The topic's configuration, the leadership or the membership is another one now.
    Assign(Box<Assignment>),
    /// Time has passed.
    Tick(Tick),
    /// The broker's lease ended: nothing is acknowledged.
    LeaseEnded,
    /// The broker holds a lease again.
    LeaseRenewed,
    /// The controller refused the in-sync set that was proposed at this partition epoch, or did not answer.
    AlterationFailed(PartitionEpoch),
    /// A follower asks where an epoch ended.
    EpochEnd {
        /// The leadership asked.
        leader_epoch: LeaderEpoch,
        /// The epoch in question.
        epoch: LeaderEpoch,
        /// Who waits.
        ticket: Ticket<EpochEndAnswer>,
    },
    /// A follower asks for a stream.
    Follow {
        /// On which terms.
        terms: FollowTerms,
        /// It does not know which producers wrote what lies below its log.
        wants_producers: bool,
        /// Who waits.
        ticket: Ticket<Followed>,
    },
    /// A follower is this far.
    Progress(ReplicaProgress),
    /// The leader says where an epoch ended. May have the log cut: for a thread that may block.
    EpochEndAnswered {
        /// The question.
        attempt: Attempt,
        /// The answer.
        answer: EpochEndAnswer,
    },
    /// The leader says what becomes of a stream. May have the log cut, where the stream does not open.
    FollowAnswered {
        /// The question.
        attempt: Attempt,
        /// The answer.
        answer: FollowAnswer,
        /// What the leader knows of producers, where that was wanted.
        producers: Option<Box<ProducersSnapshot>>,
    },
    /// The leader pushed batches.
    Replicated(Replicated),
    /// A question of a follower came to nothing, or its stream ended.
    Interrupted {
        /// The question.
        attempt: Attempt,
    },
    /// Retention removed everything below this offset.
    LogStartMoved(Offset),
    /// Start another segment if the active one is older than `segment.ms`.
    RollIfDue {
        /// The clock.
        now: Timestamp,
    },
    /// Start another segment.
    Roll {
        /// Told when it is done.
        ticket: Ticket<()>,
    },
    /// Start another segment if every record of the log was deleted.
    RollIfEmptied {
        /// Told when it is done.
        ticket: Ticket<()>,
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
            Self::Replicated(replicated) => replicated.payload.len() as u64,
            Self::WriteMarker { .. }
            | Self::Word { .. }
            | Self::Flushed(_)
            | Self::Poisoned(_)
            | Self::DeleteRecords { .. }
            | Self::Expire
            | Self::Assign(_)
            | Self::Tick(_)
            | Self::LeaseEnded
            | Self::LeaseRenewed
            | Self::AlterationFailed(_)
            | Self::EpochEnd { .. }
            | Self::Follow { .. }
            | Self::Progress(_)
            | Self::EpochEndAnswered { .. }
            | Self::FollowAnswered { .. }
            | Self::Interrupted { .. }
            | Self::LogStartMoved(_)
            | Self::RollIfDue { .. }
            | Self::Roll { .. }
            | Self::RollIfEmptied { .. }
            | Self::Close { .. }
            | Self::Delete { .. } => 0,
        }
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Append(_) => "Append",
            Self::WriteMarker { .. } => "WriteMarker",
            Self::Word { .. } => "Word",
            Self::Flushed(_) => "Flushed",
            Self::Poisoned(_) => "Poisoned",
            Self::DeleteRecords { .. } => "DeleteRecords",
            Self::Expire => "Expire",
            Self::Assign(_) => "Assign",
            Self::Tick(_) => "Tick",
            Self::LeaseEnded => "LeaseEnded",
            Self::LeaseRenewed => "LeaseRenewed",
            Self::AlterationFailed(_) => "AlterationFailed",
            Self::EpochEnd { .. } => "EpochEnd",
            Self::Follow { .. } => "Follow",
            Self::Progress(_) => "Progress",
            Self::EpochEndAnswered { .. } => "EpochEndAnswered",
            Self::FollowAnswered { .. } => "FollowAnswered",
            Self::Replicated(_) => "Replicated",
            Self::Interrupted { .. } => "Interrupted",
            Self::LogStartMoved(_) => "LogStartMoved",
            Self::RollIfDue { .. } => "RollIfDue",
            Self::Roll { .. } => "Roll",
            Self::RollIfEmptied { .. } => "RollIfEmptied",
            Self::Close { .. } => "Close",
            Self::Delete { .. } => "Delete",
        })
    }
}
