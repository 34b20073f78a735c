//! What opening a log found and did. No logic.

use crate::checkpoint::Shutdown;
use crate::hole::Hole;

/// What opening a log found and did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecoveryReport {
    /// How the last writer ended. [`Shutdown::Clean`] only if nothing had to be scanned.
    pub shutdown: Shutdown,
    /// Why the scan had to begin at the oldest segment, if it had to.
    pub distrusted: Option<String>,
    /// Bytes that were read and checked.
    pub scanned_bytes: u64,
    /// Bytes of a torn tail that were cut off.
    pub torn_bytes: u64,
    /// Offsets from the first gap of a tail that was being written when power was lost to its last whole batch. They went with the torn tail:
    /// none of them was ever acknowledged as flushed.
    pub discarded_offsets: u64,
    /// Ranges that cannot be served, oldest first: not empty means that this replica must not lead until it is repaired.
    pub holes: Vec<Hole>,
}

impl RecoveryReport {
    /// Nothing was found yet.
    pub(crate) fn begun(distrusted: Option<String>) -> Self {
        Self {
            shutdown: Shutdown::Running,
            distrusted,
            scanned_bytes: 0,
            torn_bytes: 0,
            discarded_offsets: 0,
            holes: Vec::new(),
        }
    }
}
