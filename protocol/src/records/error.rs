//! What can be wrong with a batch, said so that a person knows what to look at. Knows nothing of who answers it.

use crate::ErrorCode;

/// Why bytes are not a batch, or not one that is accepted here.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BatchError {
    /// The bytes end inside a batch: a torn tail, a short read, or a length that lies.
    #[error("the bytes end inside a record batch: it needs {needed} bytes and {available} are there")]
    Truncated {
        /// Bytes from the start of the batch that are needed to go on; the whole batch where its length is known.
        needed: usize,
        /// Bytes from the start of the batch that are there.
        available: usize,
    },
    /// The length field cannot be one of a batch.
    #[error("the batch length field says {declared}; a record batch has at least 49 bytes after it")]
    Length {
        /// The field as read.
        declared: i32,
    },
    /// Not the second version of the format.
    #[error("record batch format (magic) {found} is not served; only 2 is, which clients since Kafka 0.11 send")]
    Magic {
        /// The field as read.
        found: i8,
    },
    /// A negative base offset, or offsets beyond 2⁶³ − 1.
    #[error("the base offset {base} with last offset delta {last_delta} leaves the range of offsets")]
    OffsetRange {
        /// Base offset as read.
        base: i64,
        /// Last offset delta as read.
        last_delta: i32,
    },
    /// The record count does not agree with the offsets that the header claims.
    #[error("the header counts {count} records but its last offset delta is {last_delta}")]
    Count {
        /// The record count field as read.
        count: i32,
        /// The last offset delta field as read.
        last_delta: i32,
    },
    /// A code without a codec.
    #[error("compression code {code} is not assigned; 0 to 4 are none, gzip, snappy, lz4 and zstd")]
    UnknownCompression {
        /// The code as read.
        code: u8,
    },
    /// The bytes are not those that were checksummed.
    #[error("the batch is damaged: its checksum field says {stored:#010x}, its bytes give {computed:#010x}")]
    Crc {
        /// The checksum field.
        stored: u32,
        /// CRC32C of the bytes behind it.
        computed: u32,
    },
}

impl BatchError {
    /// The code that a response carries for it.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Crc { .. } => ErrorCode::Corrupt,
            _ => ErrorCode::InvalidBatch,
        }
    }
}
