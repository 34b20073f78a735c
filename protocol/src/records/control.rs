//! Control records: the markers that end a transaction, one to a batch, which applications never see. Knows their bytes, not
//! the transactions (KIP-98).

use bytes::{Bytes, BytesMut};

use super::{BatchBuilder, BatchError, Compression, NO_HEADERS, Producer, Record, TimestampType};
use crate::{ProducerEpoch, ProducerId, Sequence, Timestamp};

/// What a control record says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ControlRecord {
    /// The producer's transaction is undone: its records are skipped.
    Abort {
        /// Epoch of the transaction coordinator that decided; a marker of an older one is refused.
        coordinator_epoch: i32,
    },
    /// The producer's transaction holds.
    Commit {
        /// Epoch of the transaction coordinator that decided; a marker of an older one is refused.
        coordinator_epoch: i32,
    },
    /// A type that this version does not know; readers pass over it.
    Unknown {
        /// The type field as read.
        kind: i16,
    },
}

const ABORT: i16 = 0;
const COMMIT: i16 = 1;
const VERSION: i16 = 0;

impl ControlRecord {
    /// What the record of a control batch says. Key: version and type, 16 bits each; value: version (16 bits) and coordinator
    /// epoch (32 bits). Later versions may only append.
    ///
    /// # Errors
    /// [`BatchError::Control`] where key or value are missing, too short, or of a negative version.
    pub fn parse(record: &Record<'_>) -> Result<Self, BatchError> {
        let key = record.key.and_then(|key| key.first_chunk::<4>()).ok_or(BatchError::Control)?;
        let (version, kind) = (i16::from_be_bytes([key[0], key[1]]), i16::from_be_bytes([key[2], key[3]]));
        if version < 0 {
            return Err(BatchError::Control);
        }
        if kind != ABORT && kind != COMMIT {
            return Ok(Self::Unknown { kind });
        }
        let value = record.value.and_then(|value| value.first_chunk::<6>()).ok_or(BatchError::Control)?;
        if i16::from_be_bytes([value[0], value[1]]) < 0 {
            return Err(BatchError::Control);
        }
        let coordinator_epoch = i32::from_be_bytes([value[2], value[3], value[4], value[5]]);
        Ok(if kind == ABORT { Self::Abort { coordinator_epoch } } else { Self::Commit { coordinator_epoch } })
    }

    fn key_and_value(self) -> ([u8; 4], [u8; 6]) {
        let (kind, epoch) = match self {
            Self::Abort { coordinator_epoch } => (ABORT, coordinator_epoch),
            Self::Commit { coordinator_epoch } => (COMMIT, coordinator_epoch),
            Self::Unknown { kind } => (kind, 0),
        };
        let ([v0, v1], [k0, k1]) = (VERSION.to_be_bytes(), kind.to_be_bytes());
        let [e0, e1, e2, e3] = epoch.to_be_bytes();
        ([v0, v1, k0, k1], [v0, v1, e0, e1, e2, e3])
    }
}

/// The batch that writes `marker` for one producer: one record, transactional, control, outside the producer's sequence.
#[must_use]
pub fn control_batch(marker: ControlRecord, id: ProducerId, epoch: ProducerEpoch, timestamp: Timestamp) -> Bytes {
    let (key, value) = marker.key_and_value();
    let mut builder = BatchBuilder::with_buffer(BytesMut::with_capacity(128), 128);
    builder.set_producer(Producer { id, epoch, base_sequence: Sequence::NONE });
    let attributes = builder.attributes().transactional().control().with_timestamp_type(TimestampType::Create);
    builder.set_attributes(attributes);
    #[expect(clippy::expect_used, reason = "a marker has a fixed size that fits, and no codec is asked for")]
    {
        builder.append(timestamp, Some(&key), Some(&value), NO_HEADERS).expect("a marker takes less than 128 bytes");
        builder.finish(Compression::None).expect("one record stands in the batch")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Offset;
    use crate::records::Headers;

    fn parse(key: Option<&[u8]>, value: Option<&[u8]>) -> Result<ControlRecord, BatchError> {
        let headers = Headers::default();
        ControlRecord::parse(&Record { offset: Offset::ZERO, timestamp: Timestamp(0), key, value, headers })
    }

    #[test]
    fn markers_of_later_versions_and_unknown_types_are_read() {
        let value = [0, 5, 0, 0, 1, 0, 9, 9, 9];
        assert_eq!(parse(Some(&[0, 5, 0, 1, 9]), Some(&value)), Ok(ControlRecord::Commit { coordinator_epoch: 256 }));
        assert_eq!(parse(Some(&[0, 0, 0, 2]), None), Ok(ControlRecord::Unknown { kind: 2 }));
    }

    #[test]
    fn malformed_markers_are_refused() {
        let value = Some(&[0u8; 6][..]);
        for (key, value) in [
            (None, value),
            (Some(&[0, 0, 0][..]), value),
            (Some(&[0xff, 0xff, 0, 0][..]), value),
            (Some(&[0, 0, 0, 0][..]), None),
            (Some(&[0, 0, 0, 0][..]), Some(&[0; 5][..])),
            (Some(&[0, 0, 0, 0][..]), Some(&[0xff, 0xff, 0, 0, 0, 0][..])),
        ] {
            assert_eq!(parse(key, value), Err(BatchError::Control), "{key:?} {value:?}");
        }
    }
}
