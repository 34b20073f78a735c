//! Reads the records of a borrowed batch without copying them; compressed ones from a buffer that the caller keeps. Does
//! not check the CRC, nor what only a broker must ([`super::validate_produce`]).

use super::compression::{self, DecompressError};
use super::record::{Body, take_record};
use super::{BatchError, BatchHeader, Compression, RawBatch, Record, TimestampType};
use crate::Timestamp;

/// What one batch may decompress to unless the caller says otherwise: 64 MiB.
pub const DEFAULT_DECOMPRESSED_BYTES_MAX: usize = 64 << 20;

/// The buffer that compressed batches are decompressed into, one at a time; made once and used for many.
#[derive(Debug)]
pub struct Scratch {
    buffer: Vec<u8>,
    limit: usize,
    /// What stays allocated between batches, in bytes.
    kept_bytes: usize,
}

impl Scratch {
    /// What usually stays allocated, in bytes: one giant batch must not hold its memory for ever.
    const KEPT_BYTES: usize = 4 << 20;

    /// An empty one with the default limit.
    #[must_use]
    pub const fn new() -> Self {
        Self::with_limit(DEFAULT_DECOMPRESSED_BYTES_MAX)
    }

    /// An empty one; no batch may decompress to more than `limit` bytes.
    #[must_use]
    pub const fn with_limit(limit: usize) -> Self {
        Self { buffer: Vec::new(), limit, kept_bytes: Self::KEPT_BYTES }
    }

    /// One with room for `limit` bytes from the beginning, for a few giant batches: it never moves to a larger place, and what is not used
    /// of it costs no memory.
    #[must_use]
    pub fn roomy(limit: usize) -> Self {
        // One byte more than the limit tells "just fits" from "too much".
        let room = limit.saturating_add(1);
        Self { buffer: Vec::with_capacity(room), limit, kept_bytes: room }
    }

    /// Changes the limit for the batches to come.
    pub const fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }

    /// Forgets the last batch, and gives back its memory where it was a giant.
    pub fn trim(&mut self) {
        self.buffer.clear();
        self.buffer.shrink_to(self.kept_bytes);
    }

    /// The records of `batch`, decompressed.
    pub(super) fn decompressed(&mut self, batch: &RawBatch<'_>) -> Result<&[u8], DecompressError> {
        self.trim();
        compression::decompress(
            batch.header().attributes.compression(),
            batch.payload(),
            &mut self.buffer,
            self.limit,
        )?;
        Ok(&self.buffer)
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

impl<'a> RawBatch<'a> {
    /// The records of this batch, control records too. Uncompressed ones borrow from the batch, others from `scratch`.
    ///
    /// # Errors
    /// [`BatchError::Decompress`]. That a record does not parse is told when its turn comes.
    pub fn records<'s>(&self, scratch: &'s mut Scratch) -> Result<Records<'s>, BatchError>
    where
        'a: 's,
    {
        let bytes = match self.header().attributes.compression() {
            Compression::None => self.payload(),
            _ => scratch.decompressed(self)?,
        };
        Ok(Records { place: Place::of(self.header()), rest: bytes })
    }
}

/// Iterates the records of a batch. After an error it ends.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    place: Place,
    rest: &'a [u8],
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.place.is_done() {
            return self.place.finish(self.rest).err().map(Err);
        }
        Some(self.place.take(&mut self.rest))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // The count is the batch's claim; a minimal record has 7 bytes.
        (0, Some(self.place.remaining().min(self.rest.len() / 7 + 1)))
    }
}

impl core::iter::FusedIterator for Records<'_> {}

/// How far the reading of a batch has come, and what its deltas count from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    header: BatchHeader,
    /// Ordinal of the next record.
    index: u32,
    failed: bool,
}

impl Place {
    pub(super) const fn of(header: &BatchHeader) -> Self {
        Self { header: *header, index: 0, failed: false }
    }

    pub(super) const fn remaining(&self) -> usize {
        (self.header.record_count - self.index) as usize
    }

    #[inline]
    pub(super) const fn is_done(&self) -> bool {
        self.failed || self.index == self.header.record_count
    }

    /// Takes the next record off the front of `rest`.
    #[inline]
    pub(super) fn take<'a>(&mut self, rest: &mut &'a [u8]) -> Result<Record<'a>, BatchError> {
        match take_record(rest) {
            Ok(body) if body.offset_delta as u32 <= self.header.last_offset_delta => {
                self.index += 1;
                Ok(self.record(body))
            }
            Ok(body) => {
                self.failed = true;
                Err(BatchError::OffsetDelta { index: self.index, found: body.offset_delta })
            }
            Err(fault) => {
                self.failed = true;
                Err(fault.at(self.index, self.header.record_count))
            }
        }
    }

    /// Once: complains of bytes after the last record.
    pub(super) fn finish(&mut self, rest: &[u8]) -> Result<(), BatchError> {
        if self.failed || rest.is_empty() {
            return Ok(());
        }
        self.failed = true;
        Err(BatchError::TrailingBytes { bytes: rest.len() })
    }

    #[inline(always)]
    fn record<'a>(&self, body: Body<'a>) -> Record<'a> {
        let timestamp = match self.header.attributes.timestamp_type() {
            TimestampType::Create => Timestamp(self.header.base_timestamp.0.wrapping_add(body.timestamp_delta)),
            TimestampType::LogAppend => self.header.max_timestamp,
        };
        Record {
            offset: self.header.base_offset.plus(body.offset_delta as u64),
            timestamp,
            key: body.key,
            value: body.value,
            headers: body.headers,
        }
    }
}
