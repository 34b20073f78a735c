//! Puts checksums right. A fuzzer does not guess a CRC; without this, nothing behind one would ever be looked at.

use tidelog_protocol::records::{BatchError, BatchHeader, RawBatch};

/// Where the checksum of a batch stands.
const CRC_AT: usize = 17;

/// Gives every whole batch at the front of `bytes` its checksum; says where the last one ends and the offset after it.
pub fn batches(bytes: &mut [u8]) -> (usize, Option<u64>) {
    let (mut at, mut next) = (0, None);
    while let Ok(batch) = RawBatch::parse_compacted(&bytes[at..]) {
        let header: BatchHeader = *batch.header();
        if let Err(BatchError::Crc { computed, .. }) = batch.verify_crc() {
            bytes[at + CRC_AT..at + CRC_AT + 4].copy_from_slice(&computed.to_be_bytes());
        }
        at += header.total_bytes();
        next = Some(header.next_offset().0);
    }
    (at, next)
}

/// Gives a small file of a partition folder its length and checksum, and the magic and version it should have.
pub fn small_file(magic: [u8; 4], bytes: &mut [u8]) {
    let Some((header, body)) = bytes.split_first_chunk_mut::<14>() else { return };
    header[..4].copy_from_slice(&magic);
    header[4..6].copy_from_slice(&1u16.to_be_bytes());
    header[6..10].copy_from_slice(&(body.len() as u32).to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&header[4..10]), body);
    header[10..].copy_from_slice(&crc.to_be_bytes());
}
