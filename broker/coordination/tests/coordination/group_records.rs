//! The bytes of group records: they stay what they were, survive the round trip, and nonsense is an error; and what compaction
//! leaves of them means the same.

use std::collections::BTreeSet;
use std::fmt::Write;

use crate::classic_paper::{SESSION_MS, again, caller, joining as joining_classic, lasting};
use crate::group_paper::{Paper, heartbeat, joining, limits, with_instance};
use crate::group_world::compaction::{compacted, state};
use proptest::prelude::*;
use tidelog_coordination::groups::classic::ClassicCommand;
use tidelog_coordination::groups::{GroupRecord, Groups, RecordError};
use tidelog_protocol::codec::Entropy;
use tidelog_protocol::messages::{LEAVING, PAUSING};

const GOLDEN: &str = include_str!("golden/group_records.txt");

/// The type numbers of all records.
const KINDS: &[u16] = &[1, 2, 3, 4, 5, 6, 7, 10, 11, 12];

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

fn draw(kind: u16, seed: u64) -> GroupRecord {
    GroupRecord::draw(kind, &mut Entropy::new(seed)).expect("the table's types can be drawn")
}

fn read(record: &GroupRecord) -> Result<GroupRecord, RecordError> {
    GroupRecord::from_key_value(&record.key(), record.value().as_deref())
}

/// Three lines per record: its key, its value, and what they mean. New records and versions add lines. Bytes never change.
#[test]
fn a_log_written_by_an_older_version_reads_the_same() {
    let lines: Vec<_> = GOLDEN.lines().collect();
    let mut seen = BTreeSet::new();
    for three in lines.chunks(3) {
        let [key, value, meaning] = three else { panic!("the golden file has three lines per record") };
        let record = GroupRecord::from_key_value(&unhex(key), Some(&unhex(value))).expect("golden bytes are a record");
        assert_eq!(format!("{record:?}"), *meaning);
        assert_eq!(
            (hex(&record.key()), record.value().map(|value| hex(&value))),
            ((*key).into(), Some((*value).into()))
        );
        seen.insert(record.name());
    }
    let mut missing = String::new();
    for (kind, name) in GroupRecord::TYPES {
        if !seen.contains(name) {
            let record = draw(*kind, 2);
            let value = record.value().expect("it has one");
            let _ = writeln!(missing, "{}\n{}\n{record:?}", hex(&record.key()), hex(&value));
        }
    }
    assert!(missing.is_empty(), "records without golden bytes, add:\n{missing}");
}

#[test]
fn every_record_survives_the_round_trip() {
    assert!(GroupRecord::TYPES.iter().map(|(kind, _)| kind).eq(KINDS), "a type was added");
    for (kind, name) in GroupRecord::TYPES {
        for seed in 0..500 {
            let record = draw(*kind, seed);
            assert_eq!(read(&record), Ok(record.clone()), "{name} seed {seed}");
            let tombstone = GroupRecord::from_key_value(&record.key(), None).expect("a tombstone");
            assert_eq!((tombstone.key(), tombstone.value()), (record.key(), None));
        }
    }
}

#[test]
fn what_a_newer_broker_wrote_asks_for_an_upgrade() {
    let record = draw(1, 1);
    let mut value = record.value().expect("it has one");
    value[0] = 2;
    let error = GroupRecord::from_key_value(&record.key(), Some(&value)).expect_err("a newer version");
    assert_eq!(error.to_string(), "record GroupValue of unknown version 2: a newer broker wrote it; upgrade this one");
    value[0] = 1;
    value.push(0);
    let error = GroupRecord::from_key_value(&record.key(), Some(&value));
    assert_eq!(error, Err(RecordError::Length { name: "GroupValue", version: 1 }));
    let mut key = record.key();
    key[0] = 99;
    assert_eq!(GroupRecord::from_key_value(&key, None), Err(RecordError::UnknownType { kind: 99 }));
}

#[test]
fn a_record_cut_short_is_an_error() {
    for (kind, name) in GroupRecord::TYPES {
        let (key, value) = (draw(*kind, 3).key(), draw(*kind, 3).value().expect("it has one"));
        for cut in 0..key.len() {
            assert!(GroupRecord::from_key_value(&key[..cut], Some(&value)).is_err(), "{name}: key cut at {cut}");
        }
        for cut in 0..value.len() {
            assert!(GroupRecord::from_key_value(&key, Some(&value[..cut])).is_err(), "{name}: value cut at {cut}");
        }
    }
}

/// The log of a group that lived, with everything that writes records.
fn a_life() -> Vec<GroupRecord> {
    let mut paper = Paper::new(6);
    paper.topic("logs", 3);
    paper.beat(with_instance("one", joining("a", &["orders", "logs"]))).expect("it joins");
    paper.join("b");
    paper.settle();
    let (epoch, owned) = paper.member("b");
    let mine: Vec<u32> = owned.iter().map(|(_, at)| at.0).collect();
    paper.commit(Some(("b", epoch)), &mine, 5).expect("noted");
    paper.commit(Some(("b", epoch)), &mine[..1], 8).expect("noted");
    paper.beat(heartbeat("a", PAUSING)).expect("it pauses");
    paper.beat(with_instance("one", joining("c", &["orders", "logs"]))).expect("it comes back");
    paper.grow("orders", 8);
    paper.pass(100);
    paper.settle();
    paper.join("d");
    paper.settle();
    paper.beat(heartbeat("b", LEAVING)).expect("it leaves");
    paper.drop_topic("logs");
    paper.pass(100);
    paper.follow("c");
    paper.log
}

fn replayed(records: &[GroupRecord]) -> Groups {
    let mut groups = Groups::new(limits());
    records.iter().for_each(|record| groups.replay(&read(record).expect("it reads back")));
    groups
}

/// That of a classic one.
fn a_classic_life() -> Vec<GroupRecord> {
    let mut paper = Paper::new(6);
    let first = paper.settle_classic(&["a", "b"]);
    paper.commit_classic(caller("a", first), 5).expect("noted").expect("by a member");
    paper.enter(lasting("one", joining_classic("c")));
    let second = paper.gather(&["a", "b"]);
    paper.sync("a", second, &[("a", "left"), ("c", "right")]).expect("it leads");
    paper.call(ClassicCommand::Join(lasting("one", joining_classic("c2")))).expect("it comes back");
    paper.leave_classic(&[("b", None)]);
    paper.take_over();
    paper.pass(SESSION_MS - 1);
    let third = paper.enter(again("a"));
    paper.pass(1);
    assert_eq!(paper.begun(&third).members.len(), 1);
    paper.leave_classic(&[("a", None)]);
    paper.join("native");
    paper.log
}

#[test]
fn what_compaction_leaves_means_the_same() {
    for life in [a_life(), a_classic_life()] {
        assert!(life.iter().any(|record| record.value().is_none()), "there are tombstones");
        let mut shorter = 0;
        for seed in 0..300 {
            let mut chance = Entropy::new(seed);
            // Twice, as a log is compacted again and again, and at every end that it ever had.
            let end = chance.below(life.len() as u64 + 1) as usize;
            let once = compacted(&life[..end], &mut chance);
            let left = compacted(&once, &mut chance);
            shorter += usize::from(left.len() < end);
            assert_eq!(state(&replayed(&left)), state(&replayed(&life[..end])), "seed {seed}");
        }
        assert!(shorter > 200, "compaction did something");
    }
}

proptest! {
    #[test]
    fn nonsense_never_panics(
        kind in 0..14u16,
        mut key in proptest::collection::vec(any::<u8>(), 4..60),
        mut value in proptest::collection::vec(any::<u8>(), 2..120),
    ) {
        key[..4].copy_from_slice(&[kind as u8, 0, 1, 0]);
        value[..2].copy_from_slice(&[1, 0]);
        let _ = GroupRecord::from_key_value(&key, Some(&value));
    }

    #[test]
    fn records_in_any_order_never_panic(kinds in proptest::collection::vec((proptest::sample::select(KINDS), 0..4u64), 1..40)) {
        let mut groups = Groups::new(limits());
        for (kind, seed) in kinds {
            let record = draw(kind, seed);
            groups.replay(&record);
            groups.replay(&GroupRecord::from_key_value(&record.key(), None).expect("a tombstone"));
            groups.replay(&record);
        }
        groups.loaded(tidelog_protocol::Monotonic(5));
        groups.expire(&tidelog_coordination::ClusterImage::default(), tidelog_protocol::Monotonic(u64::MAX));
    }
}
