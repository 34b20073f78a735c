//! A log that is cut where it parts from its leader's: what that costs, and what whoever reads meanwhile sees of it.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{EPOCH, batch, options, read_all, segment};
use tidelog_log::fault::{Fault, FaultDisk, Operation};
use tidelog_log::{AppendError, Disk, Flusher, FlusherOptions, Group, Log, OsDisk, ReadOutcome, SegmentOptions};
use tidelog_protocol::{Offset, Timestamp};

const BATCHES: u64 = 400;

fn open_on(dir: &Path, disk: Arc<dyn Disk>) -> Log {
    let mut options = options(dir, disk);
    options.segment = SegmentOptions { segment_bytes: 4 << 20, ..options.segment };
    Log::open(options).unwrap().0
}

/// A batch whose timestamp is now larger and now smaller than those before.
fn put(log: &mut Log, number: u64) {
    let (header, bytes) = batch(1, (number * 7_919 % 1_009) as i64, &[number as u8; 1_000]);
    let _ = log.append(&[Group::new(&bytes, &[header])], EPOCH).unwrap();
}

fn slice(log: &Log, from: u64) -> bytes::Bytes {
    match log.reader().read_blocking(Offset(from), Offset::MAX, 1 << 20).unwrap() {
        ReadOutcome::Batches(found) => found.bytes,
        other => panic!("{other:?}"),
    }
}

#[test]
fn it_copies_nothing_and_whoever_reads_what_is_cut_off_keeps_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let disk = FaultDisk::new();
    let mut log = open_on(&dir, disk.clone());
    (0..BATCHES).for_each(|number| put(&mut log, number));
    log.flush().unwrap();
    let (read, file) = (slice(&log, 300), fs::metadata(segment(&dir, 0)).unwrap());
    let copied = read.to_vec();
    assert!(copied.len() > 90_000, "{}", copied.len());

    let writes = disk.count(Operation::Write);
    assert_eq!(log.truncate_to(Offset(310)).unwrap(), Offset(310));
    let writes = disk.count(Operation::Write) - writes;
    assert!(writes <= 4, "{writes} writes: the checkpoint and the epochs");
    assert_eq!(fs::metadata(segment(&dir, 0)).unwrap().ino(), file.ino(), "the file is the same");
    (310..320).for_each(|number| put(&mut log, number + 1));
    log.tidy().unwrap();
    assert_eq!(fs::metadata(segment(&dir, 0)).unwrap().len(), file.len(), "somebody looks at what was cut off");
    assert!(read == copied, "what was read has changed");

    drop(read);
    log.tidy().unwrap();
    let one = fs::metadata(segment(&dir, 0)).unwrap().len() / 310;
    assert!(one > 1_000 && one < 1_100, "{one} bytes for each of 310 batches: what was cut off is still there");
    let found = read_all(&log.reader(), Offset::ZERO).unwrap();
    let values: Vec<u8> = found.iter().map(|(_, payload)| payload[0]).collect();
    assert_eq!(values, (0..310u64).chain(311..321).map(|number| number as u8).collect::<Vec<_>>());
}

#[test]
fn what_is_known_of_times_is_that_of_a_log_that_was_never_longer() {
    let temp = tempfile::tempdir().unwrap();
    // Around an entry of the index, which has one for every 256 bytes or so, and around the largest times.
    for cut in [1, 2, 3, 129, 255, 256, 257, 300, BATCHES - 1] {
        let dirs = [temp.path().join(format!("cut-{cut}")), temp.path().join(format!("short-{cut}"))];
        let [mut log, mut short] = dirs.each_ref().map(|dir| open_on(dir, OsDisk::shared()));
        (0..BATCHES).for_each(|number| put(&mut log, number));
        (0..cut).for_each(|number| put(&mut short, number));
        assert_eq!(log.truncate_to(Offset(cut)).unwrap(), Offset(cut));
        for life in ["at once", "after it was opened again"] {
            let (of_cut, of_short) = (log.reader(), short.reader());
            assert_eq!(of_cut.size_bytes(), of_short.size_bytes(), "{cut}, {life}");
            let newest = |reader: &tidelog_log::LogReader| reader.max_timestamp(Offset::MAX).unwrap();
            assert_eq!(newest(&of_cut), newest(&of_short), "{cut}, {life}");
            for time in (0..1_009).step_by(13) {
                let first = |reader: &tidelog_log::LogReader| {
                    reader.offset_for_timestamp(Timestamp(time), Offset::MAX).unwrap()
                };
                assert_eq!(first(&of_cut), first(&of_short), "{cut}, {life}, time {time}");
            }
            assert!(read_all(&of_cut, Offset::ZERO).unwrap() == read_all(&of_short, Offset::ZERO).unwrap());
            log.close().unwrap();
            log = open_on(&dirs[0], OsDisk::shared());
        }
    }
}

#[test]
fn killed_before_what_was_cut_off_is_given_back_it_stays_cut_off_with_and_without_its_checkpoint() {
    let temp = tempfile::tempdir().unwrap();
    for (checkpoint, later) in [("kept", 0), ("kept", 3), ("damaged", 0), ("damaged", 3)] {
        let dir = temp.path().join(format!("{checkpoint}-{later}"));
        let disk = FaultDisk::new();
        let mut log = open_on(&dir, disk.clone());
        (0..BATCHES).for_each(|number| put(&mut log, number));
        log.flush().unwrap();
        let length = fs::metadata(segment(&dir, 0)).unwrap().len();
        let read = slice(&log, 300);
        log.truncate_to(Offset(310)).unwrap();
        (0..later).for_each(|_| put(&mut log, 999));
        log.flush().unwrap();
        assert_eq!(fs::metadata(segment(&dir, 0)).unwrap().len(), length, "it is still there");
        disk.restart();
        drop((log, read));
        if checkpoint == "damaged" {
            fs::write(dir.join("checkpoint"), b"rot").unwrap();
        }
        let log = open_on(&dir, disk.clone());
        let reader = log.reader();
        assert_eq!((log.end(), reader.holes()), (Offset(310 + later), Vec::new()), "{checkpoint}, {later} later");
        assert_eq!(read_all(&reader, Offset::ZERO).unwrap().len() as u64, 310 + later, "{checkpoint}, {later} later");
        log.close().unwrap();
        assert!(fs::metadata(segment(&dir, 0)).unwrap().len() < length, "{checkpoint}, {later} later: it is gone");
    }
}

fn values(log: &Log) -> Vec<u8> {
    read_all(&log.reader(), Offset::ZERO).unwrap().iter().map(|(_, payload)| payload[0]).collect()
}

/// Cuts a log of forty to 25 and goes on; asks again where that was refused for a moment.
fn cut_and_go_on(dir: &Path, disk: &Arc<FaultDisk>, step: u64, fault: Fault) -> u64 {
    let mut log = open_on(dir, disk.clone());
    (0..40).for_each(|number| put(&mut log, number));
    log.flush().unwrap();
    log.tidy().unwrap();
    disk.arm(Operation::Change, step, fault);
    let first = log.truncate_to(Offset(25));
    let fired = disk.fired();
    disk.disarm();
    match first {
        Ok(end) => assert_eq!(end, Offset(25), "step {step}"),
        Err(AppendError::StorageFull | AppendError::OutOfDescriptors(_)) => {
            assert_eq!(values(&log).len(), 40, "step {step}: nothing that is served has changed");
            assert_eq!(log.truncate_to(Offset(25)).unwrap(), Offset(25), "step {step}");
        }
        Err(other) => panic!("step {step}: {other:?}"),
    }
    (100..105).for_each(|number| put(&mut log, number));
    log.flush().unwrap();
    assert_eq!(log.reader().flushed_end(), Offset(30), "step {step}");
    let expected: Vec<u8> = (0..25).chain(100..105).collect();
    assert_eq!(values(&log), expected, "step {step}");
    disk.restart();
    drop(log);
    assert_eq!(values(&open_on(dir, disk.clone())), expected, "step {step}: what was flushed is there");
    fired
}

#[test]
fn no_room_or_no_descriptor_at_any_step_of_it_costs_nothing_but_another_try() {
    for fault in [Fault::Error(ErrorKind::StorageFull), Fault::OutOfDescriptors] {
        let temp = tempfile::tempdir().unwrap();
        let mut steps = 0;
        while cut_and_go_on(&temp.path().join(steps.to_string()), &FaultDisk::new(), steps, fault) > 0 {
            steps += 1;
        }
        assert!(steps > 8, "{steps} steps");
    }
}

#[test]
fn a_second_cut_that_is_killed_at_any_step_brings_nothing_back_that_the_first_cut_off() {
    // With and without somebody who looks at what the first one cut off.
    for looks in [false, true] {
        let mut steps = 0;
        loop {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("t-0");
            let disk = FaultDisk::new();
            let mut log = open_on(&dir, disk.clone());
            (0..20).for_each(|number| put(&mut log, number));
            log.flush().unwrap();
            let read = looks.then(|| slice(&log, 12));
            log.truncate_to(Offset(15)).unwrap();
            log.flush().unwrap();
            let before = read.as_ref().map(|read| read.to_vec());
            disk.arm(Operation::Change, steps, Fault::Crash);
            let is_killed = log.truncate_to(Offset(5)).is_err();
            assert!(read.map(|read| read.to_vec()) == before, "step {steps}: what was read has changed");
            disk.disarm();
            disk.restart();
            drop(log);
            let log = open_on(&dir, disk.clone());
            let end = log.end().0;
            assert!((5..=15).contains(&end) && (is_killed || end == 5), "looks {looks}, step {steps}: {end}");
            assert_eq!(values(&log), (0..end as u8).collect::<Vec<_>>(), "looks {looks}, step {steps}");
            if !is_killed {
                break;
            }
            steps += 1;
        }
        assert!(steps > 8, "{steps} steps");
    }
}

#[test]
fn a_slice_of_what_was_cut_off_outlives_the_rest_of_its_segment_and_the_log() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let looks = FlusherOptions { background_interval: Duration::from_millis(20), idle_looks: 1, ..Default::default() };
    let flusher = Flusher::start(looks).unwrap();
    let mut options = options(&dir, OsDisk::shared());
    options.segment = SegmentOptions { segment_bytes: 4 << 20, ..options.segment };
    options.flusher = flusher.handle();
    let (mut log, _) = Log::open(options).unwrap();
    (0..BATCHES).for_each(|number| put(&mut log, number));
    log.flush().unwrap();
    let read = slice(&log, 300);
    let copied = read.to_vec();
    let length = fs::metadata(segment(&dir, 0)).unwrap().len();
    log.truncate_to(Offset(10)).unwrap();
    let resting = Instant::now();
    while resting.elapsed() < Duration::from_millis(300) {
        put(&mut log, 999);
        log.flush().unwrap();
        log.tidy().unwrap();
    }
    log.close().unwrap();
    let log = open_on(&dir, OsDisk::shared());
    log.tidy().unwrap();
    // It may have been made longer meanwhile, ahead of appends.
    let now = fs::metadata(segment(&dir, 0)).unwrap().len();
    assert!(now >= length, "{now} of {length} bytes: a look at the slice would end the process");
    assert!(read == copied);
    drop(read);
    log.tidy().unwrap();
    assert!(fs::metadata(segment(&dir, 0)).unwrap().len() < length, "nobody looks any more");
}
