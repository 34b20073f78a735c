//! A batch for this crate's own tests: one opaque record's worth of bytes under a header whose checksum fits. Knows nothing of logs.

use tidelog_protocol::records::{Attributes, BatchHeader};
use tidelog_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// A batch of one record whose payload is `payload`, as its bytes and its header.
pub(crate) fn batch(payload: &[u8]) -> (Vec<u8>, BatchHeader) {
    let mut header = BatchHeader {
        base_offset: Offset::ZERO,
        batch_length: 49 + payload.len() as u32,
        leader_epoch: None,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: 0,
        base_timestamp: Timestamp(1),
        max_timestamp: Timestamp(1),
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence::NONE,
        record_count: 1,
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(payload);
    header.crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&header.crc.to_be_bytes());
    (bytes, header)
}
