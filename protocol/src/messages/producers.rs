//! What a partition's log knows of the idempotent producers that wrote to it: stored beside the log, and sent to followers that begin behind
//! its start. Knows nothing of the rules that read it.

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
    /// What is known of one producer.
    pub struct ProducerStanding {
        /// The producer.
        3 producer_id: ProducerId,
        /// Its newest epoch.
        3 epoch: ProducerEpoch,
        /// Age of the log, in milliseconds of being open, when it was last heard of.
        3 seen_at_ms: u64,
        /// Its last batches under that epoch, oldest first, at least one.
        3 batches: Vec<SequenceSpan>,
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
    }
}
