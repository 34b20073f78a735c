//! A process that dies, a disk that loses power, runs full or fails at any step of compaction, and readers in the middle of it: the latest
//! value of every key stays, none that was deleted comes back, no offset is served twice.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::support::keyed::{Model, Shape, compact, read_records, rules};
use crate::support::options;
use tidelog_log::fault::{Fault, FaultDisk, Operation};
use tidelog_log::{Log, ReadOutcome, RecoveryReport, Scrub};
use tidelog_protocol::Offset;
use tidelog_protocol::records::{Batches, Compression};

fn open(dir: &Path, disk: &Arc<FaultDisk>) -> (Log, RecoveryReport) {
    Log::open(options(dir, disk.clone())).unwrap()
}

fn put(model: &mut Model, log: &mut Log, key: u32, value: Option<u8>) {
    let codec = if key.is_multiple_of(2) { Compression::None } else { Compression::Lz4 };
    let value = value.map(|value| [value; 90]);
    let record = (Some(&key.to_be_bytes()[..]), value.as_ref().map(|value| &value[..]));
    model.append(log, Shape { codec, ..Shape::default() }, &[record]);
}

/// A log of some segments that was compacted once, with tombstones whose grace is over, and as much again that is dirty.
fn worn(dir: &Path, disk: &Arc<FaultDisk>) -> (Log, Model) {
    let (mut log, _) = open(dir, disk);
    let mut model = Model::default();
    for round in 0..8u8 {
        for key in 0..12 {
            put(&mut model, &mut log, key, (round < 7 || key > 3).then_some(round));
        }
    }
    log.roll().unwrap();
    log.flush().unwrap();
    compact(&log, &rules(0)).unwrap();
    for round in 0..6u8 {
        for key in 3..14 {
            put(&mut model, &mut log, key, (round < 5 || key < 12).then_some(round));
        }
    }
    log.roll().unwrap();
    put(&mut model, &mut log, 5, Some(99));
    log.flush().unwrap();
    (log, model)
}

const DUE: i64 = 1_000;

/// The folder holds the files of the log's segments and nothing that is left over.
fn assert_tidy(log: &Log, dir: &Path, context: &str) {
    let names = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let names: BTreeSet<_> = names.collect();
    assert!(!names.iter().any(|name| name.contains("swap") || name.contains("rewrite")), "{context}: {names:?}");
    let logs = names.iter().filter(|name| name.ends_with(".log")).count();
    assert_eq!(logs, log.reader().segments().len(), "{context}: {names:?}");
}

/// A pass from here on does all that one without a fault does.
fn assert_heals(log: &Log, model: &Model, dir: &Path, context: &str) {
    let above = model.records.range(162..).count();
    compact(log, &rules(DUE)).unwrap();
    let found = model.check(&log.reader(), context);
    // 3 to 13 stand once: 0 to 2 were deleted, and their tombstones are due; 12 and 13 were, and theirs are not.
    assert_eq!(found.len(), 11 + above, "{context}: {:?}", found.keys());
    assert_tidy(log, dir, context);
}

#[test]
fn a_pass_without_a_fault_does_what_the_others_are_held_against() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (log, model) = worn(&dir, &FaultDisk::new());
    assert!(log.reader().segments().len() > 2);
    assert_heals(&log, &model, &dir, "without a fault");
}

/// Lets every change of a pass be the last one that the process makes; `after` says what becomes of the disk.
fn die_at_each_step(after: impl Fn(&FaultDisk, u64)) -> u64 {
    for skip in 0.. {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let disk = FaultDisk::new();
        let (log, model) = worn(&dir, &disk);
        let fault = if skip % 2 == 0 { Fault::Crash } else { Fault::CrashAfter(1 + skip as usize * 37) };
        disk.arm(Operation::Change, skip, fault);
        let done = compact(&log, &rules(DUE));
        if disk.fired() == 0 {
            done.unwrap();
            return skip;
        }
        assert!(done.is_err(), "step {skip}");
        drop(log);
        after(&disk, skip);
        let context = format!("died at step {skip}");
        let (log, report) = open(&dir, &disk);
        assert!(report.holes.is_empty() && report.torn_bytes == 0, "{context}: {report:?}");
        assert_eq!(report.distrusted, None, "{context}");
        model.check(&log.reader(), &context);
        assert_tidy(&log, &dir, &context);
        // A second death right away, before any checkpoint of the new life.
        drop(log);
        disk.restart();
        let (log, report) = open(&dir, &disk);
        assert!(report.holes.is_empty() && report.distrusted.is_none(), "{context}, twice: {report:?}");
        model.check(&log.reader(), &format!("{context}, twice"));
        assert_heals(&log, &model, &dir, &context);
        log.close().unwrap();
        let (log, _) = open(&dir, &disk);
        model.check(&log.reader(), &format!("{context}, closed and opened"));
    }
    unreachable!("some pass has fewer steps")
}

#[test]
fn killed_at_any_step_everything_is_there_and_the_next_pass_finishes() {
    let steps = die_at_each_step(|disk, _| disk.restart());
    assert!(steps > 30, "{steps}");
}

#[test]
fn without_power_at_any_step_everything_is_there_and_the_next_pass_finishes() {
    for round in 0..2 {
        let steps = die_at_each_step(|disk, seed| disk.lose_power(seed * 31 + round).unwrap());
        assert!(steps > 30, "{steps}");
    }
}

#[test]
fn killed_at_any_step_of_finishing_what_an_earlier_death_left() {
    let mut deaths = 0;
    for first in 0.. {
        let mut is_over = true;
        for second in 0.. {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("t-0");
            let disk = FaultDisk::new();
            let (log, model) = worn(&dir, &disk);
            disk.arm(Operation::Rename, first, Fault::Crash);
            let _ = compact(&log, &rules(DUE));
            drop(log);
            if disk.fired() == 0 {
                break;
            }
            is_over = false;
            disk.restart();
            disk.arm(Operation::Change, second, Fault::Crash);
            let opened = Log::open(options(&dir, disk.clone()));
            let died = disk.fired() == 2;
            assert_eq!(opened.is_err(), died);
            drop(opened);
            disk.lose_power(first * 100 + second).unwrap();
            let (log, report) = open(&dir, &disk);
            let context = format!("died at rename {first}, then at step {second}");
            assert!(report.holes.is_empty(), "{context}: {report:?}");
            model.check(&log.reader(), &context);
            assert_heals(&log, &model, &dir, &context);
            if !died {
                break;
            }
            deaths += 1;
        }
        if is_over {
            break;
        }
    }
    assert!(deaths > 20, "{deaths}");
}

#[test]
fn without_room_or_descriptors_at_any_step_it_ends_and_goes_on_once_there_are_some() {
    let wants = [
        (Operation::Change, Fault::Error(ErrorKind::StorageFull)),
        (Operation::Change, Fault::Stuck(ErrorKind::StorageFull)),
        (Operation::Open, Fault::OutOfDescriptors),
        (Operation::SyncDir, Fault::OutOfDescriptors),
        (Operation::Create, Fault::OutOfDescriptors),
    ];
    for (operation, fault) in wants {
        let mut struck = 0;
        for skip in 0.. {
            let temp = tempfile::tempdir().unwrap();
            let dir = temp.path().join("t-0");
            let disk = FaultDisk::new();
            let (mut log, mut model) = worn(&dir, &disk);
            disk.arm(operation, skip, fault);
            let done = compact(&log, &rules(DUE));
            let context = format!("{operation:?} {fault:?} at {skip}");
            if disk.fired() == 0 {
                done.unwrap();
                break;
            }
            struck += 1;
            // What failed while it was to be made durable may not be believed any more, and the log says so.
            if log.reader().poisoned().is_none() {
                model.check(&log.reader(), &context);
                disk.disarm();
                put(&mut model, &mut log, 7, Some(200));
                log.flush().unwrap();
                log.tidy().unwrap();
                assert_heals(&log, &model, &dir, &context);
                assert_eq!(log.truncate_to(log.end()).unwrap(), log.end());
            } else {
                assert!(!matches!(fault, Fault::OutOfDescriptors), "{context}: only a disk that fails ends a replica");
            }
            drop(log);
            disk.lose_power(skip).unwrap();
            let (log, report) = open(&dir, &disk);
            assert!(report.holes.is_empty(), "{context}: {report:?}");
            model.check(&log.reader(), &format!("{context}, opened again"));
            assert_heals(&log, &model, &dir, &context);
        }
        assert!(struck > 0, "{operation:?} {fault:?} was never missed");
    }
}

#[test]
fn a_disk_that_fails_ends_the_pass_or_the_replica_and_loses_nothing() {
    let mut ended = 0;
    for skip in 0.. {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let disk = FaultDisk::new();
        let (log, model) = worn(&dir, &disk);
        disk.arm(Operation::Change, skip, Fault::Error(ErrorKind::Other));
        let done = compact(&log, &rules(DUE));
        if disk.fired() == 0 {
            done.unwrap();
            break;
        }
        let context = format!("failed at step {skip}");
        ended += u64::from(log.reader().poisoned().is_some());
        if log.reader().poisoned().is_none() {
            model.check(&log.reader(), &context);
        }
        drop(log);
        disk.lose_power(skip).unwrap();
        let (log, report) = open(&dir, &disk);
        assert!(report.holes.is_empty(), "{context}: {report:?}");
        model.check(&log.reader(), &context);
        assert_heals(&log, &model, &dir, &context);
    }
    assert!(ended > 0, "no failure of a folder's flush was final");
}

#[test]
fn what_a_reader_holds_stays_and_what_it_reads_next_fits() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, mut model) = worn(&dir, &FaultDisk::new());
    log.close().unwrap();
    (log, _) = open(&dir, &FaultDisk::new());
    let reader = log.reader();
    // A slice, a read that has found its segment but not its bytes, a scrub in the middle of a segment.
    let ReadOutcome::Cold(pending) = reader.read(Offset(97), Offset::MAX, 300).unwrap() else { panic!("all is cold") };
    let ReadOutcome::Batches(held) = reader.read_blocking(Offset(100), Offset::MAX, 400).unwrap() else { panic!() };
    let before = held.bytes.to_vec();
    let mut scrub = Scrub::new(reader.clone());
    let step = scrub.step(3_000).unwrap();
    assert!(step.bytes > 0 && !step.is_complete);
    compact(&log, &rules(DUE)).unwrap();
    assert_eq!(held.bytes[..], before[..], "the bytes under a reader do not change");
    let ReadOutcome::Batches(late) = pending.complete().unwrap() else { panic!("there are batches") };
    let first = Batches::compacted(&late.bytes).next().unwrap().unwrap();
    assert!(first.header().base_offset <= Offset(97) && first.header().next_offset() > Offset(97));
    loop {
        let step = scrub.step(3_000).unwrap();
        assert_eq!(step.found, [], "no damage where there is none");
        if step.is_complete {
            break;
        }
    }
    assert!(reader.holes().is_empty());
    put(&mut model, &mut log, 1, Some(1));
    model.check(&reader, "under a reader");
}

#[test]
fn readers_come_through_while_segments_are_exchanged() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, mut model) = worn(&dir, &FaultDisk::new());
    let stop = Arc::new(AtomicBool::new(false));
    let walks = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..3)
        .map(|_| {
            let (reader, stop, walks) = (log.reader(), stop.clone(), walks.clone());
            std::thread::spawn(move || {
                while !stop.load(Ordering::Acquire) {
                    let end = reader.written_end();
                    // Asserts a chain without gaps, whole batches and each offset once.
                    let found = read_records(&reader, Offset::ZERO);
                    assert!(reader.holes().is_empty(), "{:?}", reader.holes());
                    // What a slow reader has passed may stand anew behind what was the end for it.
                    let is_whole = reader.written_end() == end;
                    assert!(found.len() >= 12 || !is_whole, "only {found:?} below {end}");
                    walks.fetch_add(u64::from(is_whole), Ordering::AcqRel);
                }
            })
        })
        .collect();
    for pass in 0..60u64 {
        for key in 0..14 {
            put(&mut model, &mut log, key, (key != 9 || pass % 2 == 0).then_some(pass as u8));
        }
        log.roll().unwrap();
        log.flush().unwrap();
        compact(&log, &rules(DUE + pass as i64 * 1_000)).unwrap();
        if pass % 10 == 0 {
            log.tidy().unwrap();
        }
    }
    let seen = walks.load(Ordering::Acquire);
    while walks.load(Ordering::Acquire) < seen + 3 && !threads.iter().any(std::thread::JoinHandle::is_finished) {
        std::thread::yield_now();
    }
    stop.store(true, Ordering::Release);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    assert!(seen > 0, "nobody read meanwhile");
    model.check(&log.reader(), "at the end");
}
