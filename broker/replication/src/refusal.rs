//! Why an input from outside is not accepted, and how the wire says it. Knows nothing of what is accepted instead.

use alloc::string::ToString;
use core::fmt;

use tidelog_protocol::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, WireError};

use crate::sequencing::SequenceFault;

/// A log is told its age in steps of a second: nobody finds room for a new producer by asking more often.
const ROOM_MS_MIN: u64 = 1_000;

/// Why an append, a deletion or a follower's progress is not accepted. Nothing was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The sender knows an older leadership (KIP-320); it refreshes its metadata.
    FencedEpoch {
        /// What it knows.
        requested: LeaderEpoch,
        /// What holds.
        current: LeaderEpoch,
    },
    /// The sender knows a newer leadership than this broker; it tries again shortly.
    UnknownEpoch {
        /// What it knows.
        requested: LeaderEpoch,
        /// What this broker knows.
        current: LeaderEpoch,
    },
    /// Too few replicas are in sync for acks=all (KIP-966, strict min ISR).
    NotEnoughReplicas {
        /// How many are, the leader included.
        in_sync: usize,
        /// How many the topic asks for.
        min_in_sync: u16,
    },
    /// A conditional append found another log end.
    OffsetMismatch {
        /// What the producer expected.
        expected: Offset,
        /// First offset that can be read.
        log_start: Offset,
        /// What the log end is.
        log_end: Offset,
    },
    /// Records at or above the high watermark cannot be deleted, because replicas may still lack them.
    AboveWatermark {
        /// The offset asked for.
        requested: Offset,
        /// First offset that can be read.
        log_start: Offset,
        /// The largest offset that could have been asked for.
        high_watermark: Offset,
    },
    /// The broker that reports progress holds no replica of this partition.
    NotAReplica {
        /// Who reported.
        replica: BrokerId,
    },
    /// A follower claims more than the leader ever gave it, or more flushed than written: its log has diverged.
    ImpossibleProgress {
        /// Who reported.
        replica: BrokerId,
        /// What it claims to have written.
        written_end: Offset,
        /// What it claims to have flushed.
        flushed_end: Offset,
        /// The leader's log end.
        log_end: Offset,
    },
    /// The broker that reports or follows does not follow this leadership under that registration: it has registered anew since, or has
    /// not asked for its stream yet.
    NotFollowing {
        /// Who.
        replica: BrokerId,
        /// Under which registration.
        broker_epoch: BrokerEpoch,
    },
    /// Batches of an idempotent producer do not go on from what the log holds of it.
    Sequence {
        /// How.
        fault: SequenceFault,
        /// First offset that can be read.
        log_start: Offset,
        /// Next offset to be written.
        log_end: Offset,
    },
    /// The broker's lease ended; another one may lead already.
    LeaseEnded,
    /// A write or flush failed here; the partition is out of service on this broker.
    Poisoned,
}

impl Refusal {
    /// How the wire says it.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::FencedEpoch { .. } | Self::NotFollowing { .. } => ErrorCode::FencedEpoch,
            Self::LeaseEnded => ErrorCode::NotLeader,
            Self::UnknownEpoch { .. } => ErrorCode::UnknownEpoch,
            Self::NotEnoughReplicas { .. } => ErrorCode::NotEnoughReplicas,
            Self::OffsetMismatch { .. } => ErrorCode::OffsetMismatch,
            Self::AboveWatermark { .. } | Self::ImpossibleProgress { .. } => ErrorCode::OffsetOutOfRange,
            Self::NotAReplica { .. } => ErrorCode::UnknownPartition,
            Self::Poisoned => ErrorCode::OutOfService,
            Self::Sequence { fault, .. } => match fault {
                SequenceFault::Gap { .. } => ErrorCode::OutOfOrderSequence,
                SequenceFault::Fenced { .. } => ErrorCode::ProducerFenced,
                SequenceFault::Unknown { never_wrote: false, .. } => ErrorCode::UnknownProducer,
                SequenceFault::Unknown { never_wrote: true, .. } => ErrorCode::ProducerNeverWrote,
                SequenceFault::Forgotten { .. } => ErrorCode::DuplicateSequence,
                SequenceFault::TransactionOver { .. }
                | SequenceFault::TransactionOpen { .. }
                | SequenceFault::OutsideTransaction { .. }
                | SequenceFault::StandsOutside { .. } => ErrorCode::InvalidTransactionState,
                SequenceFault::Mixed => ErrorCode::InvalidBatch,
                SequenceFault::TooMany { .. } => ErrorCode::Overloaded,
            },
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::FencedEpoch { requested, current } => {
                write!(f, "leader epoch {requested} is over, the partition is at {current}: refresh the metadata")
            }
            Self::UnknownEpoch { requested, current } => {
                write!(f, "leader epoch {requested} is not known here yet, this broker is at {current}: try again")
            }
            Self::NotEnoughReplicas { in_sync, min_in_sync } => write!(
                f,
                "{in_sync} replicas are in sync and min.insync.replicas is {min_in_sync}: wait until more have caught up"
            ),
            Self::OffsetMismatch { expected, log_end, .. } => {
                write!(f, "expected the log end at {expected}, it is at {log_end}; nothing was written")
            }
            Self::AboveWatermark { requested, log_start, high_watermark } => write!(
                f,
                "cannot delete up to offset {requested}: offsets {log_start} to {high_watermark} (the high watermark) are possible"
            ),
            Self::NotAReplica { replica } => write!(f, "broker {replica} holds no replica of this partition"),
            Self::ImpossibleProgress { replica, written_end, flushed_end, log_end } => write!(
                f,
                "broker {replica} reports written end {written_end} and flushed end {flushed_end}, the leader's log ends at {log_end}"
            ),
            Self::NotFollowing { replica, broker_epoch } => write!(
                f,
                "broker {replica} does not follow under its registration {broker_epoch}: it asks for its stream first, or is fenced by a later one"
            ),
            Self::Sequence { fault, .. } => fault.fmt(f),
            Self::LeaseEnded => f.write_str(
                "this broker has lost touch with the controller and another one may lead: refresh the metadata and try again",
            ),
            Self::Poisoned => f.write_str(
                "a write or flush of this partition failed on this broker; it is out of service here until the broker restarts; nothing was written",
            ),
        }
    }
}

impl fmt::Display for SequenceFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap { producer, found, expected } => write!(
                f,
                "the records of producer {producer} begin at sequence {found}, {expected} would be next: those between are missing here; nothing was written"
            ),
            Self::Fenced { producer, epoch, current } => write!(
                f,
                "epoch {epoch} of producer {producer} is over, epoch {current} has written here: nothing was written"
            ),
            Self::Unknown { producer, never_wrote: true } => write!(
                f,
                "producer {producer} has never written to this log, its records must begin at sequence 0: nothing was written"
            ),
            Self::Unknown { producer, never_wrote: false } => write!(
                f,
                "nothing is known of producer {producer} here, its records must begin at sequence 0 under another epoch: nothing was written"
            ),
            Self::Forgotten { producer, found } => write!(
                f,
                "the records of producer {producer} from sequence {found} on stand in the log already, or some of them; where is not remembered"
            ),
            Self::TransactionOver { producer, epoch, current } => write!(
                f,
                "the transaction of producer {producer} under epoch {epoch} has ended, epoch {current} has begun here: nothing was written; abort, and begin another"
            ),
            Self::TransactionOpen { producer } => write!(
                f,
                "a transaction of producer {producer} is open here, and the records are no part of it: nothing was written; end it first, or send them under it"
            ),
            Self::OutsideTransaction { producer } => write!(
                f,
                "producer {producer} writes within transactions here, and the records are part of none: nothing was written; send them within one, or as another producer"
            ),
            Self::StandsOutside { producer, found } => write!(
                f,
                "the records of producer {producer} from sequence {found} on stand here already, outside of any transaction, and cannot become part of one: nothing was written; abort, and begin another"
            ),
            Self::Mixed => f.write_str(
                "some batches of the request stand in the log already and some do not: send them one by one; nothing was written",
            ),
            Self::TooMany { room_in_ms } => write!(
                f,
                "too many producers have written to this partition within a quarter of an hour, and there is room for another in {} s: keep producers open, or wait; nothing was written",
                room_in_ms.div_ceil(1_000)
            ),
        }
    }
}

impl core::error::Error for Refusal {}

impl From<Refusal> for WireError {
    fn from(refusal: Refusal) -> Self {
        let range = match refusal {
            Refusal::OffsetMismatch { log_start, log_end, .. } => Some((log_start, log_end)),
            Refusal::AboveWatermark { log_start, high_watermark, .. } => Some((log_start, high_watermark)),
            Refusal::Sequence { log_start, log_end, .. } => Some((log_start, log_end)),
            _ => None,
        };
        let retry_after_ms = match refusal {
            Refusal::Sequence { fault: SequenceFault::TooMany { room_in_ms }, .. } => {
                u32::try_from(room_in_ms.max(ROOM_MS_MIN)).unwrap_or(u32::MAX)
            }
            _ => 0,
        };
        Self { range, retry_after_ms, ..Self::new(refusal.code(), refusal.to_string()) }
    }
}
