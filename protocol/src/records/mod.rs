//! Kafka record batches (magic 2): read, checked, built. Knows nothing of frames, files or who sent them.
//!
//! In the order a batch meets them:
//! - [`builder`]: records become a batch.
//! - [`compression`]: the codecs, every output capped.
//! - [`header`]: the 61 bytes in front, and the two fields a leader stamps.
//! - [`batch`]: one batch or several back to back in a slice, borrowed.
//! - [`validate`]: what a producer sent is checked once, at the edge.
//! - [`reader`] and [`owned`]: the records of a batch, borrowed or sharing its bytes.
//! - [`record`]: one record and its headers.
//! - `restamp`: a finished batch under another producer or sequence.
//! - [`control`]: the markers that end a transaction.
//! - [`thin`]: what compaction leaves of a batch.
//! - [`error`]: what can be wrong with a batch, in sentences.

pub mod batch;
pub mod builder;
pub mod compression;
pub mod control;
pub mod error;
pub mod header;
pub mod owned;
pub mod reader;
pub mod record;
mod restamp;
pub mod thin;
pub mod validate;
mod varint;

pub use batch::{Batches, RawBatch, verify_crc};
pub use builder::{BatchBuilder, BuildError, NO_HEADERS, Producer};
pub use compression::{CodecUnavailable, Compression, DecompressError, UnknownCompression, compress, decompress};
pub use control::{ControlRecord, control_batch};
pub use error::{BatchError, RecordFault};
pub use header::{
    Attributes, BatchHeader, HEADER_BYTES, PREFIX_BYTES, TimestampType, peek_total_bytes, stamp, stamped_prefix,
};
pub use owned::{OwnedBatch, OwnedRecord, OwnedRecords};
pub use reader::{DEFAULT_DECOMPRESSED_BYTES_MAX, Records, Scratch};
pub use record::{Header, Headers, Record};
pub use restamp::with_producer;
pub use thin::{Thinned, Thinner};
pub use validate::{ProduceLimits, ValidBatches, validate_produce, validate_within};
