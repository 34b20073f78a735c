//! Builds one batch after another, record by record, straight into the bytes that will be sent. Knows nothing of when a batch
//! is full enough or of where it goes.

use bytes::{Bytes, BytesMut};

use super::compression;
use super::header::{CRC_AT, CRC_START, LENGTH_OVERHEAD};
use super::varint::{put, raw_len, zigzag_i32, zigzag_i64, zigzag_length};
use super::{Attributes, BatchHeader, Compression, HEADER_BYTES};
use crate::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

/// For records without headers.
pub const NO_HEADERS: [(&str, Option<&[u8]>); 0] = [];

/// The longest number.
const NUMBER_BYTES_MAX: usize = 10;
/// The longest front of a record: its length, its attributes, its two deltas.
const FRONT_BYTES_MAX: usize = 3 * NUMBER_BYTES_MAX + 1;

/// The idempotent producer that a batch names (KIP-98).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Producer {
    /// The producer.
    pub id: ProducerId,
    /// Its incarnation.
    pub epoch: ProducerEpoch,
    /// Sequence of the first record of the batch.
    pub base_sequence: Sequence,
}

impl Producer {
    /// No idempotence.
    pub const NONE: Self = Self { id: ProducerId::NONE, epoch: ProducerEpoch::NONE, base_sequence: Sequence::NONE };
}

/// Why a record was not added, or a batch not finished.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// The batch has no room for the record, but an empty one has: finish this one and append again.
    #[error("the batch has no room left for a record of {bytes} bytes")]
    Full {
        /// Bytes of the encoded record.
        bytes: usize,
    },
    /// No batch within the limit can hold the record.
    #[error(
        "the record makes a batch of {bytes} bytes, over the limit of {limit}; send it in parts or raise the limit"
    )]
    RecordTooLarge {
        /// Bytes of the batch that would hold this record alone.
        bytes: usize,
        /// The limit of the builder.
        limit: usize,
    },
    /// A batch has one record at least.
    #[error("a batch without records cannot be finished")]
    Empty,
    /// The codec was left out of this program.
    #[error("this program was built without {0} compression")]
    Unavailable(Compression),
}

/// Builds record batches. The record bytes are written once, behind room for the header; an uncompressed batch is finished in
/// place. [`BatchBuilder::finish`] hands the buffer out and leaves the builder ready for the next batch; whoever keeps a pool
/// gets the buffer back by [`Bytes::try_into_mut`] once the batch is sent, and returns it by [`BatchBuilder::set_buffer`].
#[derive(Debug)]
pub struct BatchBuilder {
    /// Empty, or a blank header and the records so far.
    buffer: BytesMut,
    /// The largest batch, uncompressed, header included.
    limit: usize,
    /// What the first append of a batch reserves: the batch before is the best guess.
    expected_bytes: usize,
    count: u32,
    base_timestamp: Timestamp,
    max_timestamp: Timestamp,
    attributes: Attributes,
    producer: Producer,
}

impl BatchBuilder {
    /// The least that a new buffer reserves.
    const FIRST_BYTES: usize = 1 << 10;

    /// A builder of batches of at most `limit` bytes before compression, header included (capped at what a batch can say).
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self::with_buffer(BytesMut::new(), limit)
    }

    /// As [`BatchBuilder::new`], with the first batch built in `buffer`.
    #[must_use]
    pub fn with_buffer(buffer: BytesMut, limit: usize) -> Self {
        let mut builder = Self {
            buffer,
            limit: limit.min(i32::MAX as usize),
            expected_bytes: Self::FIRST_BYTES,
            count: 0,
            base_timestamp: Timestamp::NONE,
            max_timestamp: Timestamp::NONE,
            attributes: Attributes::default(),
            producer: Producer::NONE,
        };
        builder.buffer.clear();
        builder
    }

    /// Gives the builder a buffer to build its next batch in.
    ///
    /// # Panics
    /// Where records stand in the current one.
    pub fn set_buffer(&mut self, buffer: BytesMut) {
        assert!(self.is_empty(), "records would be lost with the buffer they stand in");
        self.buffer = buffer;
        self.buffer.clear();
    }

    /// Its buffer, cleared, for another use.
    #[must_use]
    pub fn into_buffer(mut self) -> BytesMut {
        self.buffer.clear();
        self.buffer
    }

    /// Names the producer of the current batch and those after it.
    pub const fn set_producer(&mut self, producer: Producer) {
        self.producer = producer;
    }

    /// The attributes of the current batch and those after it; compression is only set as a batch is finished.
    #[must_use]
    pub const fn attributes(&self) -> Attributes {
        self.attributes
    }

    /// Sets them, for example to [`Attributes::transactional`].
    pub const fn set_attributes(&mut self, attributes: Attributes) {
        self.attributes = attributes;
    }

    /// Records in the current batch.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// True where the current batch has no records.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes of the current batch before compression, header included.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.buffer.len().max(HEADER_BYTES)
    }

    /// True where [`BatchBuilder::append`] would take this record now.
    #[must_use]
    pub fn would_fit<'h>(
        &self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl IntoIterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> bool {
        self.has_room(self.shape(timestamp, key, value, headers.into_iter()).record_bytes())
    }

    /// Adds a record and gives its place in the batch, from 0.
    ///
    /// # Errors
    /// [`BuildError::Full`] or [`BuildError::RecordTooLarge`]; the batch is as before.
    #[inline]
    pub fn append<'h, H>(
        &mut self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: H,
    ) -> Result<u32, BuildError>
    where
        H: IntoIterator<Item = (&'h str, Option<&'h [u8]>), IntoIter: Clone>,
    {
        let headers = headers.into_iter();
        let shape = self.shape(timestamp, key, value, headers.clone());
        let bytes = shape.record_bytes();
        if !self.has_room(bytes) {
            return Err(self.refusal(bytes));
        }
        if self.count == 0 {
            self.begin(timestamp, bytes);
        }
        self.max_timestamp = self.max_timestamp.max(timestamp);

        let end = self.buffer.len() + bytes;
        self.buffer.reserve(bytes);
        // Numbers go by way of the stack, so that the room for key and value is written once and not zeroed before.
        let mut front = [0; FRONT_BYTES_MAX];
        let at = put(&mut front, 0, zigzag_length(shape.body_bytes));
        // One byte of record attributes, none of them assigned, is already zero.
        let at = put(&mut front, at + 1, shape.timestamp_delta);
        let at = put(&mut front, at, zigzag_i32(self.count as i32));
        self.buffer.extend_from_slice(&front[..at]);
        extend_by_field(&mut self.buffer, key);
        extend_by_field(&mut self.buffer, value);
        extend_by_number(&mut self.buffer, zigzag_length(shape.header_count));
        for (name, value) in headers {
            extend_by_field(&mut self.buffer, Some(name.as_bytes()));
            extend_by_field(&mut self.buffer, value);
        }
        assert!(self.buffer.len() == end, "the headers changed between two walks over a clone of them");

        let index = self.count;
        self.count += 1;
        Ok(index)
    }

    /// Finishes the batch: base offset 0, no leader epoch, CRC. The builder is then empty and ready for the next; limit,
    /// producer (a sequence is the caller's to move) and attributes stay.
    ///
    /// # Errors
    /// [`BuildError::Empty`]; [`BuildError::Unavailable`], where the records stay for another try.
    pub fn finish(&mut self, compression: Compression) -> Result<Bytes, BuildError> {
        if self.count == 0 {
            return Err(BuildError::Empty);
        }
        let header = BatchHeader {
            base_offset: Offset::ZERO,
            batch_length: 0,
            leader_epoch: None,
            crc: 0,
            attributes: self.attributes.with_compression(compression),
            last_offset_delta: self.count - 1,
            base_timestamp: self.base_timestamp,
            max_timestamp: self.max_timestamp,
            producer_id: self.producer.id,
            producer_epoch: self.producer.epoch,
            base_sequence: self.producer.base_sequence,
            record_count: self.count,
        };
        self.expected_bytes = self.buffer.len();
        let batch = if compression == Compression::None {
            let mut batch = core::mem::take(&mut self.buffer);
            seal(&mut batch, header);
            batch.freeze()
        } else {
            let mut batch = vec![0; HEADER_BYTES];
            compression::compress(compression, &self.buffer[HEADER_BYTES..], &mut batch)
                .map_err(|_| BuildError::Unavailable(compression))?;
            seal(&mut batch, header);
            // The codecs take room for the worst case; the batch may wait long to be sent.
            batch.shrink_to_fit();
            self.buffer.clear();
            batch.into()
        };
        self.count = 0;
        Ok(batch)
    }

    /// Room for the header, and for as much as the batch before had.
    fn begin(&mut self, timestamp: Timestamp, record_bytes: usize) {
        self.base_timestamp = timestamp;
        self.max_timestamp = timestamp;
        self.buffer.reserve(self.expected_bytes.max(HEADER_BYTES + record_bytes));
        self.buffer.resize(HEADER_BYTES, 0);
    }

    #[inline(always)]
    fn has_room(&self, record_bytes: usize) -> bool {
        self.bytes() + record_bytes <= self.limit && self.count < i32::MAX as u32
    }

    #[cold]
    fn refusal(&self, bytes: usize) -> BuildError {
        let alone = HEADER_BYTES + bytes;
        if alone > self.limit {
            BuildError::RecordTooLarge { bytes: alone, limit: self.limit }
        } else {
            BuildError::Full { bytes }
        }
    }

    #[inline(always)]
    fn shape<'h>(
        &self,
        timestamp: Timestamp,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: impl Iterator<Item = (&'h str, Option<&'h [u8]>)>,
    ) -> Shape {
        let base = if self.count == 0 { timestamp } else { self.base_timestamp };
        let timestamp_delta = zigzag_i64(timestamp.0.wrapping_sub(base.0));
        let (mut header_bytes, mut header_count) = (0, 0);
        for (name, value) in headers {
            header_bytes += field_bytes(Some(name.as_bytes())) + field_bytes(value);
            header_count += 1;
        }
        let body_bytes = 1
            + raw_len(timestamp_delta)
            + raw_len(zigzag_i32(self.count as i32))
            + field_bytes(key)
            + field_bytes(value)
            + raw_len(zigzag_length(header_count))
            + header_bytes;
        Shape { timestamp_delta, body_bytes, header_count }
    }
}

/// What a record will take.
struct Shape {
    /// After zigzag.
    timestamp_delta: u64,
    body_bytes: usize,
    header_count: usize,
}

impl Shape {
    #[inline(always)]
    const fn record_bytes(&self) -> usize {
        raw_len(zigzag_length(self.body_bytes)) + self.body_bytes
    }
}

#[inline(always)]
fn field_bytes(field: Option<&[u8]>) -> usize {
    field.map_or(1, |field| raw_len(zigzag_length(field.len())) + field.len())
}

#[inline(always)]
fn extend_by_field(out: &mut BytesMut, field: Option<&[u8]>) {
    let Some(field) = field else { return extend_by_number(out, zigzag_i32(-1)) };
    extend_by_number(out, zigzag_length(field.len()));
    out.extend_from_slice(field);
}

#[inline(always)]
fn extend_by_number(out: &mut BytesMut, raw: u64) {
    let mut bytes = [0; NUMBER_BYTES_MAX];
    let end = put(&mut bytes, 0, raw);
    out.extend_from_slice(&bytes[..end]);
}

/// Writes the header into its room in front, with the length and the CRC of what stands behind it.
pub(super) fn seal(batch: &mut [u8], mut header: BatchHeader) {
    header.batch_length = (batch.len() - LENGTH_OVERHEAD) as u32;
    batch[..HEADER_BYTES].copy_from_slice(&header.encode());
    let crc = crc32c::crc32c(&batch[CRC_START..]);
    batch[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn append(builder: &mut BatchBuilder, value: &[u8]) -> Result<u32, BuildError> {
        builder.append(Timestamp(7), None, Some(value), NO_HEADERS)
    }

    #[test]
    fn a_batch_is_never_larger_than_the_limit() {
        // 61 bytes of header, 7 of a record with an empty value.
        let mut builder = BatchBuilder::new(61 + 3 * 7);
        for index in 0..3 {
            assert!(builder.would_fit(Timestamp(7), None, Some(b""), NO_HEADERS));
            assert_eq!(append(&mut builder, b""), Ok(index));
        }
        assert!(!builder.would_fit(Timestamp(7), None, Some(b""), NO_HEADERS));
        assert_eq!(append(&mut builder, b""), Err(BuildError::Full { bytes: 7 }));
        assert_eq!(builder.bytes(), 82);
        assert_eq!(builder.finish(Compression::None).unwrap().len(), 82);
        // The next batch has its room again.
        assert_eq!(append(&mut builder, b""), Ok(0));
        assert_eq!(append(&mut builder, &[0; 100]), Err(BuildError::RecordTooLarge { bytes: 61 + 109, limit: 82 }));
        assert_eq!(builder.count(), 1);
    }

    #[test]
    fn a_batch_without_records_is_not_finished() {
        assert_eq!(BatchBuilder::new(1000).finish(Compression::None), Err(BuildError::Empty));
    }

    #[test]
    fn an_uncompressed_batch_is_finished_where_it_was_built() {
        let buffer = BytesMut::with_capacity(4096);
        let place = buffer.as_ptr();
        let mut builder = BatchBuilder::with_buffer(buffer, 4096);
        append(&mut builder, b"one").unwrap();
        let batch = builder.finish(Compression::None).unwrap();
        assert_eq!(batch.as_ptr(), place);
        // Once sent, the buffer comes back.
        let buffer = batch.try_into_mut().unwrap();
        builder.set_buffer(buffer);
        append(&mut builder, b"two").unwrap();
        assert_eq!(builder.finish(Compression::None).unwrap().as_ptr(), place);
    }

    #[test]
    fn each_batch_counts_its_time_from_its_own_first_record() {
        let mut builder = BatchBuilder::new(4096);
        for times in [[100, 50, 120], [9, -1, 3]] {
            for time in times {
                builder.append(Timestamp(time), None, None, NO_HEADERS).unwrap();
            }
            let header = BatchHeader::parse(&builder.finish(Compression::None).unwrap()).unwrap();
            assert_eq!(header.base_timestamp, Timestamp(times[0]));
            assert_eq!(header.max_timestamp.0, times.into_iter().max().unwrap());
        }
    }

    #[cfg(not(feature = "compression"))]
    #[test]
    fn a_missing_codec_is_named_and_keeps_the_records() {
        let mut builder = BatchBuilder::new(4096);
        append(&mut builder, b"one").unwrap();
        assert_eq!(builder.finish(Compression::Zstd), Err(BuildError::Unavailable(Compression::Zstd)));
        assert!(builder.finish(Compression::None).is_ok());
    }
}
