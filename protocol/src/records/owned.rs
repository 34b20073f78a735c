//! The same reading over shared bytes: records that can be kept and sent elsewhere, still slices of one buffer. Knows nothing
//! of where the bytes came from.

use bytes::Bytes;

use super::compression;
use super::reader::Place;
use super::record::Headers;
use super::{BatchError, BatchHeader, Compression, HEADER_BYTES, RawBatch, Record};
use crate::{Offset, Timestamp};

/// One whole batch that shares its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedBatch {
    header: BatchHeader,
    bytes: Bytes,
}

impl OwnedBatch {
    /// The batch at the front of `bytes`, which compaction may have thinned; `bytes` are then what follows it.
    ///
    /// # Errors
    /// As [`RawBatch::parse_compacted`]; `bytes` are then unchanged.
    pub fn split_from(bytes: &mut Bytes) -> Result<Self, BatchError> {
        let header = *RawBatch::parse_compacted(bytes)?.header();
        Ok(Self { header, bytes: bytes.split_to(header.total_bytes()) })
    }

    /// Its header.
    #[must_use]
    pub const fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// All its bytes, header included.
    #[must_use]
    pub const fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Compares the CRC field with the bytes behind it.
    ///
    /// # Errors
    /// [`BatchError::Crc`].
    pub fn verify_crc(&self) -> Result<(), BatchError> {
        super::verify_crc(&self.bytes)
    }

    /// Its records, control records too. Each shares the bytes of the batch or, where that is compressed, one buffer of at
    /// most `decompressed_bytes_max` that all of them share.
    ///
    /// # Errors
    /// [`BatchError::Decompress`]. That a record does not parse is told when its turn comes.
    pub fn records(&self, decompressed_bytes_max: usize) -> Result<OwnedRecords, BatchError> {
        let payload = self.bytes.slice(HEADER_BYTES..);
        let bytes = match self.header.attributes.compression() {
            Compression::None => payload,
            codec => {
                let mut buffer = Vec::new();
                compression::decompress(codec, &payload, &mut buffer, decompressed_bytes_max)?;
                buffer.into()
            }
        };
        Ok(OwnedRecords { place: Place::of(&self.header), bytes, position: 0 })
    }
}

/// One record that shares the bytes of its batch: while it lives, so does the whole buffer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct OwnedRecord {
    /// Its place in the partition.
    pub offset: Offset,
    /// The producer's time, or the broker's where the batch says so.
    pub timestamp: Timestamp,
    /// Its key; `None` is not the same as an empty one.
    pub key: Option<Bytes>,
    /// Its value; `None` is a tombstone to compaction.
    pub value: Option<Bytes>,
    header_bytes: Bytes,
    header_count: u32,
}

impl OwnedRecord {
    /// Its headers, in the order they were given; names may repeat.
    #[must_use]
    pub fn headers(&self) -> Headers<'_> {
        Headers::from_walked(&self.header_bytes, self.header_count)
    }

    fn sharing(bytes: &Bytes, record: &Record<'_>) -> Self {
        Self {
            offset: record.offset,
            timestamp: record.timestamp,
            key: record.key.map(|key| bytes.slice_ref(key)),
            value: record.value.map(|value| bytes.slice_ref(value)),
            header_bytes: bytes.slice_ref(record.headers.bytes()),
            header_count: record.headers.len() as u32,
        }
    }
}

/// Iterates the records of a batch, each sharing its bytes. After an error it ends.
#[derive(Clone, Debug)]
pub struct OwnedRecords {
    place: Place,
    bytes: Bytes,
    position: usize,
}

impl Iterator for OwnedRecords {
    type Item = Result<OwnedRecord, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut rest = &self.bytes[self.position..];
        if self.place.is_done() {
            return self.place.finish(rest).err().map(Err);
        }
        let record = self.place.take(&mut rest);
        self.position = self.bytes.len() - rest.len();
        Some(record.map(|record| OwnedRecord::sharing(&self.bytes, &record)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.place.remaining().min((self.bytes.len() - self.position) / 7 + 1)))
    }
}

impl core::iter::FusedIterator for OwnedRecords {}
