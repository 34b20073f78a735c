//! Compaction of one log: what stays, what goes, whatever was written and however often it is run.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use crate::support;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::support::keyed::{Driven, Model, Shape, append_marker, compact, headers, read_records, rules};
use crate::support::open;
use proptest::prelude::*;
use tidelog_log::{AbortedTransaction, CompactionError, CompactionRules, Log, RetentionLimits};
use tidelog_protocol::records::{Attributes, Compression, ControlRecord, Producer};
use tidelog_protocol::{Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};

const VALUE: &[u8] = &[7; 100];

fn put(model: &mut Model, log: &mut Log, key: &str, value: Option<&[u8]>) -> u64 {
    model.append(log, Shape::default(), &[(Some(key.as_bytes()), value)])
}

/// Seals what there is and makes it durable.
fn seal(log: &mut Log) {
    log.roll().unwrap();
    log.flush().unwrap();
}

fn reopen(log: Log, dir: &Path) -> Log {
    log.close().unwrap();
    let (log, report) = open(dir);
    assert_eq!((report.scanned_bytes, report.distrusted), (0, None));
    log
}

#[test]
fn the_latest_value_of_each_key_stays_and_offsets_do() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    let mut model = Model::default();
    for round in 0..40 {
        for key in 0..5 {
            put(&mut model, &mut log, &format!("key {key}"), Some(&[round; 100]));
        }
    }
    seal(&mut log);
    let before = log.reader().size_bytes();
    let done = compact(&log, &rules(0)).unwrap();
    assert_eq!((done.upto, done.keys, done.is_partial), (Offset(200), 5, false));
    assert!(done.replaced_segments > 5 && done.written_segments == 1, "{done:?}");
    let found = model.check(&log.reader(), "after a pass");
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [195, 196, 197, 198, 199]);
    assert!(log.reader().size_bytes() < before / 20, "{} of {before}", log.reader().size_bytes());
    // The empty batches are one, and the chain has no gap.
    assert_eq!(headers(&log.reader(), Offset::ZERO).len(), 6);
    let names: BTreeSet<_> = fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!names.iter().any(|name| name.to_string_lossy().contains("swap")), "{names:?}");
    let log = reopen(log, &dir);
    assert_eq!(model.check(&log.reader(), "opened again"), found);
    assert_eq!(log.compaction().cleaned_to(), Offset(200));
    let nothing = compact(&log, &rules(0)).unwrap();
    assert_eq!((nothing.read_bytes, nothing.upto), (0, Offset(200)));
}

#[test]
fn neither_the_active_segment_nor_what_is_above_the_bound_nor_what_is_young_is_touched() {
    let temp = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&temp.path().join("t-0"));
    let mut model = Model::default();
    for time in 0..90 {
        model.append(&mut log, Shape { timestamp: 1_000 * time, ..Shape::default() }, &[(Some(b"k"), Some(VALUE))]);
    }
    log.flush().unwrap();
    let segments = log.reader().segments();
    assert!(segments.len() > 3);
    let is_untouched = |rules: &CompactionRules<'_>, from: Offset| {
        let done = compact(&log, rules).unwrap();
        let found = model.check(&log.reader(), "bounded");
        assert_eq!(done.upto, from);
        assert_eq!(found.range(from.0..).count() as u64, 90 - from.0, "from {from} on everything stays");
        assert!(from == Offset::ZERO || found.len() as u64 == 90 - from.0 + 1);
    };
    let bound = |below| CompactionRules { below, ..rules(0) };
    is_untouched(&bound(Offset(segments[0].end.0 - 1)), Offset::ZERO);
    // The youngest record of a segment counts.
    let old = CompactionRules { lag: Duration::from_secs(3), ..rules(1_000 * (segments[0].end.0 as i64 + 2)) };
    is_untouched(&old, segments[0].end);
    is_untouched(&bound(segments[2].base), segments[2].base);
    is_untouched(&rules(i64::MAX), segments.last().unwrap().base);
}

#[test]
fn a_tombstone_outlives_what_it_deletes_by_its_grace_and_then_goes() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    let mut model = Model::default();
    put(&mut model, &mut log, "gone", Some(VALUE));
    put(&mut model, &mut log, "stays", Some(VALUE));
    let tombstone = put(&mut model, &mut log, "gone", None);
    seal(&mut log);
    let has_tombstone = |log: &Log| model.check(&log.reader(), "grace").contains_key(&tombstone);
    // However old the record is: its grace begins when the value before it is gone.
    compact(&log, &rules(1_000_000)).unwrap();
    assert!(has_tombstone(&log));
    let later = rules(1_000_099);
    assert!(!log.compaction().backlog(&later).has_due_tombstones);
    compact(&log, &later).unwrap();
    let log = reopen(log, &dir);
    assert!(has_tombstone(&log), "the grace outlives a restart");
    let due = rules(1_000_100);
    // A replica that has not come so far must see it first.
    let held = CompactionRules { tombstones_below: Offset(tombstone), ..due };
    assert!(!log.compaction().backlog(&held).has_due_tombstones);
    compact(&log, &held).unwrap();
    assert!(has_tombstone(&log));
    assert_eq!(log.compaction().dropped_below(), Offset::ZERO);
    assert!(log.compaction().backlog(&due).has_due_tombstones);
    // One that begins to follow while the pass does: what may go was told, and does not.
    log.compaction().run(&due, &mut Driven { pieces: u64::MAX, tombstones_below: Offset::ZERO }).unwrap();
    assert_eq!((has_tombstone(&log), log.compaction().dropped_below()), (true, Offset(3)));
    assert!(log.compaction().backlog(&due).has_due_tombstones);
    compact(&log, &due).unwrap();
    assert!(!has_tombstone(&log));
    assert!(!log.compaction().backlog(&due).has_due_tombstones, "and is not asked for again");
    assert_eq!(read_records(&log.reader(), Offset::ZERO).len(), 1);
}

#[test]
fn a_full_map_ends_the_pass_and_the_next_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    let mut model = Model::default();
    for round in 0..3u8 {
        for key in 0..400u32 {
            let record = (Some(&key.to_be_bytes()[..]), Some(&[round; 20][..]));
            model.append(&mut log, Shape::default(), &[record, record]);
        }
    }
    seal(&mut log);
    let small = CompactionRules { map_bytes: 4096, ..rules(0) };
    let mut passes = 0;
    let mut cleaned_to = Offset::ZERO;
    loop {
        let done = compact(&log, &small).unwrap();
        assert!(done.map_bytes <= 4096 && done.keys <= 150, "{done:?}");
        let found = model.check(&log.reader(), "after a partial pass");
        assert!(done.upto > cleaned_to, "a pass gets on");
        let again = found.range(..done.upto.0).map(|(_, kept)| kept.key.clone()).collect::<Vec<_>>();
        assert_eq!(again.iter().collect::<BTreeSet<_>>().len(), again.len(), "below, each key stands once");
        cleaned_to = done.upto;
        passes += 1;
        log = reopen(log, &dir);
        if !done.is_partial {
            break;
        }
    }
    assert!(passes > 5, "{passes}");
    assert_eq!(read_records(&log.reader(), Offset::ZERO).len(), 400);
}

fn producer(id: i64, sequence: i32) -> Producer {
    Producer { id: ProducerId(id), epoch: ProducerEpoch(3), base_sequence: Sequence(sequence) }
}

#[test]
fn transactions_count_once_they_are_committed_and_markers_go_after_their_records() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    let mut model = Model::default();
    let write = |model: &mut Model, log: &mut Log, id: i64, key: &str, value: &[u8]| {
        let attributes = Attributes::default().transactional();
        let shape = Shape { producer: producer(id, 0), attributes, ..Shape::default() };
        model.append(log, shape, &[(Some(key.as_bytes()), Some(value))])
    };
    let (commit, abort) =
        (ControlRecord::Commit { coordinator_epoch: 1 }, ControlRecord::Abort { coordinator_epoch: 1 });
    let first = write(&mut model, &mut log, 1, "a", b"committed");
    append_marker(&mut log, commit, producer(1, -1));
    // Two transactions, one in the other; the one that is aborted wrote last.
    let aborted_first = write(&mut model, &mut log, 2, "a", b"aborted");
    let kept = write(&mut model, &mut log, 1, "b", b"committed, too");
    let aborted_too = write(&mut model, &mut log, 2, "b", b"aborted, too");
    append_marker(&mut log, commit, producer(1, -1));
    let aborted_last = append_marker(&mut log, abort, producer(2, -1));
    let after = write(&mut model, &mut log, 2, "c", b"the next of the same producer");
    append_marker(&mut log, commit, producer(2, -1));
    for offset in [aborted_first, aborted_too] {
        model.records.remove(&offset);
    }
    seal(&mut log);
    let aborted =
        [AbortedTransaction { producer: ProducerId(2), first: Offset(aborted_first), last: Offset(aborted_last) }];
    let pass = |log: &Log, now| compact(log, &CompactionRules { aborted: &aborted, ..rules(now) }).unwrap();
    let markers = |log: &Log| {
        let headers = headers(&log.reader(), Offset::ZERO);
        headers.iter().filter(|header| header.attributes.is_control()).count()
    };
    pass(&log, 1_000);
    let found = model.check(&log.reader(), "after the first pass");
    assert_eq!(found.keys().copied().collect::<Vec<_>>(), [first, kept, after]);
    assert_eq!(markers(&log), 4, "each has its grace");
    let log = reopen(log, &dir);
    pass(&log, 1_100);
    assert_eq!(markers(&log), 3, "the abort has nothing left to say, the commits have");
    assert_eq!(model.check(&log.reader(), "after the second pass"), found);
    assert!(!log.compaction().backlog(&rules(9_000)).has_due_tombstones);
}

#[test]
fn the_last_batch_of_a_producer_goes_on_to_tell_its_sequence() {
    let temp = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&temp.path().join("t-0"));
    let mut model = Model::default();
    for (id, sequence) in [(1, 0), (1, 1), (2, 0), (1, 2), (2, 1)] {
        model.append(
            &mut log,
            Shape { producer: producer(id, sequence), ..Shape::default() },
            &[(Some(b"k"), Some(VALUE))],
        );
    }
    put(&mut model, &mut log, "k", Some(VALUE));
    seal(&mut log);
    compact(&log, &rules(0)).unwrap();
    model.check(&log.reader(), "one key");
    let told = headers(&log.reader(), Offset::ZERO)
        .iter()
        .filter(|header| header.producer_id != ProducerId::NONE)
        .map(|header| (header.base_offset.0, header.producer_id.0, header.base_sequence.0))
        .collect::<Vec<_>>();
    assert_eq!(told, [(3, 1, 2), (4, 2, 1)]);
}

#[test]
fn a_damaged_log_is_left_alone_until_it_is_repaired() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    let mut model = Model::default();
    for _ in 0..60 {
        put(&mut model, &mut log, "k", Some(VALUE));
    }
    seal(&mut log);
    log.close().unwrap();
    let path = support::segment(&dir, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[700] ^= 1;
    fs::write(&path, &bytes).unwrap();
    let (log, _) = open(&dir);
    let before = log.reader().segments();
    for _ in 0..2 {
        assert!(matches!(compact(&log, &rules(0)), Err(CompactionError::Damaged(_))));
        // Whoever repairs comes to know of it.
        assert_eq!(log.reader().holes().len(), 1);
    }
    assert_eq!(log.reader().segments(), before);
}

#[test]
fn a_pass_that_is_stopped_leaves_nothing_half_done() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    let mut model = Model::default();
    for round in 0..120u8 {
        put(&mut model, &mut log, &format!("key {}", round % 3), Some(&[round; 100]));
    }
    seal(&mut log);
    for pieces in 0.. {
        let done = log.compaction().run(&rules(0), &mut Driven { pieces, tombstones_below: Offset::MAX });
        model.check(&log.reader(), &format!("stopped after {pieces}"));
        match done {
            Err(CompactionError::Stopped) => {}
            Ok(_) => {
                assert!(pieces > 100);
                break;
            }
            Err(error) => panic!("{error}"),
        }
        assert!(
            !fs::read_dir(&dir).unwrap().any(|entry| entry
                .unwrap()
                .file_name()
                .to_string_lossy()
                .ends_with(".rewrite.tmp"))
        );
    }
}

#[test]
fn retention_and_truncation_go_on_beside_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    let mut model = Model::default();
    for round in 0..200u8 {
        put(&mut model, &mut log, &format!("key {}", round % 50), Some(&[round; 100]));
    }
    seal(&mut log);
    compact(&log, &rules(0)).unwrap();
    for round in 0..60u8 {
        put(&mut model, &mut log, "late", Some(&[round; 100]));
    }
    log.flush().unwrap();
    // Above what compaction has looked at, a cut is a cut.
    assert_eq!(log.truncate_to(Offset(230)).unwrap(), Offset(230));
    model.records.split_off(&230);
    model.check(&log.reader(), "cut");
    put(&mut model, &mut log, "behind the cut", Some(VALUE));
    let (start, segments) = (log.reader().log_start(), log.reader().segments().len());
    let limits = RetentionLimits { bytes: Some(0), age: None, below: Offset::MAX };
    assert!(log.retention().apply(Timestamp(0), &limits).unwrap().segments >= 2, "{segments} segments");
    assert!(log.reader().log_start() > start && log.compaction().cleaned_to() == Offset(200));
    let mut log = reopen(log, &dir);
    let kept = read_records(&log.reader(), log.reader().log_start());
    assert!(!kept.is_empty());
    // Below it, what is missing there may be missing because of what goes: the follower begins anew.
    let start = log.reader().log_start();
    for round in 0..60u8 {
        put(&mut model, &mut log, "later", Some(&[round; 100]));
    }
    seal(&mut log);
    let end = compact(&log, &rules(0)).unwrap().upto;
    assert_eq!(log.truncate_to(Offset(end.0 - 1)).unwrap(), start);
    assert_eq!((log.end(), log.compaction().cleaned_to()), (start, Offset::ZERO));
    let mut log = reopen(log, &dir);
    assert_eq!((log.end(), log.compaction().cleaned_to()), (start, Offset::ZERO));
    log.restart_at(Offset(900)).unwrap();
    assert_eq!(put(&mut Model::default(), &mut log, "anew", Some(VALUE)), 900);
}

#[test]
fn times_lead_to_records_that_are_there() {
    let temp = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&temp.path().join("t-0"));
    let mut model = Model::default();
    // The newest of all is superseded by one that is older.
    for (time, key) in [(1_000, "a"), (9_000, "b"), (2_000, "c"), (3_000, "b"), (2_500, "a")] {
        model.append(&mut log, Shape { timestamp: time, ..Shape::default() }, &[(Some(key.as_bytes()), Some(VALUE))]);
    }
    seal(&mut log);
    compact(&log, &rules(0)).unwrap();
    model.check(&log.reader(), "times");
    let reader = log.reader();
    let at = |time| reader.offset_for_timestamp(Timestamp(time), Offset::MAX).unwrap().map(|found| found.offset.0);
    assert_eq!((at(0), at(2_001), at(3_001), at(9_000)), (Some(2), Some(3), None, None));
    let newest = reader.max_timestamp(Offset::MAX).unwrap().unwrap();
    assert_eq!((newest.offset, newest.timestamp), (Offset(3), Timestamp(3_000)));
}

#[derive(Clone, Debug)]
enum Step {
    Append { records: Vec<(Option<u8>, Option<u8>)>, codec: u8, producer: Option<u8> },
    Seal,
    Compact { small: bool, wait: u16, tombstones: bool },
    Reopen,
    Rescan,
}

fn step() -> impl Strategy<Value = Step> {
    let key = prop_oneof![12 => (0u8..14).prop_map(Some), 1 => Just(None)];
    let value = prop_oneof![4 => any::<u8>().prop_map(Some), 1 => Just(None)];
    prop_oneof![
        14 => (prop::collection::vec((key, value), 1..9), 0u8..5, prop::option::of(0u8..3))
            .prop_map(|(records, codec, producer)| Step::Append { records, codec, producer }),
        2 => Just(Step::Seal),
        3 => (any::<bool>(), 0u16..200, any::<bool>())
            .prop_map(|(small, wait, tombstones)| Step::Compact { small, wait, tombstones }),
        1 => Just(Step::Reopen),
        1 => Just(Step::Rescan),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn whatever_is_written_and_however_often_it_is_compacted_the_latest_stays(
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let (mut log, _) = open(&dir);
        let mut model = Model::default();
        let (mut now, mut sequence) = (0i64, 0);
        for (number, step) in steps.into_iter().enumerate() {
            let context = format!("step {number}: {step:?}");
            match step {
                Step::Append { records, codec, producer: id } => {
                    let codecs = [Compression::None, Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];
                    let producer = id.map_or(Producer::NONE, |id| producer(i64::from(id), sequence));
                    sequence += records.len() as i32;
                    let shape = Shape { codec: codecs[codec as usize], producer, timestamp: now, ..Shape::default() };
                    let bytes: Vec<_> = records.iter().map(|(key, value)| (key.map(|key| [key; 5]), value.map(|value| [value; 60]))).collect();
                    let records: Vec<_> = bytes.iter().map(|(key, value)| (key.as_ref().map(|key| &key[..]), value.as_ref().map(|value| &value[..]))).collect();
                    model.append(&mut log, shape, &records);
                    continue;
                }
                Step::Seal => seal(&mut log),
                Step::Compact { small, wait, tombstones } => {
                    now += i64::from(wait);
                    log.flush().unwrap();
                    let below = log.end();
                    let tombstones_below = if tombstones { below } else { Offset::ZERO };
                    let map_bytes = if small { 0 } else { 1 << 16 };
                    let active = log.reader().segments().last().unwrap().base;
                    let before = headers(&log.reader(), active);
                    let done = compact(&log, &CompactionRules { tombstones_below, map_bytes, ..rules(now) }).unwrap();
                    let found = model.check(&log.reader(), &context);
                    let clean = found.range(..done.upto.0).filter_map(|(_, kept)| kept.key.clone()).collect::<Vec<_>>();
                    prop_assert_eq!(clean.iter().collect::<BTreeSet<_>>().len(), clean.len(), "{}: clean", &context);
                    prop_assert_eq!(headers(&log.reader(), active), before, "the active segment");
                }
                Step::Reopen => log = reopen(log, &dir),
                Step::Rescan => {
                    log.close().unwrap();
                    fs::remove_file(dir.join("checkpoint")).unwrap();
                    let (opened, report) = open(&dir);
                    prop_assert!(report.holes.is_empty(), "{}: {:?}", &context, report);
                    log = opened;
                }
            }
            model.check(&log.reader(), &context);
        }
    }
}
