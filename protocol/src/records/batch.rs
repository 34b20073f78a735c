//! Batches borrowed from a slice: one, or several back to back. Knows the header and the checksum, not the records.

use super::header::{CRC_AT, CRC_START};
use super::{BatchError, BatchHeader, HEADER_BYTES, peek_total_bytes};

/// One whole batch, borrowed: its parsed header and its bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RawBatch<'a> {
    header: BatchHeader,
    bytes: &'a [u8],
}

impl<'a> RawBatch<'a> {
    /// The batch at the front of `bytes`, as produced (see [`BatchHeader::parse`]). What follows it is left alone.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] where `bytes` end inside it, else the first rule that its header breaks. The CRC is not
    /// looked at.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BatchError> {
        Self::whole(BatchHeader::parse(bytes)?, bytes)
    }

    /// As [`RawBatch::parse`], for a batch that compaction may have thinned (see [`BatchHeader::parse_compacted`]).
    ///
    /// # Errors
    /// As [`RawBatch::parse`].
    pub fn parse_compacted(bytes: &'a [u8]) -> Result<Self, BatchError> {
        Self::whole(BatchHeader::parse_compacted(bytes)?, bytes)
    }

    fn whole(header: BatchHeader, bytes: &'a [u8]) -> Result<Self, BatchError> {
        match bytes.get(..header.total_bytes()) {
            Some(bytes) => Ok(Self { header, bytes }),
            None => Err(BatchError::Truncated { needed: header.total_bytes(), available: bytes.len() }),
        }
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All its bytes, header included.
    #[must_use]
    pub const fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// The bytes behind the header: the records, compressed as the header says.
    #[must_use]
    pub fn payload(&self) -> &'a [u8] {
        &self.bytes[HEADER_BYTES..]
    }

    /// Compares the CRC field with the bytes behind it.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        let computed = crc32c::crc32c(&self.bytes[CRC_START..]);
        if computed == self.header.crc { Ok(()) } else { Err(BatchError::Crc { stored: self.header.crc, computed }) }
    }
}

/// Compares the CRC field of the one whole batch that `batch` is with the bytes behind it, whatever they say.
///
/// # Errors
/// [`BatchError::Truncated`] for fewer bytes than a header, or fewer than the length field claims; [`BatchError::Length`]
/// for a length no batch has, or bytes behind the batch; [`BatchError::Crc`].
pub fn verify_crc(batch: &[u8]) -> Result<(), BatchError> {
    let available = batch.len();
    if available < HEADER_BYTES {
        return Err(BatchError::Truncated { needed: HEADER_BYTES, available });
    }
    let declared = i32::from_be_bytes([batch[8], batch[9], batch[10], batch[11]]);
    match peek_total_bytes(batch) {
        Some(needed) if needed > available => return Err(BatchError::Truncated { needed, available }),
        Some(needed) if needed == available => {}
        _ => return Err(BatchError::Length { declared }),
    }
    let stored = u32::from_be_bytes([batch[CRC_AT], batch[CRC_AT + 1], batch[CRC_AT + 2], batch[CRC_AT + 3]]);
    let computed = crc32c::crc32c(&batch[CRC_START..]);
    if stored == computed { Ok(()) } else { Err(BatchError::Crc { stored, computed }) }
}

/// The batches that stand back to back in a slice. Ends at the end of the slice or after the first error, whose place
/// [`Batches::position`] then names: [`BatchError::Truncated`] there is a torn tail, anything else damage (or the zeros of
/// a preallocated file).
#[derive(Clone, Debug)]
pub struct Batches<'a> {
    bytes: &'a [u8],
    position: usize,
    parse: fn(&'a [u8]) -> Result<RawBatch<'a>, BatchError>,
    failed: bool,
}

impl<'a> Batches<'a> {
    /// The batches of `bytes`, each as produced.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, parse: RawBatch::parse, failed: false }
    }

    /// The batches of `bytes`, which compaction may have thinned.
    #[must_use]
    pub fn compacted(bytes: &'a [u8]) -> Self {
        Self { bytes, position: 0, parse: RawBatch::parse_compacted, failed: false }
    }

    /// Where the next batch begins (or would), in bytes from the start of the slice.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.position
    }
}

impl<'a> Iterator for Batches<'a> {
    type Item = Result<RawBatch<'a>, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let rest = &self.bytes[self.position..];
        if self.failed || rest.is_empty() {
            return None;
        }
        let batch = (self.parse)(rest);
        match &batch {
            Ok(batch) => self.position += batch.bytes.len(),
            Err(_) => self.failed = true,
        }
        Some(batch)
    }
}

impl core::iter::FusedIterator for Batches<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::Attributes;
    use crate::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

    /// A batch whose records are `payload`, with the right CRC.
    fn batch(base_offset: u64, payload: &[u8]) -> Vec<u8> {
        let header = BatchHeader {
            base_offset: Offset(base_offset),
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
        let crc = crc32c::crc32c(&bytes[CRC_START..]);
        bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    #[test]
    fn batches_back_to_back_are_found_in_order() {
        let bytes = [batch(0, b"one"), batch(1, b"three"), batch(2, b"")].concat();
        let found: Vec<_> = Batches::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(found.iter().map(|b| b.header().base_offset.0).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(found[1].payload(), b"three");
        assert!(found.iter().all(|b| b.verify_crc().is_ok() && verify_crc(b.bytes()).is_ok()));
    }

    #[test]
    fn a_torn_tail_is_told_from_damage_at_every_byte() {
        let whole = batch(0, b"first");
        let torn = batch(1, b"second");
        for available in 1..torn.len() {
            let bytes = [&whole[..], &torn[..available]].concat();
            let mut batches = Batches::new(&bytes);
            assert!(batches.next().unwrap().is_ok());
            let needed = if available < 12 { HEADER_BYTES } else { torn.len() };
            assert_eq!(batches.next(), Some(Err(BatchError::Truncated { needed, available })));
            assert_eq!(batches.position(), whole.len());
            assert_eq!(batches.next(), None);
        }
        let bytes = [&whole[..], &[0; 64]].concat();
        let mut batches = Batches::new(&bytes);
        assert!(batches.next().unwrap().is_ok());
        assert_eq!(batches.next(), Some(Err(BatchError::Length { declared: 0 })));
    }

    #[test]
    fn any_flipped_bit_behind_the_crc_field_is_noticed() {
        let good = batch(3, b"payload");
        for bit in CRC_AT * 8..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(matches!(verify_crc(&bad), Err(BatchError::Crc { .. })), "bit {bit}");
        }
    }

    #[test]
    fn stamping_keeps_the_crc_valid() {
        let mut bytes = batch(0, b"payload");
        crate::records::stamp(&mut bytes, Offset(77), crate::LeaderEpoch(5));
        assert_eq!(verify_crc(&bytes), Ok(()));
    }
}
