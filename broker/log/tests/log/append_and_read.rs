//! A log as its users see it: append, read, flush, close, open again.

use crate::support::{EPOCH, append, batch, open, read_all};
use tidelog_log::checkpoint::Shutdown;
use tidelog_log::{AppendError, Group, Log, ReadError, ReadOutcome};
use tidelog_protocol::{LeaderEpoch, Offset};

#[test]
fn appended_batches_read_back_in_order_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&dir.path().join("t-3"));
    let mut expected = Vec::new();
    for number in 0..200u32 {
        let payload = vec![number as u8; 10 + number as usize % 90];
        let base = append(&mut log, 1 + number % 3, &payload);
        expected.push((base.0, payload));
    }
    let reader = log.reader();
    assert!(reader.segments().len() > 3, "{:?}", reader.segments());
    assert_eq!(read_all(&reader, Offset::ZERO).unwrap(), expected);
    for (base, payload) in &expected {
        assert_eq!(read_all(&reader, Offset(*base)).unwrap()[0], (*base, payload.clone()));
    }
}

#[test]
fn a_read_inside_a_batch_returns_the_whole_batch() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&dir.path().join("t-3"));
    append(&mut log, 10, b"ten records");
    assert_eq!(read_all(&log.reader(), Offset(7)).unwrap(), [(0, b"ten records".to_vec())]);
}

#[test]
fn a_read_ends_below_its_upper_bound_and_the_first_batch_may_exceed_the_size() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&dir.path().join("t-3"));
    for _ in 0..30 {
        append(&mut log, 2, &[1; 100]);
    }
    let reader = log.reader();
    for upper in 0..60 {
        for size in [0, 1, 161, 400, 100_000] {
            match reader.read(Offset(0), Offset(upper), size).unwrap() {
                ReadOutcome::Batches(found) => {
                    assert!(found.next.0 <= upper && found.next.0 % 2 == 0);
                    assert!(found.bytes.len() <= size.max(161) as usize);
                    let room = (upper / 2).min(u64::from(size) / 161).clamp(1, 4096 / 161);
                    assert_eq!(found.bytes.len() as u64, 161 * room, "upper {upper} size {size}");
                }
                ReadOutcome::UpToDate => assert!(upper < 2),
                ReadOutcome::Cold(_) => panic!("just appended"),
            }
        }
    }
}

#[test]
fn one_append_takes_many_groups_and_says_how_many() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&dir.path().join("t-3"));
    let (header, bytes) = batch(3, 5, &[9; 200]);
    let two = [&bytes[..], &bytes[..]].concat();
    let headers = [header, header];
    let group = Group::new(&two, &headers);
    let groups = vec![group; 20];
    let mut rest = &groups[..];
    let mut next = 0;
    while !rest.is_empty() {
        let done = log.append(rest, EPOCH).unwrap();
        assert_eq!(done.base_offset, Offset(next));
        next += 6 * done.groups as u64;
        assert_eq!(done.next_offset, Offset(next));
        rest = &rest[done.groups..];
    }
    assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap().len(), 40);
}

#[test]
fn a_group_larger_than_a_segment_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&dir.path().join("t-3"));
    let (header, bytes) = batch(1, 5, &[0; 5000]);
    let refused = log.append(&[Group::new(&bytes, &[header])], EPOCH);
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })), "{refused:?}");
    assert_eq!(append(&mut log, 1, b"fits"), Offset(0));
}

#[test]
fn offsets_outside_the_log_are_an_error() {
    let dir = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&dir.path().join("t-3"));
    append(&mut log, 5, b"x");
    let reader = log.reader();
    assert!(matches!(reader.read(Offset(6), Offset::MAX, 1), Err(ReadError::OutOfRange { end: Offset(5), .. })));
    assert!(matches!(reader.read(Offset(5), Offset::MAX, 1), Ok(ReadOutcome::UpToDate)));
}

#[test]
fn a_closed_log_opens_without_a_scan_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-3");
    let mut expected = Vec::new();
    for life in 0..4u8 {
        let (mut log, report) = open(&path);
        assert_eq!(report.scanned_bytes, 0, "{report:?}");
        assert!(life == 0 || report.shutdown == Shutdown::Clean);
        for number in 0..40 {
            let payload = vec![life; 20 + number];
            expected.push((append(&mut log, 2, &payload).0, payload));
        }
        assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap(), expected);
        log.close().unwrap();
    }
}

#[test]
fn a_log_that_was_read_through_its_map_gives_its_reserve_back_when_it_closes() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-3");
    let (mut log, _) = open(&path);
    append(&mut log, 2, b"x");
    assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap().len(), 1);
    log.close().unwrap();
    let bytes = std::fs::metadata(path.join("00000000000000000000.log")).unwrap().len();
    assert_eq!(bytes, 62, "only the batch");
}

#[test]
fn a_log_that_was_never_closed_recovers_what_was_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t-3");
    let mut expected = Vec::new();
    for life in 0..4u8 {
        let (mut log, report) = open(&path);
        assert!(report.holes.is_empty() && report.torn_bytes == 0, "{report:?}");
        for number in 0..40 {
            let payload = vec![life; 20 + number];
            expected.push((append(&mut log, 2, &payload).0, payload));
        }
        assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap(), expected);
    }
    let (log, report) = open(&path);
    assert!(report.scanned_bytes > 0);
    assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap(), expected);
}

#[test]
fn a_follower_takes_only_what_continues_its_log() {
    let dir = tempfile::tempdir().unwrap();
    let (mut leader, _) = open(&dir.path().join("t-3"));
    let (mut follower, _) = open(&dir.path().join("t-4"));
    for number in 0..10u8 {
        let (header, bytes) = batch(2, 5, &[number; 30]);
        let _ = leader.append(&[Group::new(&bytes, &[header])], LeaderEpoch(1 + u32::from(number) / 4)).unwrap();
    }
    let ReadOutcome::Batches(batches) = leader.reader().read(Offset(0), Offset::MAX, 1 << 20).unwrap() else {
        panic!("just appended")
    };
    let headers: Vec<_> =
        tidelog_protocol::records::Batches::new(&batches.bytes).map(|batch| *batch.unwrap().header()).collect();
    let refused = follower.append_exact(&[Group::new(&batches.bytes[91..], &headers[1..])]);
    assert!(matches!(refused, Err(AppendError::BrokenChain { expected: Offset(0), found: Offset(2), .. })));
    let done = follower.append_exact(&[Group::new(&batches.bytes, &headers)]).unwrap();
    assert_eq!(done.next_offset, leader.end());
    assert_eq!(follower.reader().leader_epochs(), leader.reader().leader_epochs());
    let again = follower.append_exact(&[Group::new(&batches.bytes, &headers)]);
    assert!(matches!(again, Err(AppendError::BrokenChain { .. })));
}

#[test]
fn another_segment_size_holds_from_the_next_roll_on_and_for_what_was_prepared_too() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    let sizes = |log: &Log| log.reader().segments().iter().map(|segment| segment.bytes / 1000).collect::<Vec<_>>();
    for _ in 0..3 {
        append(&mut log, 1, &[1; 939]);
    }
    // The next segment is prepared in the old size.
    log.tidy().unwrap();
    log.set_segment_bytes(8192);
    for _ in 0..10 {
        append(&mut log, 1, &[2; 939]);
    }
    assert_eq!(sizes(&log), [4, 8, 1]);
    log.set_segment_bytes(2048);
    let (header, bytes) = batch(1, 1, &[3; 2000]);
    let refused = log.append(&[Group::new(&bytes, &[header])], EPOCH);
    assert!(matches!(refused, Err(AppendError::TooLarge { segment_bytes: 2048, .. })), "{refused:?}");
    for _ in 0..10 {
        append(&mut log, 1, &[4; 939]);
    }
    assert_eq!(sizes(&log), [4, 8, 8, 2, 1]);
    let before = read_all(&log.reader(), Offset::ZERO).unwrap();
    log.close().unwrap();
    let (log, report) = open(&dir);
    assert_eq!((report.scanned_bytes, report.holes.len()), (0, 0));
    assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap(), before);
}

#[test]
fn a_larger_size_holds_for_a_segment_without_batches_at_once_and_no_second_one_takes_its_name() {
    let temp = tempfile::tempdir().unwrap();
    for begins in ["empty", "rolled"] {
        let dir = temp.path().join(begins);
        let (mut log, _) = open(&dir);
        if begins == "rolled" {
            append(&mut log, 1, b"before");
            log.roll().unwrap();
        }
        let first = log.end();
        let segments = log.reader().segments().len();
        log.set_segment_bytes(64 << 10);
        append(&mut log, 1, &[1; 50_000]);
        assert_eq!(log.reader().segments().len(), segments, "the empty one took it");
        log.roll().unwrap();
        append(&mut log, 1, &[2; 50_000]);
        let bases: Vec<_> = log.reader().segments().iter().map(|segment| segment.base).collect();
        assert!(bases.is_sorted_by(|a, b| a < b), "{bases:?}");

        assert_eq!(log.retention().delete_records(first.plus(1)).unwrap(), first.plus(1));
        let left = [(first.0 + 1, vec![2; 50_000])];
        assert_eq!(read_all(&log.reader(), first.plus(1)).unwrap(), left);
        log.close().unwrap();
        let (log, report) = open(&dir);
        assert_eq!((report.scanned_bytes, report.distrusted), (0, None));
        assert_eq!(read_all(&log.reader(), first.plus(1)).unwrap(), left);
    }
}
