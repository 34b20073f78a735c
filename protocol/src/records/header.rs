//! The 61 bytes in front of every batch, big-endian. Knows nothing of the records behind them and never checks the CRC.
//!
//! | at | bytes | field | | at | bytes | field |
//! |---|---|---|---|---|---|---|
//! | 0 | 8 | base offset | | 27 | 8 | base timestamp |
//! | 8 | 4 | batch length: bytes after this field | | 35 | 8 | max timestamp |
//! | 12 | 4 | partition leader epoch | | 43 | 8 | producer id |
//! | 16 | 1 | magic, 2 | | 51 | 2 | producer epoch |
//! | 17 | 4 | CRC32C of everything from 21 on | | 53 | 4 | base sequence |
//! | 21 | 2 | attributes | | 57 | 4 | record count |
//! | 23 | 4 | last offset delta | | 61 | | records |
//!
//! A leader stamps the base offset and its epoch; both lie in front of the CRC, so stamping leaves it valid.

use super::{BatchError, Compression};
use crate::{LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// Bytes of a batch header.
pub const HEADER_BYTES: usize = 61;
/// Bytes at the front of a batch that a leader may change: base offset, batch length (kept) and leader epoch.
pub const PREFIX_BYTES: usize = 16;
/// Bytes before the count of [`BatchHeader::batch_length`] begins.
pub const LENGTH_OVERHEAD: usize = 12;
/// The only served version of the format.
pub const MAGIC: i8 = 2;

/// Where the checksummed part begins.
pub(super) const CRC_START: usize = 21;
/// Where the checksum stands.
pub(super) const CRC_AT: usize = 17;

/// The fields of a batch header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    /// Offset of the first record, 0 until a leader assigns it.
    pub base_offset: Offset,
    /// Bytes of the batch after this field, 12 less than [`BatchHeader::total_bytes`].
    pub batch_length: u32,
    /// Leadership that wrote the batch; `None` before a leader stamped it.
    pub leader_epoch: Option<LeaderEpoch>,
    /// CRC32C of everything behind the field. Not checked by parsing: see [`super::verify_crc`].
    pub crc: u32,
    /// Compression, timestamp type, transactional, control.
    pub attributes: Attributes,
    /// Offset of the last record less the base offset. Compaction keeps it even where the last record went.
    pub last_offset_delta: u32,
    /// What the records' timestamp deltas count from.
    pub base_timestamp: Timestamp,
    /// Largest timestamp of the batch.
    pub max_timestamp: Timestamp,
    /// Writer, or [`ProducerId::NONE`].
    pub producer_id: ProducerId,
    /// Incarnation of the writer, or [`ProducerEpoch::NONE`].
    pub producer_epoch: ProducerEpoch,
    /// Sequence of the first record, or [`Sequence::NONE`].
    pub base_sequence: Sequence,
    /// Records in the batch.
    pub record_count: u32,
}

impl BatchHeader {
    /// Reads the header at the front of `bytes`; the records need not be there yet. The record count must be that of a
    /// batch as produced: last offset delta + 1.
    ///
    /// # Errors
    /// [`BatchError::Truncated`] for fewer than 61 bytes, else the first rule that is broken.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<Self, BatchError> {
        let header = Self::parse_compacted(bytes)?;
        if header.record_count == header.last_offset_delta + 1 {
            Ok(header)
        } else {
            Err(BatchError::Count { count: header.record_count as i32, last_delta: header.last_offset_delta as i32 })
        }
    }

    /// As [`BatchHeader::parse`], for batches that compaction may have thinned: between none and all of the records that
    /// the offsets leave room for.
    ///
    /// # Errors
    /// As [`BatchHeader::parse`].
    #[inline]
    pub fn parse_compacted(bytes: &[u8]) -> Result<Self, BatchError> {
        let Some(fixed) = bytes.first_chunk::<HEADER_BYTES>() else {
            let needed = peek_total_bytes(bytes).unwrap_or(HEADER_BYTES);
            return Err(BatchError::Truncated { needed, available: bytes.len() });
        };
        let length = i32::from_be_bytes(at(fixed, 8));
        if length < MIN_LENGTH {
            return Err(BatchError::Length { declared: length });
        }
        let magic = fixed[16] as i8;
        if magic != MAGIC {
            return Err(BatchError::Magic { found: magic });
        }
        let attributes = Attributes(u16::from_be_bytes(at(fixed, 21)));
        if Compression::from_code(attributes.compression_code()).is_none() {
            return Err(BatchError::UnknownCompression { code: attributes.compression_code() });
        }
        let base = i64::from_be_bytes(at(fixed, 0));
        let last_delta = i32::from_be_bytes(at(fixed, 23));
        if base < 0 || last_delta < 0 || base.checked_add(i64::from(last_delta)).is_none() {
            return Err(BatchError::OffsetRange { base, last_delta });
        }
        let count = i32::from_be_bytes(at(fixed, 57));
        if count < 0 || i64::from(count) > i64::from(last_delta) + 1 {
            return Err(BatchError::Count { count, last_delta });
        }
        Ok(Self {
            base_offset: Offset(base as u64),
            batch_length: length as u32,
            leader_epoch: LeaderEpoch::from_signed(i32::from_be_bytes(at(fixed, 12))),
            crc: u32::from_be_bytes(at(fixed, CRC_AT)),
            attributes,
            last_offset_delta: last_delta as u32,
            base_timestamp: Timestamp(i64::from_be_bytes(at(fixed, 27))),
            max_timestamp: Timestamp(i64::from_be_bytes(at(fixed, 35))),
            producer_id: ProducerId(i64::from_be_bytes(at(fixed, 43))),
            producer_epoch: ProducerEpoch(i16::from_be_bytes(at(fixed, 51))),
            base_sequence: Sequence(i32::from_be_bytes(at(fixed, 53))),
            record_count: count as u32,
        })
    }

    /// Its 61 bytes, the CRC as the field says.
    #[must_use]
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let mut put = |at: usize, field: &[u8]| out[at..at + field.len()].copy_from_slice(field);
        put(0, &self.base_offset.signed().to_be_bytes());
        put(8, &self.batch_length.to_be_bytes());
        put(12, &self.leader_epoch.map_or(-1, LeaderEpoch::signed).to_be_bytes());
        put(16, &MAGIC.to_be_bytes());
        put(CRC_AT, &self.crc.to_be_bytes());
        put(21, &self.attributes.0.to_be_bytes());
        put(23, &self.last_offset_delta.to_be_bytes());
        put(27, &self.base_timestamp.0.to_be_bytes());
        put(35, &self.max_timestamp.0.to_be_bytes());
        put(43, &self.producer_id.0.to_be_bytes());
        put(51, &self.producer_epoch.0.to_be_bytes());
        put(53, &self.base_sequence.0.to_be_bytes());
        put(57, &self.record_count.to_be_bytes());
        out
    }

    /// Bytes of the whole batch, header and records.
    #[inline]
    #[must_use]
    pub const fn total_bytes(&self) -> usize {
        self.batch_length as usize + LENGTH_OVERHEAD
    }

    /// Offset of the last record.
    #[inline]
    #[must_use]
    pub const fn last_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as u64)
    }

    /// Offset after the last record: the base offset of the batch that follows.
    #[inline]
    #[must_use]
    pub const fn next_offset(&self) -> Offset {
        self.base_offset.plus(self.last_offset_delta as u64 + 1)
    }
}

/// The attributes field: bits 0–2 compression, 3 timestamp type, 4 transactional, 5 control. Others are ignored and kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Attributes(pub u16);

impl Attributes {
    const COMPRESSION: u16 = 0b111;
    const LOG_APPEND_TIME: u16 = 1 << 3;
    const TRANSACTIONAL: u16 = 1 << 4;
    const CONTROL: u16 = 1 << 5;

    const fn compression_code(self) -> u8 {
        (self.0 & Self::COMPRESSION) as u8
    }

    /// How the records are compressed; [`Compression::None`] for a code that is not assigned, which no parsed header has.
    #[must_use]
    pub const fn compression(self) -> Compression {
        match Compression::from_code(self.compression_code()) {
            Some(compression) => compression,
            None => Compression::None,
        }
    }

    /// Whose clock the timestamps come from.
    #[must_use]
    pub const fn timestamp_type(self) -> TimestampType {
        if self.0 & Self::LOG_APPEND_TIME == 0 { TimestampType::Create } else { TimestampType::LogAppend }
    }

    /// True where the records belong to a transaction.
    #[must_use]
    pub const fn is_transactional(self) -> bool {
        self.0 & Self::TRANSACTIONAL != 0
    }

    /// True where the batch holds a control record, which applications never see.
    #[must_use]
    pub const fn is_control(self) -> bool {
        self.0 & Self::CONTROL != 0
    }

    /// The same with this compression.
    #[must_use]
    pub const fn with_compression(self, compression: Compression) -> Self {
        Self(self.0 & !Self::COMPRESSION | compression.code() as u16)
    }

    /// The same with this timestamp type.
    #[must_use]
    pub const fn with_timestamp_type(self, kind: TimestampType) -> Self {
        match kind {
            TimestampType::Create => Self(self.0 & !Self::LOG_APPEND_TIME),
            TimestampType::LogAppend => Self(self.0 | Self::LOG_APPEND_TIME),
        }
    }

    /// The same, as part of a transaction.
    #[must_use]
    pub const fn transactional(self) -> Self {
        Self(self.0 | Self::TRANSACTIONAL)
    }

    /// The same, as a control batch.
    #[must_use]
    pub const fn control(self) -> Self {
        Self(self.0 | Self::CONTROL)
    }
}

/// Whose clock a batch's timestamps come from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum TimestampType {
    /// The producer's.
    #[default]
    Create,
    /// The broker's, at append; then every record has the batch's max timestamp.
    LogAppend,
}

/// Bytes of the whole batch at the front of `bytes`, from its first 12; `None` for fewer bytes or a length that no batch
/// has (such as the zeros of a preallocated file).
#[inline]
#[must_use]
pub fn peek_total_bytes(bytes: &[u8]) -> Option<usize> {
    let front = bytes.first_chunk::<LENGTH_OVERHEAD>()?;
    let length = i32::from_be_bytes([front[8], front[9], front[10], front[11]]);
    // Not before the comparison: a negative length has no place in a usize.
    (length >= MIN_LENGTH).then(|| length as usize + LENGTH_OVERHEAD)
}

/// Writes base offset and leader epoch into a batch, in place. Its CRC stays valid.
///
/// # Panics
/// Where `batch` has fewer than 16 bytes: it was not parsed before.
pub fn stamp(batch: &mut [u8], base_offset: Offset, leader_epoch: LeaderEpoch) {
    assert!(batch.len() >= PREFIX_BYTES, "only a parsed batch is stamped");
    batch[..8].copy_from_slice(&base_offset.signed().to_be_bytes());
    batch[12..16].copy_from_slice(&leader_epoch.signed().to_be_bytes());
}

/// The first 16 bytes of a batch as a leader stamps them. Written in front of `batch[16..]` they make the stamped batch
/// without touching the (shared) bytes it was received in.
#[must_use]
pub const fn stamped_prefix(
    header: &BatchHeader,
    base_offset: Offset,
    leader_epoch: LeaderEpoch,
) -> [u8; PREFIX_BYTES] {
    let offset = base_offset.signed().to_be_bytes();
    let length = header.batch_length.to_be_bytes();
    let epoch = leader_epoch.signed().to_be_bytes();
    let mut out = [0; PREFIX_BYTES];
    out.split_at_mut(8).0.copy_from_slice(&offset);
    out.split_at_mut(8).1.split_at_mut(4).0.copy_from_slice(&length);
    out.split_at_mut(12).1.copy_from_slice(&epoch);
    out
}

const MIN_LENGTH: i32 = (HEADER_BYTES - LENGTH_OVERHEAD) as i32;

/// The `N` bytes at a constant position of the header; the compiler drops the bounds checks.
#[inline(always)]
fn at<const N: usize>(header: &[u8; HEADER_BYTES], position: usize) -> [u8; N] {
    let mut field = [0; N];
    field.copy_from_slice(&header[position..position + N]);
    field
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> BatchHeader {
        BatchHeader {
            base_offset: Offset(7),
            batch_length: 49 + 20,
            leader_epoch: Some(LeaderEpoch(3)),
            crc: 0xdead_beef,
            attributes: Attributes::default().with_compression(Compression::Zstd).transactional(),
            last_offset_delta: 2,
            base_timestamp: Timestamp(100),
            max_timestamp: Timestamp(102),
            producer_id: ProducerId(9),
            producer_epoch: ProducerEpoch(1),
            base_sequence: Sequence(5),
            record_count: 3,
        }
    }

    #[test]
    fn a_header_reads_back_as_written() {
        assert_eq!(BatchHeader::parse(&header().encode()), Ok(header()));
        assert_eq!(header().total_bytes(), 81);
        assert_eq!(header().last_offset(), Offset(9));
        assert_eq!(header().next_offset(), Offset(10));
        assert_eq!(header().attributes.compression(), Compression::Zstd);
        assert!(header().attributes.is_transactional() && !header().attributes.is_control());
    }

    #[test]
    fn a_header_cut_short_says_how_many_bytes_it_needs() {
        let bytes = header().encode();
        for available in 0..HEADER_BYTES {
            let needed = if available < 12 { HEADER_BYTES } else { 81 };
            assert_eq!(BatchHeader::parse(&bytes[..available]), Err(BatchError::Truncated { needed, available }));
        }
    }

    #[test]
    fn preallocated_zeros_are_no_batch() {
        assert_eq!(BatchHeader::parse(&[0; 100]), Err(BatchError::Length { declared: 0 }));
        assert_eq!(peek_total_bytes(&[0; 100]), None);
    }

    #[test]
    fn a_negative_length_is_no_batch_however_few_bytes_are_there() {
        for length in [-1, -12, -13, i32::MIN] {
            let mut bytes = header().encode();
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            for available in 0..HEADER_BYTES {
                assert_eq!(peek_total_bytes(&bytes[..available]), None);
                let refused = Err(BatchError::Truncated { needed: HEADER_BYTES, available });
                assert_eq!(BatchHeader::parse(&bytes[..available]), refused);
            }
        }
    }

    #[test]
    fn each_lie_in_the_header_is_named() {
        let lie = |at: usize, field: &[u8]| {
            let mut bytes = header().encode();
            bytes[at..at + field.len()].copy_from_slice(field);
            BatchHeader::parse(&bytes)
        };
        assert!(matches!(lie(0, &(-1i64).to_be_bytes()), Err(BatchError::OffsetRange { base: -1, .. })));
        assert!(matches!(lie(0, &i64::MAX.to_be_bytes()), Err(BatchError::OffsetRange { .. })));
        assert!(matches!(lie(8, &48i32.to_be_bytes()), Err(BatchError::Length { declared: 48 })));
        assert!(matches!(lie(8, &(-1i32).to_be_bytes()), Err(BatchError::Length { declared: -1 })));
        assert!(matches!(lie(16, &[1]), Err(BatchError::Magic { found: 1 })));
        assert!(matches!(lie(21, &[0, 7]), Err(BatchError::UnknownCompression { code: 7 })));
        assert!(matches!(lie(23, &(-1i32).to_be_bytes()), Err(BatchError::OffsetRange { .. })));
        assert!(matches!(lie(57, &4i32.to_be_bytes()), Err(BatchError::Count { count: 4, last_delta: 2 })));
        assert!(matches!(lie(57, &2i32.to_be_bytes()), Err(BatchError::Count { count: 2, .. })));
        assert!(matches!(lie(57, &(-1i32).to_be_bytes()), Err(BatchError::Count { count: -1, .. })));
    }

    #[test]
    fn a_batch_thinned_by_compaction_is_read_only_where_asked_for() {
        let mut thinned = header();
        thinned.record_count = 0;
        assert!(BatchHeader::parse(&thinned.encode()).is_err());
        assert_eq!(BatchHeader::parse_compacted(&thinned.encode()), Ok(thinned));
    }

    #[test]
    fn stamping_changes_base_offset_and_epoch_only() {
        let mut bytes = header().encode();
        stamp(&mut bytes, Offset(1_000), LeaderEpoch(4));
        let mut expected = header();
        expected.base_offset = Offset(1_000);
        expected.leader_epoch = Some(LeaderEpoch(4));
        assert_eq!(BatchHeader::parse(&bytes), Ok(expected));
        assert_eq!(stamped_prefix(&header(), Offset(1_000), LeaderEpoch(4)), bytes[..PREFIX_BYTES]);
    }
}
