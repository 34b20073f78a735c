//! A disk that runs full, fails a flush, tears a write or stops at any step: nothing acked is lost, nothing half acked, nothing retried.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use crate::support;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::support::{EPOCH, append, batch, options, read_all};
use parking_lot::{Condvar, Mutex};
use tidelog_log::fault::{Fault, FaultDisk, Operation};
use tidelog_log::{
    AppendError, Flusher, FlusherOptions, Group, Log, LogListener, ReadError, ReadOutcome, RetentionLimits, SpaceGuard,
    StorageError,
};
use tidelog_protocol::{LeaderEpoch, Offset, Timestamp};

fn open(dir: &Path, disk: &Arc<FaultDisk>) -> Log {
    Log::open(options(dir, disk.clone())).unwrap().0
}

fn try_append(log: &mut Log, payload: &[u8]) -> Result<Offset, AppendError> {
    let (header, bytes) = batch(2, 1, payload);
    log.append(&[Group::new(&bytes, &[header])], EPOCH).map(|done| done.base_offset)
}

/// A log on a fault disk, with a flusher of its own and somebody who hears what it does.
struct Watched {
    disk: Arc<FaultDisk>,
    flusher: Flusher,
    heard: Arc<Heard>,
    log: Log,
    _temp: tempfile::TempDir,
}

fn watched(flusher_options: FlusherOptions) -> Watched {
    let _temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let flusher = Flusher::start(flusher_options).unwrap();
    let heard = Arc::new(Heard::default());
    let mut opened = options(&_temp.path().join("t-0"), disk.clone());
    (opened.listener, opened.flusher) = (heard.clone(), flusher.handle());
    let (log, _) = Log::open(opened).unwrap();
    Watched { disk, flusher, heard, log, _temp }
}

#[test]
fn short_writes_and_interruptions_are_finished() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let mut log = open(&temp.path().join("t-0"), &disk);
    for fault in [Fault::Short(1), Fault::Short(17), Fault::Error(ErrorKind::Interrupted), Fault::Short(70)] {
        let before = disk.fired();
        disk.arm(Operation::Write, 0, fault);
        append(&mut log, 2, &[5; 100]);
        assert_eq!(disk.fired(), before + 1);
    }
    assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap().len(), 4);
}

#[test]
fn without_room_or_descriptors_at_any_step_an_append_is_refused_whole_and_goes_on_once_there_are_some() {
    let full = Fault::Stuck(ErrorKind::StorageFull);
    let wants = [
        (Operation::Write, full),
        (Operation::Allocate, full),
        (Operation::Create, Fault::OutOfDescriptors),
        (Operation::Open, Fault::OutOfDescriptors),
        (Operation::SyncDir, Fault::OutOfDescriptors),
    ];
    let mut refusals = Vec::new();
    for (operation, fault) in wants {
        let (mut struck, mut refused_appends) = (0, 0);
        // As many steps as a fresh log with some rolls takes.
        for skip in 0..60 {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("t-0");
            let disk = FaultDisk::new();
            let mut log = open(&dir, &disk);
            disk.arm(operation, skip, fault);
            let mut acked = Vec::new();
            let mut refused = None;
            for number in 0..50u8 {
                match try_append(&mut log, &[number; 150]) {
                    Ok(base) => acked.push((base.0, vec![number; 150])),
                    Err(error) => {
                        assert!(error.is_transient(), "{operation:?} {skip}: {error}");
                        refused = Some(number);
                        break;
                    }
                }
            }
            let flushed = log.flush();
            assert!(flushed.as_ref().err().is_none_or(AppendError::is_transient), "{operation:?} {skip}: {flushed:?}");
            let reader = log.reader();
            assert!(reader.poisoned().is_none());
            assert_eq!(read_all(&reader, Offset::ZERO).unwrap(), acked, "reads go on");
            struck += u64::from(disk.fired() > 0);
            disk.disarm();
            refused_appends += u64::from(refused.is_some());
            if let Some(number) = refused {
                acked.push((try_append(&mut log, &[number; 150]).unwrap().0, vec![number; 150]));
            }
            log.flush().unwrap();
            assert_eq!(read_all(&reader, Offset::ZERO).unwrap(), acked);
            disk.restart();
            let log = open(&dir, &disk);
            assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap(), acked, "and the same after a restart");
        }
        refusals.push((operation, struck, refused_appends));
    }
    for (operation, struck, refused_appends) in &refusals[..3] {
        assert!(*struck > 0 && *refused_appends > 0, "{operation:?} was never missed: {refusals:?}");
    }
    assert!(refusals[4].1 > 0, "no flush of a folder was missed: {refusals:?}");
}

#[test]
fn an_opened_log_whose_file_cannot_be_opened_yet_takes_appends_once_it_can() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let disk = FaultDisk::new();
    let mut log = open(&dir, &disk);
    append(&mut log, 2, b"first");
    log.close().unwrap();
    let mut log = open(&dir, &disk);
    disk.arm(Operation::Open, 0, Fault::OutOfDescriptors);
    for _ in 0..3 {
        assert!(matches!(try_append(&mut log, b"second"), Err(AppendError::OutOfDescriptors(_))));
    }
    assert!(log.roll().is_ok() || log.reader().poisoned().is_none());
    disk.disarm();
    assert_eq!(try_append(&mut log, b"second").unwrap(), Offset(2));
    log.flush().unwrap();
    assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap().len(), 2);
}

#[test]
fn what_a_failed_write_left_behind_does_not_come_back_after_a_crash() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let disk = FaultDisk::new();
    let mut log = open(&dir, &disk);
    append(&mut log, 1, b"acked");
    let (header, bytes) = batch(1, 1, b"refused");
    let two = [&bytes[..], &bytes[..]].concat();
    // The first of both batches is written whole, then the disk is full.
    disk.arm(Operation::Write, 0, Fault::Short(bytes.len() + 30));
    disk.arm(Operation::Write, 1, Fault::Error(ErrorKind::StorageFull));
    let refused = log.append(&[Group::new(&two, &[header, header])], EPOCH);
    assert!(matches!(refused, Err(AppendError::StorageFull)), "{refused:?}");
    assert_eq!(disk.fired(), 2);
    disk.restart();
    let log = open(&dir, &disk);
    assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap(), [(0, b"acked".to_vec())]);
}

#[derive(Default)]
struct Heard {
    events: Mutex<(Offset, Vec<String>)>,
    news: Condvar,
}

impl LogListener for Heard {
    fn flushed(&self, end: Offset) {
        self.events.lock().0 = end;
        self.news.notify_all();
    }

    fn poisoned(&self, error: &Arc<StorageError>) {
        self.events.lock().1.push(error.to_string());
        self.news.notify_all();
    }
}

impl Heard {
    fn wait_for(&self, is_there: impl Fn(&(Offset, Vec<String>)) -> bool) {
        let mut events = self.events.lock();
        while !is_there(&events) {
            assert!(!self.news.wait_for(&mut events, Duration::from_secs(20)).timed_out(), "{:?}", *events);
        }
    }
}

#[test]
fn a_failed_flush_is_final_it_poisons_the_log_and_is_never_tried_again() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let disk = FaultDisk::new();
    let heard = Arc::new(Heard::default());
    let mut opened = options(&dir, disk.clone());
    opened.listener = heard.clone();
    let (mut log, _) = Log::open(opened).unwrap();
    append(&mut log, 1, b"flushed");
    log.flush().unwrap();
    append(&mut log, 1, b"lost");
    disk.arm(Operation::SyncData, 0, Fault::Error(ErrorKind::Other));
    assert!(matches!(log.flush(), Err(AppendError::Poisoned(_))));
    assert_eq!(disk.fired(), 1);

    // The next fdatasync would succeed and mean nothing: nobody may ask for it.
    let syncs = disk.count(Operation::SyncData);
    assert!(matches!(log.flush(), Err(AppendError::Poisoned(_))));
    assert!(matches!(try_append(&mut log, b"more"), Err(AppendError::Poisoned(_))));
    assert!(matches!(log.reader().read(Offset(0), Offset::MAX, 1), Err(ReadError::Poisoned(_))));
    assert!(matches!(log.truncate_to(Offset(1)), Err(AppendError::Poisoned(_))));
    assert!(log.retention().delete_records(Offset(1)).is_err());
    assert!(log.tidy().is_ok() && matches!(log.close(), Err(AppendError::Poisoned(_))));
    assert_eq!(disk.count(Operation::SyncData), syncs);
    assert_eq!(heard.events.lock().0, Offset(1));
    assert_eq!(heard.events.lock().1.len(), 1, "told once");

    // Opened anew it reads past the page cache, and finds what the disk really holds.
    disk.restart();
    let log = open(&dir, &disk);
    assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap(), [(0, b"flushed".to_vec())]);
}

#[test]
fn the_flusher_groups_what_waits_and_tells_when_it_is_durable() {
    let Watched { disk: _disk, flusher, heard, mut log, _temp } = watched(FlusherOptions::default());
    for number in 0..500u32 {
        append(&mut log, 2, &number.to_be_bytes());
        log.request_flush();
    }
    heard.wait_for(|(end, _)| *end == Offset(1000));
    assert_eq!(log.reader().flushed_end(), Offset(1000));
    drop(flusher);
    let metrics = log.reader().flush_metrics();
    assert!(metrics.flushes >= 1 && metrics.flushes <= 500, "{metrics:?}");
    assert_eq!(metrics.bytes, 500 * 65);
    assert_eq!(metrics.buckets.iter().sum::<u64>(), metrics.flushes);
}

#[test]
fn epochs_in_quick_succession_are_noted_by_the_flush_and_the_upkeep_at_once() {
    // Each flush has the upkeep write a checkpoint, beside the next flush; both note the epochs before.
    let flusher_options = FlusherOptions { checkpoint_bytes: 1, ..FlusherOptions::default() };
    let Watched { disk: _disk, flusher: _flusher, heard, mut log, _temp } = watched(flusher_options);
    for epoch in 1..=2_000 {
        let (header, bytes) = batch(1, 1, b"x");
        let _ = log.append(&[Group::new(&bytes, &[header])], LeaderEpoch(epoch)).unwrap();
        log.request_flush();
        if epoch % 3 == 0 {
            heard.wait_for(|(end, errors)| *end == Offset(epoch.into()) || !errors.is_empty());
        }
        assert!(heard.events.lock().1.is_empty(), "poisoned at epoch {epoch}: {:?}", heard.events.lock().1);
    }
}

#[test]
fn what_nobody_waits_for_is_flushed_as_well_and_a_wait_for_it_may_follow() {
    // Nothing but what is asked for.
    let flusher_options =
        FlusherOptions { background_interval: Duration::from_secs(3_600), ..FlusherOptions::default() };
    let Watched { disk: _disk, flusher: _flusher, heard, mut log, _temp } = watched(flusher_options);
    for round in 1..=20 {
        append(&mut log, 1, b"copied");
        log.request_unawaited_flush();
        if round % 2 == 0 {
            log.request_flush();
        }
        heard.wait_for(|(end, _)| *end == Offset(round));
    }
}

#[test]
fn a_flush_that_finds_no_descriptor_is_tried_again() {
    let flusher_options =
        FlusherOptions { background_interval: Duration::from_millis(20), ..FlusherOptions::default() };
    let Watched { disk, flusher: _flusher, heard, mut log, _temp } = watched(flusher_options);
    append(&mut log, 1, b"x");
    disk.arm(Operation::SyncDir, 0, Fault::OutOfDescriptors);
    log.roll().unwrap();
    append(&mut log, 1, b"in a segment whose name is not durable yet");
    log.request_flush();
    // At least two tries, and the second by itself.
    while disk.fired() < 2 {
        assert!(heard.events.lock().1.is_empty(), "poisoned for want of a descriptor");
        std::thread::yield_now();
    }
    assert!(heard.events.lock().0 < Offset(2), "nothing in it was promised meanwhile");
    disk.disarm();
    heard.wait_for(|(end, _)| *end == Offset(2));
    assert!(heard.events.lock().1.is_empty(), "and nothing is poisoned");
}

#[test]
fn a_flush_that_fails_on_the_flushers_thread_poisons_the_log() {
    let Watched { disk, flusher: _flusher, heard, mut log, _temp } = watched(FlusherOptions::default());
    disk.arm(Operation::SyncData, 0, Fault::Stuck(ErrorKind::Other));
    append(&mut log, 1, b"x");
    log.request_flush();
    heard.wait_for(|(_, errors)| errors.len() == 1);
    assert!(matches!(try_append(&mut log, b"more"), Err(AppendError::Poisoned(_))));
}

#[test]
fn dirty_data_that_nobody_asks_to_flush_is_flushed_in_the_background() {
    let temp = tempfile::tempdir().unwrap();
    let options = FlusherOptions { background_interval: Duration::from_millis(20), ..FlusherOptions::default() };
    let flusher = Flusher::start(options).unwrap();
    let heard = Arc::new(Heard::default());
    let mut opened = support::options(&temp.path().join("t-0"), tidelog_log::OsDisk::shared());
    (opened.listener, opened.flusher) = (heard.clone(), flusher.handle());
    let (mut log, _) = Log::open(opened).unwrap();
    append(&mut log, 3, b"x");
    heard.wait_for(|(end, _)| *end == Offset(3));
    append(&mut log, 3, b"y");
    heard.wait_for(|(end, _)| *end == Offset(6));
}

#[test]
fn below_the_low_space_watermark_appends_are_refused_and_reads_go_on() {
    let temp = tempfile::tempdir().unwrap();
    let disk = FaultDisk::new();
    let guard = Arc::new(SpaceGuard::new(disk.clone(), temp.path(), u64::MAX).unwrap());
    let flusher = Flusher::start(FlusherOptions { space: Some(guard.clone()), ..FlusherOptions::default() }).unwrap();
    let mut opened = options(&temp.path().join("t-0"), disk.clone());
    opened.flusher = flusher.handle();
    let (mut log, _) = Log::open(opened).unwrap();
    assert!(matches!(try_append(&mut log, b"x"), Err(AppendError::StorageFull)));
    assert!(matches!(log.reader().read(Offset(0), Offset::MAX, 1), Ok(ReadOutcome::UpToDate)));
    assert!(guard.free_bytes() < guard.low_water_bytes() && !guard.has_room());
}

#[test]
fn an_unreadable_page_is_an_error_of_that_read_only() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let disk = FaultDisk::new();
    let mut log = open(&dir, &disk);
    for number in 0..50u8 {
        append(&mut log, 1, &[number; 150]);
    }
    log.close().unwrap();
    let log = open(&dir, &disk);
    disk.arm(Operation::Read, 2, Fault::Error(ErrorKind::Other));
    let failed = read_all(&log.reader(), Offset::ZERO);
    assert!(matches!(failed, Err(ReadError::Storage(_))), "{failed:?}");
    assert_eq!(disk.fired(), 1);
    assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap().len(), 50);
}

/// Appends, flushes, rolls, checkpoints, deletes and truncates; the answers are what was flushed, and deleted, when it ended.
fn life(log: &mut Log, flushed: &mut u64, deleted: &mut u64) -> Result<(), ()> {
    for number in 0..60u8 {
        try_append(log, &[number; 150]).map_err(drop)?;
        if number % 5 == 0 {
            log.flush().map_err(drop)?;
            *flushed = log.end().0;
        }
        if number % 13 == 0 {
            log.tidy().map_err(drop)?;
        }
    }
    log.retention().delete_records(Offset(30)).map_err(drop)?;
    *deleted = 30;
    *flushed = 90;
    log.truncate_to(Offset(90)).map_err(drop)?;
    try_append(log, b"after the cut").map_err(drop)?;
    log.flush().map_err(drop)?;
    *flushed = log.end().0;
    // Where a segment begins, and all there is.
    for before in [64, log.end().0] {
        log.retention().delete_records(Offset(before)).map_err(drop)?;
        *deleted = before;
    }
    Ok(())
}

#[test]
fn a_crash_or_a_power_loss_at_every_step_loses_nothing_that_was_flushed_and_brings_nothing_back_that_was_deleted() {
    let counted = {
        let temp = tempfile::tempdir().unwrap();
        let disk = FaultDisk::new();
        let mut log = open(&temp.path().join("t-0"), &disk);
        let before = disk.count(Operation::Change);
        life(&mut log, &mut 0, &mut 0).unwrap();
        disk.count(Operation::Change) - before
    };
    assert!(counted > 100, "{counted}");
    for step in 0..counted {
        for (power, checkpoint) in [("kept", "kept"), ("lost", "kept"), ("kept", "damaged"), ("lost", "damaged")] {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("t-0");
            let disk = FaultDisk::new();
            let mut log = open(&dir, &disk);
            disk.arm(Operation::Change, step, Fault::CrashAfter(40));
            let (mut flushed, mut deleted) = (0, 0);
            assert!(life(&mut log, &mut flushed, &mut deleted).is_err() || disk.fired() == 1);
            if power == "lost" {
                disk.lose_power(step * 7919).unwrap();
            } else {
                disk.restart();
            }
            drop(log);
            if checkpoint == "damaged" {
                std::fs::write(dir.join("checkpoint"), b"rot").unwrap();
            }
            let (log, report) = Log::open(options(&dir, disk.clone())).unwrap();
            let start = log.reader().log_start();
            assert!(start.0 >= deleted, "step {step}, power {power}, checkpoint {checkpoint}: {start} of {deleted}");
            let reader = log.reader();
            assert!(log.end().0 >= flushed, "step {step}, power {power}: {} of {flushed}, {report:?}", log.end());
            let first_hole = report.holes.first().map_or(u64::MAX, |hole| hole.from.0);
            assert!(first_hole >= flushed, "step {step}, power {power}: {report:?}");
            let until = log.end().0.min(first_hole);
            let found = support::read_range(&reader, reader.log_start(), Offset(until)).unwrap();
            assert_eq!(found.last().map_or(reader.log_start().0, |(base, _)| base + 2), until);
            for (base, payload) in found {
                let expected =
                    if payload == b"after the cut" { b"after the cut".to_vec() } else { vec![(base / 2) as u8; 150] };
                assert_eq!(payload, expected, "step {step}, power {power}, offset {base}");
            }
        }
    }
}

#[test]
fn on_a_full_disk_what_could_not_be_deleted_yet_is_deleted_once_it_can_and_nothing_is_confirmed_before() {
    let logs = |dir: &Path| std::fs::read_dir(dir).unwrap().filter(|e| log_name(&e.as_ref().unwrap().path())).count();
    for again in ["delete records", "retention", "upkeep"] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let disk = FaultDisk::new();
        let mut log = open(&dir, &disk);
        for number in 0..60u8 {
            append(&mut log, 1, &[number; 150]);
        }
        log.flush().unwrap();
        let before = logs(&dir);
        assert!(before > 2);
        disk.arm(Operation::Write, 0, Fault::Stuck(ErrorKind::StorageFull));
        let retention = log.retention();
        let limits = RetentionLimits { bytes: Some(0), age: None, below: log.end() };
        for _ in 0..2 {
            assert!(retention.delete_records(Offset(50)).is_err(), "nothing is durable");
            assert!(retention.apply(Timestamp(0), &limits).is_err(), "nothing is durable");
        }
        assert_eq!(logs(&dir), before);
        disk.disarm();
        match again {
            "delete records" => assert_eq!(retention.delete_records(Offset(20)).unwrap(), log.reader().log_start()),
            "retention" => assert!(retention.apply(Timestamp(0), &limits).unwrap().segments > 0),
            _ => log.tidy().unwrap(),
        }
        assert_eq!(logs(&dir), 1, "{again}");
        let start = log.reader().log_start();
        assert!(start >= Offset(50));
        disk.restart();
        let log = open(&dir, &disk);
        assert_eq!(log.reader().log_start(), start, "{again}");
        assert_eq!(read_all(&log.reader(), start).unwrap().len(), 60 - start.0 as usize);
    }
}

#[test]
fn a_segment_that_could_not_be_unlinked_is_unlinked_at_the_next_try() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let disk = FaultDisk::new();
    let mut log = open(&dir, &disk);
    for number in 0..60u8 {
        append(&mut log, 1, &[number; 150]);
    }
    disk.arm(Operation::Remove, 2, Fault::Error(ErrorKind::Other));
    let retention = log.retention();
    assert!(retention.delete_records(Offset(60)).is_err());
    assert_eq!(retention.delete_records(Offset(60)).unwrap(), Offset(60));
    let left = std::fs::read_dir(&dir).unwrap().filter(|e| log_name(&e.as_ref().unwrap().path())).count();
    assert_eq!(left, 1);
}

fn log_name(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "log")
}
