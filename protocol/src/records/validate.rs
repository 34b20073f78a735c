//! What a producer sent becomes batches that nothing behind this point checks again. Knows the rules of the format, not the
//! topic's: fences, sequences and clocks are for whoever appends.

use core::cell::RefCell;

use bytes::Bytes;

use super::record::take_record;
use super::{
    BatchError, BatchHeader, Compression, ControlRecord, DEFAULT_DECOMPRESSED_BYTES_MAX, RawBatch, Scratch,
    TimestampType, control_batch,
};
use crate::{Offset, ProducerEpoch, ProducerId, Timestamp};

/// How large a produced batch may be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProduceLimits {
    /// Bytes of one batch as sent, header included (Kafka's `max.message.bytes`).
    pub batch_bytes_max: usize,
    /// Bytes of one batch's records once decompressed.
    pub decompressed_bytes_max: usize,
    /// Bytes of the records of all batches together once decompressed: how long it may take.
    pub decompressed_in_all_max: usize,
}

impl Default for ProduceLimits {
    /// 1 MiB and a header as sent, as Kafka; 64 MiB decompressed, and as many batches as there are.
    fn default() -> Self {
        Self {
            batch_bytes_max: (1 << 20) + 12,
            decompressed_bytes_max: DEFAULT_DECOMPRESSED_BYTES_MAX,
            decompressed_in_all_max: usize::MAX,
        }
    }
}

/// What a record's timestamp may be.
const DATED: core::ops::RangeInclusive<i64> = Timestamp::EARLIEST.0..=Timestamp::LATEST.0;

/// Batches of a producer, back to back, of which all is known to be true: lengths, checksums, counts, offsets, every record.
#[derive(Clone, Debug)]
pub struct ValidBatches {
    payload: Bytes,
    headers: ValidHeaders,
    records: u64,
    max_timestamp: Timestamp,
    keyless: bool,
}

/// One is by far the most frequent number of batches, and needs no allocation.
#[derive(Clone, Debug)]
enum ValidHeaders {
    One(BatchHeader),
    Many(Vec<BatchHeader>),
}

impl ValidBatches {
    /// A marker that ends a transaction: no client sends one.
    #[must_use]
    pub fn marker(marker: ControlRecord, (id, epoch): (ProducerId, ProducerEpoch), timestamp: Timestamp) -> Self {
        let payload = control_batch(marker, id, epoch, timestamp);
        #[expect(clippy::expect_used, reason = "it was built just now")]
        let header = BatchHeader::parse(&payload).expect("a marker is a batch");
        Self { payload, headers: ValidHeaders::One(header), records: 1, max_timestamp: timestamp, keyless: false }
    }

    /// All batches, as they were sent.
    #[must_use]
    pub const fn payload(&self) -> &Bytes {
        &self.payload
    }

    /// Their headers, in order; never empty.
    #[must_use]
    pub fn headers(&self) -> &[BatchHeader] {
        match &self.headers {
            ValidHeaders::One(header) => core::slice::from_ref(header),
            ValidHeaders::Many(headers) => headers,
        }
    }

    /// Header and bytes of each batch, in order; the bytes share the payload.
    pub fn batches(&self) -> impl Iterator<Item = (&BatchHeader, Bytes)> {
        self.headers().iter().scan(0, |position, header| {
            let start = *position;
            *position += header.total_bytes();
            Some((header, self.payload.slice(start..*position)))
        })
    }

    /// Records in all of them: how many offsets they take.
    #[must_use]
    pub const fn records(&self) -> u64 {
        self.records
    }

    /// The largest timestamp in all of them.
    #[must_use]
    pub const fn max_timestamp(&self) -> Timestamp {
        self.max_timestamp
    }

    /// True where some record has no key, which a compacted topic refuses.
    #[must_use]
    pub const fn has_keyless_records(&self) -> bool {
        self.keyless
    }
}

/// Checks everything that the format promises about the batches a client sent, and keeps their bytes as they are: one batch or
/// more, back to back to the end of `payload`, each with base offset 0, timestamps of the producer, no control records, a
/// matching CRC, and as many records as it says, one after the other without a byte between, compressed or not.
///
/// # Errors
/// The first rule that is broken. Memory stays below `limits` whatever the bytes claim.
pub fn validate_produce(payload: Bytes, limits: ProduceLimits) -> Result<ValidBatches, BatchError> {
    SCRATCH.with_borrow_mut(|scratch| validate_within(payload, limits, scratch))
}

/// As [`validate_produce`], in a buffer of the caller's: for what is large, so that no thread keeps it.
///
/// # Errors
/// As [`validate_produce`].
pub fn validate_within(
    payload: Bytes,
    limits: ProduceLimits,
    scratch: &mut Scratch,
) -> Result<ValidBatches, BatchError> {
    let mut look = Look { limits, left: limits.decompressed_in_all_max, scratch };
    let (first, mut found) = look.validate_front(&payload)?;
    let mut rest = &payload[first.total_bytes()..];
    let mut records = u64::from(first.record_count);
    let mut headers = ValidHeaders::One(first);
    while !rest.is_empty() {
        let (header, more) = look.validate_front(rest)?;
        rest = &rest[header.total_bytes()..];
        records += u64::from(header.record_count);
        found = Walked {
            max_timestamp: found.max_timestamp.max(more.max_timestamp),
            keyless: found.keyless || more.keyless,
        };
        headers = match headers {
            ValidHeaders::One(first) => ValidHeaders::Many(vec![first, header]),
            ValidHeaders::Many(mut headers) => {
                headers.push(header);
                ValidHeaders::Many(headers)
            }
        };
    }
    Ok(ValidBatches { headers, records, max_timestamp: found.max_timestamp, keyless: found.keyless, payload })
}

thread_local! {
    /// Compressed batches are looked into here: one buffer per network thread.
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// One look at what a producer sent.
struct Look<'s> {
    limits: ProduceLimits,
    /// What may still be decompressed.
    left: usize,
    scratch: &'s mut Scratch,
}

impl Look<'_> {
    /// Checks the batch at the front of `bytes`. The cheap rules come first: what is refused anyway shall not cost a checksum or a
    /// decompression.
    fn validate_front(&mut self, bytes: &[u8]) -> Result<(BatchHeader, Walked), BatchError> {
        let limits = self.limits;
        if bytes.is_empty() {
            return Err(BatchError::NoBatch);
        }
        let header = BatchHeader::parse(bytes)?;
        if header.total_bytes() > limits.batch_bytes_max {
            return Err(BatchError::TooLarge { bytes: header.total_bytes(), limit: limits.batch_bytes_max });
        }
        if header.base_offset != Offset::ZERO {
            return Err(BatchError::BaseOffset { found: header.base_offset });
        }
        if header.attributes.is_control() {
            return Err(BatchError::ControlFromClient);
        }
        if header.attributes.timestamp_type() != TimestampType::Create {
            return Err(BatchError::TimestampType);
        }
        let (id, epoch, sequence) = (header.producer_id.0, header.producer_epoch.0, header.base_sequence.0);
        let idempotent = id >= 0 && epoch >= 0 && sequence >= 0;
        // Without an id nobody looks at the sequence, and some clients count all the same.
        if !idempotent && (id, epoch) != (-1, -1) {
            return Err(BatchError::Producer { id, epoch, sequence });
        }
        let batch = RawBatch::parse(bytes)?;
        batch.verify_crc()?;
        let walked = if header.attributes.compression() == Compression::None {
            walk(&header, batch.payload())?
        } else {
            self.scratch.set_limit(limits.decompressed_bytes_max.min(self.left));
            let records = self.scratch.decompressed(&batch)?;
            self.left -= records.len();
            let walked = walk(&header, records);
            self.scratch.trim();
            walked?
        };
        if walked.max_timestamp != header.max_timestamp {
            return Err(BatchError::MaxTimestamp { claimed: header.max_timestamp, found: walked.max_timestamp });
        }
        Ok((header, walked))
    }
}

/// What only the records themselves can tell.
struct Walked {
    max_timestamp: Timestamp,
    keyless: bool,
}

/// Walks all records to the end of `rest`: offsets count up from 0 without a gap, every length is exact.
fn walk(header: &BatchHeader, mut rest: &[u8]) -> Result<Walked, BatchError> {
    let mut max_timestamp = i64::MIN;
    let mut keyless = false;
    for index in 0..header.record_count {
        let body = match take_record(&mut rest) {
            Ok(body) => body,
            Err(fault) => return Err(fault.at(index, header.record_count)),
        };
        if body.offset_delta as u32 != index {
            return Err(BatchError::OffsetDelta { index, found: body.offset_delta });
        }
        let (base, delta) = (header.base_timestamp, body.timestamp_delta);
        let timestamp = base.0.checked_add(delta).filter(|sum| DATED.contains(sum));
        max_timestamp = max_timestamp.max(timestamp.ok_or(BatchError::TimestampRange { index, base, delta })?);
        keyless |= body.key.is_none();
    }
    if rest.is_empty() {
        Ok(Walked { max_timestamp: Timestamp(max_timestamp), keyless })
    } else {
        Err(BatchError::TrailingBytes { bytes: rest.len() })
    }
}
