//! Batches kept as bytes: what was once written must read the same for ever, and where a codec's output is ours to decide, be
//! written the same.

#![cfg(feature = "compression")]

use bytes::Bytes;
use tidelog_protocol::records::{
    BatchBuilder, Compression, ControlRecord, ProduceLimits, Producer, RawBatch, Scratch, control_batch,
    validate_produce,
};
use tidelog_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

type Golden = (i64, Option<&'static [u8]>, Option<&'static [u8]>, &'static [(&'static str, Option<&'static [u8]>)]);

/// A null and an empty of everything, a time before the first, and enough of the same to compress.
const RECORDS: &[Golden] = &[
    (1_700_000_000_000, Some(b"key"), Some(b"value"), &[]),
    (1_700_000_000_005, None, Some(b""), &[("name", Some(b"content")), ("null", None), ("", Some(b""))]),
    (1_699_999_999_990, Some(b""), None, &[]),
    (1_700_000_100_000, Some(b"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), Some(
        b"the tide comes in, the tide goes out; the tide comes in, the tide goes out; the tide comes in, the tide goes out",
    ), &[]),
];

/// The bytes of a golden file: hexadecimal, blank space and `#` comments aside.
fn golden(name: &str) -> Bytes {
    let path = format!("{}/tests/golden/records/{name}.hex", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
    let digits: Vec<u8> = (text.lines())
        .flat_map(|line| line.split('#').next().unwrap_or_default().bytes())
        .filter(|byte| !byte.is_ascii_whitespace())
        .map(|digit| (digit as char).to_digit(16).unwrap() as u8)
        .collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn assert_same(built: &[u8], name: &str) {
    let hex: String = built.iter().map(|byte| format!("{byte:02x}")).collect();
    assert!(built == golden(name), "{name} is now written as\n{hex}");
}

fn build(codec: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(4096);
    builder.set_producer(Producer { id: ProducerId(7), epoch: ProducerEpoch(1), base_sequence: Sequence(42) });
    for (time, key, value, headers) in RECORDS {
        builder.append(Timestamp(*time), *key, *value, headers.iter().copied()).unwrap();
    }
    builder.finish(codec).unwrap()
}

fn assert_reads_back(bytes: Bytes) {
    validate_produce(bytes.clone(), ProduceLimits::default()).unwrap();
    let mut scratch = Scratch::new();
    let batch = RawBatch::parse(&bytes).unwrap();
    let mut read = batch.records(&mut scratch).unwrap();
    for (index, (time, key, value, headers)) in RECORDS.iter().enumerate() {
        let record = read.next().unwrap().unwrap();
        assert_eq!((record.offset, record.timestamp), (Offset(index as u64), Timestamp(*time)));
        assert_eq!((record.key, record.value), (*key, *value));
        assert!(
            record
                .headers
                .map(|header| (header.name().into_owned(), header.value))
                .eq(headers.iter().map(|(name, value)| ((*name).to_owned(), *value)))
        );
    }
    assert_eq!(read.next(), None);
}

#[test]
fn what_was_once_written_still_reads_the_same() {
    for name in ["none", "gzip", "snappy", "lz4", "zstd"] {
        assert_reads_back(golden(name));
    }
}

#[test]
fn what_others_write_reads_the_same() {
    for name in ["gzip-foreign", "snappy-foreign", "snappy-bare", "lz4-foreign", "zstd-foreign"] {
        assert_reads_back(golden(name));
    }
}

#[test]
fn bytes_that_are_ours_to_decide_do_not_change() {
    for codec in [Compression::None, Compression::Snappy, Compression::Lz4] {
        assert_same(&build(codec), codec.name());
    }
    for (name, marker) in [
        ("commit", ControlRecord::Commit { coordinator_epoch: 3 }),
        ("abort", ControlRecord::Abort { coordinator_epoch: 3 }),
    ] {
        assert_same(&control_batch(marker, ProducerId(7), ProducerEpoch(1), Timestamp(1_700_000_000_000)), name);
    }
}
