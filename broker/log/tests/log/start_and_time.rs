//! Moving the start of a log, finding records by time, dumping its files, and many readers at once.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use crate::support;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::support::{EPOCH, append, batch, open, options, read_all};
use bytes::Bytes;
use tidelog_log::{
    CrcCheck, DeleteError, Dump, DumpEntry, DumpError, Flusher, FlusherOptions, Group, Log, LogOptions, OsDisk,
    ReadError, ReadOutcome, RetentionLimits, SegmentOptions,
};
use tidelog_protocol::records::{BatchBuilder, Batches, Compression, NO_HEADERS, ProduceLimits, validate_produce};
use tidelog_protocol::{Offset, Timestamp};

fn real_batch(timestamps: &[i64], compression: Compression) -> Bytes {
    let mut builder = BatchBuilder::new(1 << 20);
    for timestamp in timestamps {
        builder.append(Timestamp(*timestamp), None, Some(b"value"), NO_HEADERS).unwrap();
    }
    builder.finish(compression).unwrap()
}

fn append_times(log: &mut Log, timestamps: &[i64], compression: Compression) {
    let batches = validate_produce(real_batch(timestamps, compression), ProduceLimits::default()).unwrap();
    let _ = log.append(&[Group::from(&batches)], EPOCH).unwrap();
}

#[test]
fn a_time_finds_the_first_record_at_or_after_it_whatever_the_order() {
    let temp = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&temp.path().join("t-0"));
    let mut times = Vec::new();
    for number in 0..300i64 {
        // Mostly forward, sometimes back.
        let at = number * 10 - if number % 7 == 0 { 150 } else { 0 };
        let compression = if number % 2 == 0 { Compression::None } else { Compression::Lz4 };
        append_times(&mut log, &[at, at + 4, at + 2], compression);
        times.extend([at, at + 4, at + 2]);
    }
    let check = |log: &Log| {
        let reader = log.reader();
        for wanted in (-200..3100).step_by(3) {
            let expected = times.iter().position(|&time| time >= wanted).map(|offset| (offset as u64, times[offset]));
            let found = reader.offset_for_timestamp(Timestamp(wanted), Offset::MAX).unwrap();
            assert_eq!(found.map(|found| (found.offset.0, found.timestamp.0)), expected, "at {wanted}");
        }
        let largest = *times.iter().max().unwrap();
        let first = times.iter().position(|&time| time == largest).unwrap() as u64;
        let found = reader.max_timestamp(Offset::MAX).unwrap().unwrap();
        assert_eq!((found.offset.0, found.timestamp.0), (first, largest));
        assert_eq!(reader.offset_for_timestamp(Timestamp(2000), Offset(100)).unwrap(), None, "not beyond the bound");
    };
    check(&log);
    assert!(log.reader().segments().len() > 5);
    log.close().unwrap();
    let (log, report) = open(&temp.path().join("t-0"));
    assert_eq!(report.scanned_bytes, 0);
    check(&log);
}

#[test]
fn retention_by_size_and_age_keeps_the_active_segment_and_what_is_above_the_watermark() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for number in 0..200 {
        let (header, bytes) = batch(1, number * 1000, &[1; 100]);
        let _ = log.append(&[Group::new(&bytes, &[header])], EPOCH).unwrap();
    }
    let (reader, retention) = (log.reader(), log.retention());
    let segments = reader.segments();
    let all = RetentionLimits { bytes: Some(0), age: Some(Duration::ZERO), below: Offset::ZERO };
    assert_eq!(retention.apply(Timestamp(i64::MAX), &all).unwrap().segments, 0, "nothing is below the watermark");

    let by_size =
        RetentionLimits { bytes: Some(reader.size_bytes() - segments[0].bytes - 1), age: None, below: log.end() };
    assert_eq!(retention.apply(Timestamp(0), &by_size).unwrap().segments, 1);
    assert_eq!(reader.log_start(), segments[1].base);

    let last_of_third = Timestamp((segments[3].base.0 as i64 - 1) * 1000);
    let by_age = RetentionLimits { bytes: None, age: Some(Duration::from_secs(5)), below: log.end() };
    assert_eq!(retention.apply(Timestamp(last_of_third.0 + 5000), &by_age).unwrap().segments, 1);
    assert_eq!(retention.apply(Timestamp(last_of_third.0 + 5001), &by_age).unwrap().segments, 1);
    assert_eq!(reader.log_start(), segments[3].base);

    let everything = RetentionLimits { below: log.end(), ..all };
    let _ = retention.apply(Timestamp(i64::MAX), &everything).unwrap();
    assert_eq!(reader.segments().len(), 1);
    let kept =
        fs::read_dir(&dir).unwrap().filter(|e| e.as_ref().unwrap().path().extension().is_some_and(|x| x == "log"));
    assert_eq!(kept.count(), 1);
    assert_eq!(append(&mut log, 1, b"on"), Offset(200));
}

#[test]
fn deleted_records_stay_deleted_after_a_kill() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for _ in 0..100 {
        append(&mut log, 1, &[1; 100]);
    }
    assert!(matches!(log.retention().delete_records(Offset(101)), Err(DeleteError::OutOfRange { .. })));
    assert_eq!(log.retention().delete_records(Offset(77)).unwrap(), Offset(77));
    assert_eq!(log.retention().delete_records(Offset(5)).unwrap(), Offset(77));
    assert!(matches!(log.reader().read(Offset(76), Offset::MAX, 1), Err(ReadError::OutOfRange { .. })));
    drop(log);
    let (log, report) = open(&dir);
    assert!(report.holes.is_empty());
    assert_eq!(log.reader().log_start(), Offset(77));
    assert_eq!(read_all(&log.reader(), Offset(77)).unwrap().len(), 23);
}

#[test]
fn a_log_that_was_emptied_gives_back_what_it_took() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for _ in 0..3 {
        append(&mut log, 1, &[1; 300]);
    }
    log.retention().delete_records(Offset(2)).unwrap();
    assert!(!log.roll_if_emptied().unwrap(), "one is left");
    log.retention().delete_records(Offset(3)).unwrap();
    assert!(log.reader().is_emptied());
    assert!(log.roll_if_emptied().unwrap() && !log.roll_if_emptied().unwrap());
    assert_eq!(log.retention().delete_records(Offset(3)).unwrap(), Offset(3));
    let segments = log.reader().segments();
    assert_eq!((segments.len(), segments[0].base, segments[0].allocated_bytes), (1, Offset(3), 0));
    assert!(!dir.join(format!("{:020}.log", 0)).exists());
    drop(log);
    let (mut log, report) = open(&dir);
    assert!(report.holes.is_empty(), "{report:?}");
    assert_eq!(append(&mut log, 1, b"on"), Offset(3));
    assert_eq!(read_all(&log.reader(), Offset(3)).unwrap().len(), 1);
}

#[test]
fn a_follower_can_begin_anew_far_ahead() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for _ in 0..100 {
        append(&mut log, 1, &[1; 100]);
    }
    log.restart_at(Offset(5000)).unwrap();
    assert_eq!((log.end(), log.reader().log_start()), (Offset(5000), Offset(5000)));
    assert_eq!(append(&mut log, 2, b"new life"), Offset(5000));
    log.flush().unwrap();
    drop(log);
    let (log, report) = open(&dir);
    assert!(report.holes.is_empty(), "{report:?}");
    assert_eq!(read_all(&log.reader(), Offset(5000)).unwrap(), [(5000, b"new life".to_vec())]);
}

#[test]
fn readers_see_whole_batches_in_order_while_the_log_rolls_and_forgets() {
    let temp = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&temp.path().join("t-0"));
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for _ in 0..3 {
            let reader = log.reader();
            let done = &done;
            scope.spawn(move || {
                let mut at = Offset::ZERO;
                let mut kept = Vec::new();
                loop {
                    let was_done = done.load(Ordering::Acquire);
                    match reader.read_blocking(at, Offset::MAX, 900) {
                        Ok(ReadOutcome::Batches(found)) => {
                            for batch in Batches::new(&found.bytes) {
                                let batch = batch.unwrap();
                                batch.verify_crc().unwrap();
                                let number = u64::from_be_bytes(batch.payload()[..8].try_into().unwrap());
                                assert_eq!(number, batch.header().base_offset.0);
                                assert!(batch.header().next_offset() > at);
                            }
                            at = found.next;
                            kept.push(found.bytes);
                        }
                        Ok(_) if was_done => break,
                        Ok(_) => std::thread::yield_now(),
                        Err(ReadError::OutOfRange { log_start, .. }) => at = log_start,
                        Err(error) => panic!("{error}"),
                    }
                    // Slices outlive the files they came from.
                    if kept.len() > 50 {
                        for bytes in kept.drain(..) {
                            assert!(Batches::new(&bytes).all(|batch| batch.unwrap().verify_crc().is_ok()));
                        }
                    }
                }
                assert_eq!(at, reader.written_end());
            });
        }
        let retention = log.retention();
        for number in 0..4000u64 {
            let mut payload = vec![0; 100];
            payload[..8].copy_from_slice(&number.to_be_bytes());
            append(&mut log, 1, &payload);
            if number % 500 == 499 {
                let limits = RetentionLimits { bytes: Some(20_000), age: None, below: log.end() };
                assert!(retention.apply(Timestamp(0), &limits).unwrap().segments > 0);
            }
        }
        done.store(true, Ordering::Release);
    });
}

#[test]
fn every_file_of_a_log_can_be_dumped() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for number in 0..120u8 {
        append(&mut log, 2, &[number; 100]);
    }
    log.close().unwrap();
    let mut batches = 0;
    let mut kinds = std::collections::BTreeSet::new();
    for entry in fs::read_dir(&dir).unwrap() {
        let path = entry.unwrap().path();
        for entry in Dump::open(&path).unwrap() {
            match entry.unwrap() {
                DumpEntry::Batch(batch) => {
                    assert_eq!(batch.crc, CrcCheck::Valid);
                    batches += 1;
                }
                DumpEntry::Offset { offset, .. } => {
                    assert_eq!(offset.0 % 2, 1, "the last offset of a batch of two");
                    kinds.insert("offset");
                }
                DumpEntry::Time { .. } => drop(kinds.insert("time")),
                DumpEntry::Checkpoint(checkpoint) => {
                    assert_eq!(checkpoint.recovery_point, Offset(240));
                    kinds.insert("checkpoint");
                }
                DumpEntry::Epoch(entry) => {
                    assert_eq!(entry.epoch, EPOCH);
                    kinds.insert("epoch");
                }
                DumpEntry::Identity(found) => {
                    assert_eq!(found, support::identity());
                    kinds.insert("identity");
                }
                DumpEntry::Producer(_) => panic!("nobody numbered what was appended"),
                DumpEntry::Compaction { .. } => panic!("nothing was compacted"),
                // Marks that hold no more than their presence or a number.
                DumpEntry::Note { .. } => {}
                DumpEntry::Damage { .. } | DumpEntry::Misfit { .. } | DumpEntry::Zeros { .. } => {
                    panic!("a closed log has no such thing")
                }
            }
        }
    }
    assert_eq!((batches, kinds.len()), (120, 5), "{kinds:?}");

    let path = dir.join(format!("{:020}.log", 0));
    let mut bytes = fs::read(&path).unwrap();
    bytes[161 + 100] ^= 1;
    bytes.truncate(161 * 4 + 30);
    bytes.resize(161 * 4 + 30 + 1000, 0);
    fs::write(&path, bytes).unwrap();
    let entries: Vec<_> = Dump::open(&path).unwrap().map(Result::unwrap).collect();
    let crcs: Vec<_> =
        entries.iter().map_while(|e| if let DumpEntry::Batch(b) = e { Some(b.crc) } else { None }).collect();
    // The torn one still has its header, so it is shown as a batch that does not hold.
    let (valid, invalid) = (CrcCheck::Valid, CrcCheck::Invalid);
    assert_eq!(crcs, [valid, invalid, valid, valid, invalid]);
    assert_eq!(entries[5..], [DumpEntry::Zeros { position: 805, bytes: 869 }]);
    assert!(matches!(Dump::open(&dir.join("what")), Err(DumpError::UnknownKind { .. })));
}

#[test]
fn a_log_that_went_quiet_is_not_scanned_after_a_kill() {
    let temp = tempfile::tempdir().unwrap();
    let quick = FlusherOptions { background_interval: Duration::from_millis(5), ..FlusherOptions::default() };
    let flusher = Flusher::start(quick).unwrap();
    let segment = SegmentOptions::default();
    let with_flusher = LogOptions { flusher: flusher.handle(), segment, ..options(temp.path(), OsDisk::shared()) };
    let (mut log, _) = Log::open(with_flusher).unwrap();
    append(&mut log, 5, &[1; 10_000]);
    log.request_flush();
    let checkpoint = temp.path().join("checkpoint");
    let deadline = Instant::now() + Duration::from_secs(60);
    let covers_all = || {
        let entry = Dump::open(&checkpoint).unwrap().next();
        matches!(entry, Some(Ok(DumpEntry::Checkpoint(checkpoint))) if checkpoint.recovery_point == Offset(5))
    };
    while !covers_all() {
        assert!(Instant::now() < deadline, "a quiet log was never checkpointed");
        std::thread::yield_now();
    }
    // Killed: neither the log nor the flusher has a last word.
    std::mem::forget((log, flusher));
    let plain = LogOptions { segment, ..options(temp.path(), OsDisk::shared()) };
    let (log, report) = Log::open(plain).unwrap();
    assert_eq!(log.end(), Offset(5));
    assert!(report.scanned_bytes < 10_000, "{report:?}");
}

#[test]
fn what_is_reserved_and_was_never_written_is_not_scanned_after_a_kill() {
    let temp = tempfile::tempdir().unwrap();
    let segment =
        SegmentOptions { segment_bytes: 64 << 20, first_allocation_bytes: 64 << 20, ..SegmentOptions::default() };
    let (mut log, _) = Log::open(LogOptions { segment, ..options(temp.path(), OsDisk::shared()) }).unwrap();
    append(&mut log, 5, &[1; 10_000]);
    std::mem::forget(log);
    let (log, report) = Log::open(LogOptions { segment, ..options(temp.path(), OsDisk::shared()) }).unwrap();
    assert_eq!(log.end(), Offset(5));
    assert!((50_000..4 << 20).contains(&report.scanned_bytes), "{report:?}");
}

#[test]
fn the_largest_timestamp_is_that_of_the_records_which_are_there_and_may_be_seen() {
    let temp = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&temp.path().join("t-0"));
    let mut times = Vec::new();
    for number in 0..300i64 {
        // Peaks stay the largest for a while, some to the end of their segment.
        let at = number + if number % 40 == 3 { 1000 - number } else { 0 };
        append_times(&mut log, &[at, at + 4, at + 2], Compression::None);
        times.extend([at, at + 4, at + 2]);
    }
    let segments = log.reader().segments();
    assert!(segments.len() > 5);
    let starts = [0, 1, 9, 10, 11, 12, 300, 489, 490, 491, segments[3].base.0, segments[3].base.0 + 4, 898, 899, 900];
    for start in starts.map(Offset) {
        // Some lie below the start that is reached by then.
        let start = log.retention().delete_records(start).unwrap().0 as usize;
        for upper in (start.next_multiple_of(3)..=times.len()).step_by(3) {
            let largest = times[start..upper].iter().max();
            let first = largest.map(|largest| start + times[start..upper].iter().position(|at| at == largest).unwrap());
            let expected = first.map(|first| (first as u64, times[first]));
            let found = log.reader().max_timestamp(Offset(upper as u64)).unwrap();
            assert_eq!(found.map(|found| (found.offset.0, found.timestamp.0)), expected, "of {start}..{upper}");
        }
        for wanted in [0, 5, 150, 290, 1001, 1004] {
            let first = (start..times.len()).find(|&at| times[at] >= wanted);
            let found = log.reader().offset_for_timestamp(Timestamp(wanted), Offset::MAX).unwrap();
            assert_eq!(found.map(|found| found.offset.0 as usize), first, "{wanted} from {start}");
        }
    }
}
