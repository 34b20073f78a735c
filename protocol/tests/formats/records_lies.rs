//! Batches that lie: each lie alone gets its own error, whatever the CRC says, and nothing makes the reader panic.

use crate::records_crafted::{batch, header, plain, reseal};
use bytes::Bytes;
use proptest::prelude::*;
use tidelog_protocol::records::{
    Attributes, BatchBuilder, BatchError, Batches, Compression, NO_HEADERS, OwnedBatch, ProduceLimits, RawBatch,
    RecordFault, Scratch, TimestampType, ValidBatches, decompress, stamp, validate_produce,
};
use tidelog_protocol::{ErrorCode, LeaderEpoch, Offset, Timestamp};

fn validate(bytes: impl Into<Bytes>) -> Result<ValidBatches, BatchError> {
    validate_produce(bytes.into(), ProduceLimits::default())
}

/// `good` with one field overwritten and the CRC made right again.
fn lie(good: &[u8], at: usize, field: &[u8]) -> Result<ValidBatches, BatchError> {
    let mut bytes = good.to_vec();
    bytes[at..at + field.len()].copy_from_slice(field);
    reseal(&mut bytes);
    validate(bytes)
}

#[test]
fn honest_batches_back_to_back_are_accepted_without_a_copy() {
    let payload: Bytes = [plain(&[b"a", b"b"]), plain(&[b"c"]), plain(&[b"d"])].concat().into();
    let valid = validate(payload.clone()).unwrap();
    assert_eq!(valid.records(), 4);
    assert_eq!(valid.headers().len(), 3);
    assert_eq!(valid.max_timestamp(), Timestamp(1));
    assert!(valid.has_keyless_records());
    assert_eq!(valid.payload().as_ptr(), payload.as_ptr());
    let found: Vec<_> = valid.batches().map(|(_, bytes)| bytes).collect();
    assert_eq!(found.concat(), payload);
}

#[test]
fn keys_everywhere_are_noticed() {
    let mut builder = BatchBuilder::new(1000);
    builder.append(Timestamp(5), Some(b""), None, NO_HEADERS).unwrap();
    let valid = validate(builder.finish(Compression::None).unwrap()).unwrap();
    assert!(!valid.has_keyless_records());
}

#[test]
fn nothing_is_no_batch() {
    assert_eq!(validate(Bytes::new()).unwrap_err(), BatchError::NoBatch);
}

#[test]
fn a_count_that_lies_is_refused() {
    let good = plain(&[b"one", b"two", b"three"]);
    assert!(matches!(lie(&good, 57, &2i32.to_be_bytes()), Err(BatchError::Count { count: 2, last_delta: 2 })));
    // Count and last delta lie alike, so only the records can tell.
    let both = |count: i32| {
        let mut bytes = good.to_vec();
        bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
        bytes[57..61].copy_from_slice(&count.to_be_bytes());
        reseal(&mut bytes);
        validate(bytes)
    };
    assert_eq!(both(4).unwrap_err(), BatchError::MissingRecords { count: 4, found: 3 });
    assert_eq!(both(i32::MAX).unwrap_err(), BatchError::MissingRecords { count: i32::MAX as u32, found: 3 });
    assert!(matches!(both(2), Err(BatchError::TrailingBytes { .. })));
    assert!(matches!(both(0), Err(BatchError::OffsetRange { .. })));
    assert!(both(3).is_ok());
}

#[test]
fn a_batch_without_records_is_refused() {
    assert!(matches!(validate(batch(header(Compression::None, 0, 0), &[])), Err(BatchError::Count { count: 0, .. })));
}

#[test]
fn a_length_that_lies_is_refused() {
    let good = plain(&[b"one", b"two"]);
    let length = (good.len() - 12) as i32;
    assert!(matches!(lie(&good, 8, &(length + 1).to_be_bytes()), Err(BatchError::Truncated { .. })));
    // Shorter: the checksummed bytes end early, and what follows is no batch.
    assert!(matches!(lie(&good, 8, &(length - 1).to_be_bytes()), Err(BatchError::Crc { .. })));
    assert!(matches!(lie(&good, 8, &0i32.to_be_bytes()), Err(BatchError::Length { declared: 0 })));
    assert!(matches!(validate(good.slice(..good.len() - 1)), Err(BatchError::Truncated { .. })));
    assert!(matches!(validate([&good[..], b"x"].concat()), Err(BatchError::Truncated { available: 1, .. })));
}

#[test]
fn a_wrong_crc_is_damage_and_may_be_retried() {
    let mut bytes = plain(&[b"one"]).to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let error = validate(bytes).unwrap_err();
    assert!(matches!(error, BatchError::Crc { .. }));
    assert_eq!(error.code(), ErrorCode::Corrupt);
    assert!(error.code().is_retriable());
}

#[test]
fn offsets_of_records_must_count_up_from_zero() {
    // Length, attributes, timestamp delta, offset delta, null key, empty value, no headers.
    let record = |delta: u8| [12, 0, 0, delta << 1, 1, 0, 0];
    let two = |a, b| validate(batch(header(Compression::None, 2, 14), &[record(a), record(b)].concat()));
    assert!(two(0, 1).is_ok());
    assert_eq!(two(0, 2).unwrap_err(), BatchError::OffsetDelta { index: 1, found: 2 });
    assert_eq!(two(1, 0).unwrap_err(), BatchError::OffsetDelta { index: 0, found: 1 });
    assert_eq!(two(0, 0).unwrap_err(), BatchError::OffsetDelta { index: 1, found: 0 });
}

#[test]
fn what_only_a_broker_may_say_is_refused() {
    let good = plain(&[b"one"]);
    let attributes = |attributes: Attributes| lie(&good, 21, &attributes.0.to_be_bytes());
    assert_eq!(attributes(Attributes::default().control()).unwrap_err(), BatchError::ControlFromClient);
    let append_time = Attributes::default().with_timestamp_type(TimestampType::LogAppend);
    assert_eq!(attributes(append_time).unwrap_err(), BatchError::TimestampType);
    let mut stamped = good.to_vec();
    stamp(&mut stamped, Offset(5), LeaderEpoch(1));
    assert_eq!(validate(stamped).unwrap_err(), BatchError::BaseOffset { found: Offset(5) });
}

#[test]
fn timestamps_that_no_calendar_has_are_refused_and_the_ends_of_the_range_are_not() {
    let of = |timestamps: &[i64], compression| {
        let mut builder = BatchBuilder::new(1 << 20);
        for timestamp in timestamps {
            builder.append(Timestamp(*timestamp), None, Some(b"x"), NO_HEADERS).unwrap();
        }
        validate(builder.finish(compression).unwrap())
    };
    let (first, last) = (Timestamp::EARLIEST.0, Timestamp::LATEST.0);
    for compression in [Compression::None, Compression::Lz4] {
        let valid = of(&[last, first, Timestamp::NONE.0, 0], compression).unwrap();
        assert_eq!(valid.max_timestamp(), Timestamp::LATEST);
        for wrong in [i64::MIN, first - 1, last + 1, i64::MAX] {
            let error = of(&[1, wrong], compression).unwrap_err();
            assert!(matches!(error, BatchError::TimestampRange { index: 1, .. }), "{wrong}: {error}");
            assert_eq!(error.code(), ErrorCode::InvalidBatch);
            assert!(error.to_string().contains("years 1 to 9999"), "{error}");
        }
    }
    // A sum that leaves the range of numbers must not come round to a date.
    let good = plain(&[b"one", b"two"]);
    let error = lie(&good, 27, &i64::MAX.to_be_bytes()).unwrap_err();
    assert_eq!(error, BatchError::TimestampRange { index: 0, base: Timestamp(i64::MAX), delta: 0 });
}

#[test]
fn a_max_timestamp_that_lies_is_refused() {
    let good = plain(&[b"one", b"two"]);
    for wrong in [0i64, 2, -1, i64::MAX] {
        let error = lie(&good, 35, &wrong.to_be_bytes()).unwrap_err();
        assert_eq!(error, BatchError::MaxTimestamp { claimed: Timestamp(wrong), found: Timestamp(1) });
    }
}

#[test]
fn a_batch_over_the_limit_is_refused_before_its_checksum() {
    let good = plain(&[b"one"]);
    let limits = ProduceLimits { batch_bytes_max: good.len() - 1, ..ProduceLimits::default() };
    let mut bad_crc = good.to_vec();
    bad_crc[17] ^= 1;
    for bytes in [good.clone(), bad_crc.into()] {
        let error = validate_produce(bytes, limits).unwrap_err();
        assert_eq!(error, BatchError::TooLarge { bytes: good.len(), limit: good.len() - 1 });
        assert_eq!(error.code(), ErrorCode::TooLarge);
    }
}

#[test]
fn each_malformed_field_of_a_record_is_named() {
    let one = |record: &[u8]| match validate(batch(header(Compression::None, 1, record.len()), record)) {
        Err(BatchError::Record { index: 0, fault }) => fault,
        other => panic!("{other:?}"),
    };
    // In order: length, attributes, timestamp delta, offset delta, key length, value length, header count.
    assert_eq!(one(&[0x80]), RecordFault::EndsInField);
    assert_eq!(one(&[0xff, 0xff, 0xff, 0xff, 0x7f]), RecordFault::Varint);
    assert_eq!(one(&[11, 0, 0, 0, 1, 1, 0]), RecordFault::Length);
    assert_eq!(one(&[14, 0, 0, 0, 1, 1, 0]), RecordFault::Overrun);
    assert_eq!(one(&[0]), RecordFault::EndsInField);
    assert_eq!(one(&[10, 0, 0, 0, 1, 1]), RecordFault::EndsInField);
    assert_eq!(one(&[14, 0, 0, 0, 1, 1, 0, 0]), RecordFault::Slack);
    assert_eq!(one(&[12, 0, 0, 0, 3, 1, 0]), RecordFault::KeyLength);
    assert_eq!(one(&[12, 0, 0, 0, 6, 1, 0]), RecordFault::KeyLength);
    assert_eq!(one(&[12, 0, 0, 0, 1, 3, 0]), RecordFault::ValueLength);
    assert_eq!(one(&[12, 0, 0, 0, 1, 4, 0]), RecordFault::ValueLength);
    assert_eq!(one(&[12, 0, 0, 0, 1, 1, 1]), RecordFault::HeaderCount);
    assert_eq!(one(&[12, 0, 0, 0, 1, 1, 2]), RecordFault::EndsInField);
    assert_eq!(one(&[16, 0, 0, 0, 1, 1, 2, 1, 0]), RecordFault::HeaderKeyLength);
    assert_eq!(one(&[16, 0, 0, 0, 1, 1, 2, 0, 2]), RecordFault::HeaderValueLength);
    let count_of_two_billion = [20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f];
    assert_eq!(one(&count_of_two_billion), RecordFault::EndsInField);
}

#[test]
fn a_producer_is_named_by_id_epoch_and_sequence_or_not_at_all() {
    let good = plain(&[b"one"]);
    let named = |id: i64, epoch: i16, sequence: i32| {
        let field = [&id.to_be_bytes()[..], &epoch.to_be_bytes(), &sequence.to_be_bytes()].concat();
        lie(&good, 43, &field).map(|_| ())
    };
    for (id, epoch, sequence) in [(-1, -1, -1), (-1, -1, 0), (7, 0, 0), (i64::MAX, i16::MAX, i32::MAX)] {
        assert_eq!(named(id, epoch, sequence), Ok(()));
    }
    for (id, epoch, sequence) in [(-1, 0, 0), (-1, 3, -1), (7, -1, 0), (7, 0, -1), (-2, -1, -1), (7, -2, 5)] {
        assert_eq!(named(id, epoch, sequence), Err(BatchError::Producer { id, epoch, sequence }));
    }
}

#[test]
fn every_error_is_a_sentence_without_a_newline() {
    let errors = [
        BatchError::NoBatch,
        BatchError::ControlFromClient,
        BatchError::Control,
        BatchError::Record { index: 3, fault: RecordFault::Overrun },
        BatchError::Magic { found: 1 },
    ];
    for error in errors {
        assert_eq!(error.code(), ErrorCode::InvalidBatch);
        let text = error.to_string();
        assert!(text.len() > 20 && !text.contains('\n'), "{text}");
    }
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(&Compression::ALL[..])
}

fn read_all(bytes: &[u8]) {
    let mut scratch = Scratch::with_limit(1 << 20);
    for batch in Batches::compacted(bytes).map_while(Result::ok) {
        if let Ok(records) = batch.records(&mut scratch) {
            for record in records.map_while(Result::ok) {
                record.headers.for_each(|header| drop(header.name()));
            }
        }
    }
    let mut shared = Bytes::copy_from_slice(bytes);
    while let Ok(batch) = OwnedBatch::split_from(&mut shared) {
        if let Ok(records) = batch.records(1 << 20) {
            records.map_while(Result::ok).for_each(|record| record.headers().for_each(drop));
        }
    }
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = RawBatch::parse(&bytes);
        read_all(&bytes);
        let _ = validate(bytes);
    }

    #[test]
    fn random_records_behind_an_honest_header_never_panic(
        codec in codec(), count in 1u32..5, payload in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let bytes = batch(header(codec, count, payload.len()), &payload);
        read_all(&bytes);
        let _ = validate(bytes);
        let mut out = Vec::new();
        if decompress(codec, &payload, &mut out, 1 << 16).is_ok() {
            prop_assert!(out.len() <= 1 << 16);
        }
    }

    #[test]
    fn whatever_is_accepted_reads_back_whole(
        values in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 1..6),
        flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let mut bytes = plain(&values).to_vec();
        for (index, byte) in flips {
            let at = index.index(bytes.len());
            bytes[at] = byte;
        }
        reseal(&mut bytes);
        read_all(&bytes);
        if let Ok(valid) = validate(bytes.clone()) {
            let mut scratch = Scratch::new();
            let mut read = 0;
            for batch in Batches::new(&bytes) {
                for record in batch.unwrap().records(&mut scratch).unwrap() {
                    prop_assert_eq!(record.unwrap().offset, Offset(read));
                    read += 1;
                }
            }
            prop_assert_eq!(read, valid.records());
        }
    }
}
