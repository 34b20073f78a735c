//! Cuts a batch that is too large into smaller ones, record by record. Pure; knows nothing of lanes or of why a limit was lowered.

use bytes::Bytes;
use tidelog_protocol::records;
use tidelog_protocol::records::{
    Attributes, BatchBuilder, BatchError, BuildError, Compression, Producer, RawBatch, Scratch,
};
use tidelog_protocol::{ProducerId, Sequence};

/// A batch that was cut out of a larger one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Part {
    /// Place of its first record in the batch that was cut.
    pub(super) first: u32,
    pub(super) records: u32,
    pub(super) bytes: Bytes,
}

/// Why a batch cannot be cut; one that this producer built always can.
#[derive(Debug, thiserror::Error)]
pub(super) enum SplitError {
    #[error(transparent)]
    Read(#[from] BatchError),
    #[error(transparent)]
    Build(#[from] BuildError),
}

/// Parts of at most `limit` bytes as they are sent, in order, compressed as the batch was. Only a part of a single record may be larger.
pub(super) fn split(batch: &[u8], limit: usize) -> Result<Vec<Part>, SplitError> {
    let mut target = limit;
    loop {
        let parts = cut(batch, target)?;
        // What does not compress may grow by it.
        if parts.iter().all(|part| part.records == 1 || part.bytes.len() <= limit) {
            return Ok(parts);
        }
        target /= 2;
    }
}

/// Parts of at most `target` bytes before compression.
fn cut(batch: &[u8], target: usize) -> Result<Vec<Part>, SplitError> {
    let batch = RawBatch::parse(batch)?;
    let compression = batch.header().attributes.compression();
    let mut scratch = Scratch::with_limit(i32::MAX as usize);
    let header = batch.header();
    let producer =
        Producer { id: header.producer_id, epoch: header.producer_epoch, base_sequence: header.base_sequence };
    // Whether it is part of a transaction; all else is said anew.
    let mut attributes = Attributes::default();
    if header.attributes.is_transactional() {
        attributes = attributes.transactional();
    }
    let mut cutting =
        Cutting { parts: Vec::new(), builder: BatchBuilder::new(target), attributes, compression, producer };
    for record in batch.records(&mut scratch)? {
        let record = record?;
        match append(&mut cutting.builder, &record) {
            Err(BuildError::Full { .. }) => {
                cutting.finish()?;
                append(&mut cutting.builder, &record)?;
            }
            Err(BuildError::RecordTooLarge { .. }) => {
                cutting.finish()?;
                let bounded = std::mem::replace(&mut cutting.builder, BatchBuilder::new(usize::MAX));
                append(&mut cutting.builder, &record)?;
                cutting.finish()?;
                cutting.builder = bounded;
            }
            appended => appended?,
        }
    }
    cutting.finish()?;
    Ok(cutting.parts)
}

fn append(builder: &mut BatchBuilder, record: &records::Record<'_>) -> Result<(), BuildError> {
    // Names came in as text.
    let names: Vec<_> = record.headers.map(|header| (header.name(), header.value)).collect();
    let headers = names.iter().map(|(name, value)| (&**name, *value));
    builder.append(record.timestamp, record.key, record.value, headers).map(|_| ())
}

/// The parts so far and the one being filled.
struct Cutting {
    parts: Vec<Part>,
    builder: BatchBuilder,
    attributes: Attributes,
    compression: Compression,
    /// Of the batch that is cut; each part goes on where the one before it ends.
    producer: Producer,
}

impl Cutting {
    fn finish(&mut self) -> Result<(), BuildError> {
        let records = self.builder.count();
        if records > 0 {
            let first = self.parts.last().map_or(0, |part| part.first + part.records);
            let mut producer = self.producer;
            if producer.id != ProducerId::NONE {
                producer.base_sequence = Sequence(producer.base_sequence.0.wrapping_add(first as i32) & i32::MAX);
            }
            self.builder.set_producer(producer);
            self.builder.set_attributes(self.attributes);
            self.parts.push(Part { first, records, bytes: self.builder.finish(self.compression)? });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use tidelog_protocol::{ProducerEpoch, Timestamp};

    fn values(batch: &[u8]) -> Vec<(i64, Vec<u8>)> {
        let mut scratch = Scratch::new();
        let records = RawBatch::parse(batch).unwrap().records(&mut scratch).unwrap();
        records.map(|record| record.unwrap()).map(|r| (r.timestamp.0, r.value.unwrap().to_vec())).collect()
    }

    proptest! {
        #[test]
        fn parts_hold_the_records_of_the_batch_in_order_and_keep_the_limit(
            sizes in prop::collection::vec(0usize..400, 1..40),
            limit in 0usize..2_000,
            compression in prop::sample::select(&Compression::ALL[..]),
            seed: u64,
        ) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut builder = BatchBuilder::new(1 << 20);
            for (at, size) in sizes.iter().enumerate() {
                let value: Vec<u8> = (0..*size).map(|_| random.u8(..)).collect();
                builder.append(Timestamp(at as i64), None, Some(&value), [("name", Some(&b"v"[..]))]).unwrap();
            }
            builder.set_producer(Producer {
                id: ProducerId(7),
                epoch: ProducerEpoch(1),
                base_sequence: Sequence(i32::MAX - 5),
            });
            builder.set_attributes(Attributes::default().transactional());
            let batch = builder.finish(compression).unwrap();
            let parts = split(&batch, limit).unwrap();
            let mut expected_first = 0;
            for part in &parts {
                let header = *RawBatch::parse(&part.bytes).unwrap().header();
                let sequence = (i64::from(i32::MAX) - 5 + i64::from(expected_first)) % (1 << 31);
                prop_assert_eq!((header.producer_id, header.producer_epoch), (ProducerId(7), ProducerEpoch(1)));
                prop_assert_eq!(i64::from(header.base_sequence.0), sequence);
                prop_assert!(header.attributes.is_transactional());
                prop_assert_eq!(part.first, expected_first);
                prop_assert_eq!(RawBatch::parse(&part.bytes).unwrap().header().record_count, part.records);
                prop_assert!(part.records == 1 || part.bytes.len() <= limit);
                RawBatch::parse(&part.bytes).unwrap().verify_crc().unwrap();
                expected_first += part.records;
            }
            let together: Vec<_> = parts.iter().flat_map(|part| values(&part.bytes)).collect();
            prop_assert_eq!(together, values(&batch));
        }
    }
}
