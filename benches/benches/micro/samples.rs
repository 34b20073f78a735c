//! The records and batches that are measured: seeded, so that every run has the same. Knows nothing of what is done with them.

use bytes::Bytes;
use tidelog_protocol::Timestamp;
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS};

/// What a batch holds.
#[derive(Clone, Copy)]
pub struct Shape {
    /// Bytes of a record's value.
    pub value_bytes: usize,
    /// The largest batch.
    pub batch_bytes: usize,
}

impl Shape {
    /// Small records in a large batch.
    pub const SMALL: Self = Self { value_bytes: 100, batch_bytes: 256 << 10 };
    /// Records of a kilobyte in a large batch.
    pub const KILOBYTE: Self = Self { value_bytes: 1 << 10, batch_bytes: 256 << 10 };
    /// One record of about a kilobyte in a batch of its own.
    pub const SINGLE: Self = Self { value_bytes: 940, batch_bytes: 1 << 10 };
}

/// Hexadecimal digits: half of what the bytes could hold, and no word twice, so that codecs have work and a fair chance.
pub fn text(bytes: usize) -> Vec<u8> {
    let mut entropy = Entropy::new(7);
    (0..bytes).map(|_| b"0123456789abcdef"[entropy.below(16) as usize]).collect()
}

/// Fills `builder` with records whose values are pieces of `text`, each its own.
pub fn fill(builder: &mut BatchBuilder, text: &[u8], shape: Shape) {
    for (index, value) in text.chunks(shape.value_bytes).enumerate() {
        let time = Timestamp(1_700_000_000_000 + index as i64);
        if builder.append(time, None, Some(value), NO_HEADERS).is_err() {
            break;
        }
    }
}

/// One full batch.
pub fn batch(shape: Shape, codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(shape.batch_bytes);
    fill(&mut builder, &text(shape.batch_bytes), shape);
    builder.finish(codec).unwrap()
}
