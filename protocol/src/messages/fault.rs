//! The body of a response or push whose FAULT flag is set: an error code for programs, a sentence for people.

use crate::error::{ErrorCode, WireError};
use crate::ids::Offset;
use crate::message;

message! {
    /// The offsets that a partition holds.
    pub struct OffsetRange {
        /// First offset that can be read.
        1 log_start: Offset,
        /// Next offset to be written.
        1 log_end: Offset,
    }
}

message! {
    /// What went wrong. Stands in the body of any response, and of the last item of a stream, where the FAULT flag is set.
    pub struct Fault {
        /// Number in the error table; one that the receiver does not know counts as Internal.
        1 code: u16,
        /// For people: what was wrong and what to do.
        1 message: String,
        /// Milliseconds to wait before a retry; 0 where the client shall use its own backoff.
        1 retry_after_ms: u32,
        /// The partition's offsets, where the request's did not fit them (OffsetMismatch, OffsetOutOfRange).
        1 range: Option<OffsetRange>,
    }
}

impl From<WireError> for Fault {
    fn from(error: WireError) -> Self {
        Self {
            code: error.code as u16,
            message: error.message,
            retry_after_ms: error.retry_after_ms,
            range: error.range.map(|(log_start, log_end)| OffsetRange { log_start, log_end }),
        }
    }
}

impl From<Fault> for WireError {
    fn from(fault: Fault) -> Self {
        Self {
            code: ErrorCode::from_u16(fault.code).unwrap_or(ErrorCode::Internal),
            message: fault.message,
            retry_after_ms: fault.retry_after_ms,
            range: fault.range.map(|range| (range.log_start, range.log_end)),
        }
    }
}
