//! The bytes of metadata records: they stay what they were, survive the round trip, and nonsense is an error.

use std::collections::BTreeSet;
use std::fmt::Write;

use proptest::prelude::*;
use tidelog_coordination::ClusterImage;
use tidelog_coordination::records::{FeatureLevel, MetadataRecord, PartitionChanged, PartitionCreated, RecordError};
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, MetadataIndex};

const GOLDEN: &str = include_str!("golden/metadata_records.txt");
const FIRST_RELEASE: &str = include_str!("golden/first_release_log.txt");

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

/// Two lines per record: its bytes, and what they mean. New records and versions add lines. Bytes never change, and what they mean
/// only gains the fields of later versions.
#[test]
fn a_log_written_by_an_older_version_reads_the_same() {
    let lines: Vec<_> = GOLDEN.lines().collect();
    let mut seen = BTreeSet::new();
    for pair in lines.chunks(2) {
        let [bytes, meaning] = pair else { panic!("the golden file has two lines per record") };
        let record = MetadataRecord::decode(&unhex(bytes)).expect("golden bytes are a record");
        assert_eq!(format!("{record:?}"), *meaning);
        assert_eq!(hex(&record.to_bytes()), *bytes);
        seen.insert((record.name(), record.version()));
    }
    let mut missing = String::new();
    // Several of each: what is absent in one makes an older form of it.
    for ((kind, name), seed) in MetadataRecord::TYPES.iter().flat_map(|of| (2..6).map(move |seed| (of, seed))) {
        let record = draw(*kind, seed).expect("the table's types can be drawn");
        if seen.insert((name, record.version())) {
            let _ = writeln!(missing, "{}\n{record:?}", hex(&record.to_bytes()));
        }
    }
    assert!(missing.is_empty(), "records without golden bytes, add:\n{missing}");
}

/// The lines that the first release wrote: what it could not know reads as absent, and is written back as it was.
#[test]
fn records_of_the_first_version_still_decode_apply_and_stay_what_they_were() {
    let old: Vec<_> = GOLDEN.lines().step_by(2).map(unhex).filter(|bytes| bytes[2] == 1).collect();
    assert_eq!(old.len(), 7);
    for bytes in &old {
        match MetadataRecord::decode(bytes).expect("golden bytes are a record") {
            MetadataRecord::BrokerRegistered(broker) => assert!(broker.is_live() && broker.takes_replicas()),
            MetadataRecord::PartitionCreated(PartitionCreated { state, .. })
            | MetadataRecord::PartitionChanged(PartitionChanged { state, .. }) => {
                assert!(!state.is_moving() && state.eligible.is_empty());
                assert_eq!((state.last_leader, state.unclean_epoch), (None, None));
            }
            _ => {}
        }
    }
    // The log of a first release: one broker, a topic, a restart.
    let log = FIRST_RELEASE.lines().map(unhex);
    let mut image = ClusterImage::default();
    for (index, bytes) in (1..).zip(log) {
        image.apply(MetadataIndex(index), &MetadataRecord::decode(&bytes).expect("a record"));
    }
    assert_eq!((image.feature_level(), image.last_broker_epoch()), (1, BrokerEpoch(2)));
    assert!(image.broker(BrokerId(1)).is_some_and(|broker| broker.is_live()));
    let topic = image.topic_named("orders").expect("it was created");
    assert_eq!(topic.config.retention_ms, Some(5));
    let state = &topic.partitions[0];
    assert_eq!((state.leader, state.leader_epoch), (Some(BrokerId(1)), LeaderEpoch(1)));
    // A snapshot of it, too, can still be read by that release.
    assert!(image.to_records().iter().all(|record| record.version() == 1));
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
    bytes.extend_from_slice(b"more");
    assert_eq!(MetadataRecord::decode(&bytes), Err(RecordError::Length { name: "TopicCreated", version: 1 }));
    bytes[2] = 2;
    let error = MetadataRecord::decode(&bytes).expect_err("a newer version");
    assert_eq!(
        error.to_string(),
        "record TopicCreated of unknown version 2: a newer broker wrote it; upgrade this one"
    );
    bytes[0] = 0xff;
    assert_eq!(MetadataRecord::decode(&bytes), Err(RecordError::UnknownType { kind: 0xff }));
    let level = MetadataRecord::from(FeatureLevel { level: FeatureLevel::NEWEST + 1 });
    let newer = Err(RecordError::NewerFeatureLevel { level: FeatureLevel::NEWEST + 1, known: FeatureLevel::NEWEST });
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
    fn nonsense_never_panics(kind in 0..35u16, version in 0..4u8, mut bytes in proptest::collection::vec(any::<u8>(), 4..120)) {
        bytes[..4].copy_from_slice(&[kind as u8, 0, version, 0]);
        let _ = MetadataRecord::decode(&bytes);
    }
}
