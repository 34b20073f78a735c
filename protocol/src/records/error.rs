//! What can be wrong with a batch, said so that a person knows what to look at. Knows nothing of who answers it.

use super::compression::DecompressError;
use crate::{ErrorCode, Offset, Timestamp};

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
    #[error("its checksum field says {stored:#010x}, its bytes give {computed:#010x}: the batch is damaged")]
    Crc {
        /// The checksum field.
        stored: u32,
        /// CRC32C of the bytes behind it.
        computed: u32,
    },
    /// Nothing was sent.
    #[error("no record batch was sent")]
    NoBatch,
    /// Larger than the topic allows.
    #[error("the batch has {bytes} bytes, over the limit of {limit}; send smaller batches or raise the topic's limit")]
    TooLarge {
        /// Its bytes, header included.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A producer does not assign offsets.
    #[error("a producer must send base offset 0, not {found}: the broker assigns offsets")]
    BaseOffset {
        /// The field as read.
        found: Offset,
    },
    /// A client wrote a transaction marker.
    #[error("control batches are written by the broker only")]
    ControlFromClient,
    /// Producer id, epoch and sequence are all there, or neither id nor epoch is.
    #[error(
        "producer id {id}, epoch {epoch} and sequence {sequence} make no sense together: an idempotent batch has all three, any other has -1 for id and epoch"
    )]
    Producer {
        /// Producer id as read.
        id: i64,
        /// Epoch as read.
        epoch: i16,
        /// Base sequence as read.
        sequence: i32,
    },
    /// A client claimed the broker's clock.
    #[error("a producer must mark its timestamps as its own (create time), not as the broker's (log append time)")]
    TimestampType,
    /// The max timestamp field is not the largest timestamp of the records.
    #[error("the header says the largest timestamp is {claimed}, the records say {found}")]
    MaxTimestamp {
        /// The field as read.
        claimed: Timestamp,
        /// The largest found.
        found: Timestamp,
    },
    /// A timestamp that no calendar has, or a difference to the batch's base timestamp that leaves the range of numbers.
    #[error(
        "record {index} of the batch has timestamp {base} + {delta} ms since 1970, which is not within the years 1 to 9999: correct the clock or the unit of the producer"
    )]
    TimestampRange {
        /// Ordinal of the record in the batch, from 0.
        index: u32,
        /// The base timestamp of the batch.
        base: Timestamp,
        /// What the record adds to it.
        delta: i64,
    },
    /// The records do not decompress.
    #[error(transparent)]
    Decompress(#[from] DecompressError),
    /// Fewer records than counted.
    #[error("the header counts {count} records, but their bytes end after {found}")]
    MissingRecords {
        /// The record count field.
        count: u32,
        /// Whole records found.
        found: u32,
    },
    /// More bytes than the counted records take.
    #[error("{bytes} bytes follow the last record that the header counts")]
    TrailingBytes {
        /// How many.
        bytes: usize,
    },
    /// An offset delta is out of order or out of range.
    #[error("record {index} of the batch has offset delta {found}, out of order or range")]
    OffsetDelta {
        /// Ordinal of the record in the batch, from 0.
        index: u32,
        /// The delta as read.
        found: i32,
    },
    /// A record does not parse.
    #[error("record {index} of the batch is malformed: {fault}")]
    Record {
        /// Ordinal of the record in the batch, from 0.
        index: u32,
        /// What is wrong with it.
        fault: RecordFault,
    },
    /// The record of a control batch is not one.
    #[error(
        "the control record is malformed: its key must hold a version and a type, its value a version and an epoch"
    )]
    Control,
}

/// What is wrong with a record.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFault {
    /// No byte is left where it should begin.
    #[error("no bytes are left for it")]
    Absent,
    /// It ends where a field should go on.
    #[error("its bytes end inside a field")]
    EndsInField,
    /// A variable-length number is wider than its type.
    #[error("a variable-length number is wider than its field")]
    Varint,
    /// Its length is negative.
    #[error("its length is negative")]
    Length,
    /// Its length reaches beyond the batch.
    #[error("its length reaches beyond the batch")]
    Overrun,
    /// Its length is more than its fields take.
    #[error("bytes are left over after its last field")]
    Slack,
    /// The key's length is below −1 or beyond the record.
    #[error("the length of its key is out of range")]
    KeyLength,
    /// The value's length is below −1 or beyond the record.
    #[error("the length of its value is out of range")]
    ValueLength,
    /// A negative number of headers.
    #[error("its header count is negative")]
    HeaderCount,
    /// A header's name is null or reaches beyond the record.
    #[error("the length of a header's name is out of range")]
    HeaderKeyLength,
    /// A header's value length is below −1 or beyond the record.
    #[error("the length of a header's value is out of range")]
    HeaderValueLength,
}

impl RecordFault {
    /// The fault of the record at `index`, in a batch that counts `count`.
    #[cold]
    pub(super) const fn at(self, index: u32, count: u32) -> BatchError {
        match self {
            Self::Absent => BatchError::MissingRecords { count, found: index },
            fault => BatchError::Record { index, fault },
        }
    }
}

impl BatchError {
    /// The code that a response carries for it.
    #[must_use]
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Crc { .. } => ErrorCode::Corrupt,
            Self::TooLarge { .. } | Self::Decompress(DecompressError::TooLarge { .. }) => ErrorCode::TooLarge,
            Self::Decompress(DecompressError::Unavailable { .. }) => ErrorCode::Unsupported,
            _ => ErrorCode::InvalidBatch,
        }
    }
    /// What its sender can do about it, where the sentence does not say so itself. Of bytes that were read back it means nothing.
    #[must_use]
    pub const fn remedy(&self) -> Option<&'static str> {
        match self {
            Self::TooLarge { .. } | Self::TimestampRange { .. } => None,
            Self::Crc { .. } => Some("where it was built right, it changed on the way: send it again"),
            Self::Decompress(DecompressError::TooLarge { .. }) => Some("send fewer records in a batch"),
            Self::Decompress(DecompressError::Unavailable { .. }) => Some("choose another compression"),
            _ => Some("the client that built the batch does not keep to its format: update or mend that client"),
        }
    }
}
