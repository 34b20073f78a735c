//! A finished batch under another producer, epoch or sequence: the records stay, a few bytes of the header and the checksum change. Knows
//! nothing of when that is right.

use bytes::{Bytes, BytesMut};

use super::builder::Producer;
use super::header::{CRC_AT, CRC_START};
use super::{BatchError, RawBatch};

/// Where the producer id stands; epoch and sequence follow it.
const PRODUCER_AT: usize = 43;

/// The batch as `producer` would have sent it.
///
/// # Errors
/// Where the bytes are not one whole batch.
pub fn with_producer(batch: &[u8], producer: Producer) -> Result<Bytes, BatchError> {
    let total = RawBatch::parse(batch)?.header().total_bytes();
    let mut bytes = BytesMut::from(&batch[..total]);
    let mut field = [0; 14];
    field[..8].copy_from_slice(&producer.id.0.to_be_bytes());
    field[8..10].copy_from_slice(&producer.epoch.0.to_be_bytes());
    field[10..].copy_from_slice(&producer.base_sequence.0.to_be_bytes());
    bytes[PRODUCER_AT..PRODUCER_AT + field.len()].copy_from_slice(&field);
    let crc = crc32c::crc32c(&bytes[CRC_START..]);
    bytes[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    Ok(bytes.freeze())
}

#[cfg(test)]
mod tests {
    use super::super::{BatchBuilder, Compression};
    use super::*;
    use crate::{ProducerEpoch, ProducerId, Sequence, Timestamp};

    #[test]
    fn a_batch_under_another_sequence_is_the_one_that_would_have_been_built() {
        let producer = Producer { id: ProducerId(7), epoch: ProducerEpoch(2), base_sequence: Sequence(90) };
        let build = |producer| {
            let mut builder = BatchBuilder::new(1 << 10);
            builder.set_producer(producer);
            builder.append(Timestamp(5), Some(b"key"), Some(b"value"), super::super::NO_HEADERS).unwrap();
            builder.finish(Compression::None).unwrap()
        };
        assert_eq!(with_producer(&build(Producer::NONE), producer).unwrap(), build(producer));
        assert_eq!(with_producer(&build(producer), Producer::NONE).unwrap(), build(Producer::NONE));
    }
}
