//! Batches put together by hand, so that tests can lie in every field and still have a matching CRC.
#![allow(dead_code, reason = "each test file uses its own part of it")]

use bytes::Bytes;
use tidelog_protocol::records::{Attributes, BatchBuilder, BatchHeader, Compression, HEADER_BYTES, NO_HEADERS};
use tidelog_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// The header of a batch of `count` records that take `payload_bytes`, all at time 0.
pub(crate) fn header(codec: Compression, count: u32, payload_bytes: usize) -> BatchHeader {
    BatchHeader {
        base_offset: Offset::ZERO,
        batch_length: (HEADER_BYTES - 12 + payload_bytes) as u32,
        leader_epoch: None,
        crc: 0,
        attributes: Attributes::default().with_compression(codec),
        last_offset_delta: count.saturating_sub(1),
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence::NONE,
        record_count: count,
    }
}

/// `header` and `payload` as one batch, its CRC right whatever they say.
pub(crate) fn batch(header: BatchHeader, payload: &[u8]) -> Vec<u8> {
    let mut bytes = [&header.encode()[..], payload].concat();
    reseal(&mut bytes);
    bytes
}

/// Puts the right CRC into one whole batch.
pub(crate) fn reseal(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
}

/// A batch of `values` without keys, headers or compression, one millisecond apart.
pub(crate) fn plain(values: &[&[u8]]) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for (index, value) in values.iter().enumerate() {
        builder.append(Timestamp(index as i64), None, Some(value), NO_HEADERS).unwrap();
    }
    builder.finish(Compression::None).unwrap()
}
