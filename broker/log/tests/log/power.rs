//! After a loss of power: a tail that was being written is cut at its first gap, rot beside it is not.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use crate::support;
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use crate::support::{append, options, read_all, segment};
use tidelog_log::fault::{Fault, FaultDisk, Operation};
use tidelog_log::{Log, OsDisk, RecoveryReport, SegmentOptions};
use tidelog_protocol::{Durability, Offset};

const BLOCK: u64 = 4096;

/// One segment is enough for what these tests do, unless they say otherwise.
fn open_on(dir: &Path, disk: &Arc<FaultDisk>, segment_bytes: u32) -> (Log, RecoveryReport) {
    let segment = SegmentOptions { segment_bytes, ..support::small_segments() };
    Log::open(tidelog_log::LogOptions { segment, ..options(dir, disk.clone()) }).unwrap()
}

fn payload(seed: u64, number: u64) -> Vec<u8> {
    vec![1 + (number % 250) as u8; (1 + (seed * 7919 + number * 104_729) % 3000) as usize]
}

/// What power losses did to the unflushed tails of many logs.
#[derive(Default, Debug)]
struct Seen {
    whole_or_torn: u64,
    cut_with_batches_behind: u64,
    fenced: u64,
}

/// Flushes ten batches, writes ten more, loses power, opens. The answer holds what is left to say when nothing flushed was lost.
fn lose_power_in_the_middle(durability: Durability, segment_bytes: u32) -> Seen {
    let mut seen = Seen::default();
    for seed in 0..160 {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let disk = FaultDisk::new();
        let (mut log, _) = open_on(&dir, &disk, segment_bytes);
        log.set_durability(durability);
        for number in 0..10 {
            append(&mut log, 1, &payload(seed, number));
        }
        log.flush().unwrap();
        log.tidy().unwrap();
        let flushed_bytes = log.reader().segments().last().unwrap().bytes;
        for number in 10..20 {
            append(&mut log, 1, &payload(seed, number));
        }
        let before = read_all(&log.reader(), Offset::ZERO).unwrap();
        drop(log);
        disk.lose_power(seed).unwrap();
        let (log, report) = open_on(&dir, &disk, segment_bytes);
        if let Some(hole) = report.holes.first() {
            // Only where a sector was torn out of the block that flushed and unflushed batches share.
            let shared_block = flushed_bytes / BLOCK;
            let is_shared = hole.bytes.start / BLOCK == shared_block;
            assert!(hole.from >= Offset(10) && is_shared, "seed {seed}: {hole:?}, flushed to {flushed_bytes}");
            seen.fenced += 1;
            continue;
        }
        let end = log.end().0;
        assert!(end >= 10, "seed {seed}: {end}, {report:?}");
        assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap(), before[..end as usize], "seed {seed}");
        assert!(end + report.discarded_offsets <= 20, "seed {seed}: {report:?}");
        let is_cut = report.discarded_offsets > 0;
        seen.cut_with_batches_behind += u64::from(is_cut);
        seen.whole_or_torn += u64::from(!is_cut);
        // Opening twice finds the same, and the log goes on.
        let (mut log, again) = open_on(&dir, &disk, segment_bytes);
        assert_eq!((log.end().0, again.discarded_offsets, again.torn_bytes), (end, 0, 0), "seed {seed}");
        assert_eq!(append(&mut log, 1, b"on"), Offset(end));
    }
    seen
}

#[test]
fn a_tail_that_was_written_back_out_of_order_is_cut_at_its_first_gap() {
    let seen = lose_power_in_the_middle(Durability::Flushed, 1 << 20);
    assert!(seen.cut_with_batches_behind > 40, "{seen:?}");
    assert!(seen.fenced < seen.cut_with_batches_behind, "{seen:?}");
}

#[test]
fn of_a_topic_that_promises_no_flush_no_power_loss_leaves_a_fenced_range() {
    for segment_bytes in [4096, 1 << 20] {
        let seen = lose_power_in_the_middle(Durability::Written, segment_bytes);
        assert!(seen.cut_with_batches_behind > 40, "{seen:?}");
        assert_eq!(seen.fenced, 0, "{seen:?}");
    }
}

/// Twenty batches of 1000 bytes, the last eight flushed but not checkpointed, a loss of power, and `damage` written over the file.
fn damaged(durability: &[Durability], damage: &[u8], at: u64) -> (Log, RecoveryReport) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let disk = FaultDisk::new();
    let (mut log, _) = open_on(&dir, &disk, 1 << 20);
    for number in 0..12u8 {
        append(&mut log, 1, &[1 + number; 939]);
    }
    log.tidy().unwrap();
    for durability in durability {
        log.set_durability(*durability);
        append(&mut log, 1, &[99; 939]);
        log.flush().unwrap();
    }
    for number in durability.len()..8 {
        append(&mut log, 1, &[20 + number as u8; 939]);
    }
    log.flush().unwrap();
    drop(log);
    disk.lose_power(5).unwrap();
    fs::File::options().write(true).open(segment(&dir, 0)).unwrap().write_all_at(damage, at).unwrap();
    open_on(&dir, &disk, 1 << 20)
}

/// Ways for a disk to damage the 15th of those batches, at 14000: what is written where.
fn rot() -> [(&'static str, Vec<u8>, u64); 7] {
    [
        ("a byte", vec![0xa5], 14_100),
        ("its header", vec![0; 61], 14_000),
        ("a sector of zeros", vec![0; 512], 14_336),
        ("a block of zeros", vec![0; 4096], 12_288),
        ("two blocks of zeros", vec![0; 8192], 8192),
        ("all of it zeros", vec![0; 1000], 14_000),
        ("a block of garbage", vec![0xa5; 4096], 12_288),
    ]
}

#[test]
fn rot_in_what_was_flushed_is_fenced_even_where_no_checkpoint_covers_it_and_whatever_it_looks_like() {
    for (name, damage, at) in rot() {
        let (log, report) = damaged(&[Durability::Flushed], &damage, at);
        assert_eq!(report.discarded_offsets, 0, "{name}: {report:?}");
        assert!(report.holes.iter().any(|hole| (hole.from..hole.to).contains(&Offset(14))), "{name}: {report:?}");
        assert_eq!(log.end(), Offset(20), "{name}");
    }
}

#[test]
fn a_gap_in_a_tail_that_no_flush_was_promised_for_is_cut_and_its_offsets_are_counted() {
    for (name, damage, at) in rot().into_iter().filter(|(name, ..)| !name.contains("two")) {
        let (log, report) = damaged(&[Durability::Written], &damage, at);
        assert!(report.holes.is_empty(), "{name}: {report:?}");
        assert_eq!(log.end().0 + report.discarded_offsets, 20, "{name}: {report:?}");
        assert!((12..=14).contains(&log.end().0), "{name}: {report:?}");
    }
}

#[test]
fn a_topic_that_promises_flushes_again_keeps_that_promise_from_its_next_flush_on() {
    for (name, damage, at) in rot() {
        let (_, report) = damaged(&[Durability::Written, Durability::Flushed], &damage, at);
        assert_eq!(report.discarded_offsets, 0, "{name}: {report:?}");
        assert!(!report.holes.is_empty(), "{name}");
    }
}

#[test]
fn what_was_acknowledged_before_a_topic_stopped_to_promise_flushes_stays_promised() {
    let durability = [Durability::Flushed, Durability::Flushed, Durability::Flushed, Durability::Written];
    let (_, report) = damaged(&durability, &[0xa5; 8], 14_100);
    assert_eq!((report.discarded_offsets, report.holes.len()), (0, 1), "{report:?}");
}

#[test]
fn a_folder_that_does_not_say_since_when_or_says_it_unreadably_has_promised_every_flush() {
    for left in [None, Some(&b"garbage"[..])] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let (mut log, _) = support::open(&dir);
        log.set_durability(Durability::Written);
        for number in 0..6u8 {
            append(&mut log, 1, &[number; 100]);
        }
        log.flush().unwrap();
        drop(log);
        match left {
            None => fs::remove_file(dir.join("written-since")).unwrap(),
            Some(bytes) => fs::write(dir.join("written-since"), bytes).unwrap(),
        }
        let file = fs::File::options().write(true).open(segment(&dir, 0)).unwrap();
        file.write_all_at(&[0xa5; 8], 3 * 161 + 100).unwrap();
        let (log, report) = support::open(&dir);
        assert_eq!((log.end(), report.holes.len()), (Offset(6), 1), "{report:?}");
    }
}

#[test]
fn without_its_checkpoint_a_log_of_many_segments_is_never_cut_in_the_middle() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = support::open(&dir);
    log.set_durability(Durability::Written);
    for number in 0..90u8 {
        append(&mut log, 1, &[number; 100]);
    }
    log.close().unwrap();
    fs::remove_file(dir.join("checkpoint")).unwrap();
    let file = fs::File::options().write(true).open(segment(&dir, 0)).unwrap();
    file.write_all_at(&[0xa5; 8], 3 * 161 + 100).unwrap();
    let (log, report) = Log::open(options(&dir, OsDisk::shared())).unwrap();
    assert_eq!((log.end(), report.discarded_offsets, report.holes.len()), (Offset(90), 0, 1), "{report:?}");
}

#[test]
fn a_flush_that_stops_between_two_segments_leaves_the_older_one_whole() {
    for seed in 0..40 {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let disk = FaultDisk::new();
        let (mut log, _) = open_on(&dir, &disk, 8192);
        append(&mut log, 1, b"first");
        log.flush().unwrap();
        for number in 0..15u8 {
            append(&mut log, 1, &[number; 1000]);
        }
        let segments = log.reader().segments();
        assert_eq!(segments.len(), 3);
        disk.arm(Operation::SyncData, 1, Fault::Crash);
        assert!(log.flush().is_err() && disk.fired() == 1);
        drop(log);
        disk.lose_power(seed).unwrap();
        let (log, report) = open_on(&dir, &disk, 8192);
        assert!(log.end() >= segments[0].end, "seed {seed}: {} of {segments:?}", log.end());
        assert!(report.holes.iter().all(|hole| hole.from >= segments[0].end), "seed {seed}: {report:?}");
    }
}

/// Three flushed batches that no checkpoint covers, in a segment with reserved blocks behind them, the length of the first made longer by
/// `flip`, a power of two; and more damage.
fn with_a_longer_length(flip: u32, more: &[u64]) -> (Log, RecoveryReport) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let disk = FaultDisk::new();
    let segment_options =
        SegmentOptions { segment_bytes: 1 << 20, first_allocation_bytes: 64 << 10, ..support::small_segments() };
    let on_disk =
        || tidelog_log::LogOptions { segment: segment_options, ..options(&dir, Arc::<FaultDisk>::clone(&disk)) };
    let (mut log, _) = Log::open(on_disk()).unwrap();
    append(&mut log, 1, &[7; 939]);
    log.tidy().unwrap();
    for number in 0..3u8 {
        append(&mut log, 1, &[1 + number; 939]);
    }
    log.flush().unwrap();
    drop(log);
    disk.lose_power(1).unwrap();
    let file = fs::File::options().read(true).write(true).open(segment(&dir, 0)).unwrap();
    let mut length = [0; 4];
    file.read_exact_at(&mut length, 1008).unwrap();
    assert_eq!(u32::from_be_bytes(length), 988);
    file.write_all_at(&(988 ^ flip).to_be_bytes(), 1008).unwrap();
    for &at in more {
        file.write_all_at(&[0xa5], at).unwrap();
    }
    Log::open(on_disk()).unwrap()
}

#[test]
fn a_length_that_lies_proves_nothing_about_a_batch_that_was_flushed() {
    for flip in [1 << 12, 1 << 13, 1 << 14, 1 << 15] {
        for more in [&[][..], &[1500]] {
            let (log, report) = with_a_longer_length(flip, more);
            assert_eq!(report.discarded_offsets, 0, "{flip} {more:?}: {report:?}");
            let holes: Vec<_> = report.holes.iter().map(|hole| (hole.from.0, hole.to.0)).collect();
            assert_eq!((log.end(), holes), (Offset(4), vec![(1, 2)]), "{flip} {more:?}");
        }
    }
}
