//! What compaction makes of a batch: some of its records, or none, under the offsets it had. Knows nothing of which records stay.
//!
//! A thinned batch keeps base offset, last offset delta, base timestamp, producer and sequence, so the records that stay keep their bytes;
//! compressed ones are compressed anew. A batch without records is its header alone: it goes on to say which offsets were there, so that every
//! batch still begins where the one before ends.

use core::ops::Range;

use super::builder::seal;
use super::compression::{self, DecompressError};
use super::header::LENGTH_OVERHEAD;
use super::reader::Place;
use super::{Attributes, BatchError, BatchHeader, Compression, HEADER_BYTES, RawBatch, Record, Scratch, TimestampType};
use crate::{Offset, ProducerEpoch, ProducerId, Sequence};

/// The memory that batches are thinned in, one at a time.
#[derive(Debug, Default)]
pub struct Thinner {
    scratch: Scratch,
    records: Vec<u8>,
    batch: Vec<u8>,
}

/// What is left of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Thinned<'a> {
    /// Everything: the batch is as it was.
    Whole,
    /// Some records: the batch that holds them.
    Some(&'a [u8]),
    /// Nothing: see [`BatchHeader::emptied`].
    Nothing,
}

impl Thinner {
    /// Buffers above this go back after the batch that needed them.
    const KEPT_BYTES: usize = 4 << 20;

    /// One that takes batches of up to the default size once decompressed.
    #[must_use]
    pub const fn new() -> Self {
        Self { scratch: Scratch::new(), records: Vec::new(), batch: Vec::new() }
    }

    /// Hands every record of `batch` to `keeps`, and gives the batch with those that it says yes to.
    ///
    /// # Errors
    /// [`BatchError`] where a record does not parse or decompress, or the codec was left out of this program.
    pub fn thin(
        &mut self,
        batch: &RawBatch<'_>,
        mut keeps: impl FnMut(&Record<'_>) -> bool,
    ) -> Result<Thinned<'_>, BatchError> {
        let header = *batch.header();
        let codec = header.attributes.compression();
        self.records.clear();
        self.records.shrink_to(Self::KEPT_BYTES);
        let mut rest = match codec {
            Compression::None => batch.payload(),
            _ => self.scratch.decompressed(batch)?,
        };
        let mut place = Place::of(&header);
        let (mut kept, mut max_timestamp) = (0, None);
        while !place.is_done() {
            let before = rest;
            let record = place.take(&mut rest)?;
            if keeps(&record) {
                self.records.extend_from_slice(&before[..before.len() - rest.len()]);
                max_timestamp = max_timestamp.max(Some(record.timestamp));
                kept += 1;
            }
        }
        place.finish(rest)?;
        if kept == header.record_count {
            return Ok(Thinned::Whole);
        }
        let Some(max_timestamp) = max_timestamp else { return Ok(Thinned::Nothing) };
        self.batch.clear();
        self.batch.shrink_to(Self::KEPT_BYTES);
        self.batch.resize(HEADER_BYTES, 0);
        compression::compress(codec, &self.records, &mut self.batch)
            .map_err(|missing| DecompressError::Unavailable { codec: missing.codec })?;
        // The broker's clock stands for every record of such a batch.
        let max_timestamp = match header.attributes.timestamp_type() {
            TimestampType::Create => max_timestamp,
            TimestampType::LogAppend => header.max_timestamp,
        };
        let thinned = BatchHeader { record_count: kept, max_timestamp, ..header };
        seal(&mut self.batch, thinned);
        Ok(Thinned::Some(&self.batch))
    }
}

impl BatchHeader {
    /// Whether it holds a record for each offset that it names.
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.record_count as u64 == self.last_offset_delta as u64 + 1
    }

    /// The header that is left of this batch without its records. It is no part of a transaction any more and no marker, and compressed by no
    /// codec; offsets, timestamps and producer stay. Its length and checksum are those that [`BatchHeader::sealed`] gives it.
    #[must_use]
    pub const fn emptied(&self) -> Self {
        Self {
            batch_length: (HEADER_BYTES - LENGTH_OVERHEAD) as u32,
            attributes: Attributes(0).with_timestamp_type(self.attributes.timestamp_type()),
            record_count: 0,
            ..*self
        }
    }

    /// The same without producer and sequence.
    #[must_use]
    pub const fn anonymous(&self) -> Self {
        Self {
            producer_id: ProducerId::NONE,
            producer_epoch: ProducerEpoch::NONE,
            base_sequence: Sequence::NONE,
            ..*self
        }
    }

    /// Of an empty batch: the one that says so of those of its offsets that lie in `range`; `None` where it says nothing of them, or has
    /// records. Replicas empty batches at their own pace and put neighbours together, so that theirs need not begin where ours do.
    #[must_use]
    pub fn empty_within(&self, range: Range<Offset>) -> Option<Self> {
        let (from, to) = (self.base_offset.max(range.start), self.next_offset().min(range.end));
        if self.record_count > 0 || from >= to {
            return None;
        }
        if (from, to) == (self.base_offset, self.next_offset()) {
            return Some(*self);
        }
        let last_offset_delta = u32::try_from(to.since(from) - 1).ok()?;
        Some(Self { base_offset: from, last_offset_delta, ..*self }.anonymous())
    }

    /// The bytes of a batch without records, with its checksum.
    #[must_use]
    pub fn sealed(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        seal(&mut bytes, *self);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::records::{BatchBuilder, Batches, NO_HEADERS, Producer};
    use crate::{LeaderEpoch, Timestamp};

    fn batch(codec: Compression) -> Vec<u8> {
        let mut builder = BatchBuilder::new(1 << 20);
        builder.set_attributes(Attributes::default().transactional());
        builder.set_producer(Producer { id: ProducerId(9), epoch: ProducerEpoch(1), base_sequence: Sequence(4) });
        for (index, key) in ["a", "b", "c", "d"].iter().enumerate() {
            let time = Timestamp(1_000 - 10 * index as i64);
            builder.append(time, Some(key.as_bytes()), Some(&[index as u8; 40]), NO_HEADERS).unwrap();
        }
        let mut bytes = builder.finish(codec).unwrap().to_vec();
        super::super::stamp(&mut bytes, Offset(70), LeaderEpoch(2));
        bytes
    }

    fn records(bytes: &[u8]) -> Vec<(u64, i64, Vec<u8>)> {
        let batch = RawBatch::parse_compacted(bytes).unwrap();
        batch.verify_crc().unwrap();
        let mut scratch = Scratch::new();
        let records = batch.records(&mut scratch).unwrap().map(Result::unwrap);
        records.map(|record| (record.offset.0, record.timestamp.0, record.key.unwrap().to_vec())).collect()
    }

    #[test]
    fn records_that_stay_keep_offset_time_and_bytes_whatever_the_codec() {
        for codec in [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let bytes = batch(codec);
            let whole = RawBatch::parse(&bytes).unwrap();
            let mut thinner = Thinner::new();
            assert_eq!(thinner.thin(&whole, |_| true), Ok(Thinned::Whole));
            assert_eq!(thinner.thin(&whole, |_| false), Ok(Thinned::Nothing));
            let Ok(Thinned::Some(thinned)) = thinner.thin(&whole, |record| record.offset.0 % 2 == 1) else {
                panic!("{codec}: two records stay")
            };
            assert_eq!(records(thinned), [(71, 990, b"b".to_vec()), (73, 970, b"d".to_vec())], "{codec}");
            let header = BatchHeader::parse_compacted(thinned).unwrap();
            let expected = BatchHeader {
                batch_length: header.batch_length,
                crc: header.crc,
                max_timestamp: Timestamp(990),
                record_count: 2,
                ..*whole.header()
            };
            assert_eq!(header, expected, "{codec}");
            // A second time, from what the first left.
            let again = thinned.to_vec();
            let again = RawBatch::parse_compacted(&again).unwrap();
            let Ok(Thinned::Some(thinned)) = thinner.thin(&again, |record| record.offset.0 == 73) else {
                panic!("{codec}: one record stays")
            };
            assert_eq!(records(thinned), [(73, 970, b"d".to_vec())], "{codec}");
        }
    }

    #[test]
    fn an_emptied_batch_is_a_header_that_names_its_offsets_and_nothing_to_wait_for() {
        let bytes = batch(Compression::Zstd);
        let empty = BatchHeader::parse(&bytes).unwrap().emptied().sealed();
        assert_eq!(records(&empty), []);
        let header = BatchHeader::parse_compacted(&empty).unwrap();
        assert_eq!((header.base_offset, header.next_offset(), header.total_bytes()), (Offset(70), Offset(74), 61));
        assert_eq!((header.producer_id, header.base_sequence), (ProducerId(9), Sequence(4)));
        assert!(!header.attributes.is_transactional());
        let two = [&empty[..], &bytes[..]].concat();
        assert_eq!(Batches::compacted(&two).map(Result::unwrap).count(), 2);
    }

    #[test]
    fn of_an_empty_batch_a_part_can_be_had_of_another_not() {
        let header = BatchHeader::parse(&batch(Compression::None)).unwrap();
        assert_eq!(header.empty_within(Offset(71)..Offset(73)), None);
        let empty = header.emptied();
        assert_eq!(empty.empty_within(Offset(0)..Offset(99)), Some(empty));
        assert_eq!(empty.empty_within(Offset(74)..Offset(99)), None);
        let part = empty.empty_within(Offset(71)..Offset(73)).unwrap();
        assert_eq!(
            (part.base_offset, part.next_offset(), part.producer_id),
            (Offset(71), Offset(73), ProducerId::NONE)
        );
        assert_eq!(records(&part.sealed()), []);
    }
}
