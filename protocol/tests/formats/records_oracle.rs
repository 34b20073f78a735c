//! Batches both ways against an independent implementation: what we build it reads, what it builds we accept and read.

#![cfg(feature = "compression")]

use bytes::{Bytes, BytesMut};
use kafka_protocol::indexmap::IndexMap;
use kafka_protocol::protocol::StrBytes;
use kafka_protocol::records as oracle;
use proptest::prelude::*;
use tidelog_protocol::records::{
    BatchBuilder, Compression, ControlRecord, OwnedBatch, ProduceLimits, Producer, RawBatch, Scratch, control_batch,
    validate_produce,
};
use tidelog_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

type Field = Option<Vec<u8>>;

#[derive(Clone, PartialEq, Debug)]
struct Plain {
    timestamp: i64,
    key: Field,
    value: Field,
    headers: Vec<(String, Field)>,
}

fn field(max: usize) -> impl Strategy<Value = Field> {
    prop::option::of(prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..max),
        // Long runs, so that compression has something to do and varints get longer.
        1 => (any::<u8>(), 0..max * 100).prop_map(|(byte, count)| vec![byte; count]),
    ])
}

fn record() -> impl Strategy<Value = Plain> {
    let headers = prop::collection::vec((".{0,8}", field(10)), 0..4);
    // Around one base, so that deltas are negative as well.
    (1_700_000_000_000i64..1_700_000_100_000, field(40), field(200), headers)
        .prop_map(|(timestamp, key, value, headers)| Plain { timestamp, key, value, headers })
}

fn records() -> impl Strategy<Value = Vec<Plain>> {
    prop::collection::vec(record(), 1..30)
}

fn codec() -> impl Strategy<Value = Compression> {
    prop::sample::select(&Compression::ALL[..])
}

/// The oracle keeps one header of each name.
fn without_duplicate_names(mut records: Vec<Plain>) -> Vec<Plain> {
    for record in &mut records {
        let mut seen = Vec::new();
        record.headers.retain(|(name, _)| !seen.contains(name) && (seen.push(name.clone()), true).1);
    }
    records
}

fn build(records: &[Plain], codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(10 << 20);
    builder.set_producer(Producer { id: ProducerId(77), epoch: ProducerEpoch(3), base_sequence: Sequence(1000) });
    builder.set_attributes(builder.attributes().transactional());
    for (index, record) in records.iter().enumerate() {
        let headers = || record.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref()));
        let (key, value) = (record.key.as_deref(), record.value.as_deref());
        assert!(builder.would_fit(Timestamp(record.timestamp), key, value, headers()));
        assert_eq!(builder.append(Timestamp(record.timestamp), key, value, headers()), Ok(index as u32));
    }
    builder.finish(codec).unwrap()
}

fn read(bytes: &Bytes) -> Vec<Plain> {
    let batch = RawBatch::parse(bytes).unwrap();
    assert_eq!(batch.bytes().len(), bytes.len());
    let owned = |field: Option<&[u8]>| field.map(<[u8]>::to_vec);
    let mut scratch = Scratch::new();
    let found: Vec<_> = (batch.records(&mut scratch).unwrap().enumerate())
        .map(|(index, record)| {
            let record = record.unwrap();
            assert_eq!(record.offset, Offset(index as u64));
            Plain {
                timestamp: record.timestamp.0,
                key: owned(record.key),
                value: owned(record.value),
                headers: record.headers.map(|header| (header.name().into_owned(), owned(header.value))).collect(),
            }
        })
        .collect();
    // The sharing reader says the same.
    let batch = OwnedBatch::split_from(&mut bytes.clone()).unwrap();
    batch.verify_crc().unwrap();
    for (shared, plain) in batch.records(64 << 20).unwrap().zip(&found) {
        let shared = shared.unwrap();
        assert_eq!(shared.timestamp.0, plain.timestamp);
        assert_eq!(shared.key.as_deref(), plain.key.as_deref());
        assert_eq!(shared.value.as_deref(), plain.value.as_deref());
        assert!(shared.headers().map(|h| (h.name().into_owned(), owned(h.value))).eq(plain.headers.iter().cloned()));
    }
    found
}

fn oracle_read(bytes: &Bytes) -> Vec<Plain> {
    let set = oracle::RecordBatchDecoder::decode(&mut bytes.clone()).unwrap();
    (set.records.into_iter().enumerate())
        .map(|(index, record)| {
            assert_eq!(record.offset, index as i64);
            assert_eq!((record.producer_id, record.producer_epoch), (77, 3));
            assert_eq!(record.sequence, 1000 + index as i32);
            assert!(record.transactional && !record.control);
            Plain {
                timestamp: record.timestamp,
                key: record.key.map(Into::into),
                value: record.value.map(Into::into),
                headers: (record.headers.into_iter())
                    .map(|(name, value)| (name.to_string(), value.map(Into::into)))
                    .collect(),
            }
        })
        .collect()
}

fn oracle_build(records: &[Plain], codec: Compression) -> Bytes {
    let records: Vec<_> = (records.iter().enumerate())
        .map(|(index, record)| oracle::Record {
            transactional: false,
            control: false,
            delete_horizon: false,
            partition_leader_epoch: -1,
            producer_id: -1,
            producer_epoch: -1,
            timestamp_type: oracle::TimestampType::Creation,
            offset: index as i64,
            sequence: index as i32,
            timestamp: record.timestamp,
            key: record.key.clone().map(Into::into),
            value: record.value.clone().map(Into::into),
            headers: (record.headers.iter().cloned())
                .map(|(name, value)| (StrBytes::from_string(name), value.map(Into::into)))
                .collect::<IndexMap<_, _>>(),
        })
        .collect();
    let compression = match codec {
        Compression::None => oracle::Compression::None,
        Compression::Gzip => oracle::Compression::Gzip,
        Compression::Snappy => oracle::Compression::Snappy,
        Compression::Lz4 => oracle::Compression::Lz4,
        Compression::Zstd => oracle::Compression::Zstd,
    };
    let mut out = BytesMut::new();
    let options = oracle::RecordEncodeOptions { version: 2, compression };
    oracle::RecordBatchEncoder::encode(&mut out, &records, &options).unwrap();
    out.freeze()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn what_we_build_we_accept_and_read_back(records in records(), codec in codec()) {
        let bytes = build(&records, codec);
        let valid = validate_produce(bytes.clone(), ProduceLimits::default()).unwrap();
        prop_assert_eq!(valid.records(), records.len() as u64);
        prop_assert_eq!(Some(valid.max_timestamp().0), records.iter().map(|r| r.timestamp).max());
        prop_assert_eq!(valid.has_keyless_records(), records.iter().any(|r| r.key.is_none()));
        prop_assert_eq!(read(&bytes), records);
    }

    #[test]
    fn what_we_build_the_oracle_reads(records in records(), codec in codec()) {
        let records = without_duplicate_names(records);
        prop_assert_eq!(oracle_read(&build(&records, codec)), records);
    }

    #[test]
    fn what_the_oracle_builds_we_accept_and_read(records in records(), codec in codec()) {
        let records = without_duplicate_names(records);
        let bytes = oracle_build(&records, codec);
        prop_assert!(validate_produce(bytes.clone(), ProduceLimits::default()).is_ok());
        prop_assert_eq!(read(&bytes), records);
    }

    #[test]
    fn uncompressed_both_build_the_same_bytes(mut records in records()) {
        records = without_duplicate_names(records);
        // The oracle counts time from the smallest, we from the first.
        records.sort_by_key(|record| record.timestamp);
        let ours = build(&records, Compression::None);
        let theirs = oracle_build(&records, Compression::None);
        prop_assert_eq!(&ours[61..], &theirs[61..]);
    }
}

#[test]
fn markers_read_back_here_and_there() {
    for marker in [ControlRecord::Commit { coordinator_epoch: 9 }, ControlRecord::Abort { coordinator_epoch: -1 }] {
        let bytes = control_batch(marker, ProducerId(5), ProducerEpoch(2), Timestamp(123));
        let batch = RawBatch::parse(&bytes).unwrap();
        batch.verify_crc().unwrap();
        assert!(batch.header().attributes.is_control() && batch.header().attributes.is_transactional());
        let mut scratch = Scratch::new();
        let record = batch.records(&mut scratch).unwrap().next().unwrap().unwrap();
        assert_eq!(ControlRecord::parse(&record), Ok(marker));
        let set = oracle::RecordBatchDecoder::decode(&mut bytes.clone()).unwrap();
        assert!(set.records[0].control && set.records[0].transactional);
        assert_eq!((set.records[0].producer_id, set.records[0].producer_epoch), (5, 2));
        let kind = u8::from(matches!(marker, ControlRecord::Commit { .. }));
        assert_eq!(set.records[0].key.as_deref(), Some(&[0, 0, 0, kind][..]));
    }
}
