//! Kafka record batches (magic 2): read, checked, built. Knows nothing of frames, files or who sent them.
//!
//! In the order a batch meets them:
//! - [`header`]: the 61 bytes in front, and the two fields a leader stamps.
//! - [`batch`]: one batch or several back to back in a slice, borrowed.
//! - [`compression`]: the codecs, every output capped.
//! - [`error`]: what can be wrong with a batch, in sentences.

pub mod batch;
pub mod compression;
pub mod error;
pub mod header;

pub use batch::{Batches, RawBatch, verify_crc};
pub use compression::Compression;
pub use error::BatchError;
pub use header::{
    Attributes, BatchHeader, HEADER_BYTES, PREFIX_BYTES, TimestampType, peek_total_bytes, stamp, stamped_prefix,
};
