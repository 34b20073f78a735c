//! The bytes of metadata records: they stay what they were, survive the round trip, and nonsense is an error.

use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;
use tidelog_coordination::records::{FeatureLevel, MetadataRecord, RecordError};
use tidelog_protocol::codec::Entropy;

const GOLDEN: &str = include_str!("golden/metadata_records.txt");

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    let byte = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("golden bytes are hexadecimal");
    (0..text.len()).step_by(2).map(byte).collect()
}

/// A drawn record, with a feature level that exists.
fn draw(kind: u16, seed: u64) -> Option<MetadataRecord> {
    match MetadataRecord::draw(kind, &mut Entropy::new(seed))? {
        MetadataRecord::FeatureLevel(_) => Some(FeatureLevel { level: FeatureLevel::NEWEST }.into()),
        record => Some(record),
    }
}

/// Two lines per record: its bytes, and what they mean. New records add lines; no line ever changes.
#[test]
fn a_log_written_by_an_older_version_reads_the_same() {
    let lines: Vec<_> = GOLDEN.lines().collect();
    let mut seen = BTreeSet::new();
    for pair in lines.chunks(2) {
        let [bytes, meaning] = pair else { panic!("the golden file has two lines per record") };
        let record = MetadataRecord::decode(&unhex(bytes)).expect("golden bytes are a record");
        assert_eq!(format!("{record:?}"), *meaning);
        assert_eq!(hex(&record.to_bytes()), *bytes);
        seen.insert(record.name());
    }
    if let Some((kind, name)) = MetadataRecord::TYPES.iter().find(|(_, name)| !seen.contains(name)) {
        let record = draw(*kind, 1).expect("the table's types can be drawn");
        panic!("{name} has no golden bytes yet, add:\n{}\n{record:?}", hex(&record.to_bytes()));
    }
}

#[test]
fn every_record_survives_the_round_trip() {
    for (kind, name) in MetadataRecord::TYPES {
        for seed in 0..500 {
            let record = draw(*kind, seed).expect("the table's types can be drawn");
            assert_eq!(MetadataRecord::decode(&record.to_bytes()), Ok(record), "{name} seed {seed}");
        }
    }
}

#[test]
fn what_a_newer_broker_wrote_asks_for_an_upgrade() {
    let mut bytes = draw(10, 1).expect("a topic").to_bytes();
    bytes[2] = 2;
    let error = MetadataRecord::decode(&bytes).expect_err("a newer version");
    assert_eq!(
        error.to_string(),
        "metadata record TopicCreated of unknown version 2: a newer broker wrote it; upgrade this one"
    );
    bytes[0] = 0xff;
    assert_eq!(MetadataRecord::decode(&bytes), Err(RecordError::UnknownType { kind: 0xff }));
    let level = MetadataRecord::from(FeatureLevel { level: FeatureLevel::NEWEST + 1 });
    let newer = Err(RecordError::NewerFeatureLevel { level: FeatureLevel::NEWEST + 1 });
    assert_eq!(MetadataRecord::decode(&level.to_bytes()), newer);
}

#[test]
fn a_record_cut_short_is_an_error() {
    for (kind, name) in MetadataRecord::TYPES {
        let bytes = draw(*kind, 3).expect("the table's types can be drawn").to_bytes();
        for cut in 0..bytes.len() {
            assert!(MetadataRecord::decode(&bytes[..cut]).is_err(), "{name} cut at {cut}");
        }
    }
}

proptest! {
    #[test]
    fn nonsense_never_panics(kind in 0..25u16, mut bytes in proptest::collection::vec(any::<u8>(), 4..120)) {
        bytes[..4].copy_from_slice(&[kind as u8, 0, 1, 0]);
        let _ = MetadataRecord::decode(&bytes);
    }
}
