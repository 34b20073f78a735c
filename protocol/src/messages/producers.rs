//! What a partition's log knows of the idempotent producers that wrote to it, and of their transactions: stored beside the log, and sent to
//! followers that begin behind its start. Knows nothing of the rules that read it.

use super::stream::AbortedTransaction;
use crate::ids::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use crate::message;

message! {
    /// A batch that a producer wrote.
    pub struct SequenceSpan {
        /// Sequence of its first record.
        3 first: Sequence,
        /// Sequence of its last record.
        3 last: Sequence,
        /// Offset of its first record.
        3 base_offset: Offset,
        /// Its largest timestamp.
        3 timestamp: Timestamp,
    }
}

message! {
    /// A transaction of which no marker stands in the log.
    pub struct OpenTransaction {
        /// Offset of its first record.
        4 first_offset: Offset,
        /// Age of the log, in milliseconds of being open, when that came.
        4 since_ms: u64,
    }
}

message! {
    /// What is known of one producer.
    pub struct ProducerStanding {
        /// The producer.
        3 producer_id: ProducerId,
        /// Its newest epoch: one that it wrote under, or that a marker told of.
        3 epoch: ProducerEpoch,
        /// Age of the log, in milliseconds of being open, when it was last heard of.
        3 seen_at_ms: u64,
        /// Its last batches under that epoch, oldest first; none where only a marker told of it.
        3 batches: Vec<SequenceSpan>,
        /// Offset of its last batch or marker; at least that of its last batch.
        4 heard_at: Offset,
        /// Its transaction, where one is open under that epoch.
        4 transaction: Option<OpenTransaction>,
    }
}

message! {
    /// A transaction whose marker stands in the log and was not known to be on all in-sync replicas.
    pub struct UnsettledTransaction {
        /// Who wrote it.
        4 producer_id: ProducerId,
        /// Offset of its first record.
        4 first_offset: Offset,
        /// Offset of its marker.
        4 marker_offset: Offset,
    }
}

message! {
    /// All that is known of producers, as of an offset.
    pub struct ProducersSnapshot {
        /// Every batch below was taken into account, and none at or above.
        3 end: Offset,
        /// Age of the log, in milliseconds of being open.
        3 age_ms: u64,
        /// Of producers below this one something may have been forgotten; of all others everything is known.
        3 forgotten_below: ProducerId,
        /// The producers, by id.
        3 producers: Vec<ProducerStanding>,
        /// Transactions that have ended and may not be settled, by their markers.
        4 ended: Vec<UnsettledTransaction>,
        /// Transactions that were undone, by their markers.
        4 aborted: Vec<AbortedTransaction>,
        /// All of those are named whose marker is at or above.
        4 aborted_from: Offset,
        /// Producers below this one may have been forgotten so soon that they still send again what they began with under their first epoch.
        10 early_below: ProducerId,
    }
}
