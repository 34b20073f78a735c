//! Torn tails are cut, damage is fenced: never served, and never a reason to cut what follows it.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use crate::support;
use std::fs;
use std::path::Path;

use crate::support::{append, open, read_all, segment};
use proptest::prelude::*;
use tidelog_log::{IdentityError, Log, OpenError, ReadError, ReadOutcome, Scrub};
use tidelog_protocol::Offset;

/// The partition folder copied as it stands: what a kill -9 leaves.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// All batches that are served, and the ranges that are refused.
#[allow(clippy::type_complexity)]
fn read_around(log: &Log) -> (Vec<(u64, Vec<u8>)>, Vec<(u64, u64)>) {
    let reader = log.reader();
    let (mut found, mut refused) = (Vec::new(), Vec::new());
    let mut at = reader.log_start();
    while at < reader.written_end() {
        let mut upper = reader.written_end();
        // Reading stops at damage; what lies before it is read on its own.
        loop {
            match support::read_range(&reader, at, upper) {
                Ok(batches) => {
                    found.extend(batches);
                    at = upper;
                    break;
                }
                Err(ReadError::Corrupt { from, to }) if from <= at => {
                    refused.push((from.0, to.0));
                    at = to;
                    break;
                }
                Err(ReadError::Corrupt { from, .. }) => upper = from,
                Err(error) => panic!("{error}"),
            }
        }
    }
    (found, refused)
}

/// A log of so many batches, each of two records and 111 bytes.
fn batches_of_two(count: u8) -> (tempfile::TempDir, std::path::PathBuf, Log) {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for number in 0..count {
        append(&mut log, 2, &[number; 50]);
    }
    (temp, dir, log)
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_and_cutting_twice_changes_nothing() {
    let (temp, dir, mut log) = batches_of_two(5);
    log.tidy().unwrap();
    append(&mut log, 2, &[9; 50]);
    let before = read_all(&log.reader(), Offset::ZERO).unwrap();
    let batch_bytes = 111;
    for torn in 0..batch_bytes {
        let copied = temp.path().join(format!("c-{torn}"));
        copy(&dir, &copied);
        let path = segment(&copied, 0);
        let mut bytes = fs::read(&path).unwrap();
        bytes.truncate(5 * batch_bytes + torn);
        if torn % 2 == 0 {
            bytes.resize(8192, 0);
        }
        fs::write(&path, &bytes).unwrap();
        let (log, report) = open(&copied);
        assert_eq!(log.end(), Offset(10), "torn at {torn}");
        assert!(report.holes.is_empty());
        // The first bytes of a small base offset are zeros, as reserved space is.
        assert_eq!(report.torn_bytes > 0, torn > 7, "torn at {torn}: {report:?}");
        assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap(), before[..5]);
        drop(log);
        let once = fs::read(&path).unwrap();
        let (mut log, report) = open(&copied);
        assert_eq!((log.end(), report.torn_bytes), (Offset(10), 0));
        assert_eq!(fs::read(&path).unwrap(), once);
        assert_eq!(append(&mut log, 1, b"goes on"), Offset(10));
        assert_eq!(read_all(&log.reader(), Offset(10)).unwrap(), [(10, b"goes on".to_vec())]);
    }
}

#[test]
fn damage_in_the_unflushed_tail_with_valid_batches_behind_it_is_fenced_not_cut() {
    let (_temp, dir, log) = batches_of_two(6);
    let before = read_all(&log.reader(), Offset::ZERO).unwrap();
    drop(log);
    let path = segment(&dir, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[2 * 111 + 80] ^= 1;
    fs::write(&path, &bytes).unwrap();

    let (mut log, report) = open(&dir);
    assert_eq!(report.holes.iter().map(|hole| (hole.from.0, hole.to.0)).collect::<Vec<_>>(), [(4, 6)]);
    let expected = [&before[..2], &before[3..]].concat();
    assert_eq!(read_around(&log), (expected.clone(), vec![(4, 6)]));
    assert_eq!(fs::read(&path).unwrap()[..6 * 111], bytes[..6 * 111], "nothing was cut");
    // Appends go on, and the fence survives a clean restart.
    assert_eq!(append(&mut log, 1, b"more"), Offset(12));
    log.close().unwrap();
    let (log, report) = open(&dir);
    assert_eq!(report.holes.len(), 1);
    assert_eq!(report.scanned_bytes, 0);
    assert_eq!(read_around(&log).0, [&expected[..], &[(12, b"more".to_vec())]].concat());
}

#[test]
fn a_segment_that_is_shorter_than_its_checkpoint_is_a_loss_and_appends_go_on_behind_it() {
    let (_temp, dir, log) = batches_of_two(6);
    log.close().unwrap();
    fs::File::options().write(true).open(segment(&dir, 0)).unwrap().set_len(3 * 111 + 20).unwrap();
    for _ in 0..2 {
        let (mut log, report) = open(&dir);
        assert_eq!(report.holes.iter().map(|hole| (hole.from.0, hole.to.0)).collect::<Vec<_>>(), [(6, 12)]);
        let (found, refused) = read_around(&log);
        assert_eq!(refused, [(6, 12)]);
        assert!(found.len() == 3 || found.len() == 4);
        if log.end() == Offset(12) {
            assert_eq!(append(&mut log, 1, b"behind"), Offset(12));
        }
        log.close().unwrap();
    }
}

#[test]
fn a_missing_segment_is_reported_and_the_rest_is_served() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for number in 0..120u8 {
        append(&mut log, 1, &[number; 100]);
    }
    let before = read_all(&log.reader(), Offset::ZERO).unwrap();
    let segments = log.reader().segments();
    assert!(segments.len() > 3);
    log.close().unwrap();
    for gone in 0..segments.len() {
        for checkpoint in ["kept", "lost"] {
            let copied = temp.path().join(format!("{checkpoint}-{gone}"));
            copy(&dir, &copied);
            fs::remove_file(segment(&copied, segments[gone].base.0)).unwrap();
            if checkpoint == "lost" {
                fs::remove_file(copied.join("checkpoint")).unwrap();
            }
            let (log, report) = open(&copied);
            let holes: Vec<_> = report.holes.iter().map(|hole| (hole.from, hole.to)).collect();
            // Without a checkpoint nothing tells of a first or last segment that is gone.
            let is_inner = gone > 0 && gone + 1 < segments.len();
            if checkpoint == "kept" || is_inner {
                assert_eq!(holes, [(segments[gone].base, segments[gone].end)], "{checkpoint} {gone}");
            }
            let lost = segments[gone].base.0..segments[gone].end.0;
            let expected: Vec<_> = before.iter().filter(|(base, _)| !lost.contains(base)).cloned().collect();
            assert_eq!(read_around(&log).0, expected);
        }
    }
}

#[test]
fn damaged_index_and_checkpoint_files_are_rebuilt() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for number in 0..120u8 {
        append(&mut log, 1, &[number; 100]);
    }
    let before = read_all(&log.reader(), Offset::ZERO).unwrap();
    log.close().unwrap();
    let names: Vec<_> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".log") && name != "identity")
        .collect();
    assert!(names.iter().any(|name| name.ends_with(".timeindex")), "{names:?}");
    for (number, name) in names.iter().enumerate() {
        for (how, damage) in [
            ("missing", None),
            ("empty", Some(vec![])),
            ("short", Some(fs::read(dir.join(name)).unwrap()[..7].to_vec())),
            ("garbage", Some(vec![0xa5; 4000])),
            ("flipped", Some(flip(fs::read(dir.join(name)).unwrap(), 21))),
        ] {
            let copied = temp.path().join(format!("{how}-{number}"));
            copy(&dir, &copied);
            match damage {
                Some(bytes) => fs::write(copied.join(name), bytes).unwrap(),
                None => fs::remove_file(copied.join(name)).unwrap(),
            }
            let (mut log, report) = open(&copied);
            assert!(report.holes.is_empty(), "{how} {name}: {report:?}");
            assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap(), before, "{how} {name}");
            for (base, payload) in &before {
                assert_eq!(read_all(&log.reader(), Offset(*base)).unwrap()[0], (*base, payload.clone()));
            }
            assert_eq!(log.reader().leader_epochs().starts().len(), 1);
            assert_eq!(append(&mut log, 1, b"on"), Offset(120));
            log.close().unwrap();
            let (log, report) = open(&copied);
            assert_eq!((report.scanned_bytes, log.end()), (0, Offset(121)), "{how} {name} {report:?}");
        }
    }
}

fn flip(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    let at = at.min(bytes.len() - 1);
    bytes[at] ^= 4;
    bytes
}

/// A small file as a later release would write it, checksum and all.
fn future(mut bytes: Vec<u8>) -> Vec<u8> {
    if !bytes.starts_with(b"TL") {
        return bytes;
    }
    bytes[4..6].copy_from_slice(&99u16.to_be_bytes());
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[4..10]), &bytes[14..]);
    bytes[10..14].copy_from_slice(&crc.to_be_bytes());
    bytes
}

#[test]
fn a_folder_of_another_partition_or_a_later_release_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    append(&mut log, 1, b"x");
    log.close().unwrap();
    let mut other = support::options(&dir, tidelog_log::OsDisk::shared());
    other.identity.topic = tidelog_protocol::TopicId([8; 16]);
    let error = Log::open(other).unwrap_err();
    assert!(matches!(error, OpenError::Identity(IdentityError::Mismatch { .. })), "{error}");

    let path = dir.join("identity");
    let good = fs::read(&path).unwrap();
    fs::write(&path, future(good.clone())).unwrap();
    let refused = Log::open(support::options(&dir, tidelog_log::OsDisk::shared()));
    assert!(matches!(refused, Err(OpenError::Identity(IdentityError::Newer { found: 99, .. }))));
    fs::write(&path, &good[..9]).unwrap();
    let refused = Log::open(support::options(&dir, tidelog_log::OsDisk::shared()));
    assert!(matches!(refused, Err(OpenError::Identity(IdentityError::Unknown { .. }))));
}

#[test]
fn bookkeeping_of_a_later_release_is_refused_and_left_as_it_is() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    append(&mut log, 10, b"x");
    append(&mut log, 10, b"y");
    log.set_durability(tidelog_protocol::Durability::Written);
    log.retention().delete_records(Offset(7)).unwrap();
    log.flush().unwrap();
    drop(log);
    let names: Vec<_> =
        fs::read_dir(&dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let small: Vec<_> = names.iter().filter(|name| fs::read(dir.join(name)).unwrap().starts_with(b"TL")).collect();
    assert!(small.len() >= 5 && small.iter().any(|name| name.ends_with(".producers")), "{small:?}");
    for (number, name) in small.into_iter().filter(|name| *name != "identity").enumerate() {
        let copied = temp.path().join(format!("{number}"));
        copy(&dir, &copied);
        fs::write(copied.join(name), future(fs::read(dir.join(name)).unwrap())).unwrap();
        let refused = Log::open(support::options(&copied, tidelog_log::OsDisk::shared())).unwrap_err();
        assert!(
            matches!(&refused, OpenError::Newer { path, found: 99, .. } if path.ends_with(name)),
            "{name}: {refused}"
        );
        // The release for which it is finds everything as it was.
        for other in names.iter().filter(|other| *other != name) {
            assert_eq!(fs::read(copied.join(other)).unwrap(), fs::read(dir.join(other)).unwrap(), "{name}: {other}");
        }
    }
}

#[test]
fn a_log_that_begins_behind_damage_is_read_from_there_in_every_life() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    let mut ends = Vec::new();
    for _ in 0..4 {
        append(&mut log, 2, b"x");
        ends.push(log.reader().written_end());
    }
    log.flush().unwrap();
    drop(log);
    let path = dir.join(format!("{:020}.log", 0));
    let mut bytes = fs::read(&path).unwrap();
    // The base offset of the second batch, so that its header leads nowhere: all four are alike, and end in a zero each.
    let batch = (bytes.iter().rposition(|byte| *byte != 0).unwrap() + 1).div_ceil(4);
    assert_eq!(bytes[batch + 7], 2, "a batch of two stands before it");
    bytes[batch + 7] ^= 0x40;
    fs::write(&path, bytes).unwrap();
    for life in 0..3 {
        if life > 0 {
            // What is not believed is scanned, and then this process has seen every byte, the damaged ones as well.
            let epochs = dir.join("leader-epochs");
            fs::write(&epochs, flip(fs::read(&epochs).unwrap(), 16)).unwrap();
        }
        let (log, report) = open(&dir);
        assert!(life == 0 || report.distrusted.is_some(), "life {life}: {report:?}");
        if life == 0 {
            log.retention().delete_records(ends[1]).unwrap();
        }
        let reader = log.reader();
        assert!(!reader.is_damaged(), "life {life}: what is deleted is nobody's damage");
        match reader.read_blocking(ends[1], Offset::MAX, 4096).unwrap() {
            ReadOutcome::Batches(found) => assert_eq!(found.next, ends[3], "life {life}"),
            other => panic!("life {life}: {other:?}"),
        }
        log.close().unwrap();
    }
}

#[test]
fn a_copy_of_a_segment_under_another_name_is_not_swallowed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for number in 0..10u8 {
        append(&mut log, 1, &[number; 100]);
    }
    log.close().unwrap();
    fs::copy(segment(&dir, 0), segment(&dir, 4)).unwrap();
    let refused = Log::open(support::options(&dir, tidelog_log::OsDisk::shared()));
    assert!(matches!(refused, Err(OpenError::Overlap { .. })), "{:?}", refused.map(|(_, report)| report));
}

#[test]
fn what_was_durable_is_no_torn_tail_even_where_the_epochs_are_damaged_too() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for number in 0..20u8 {
        append(&mut log, 1, &[number; 100]);
    }
    log.close().unwrap();
    fs::write(dir.join("leader-epochs"), b"short").unwrap();
    let path = segment(&dir, 0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[12 * 161..].fill(0xee);
    fs::write(&path, bytes).unwrap();
    for _ in 0..2 {
        let (log, report) = open(&dir);
        assert_eq!((report.torn_bytes, log.end()), (0, Offset(20)));
        let lost = log.reader().read_blocking(Offset(12), Offset::MAX, 1);
        assert!(matches!(lost, Err(ReadError::Corrupt { from: Offset(12), to: Offset(20) })), "{lost:?}");
    }
}

#[test]
fn a_segment_that_holds_other_batches_than_it_should_is_corrupt() {
    let temp = tempfile::tempdir().unwrap();
    let (dir, other) = (temp.path().join("t-0"), temp.path().join("t-1"));
    let (mut log, _) = open(&dir);
    for number in 0..3u8 {
        append(&mut log, 1, &[number; 300]);
    }
    log.close().unwrap();
    let (mut log, _) = open(&other);
    for number in 0..60u8 {
        append(&mut log, 1, &[number; 3]);
    }
    log.close().unwrap();
    let length = fs::read(segment(&dir, 0)).unwrap().len();
    fs::write(segment(&dir, 0), &fs::read(segment(&other, 0)).unwrap()[..length]).unwrap();

    let (log, _) = open(&dir);
    let refused = log.reader().read_blocking(Offset(0), Offset::MAX, 10_000);
    assert!(matches!(refused, Err(ReadError::Corrupt { from: Offset(0), to: Offset(3) })), "{refused:?}");
}

#[test]
fn scrub_finds_rot_before_a_reader_does() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    for number in 0..120u8 {
        append(&mut log, 1, &[number; 100]);
    }
    let sealed = log.reader().segments()[1];
    log.close().unwrap();
    let path = segment(&dir, sealed.base.0);
    fs::write(&path, flip(fs::read(&path).unwrap(), 3 * 161 + 100)).unwrap();
    let (log, report) = open(&dir);
    assert_eq!((report.scanned_bytes, report.holes.len()), (0, 0));
    let mut scrub = Scrub::new(log.reader());
    let (mut found, mut bytes, mut steps) = (Vec::new(), 0, 0);
    loop {
        let step = scrub.step(1000).unwrap();
        found.extend(step.found);
        bytes += step.bytes;
        steps += 1;
        if step.is_complete {
            break;
        }
    }
    let rotten = sealed.base.plus(3);
    assert_eq!(found.iter().map(|hole| (hole.from, hole.to)).collect::<Vec<_>>(), [(rotten, rotten.plus(1))]);
    let sealed_bytes: u64 = log.reader().segments().iter().rev().skip(1).map(|segment| segment.bytes).sum();
    assert_eq!(bytes, sealed_bytes);
    assert!(steps > 5);
    assert!(matches!(log.reader().read(rotten, Offset::MAX, 100), Err(ReadError::Corrupt { .. })));
    assert!(scrub.step(u64::MAX).unwrap().found.is_empty(), "known damage is not news");
}

#[test]
fn a_whole_batch_between_two_damaged_ones_at_the_end_of_a_segment_is_served() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    let mut positions = Vec::new();
    for number in 0..90u8 {
        positions.push(log.reader().segments().last().unwrap().bytes);
        append(&mut log, 1, &vec![number; usize::from(number)]);
    }
    let before = read_all(&log.reader(), Offset::ZERO).unwrap();
    // The last of the first segment, and the one before its neighbour.
    let last = log.reader().segments()[0].end.0 as usize - 1;
    log.close().unwrap();
    let path = segment(&dir, 0);
    let mut bytes = fs::read(&path).unwrap();
    for hit in [last - 2, last] {
        bytes[positions[hit] as usize] ^= 1;
    }
    fs::write(&path, &bytes).unwrap();
    let (log, _) = open(&dir);
    let (found, refused) = read_around(&log);
    let hits = [last as u64 - 2, last as u64];
    assert_eq!(refused, hits.map(|hit| (hit, hit + 1)));
    assert_eq!(found, before.into_iter().filter(|(base, _)| !hits.contains(base)).collect::<Vec<_>>());
}

/// Each bit of each header in turn, among them those of a length that then ends where a later batch begins.
fn each_bit_costs_its_own_batch_only(hits: std::ops::Range<usize>, close: impl FnOnce(Log)) {
    let temp = tempfile::tempdir().unwrap();
    let (dir, whole) = (temp.path().join("t-0"), temp.path().join("whole"));
    let (mut log, _) = open(&dir);
    let mut positions = Vec::new();
    for number in 0..8u8 {
        positions.push(log.reader().segments()[0].bytes as usize);
        append(&mut log, 1 + u32::from(number % 3), &vec![number; usize::from(number)]);
    }
    let before = read_all(&log.reader(), Offset::ZERO).unwrap();
    close(log);
    fs::rename(&dir, &whole).unwrap();
    for hit in hits {
        for (byte, bit) in (0..61).flat_map(|byte| (0..8).map(move |bit| (byte, bit))) {
            copy(&whole, &dir);
            let mut bytes = fs::read(segment(&dir, 0)).unwrap();
            bytes[positions[hit] + byte] ^= 1 << bit;
            fs::write(segment(&dir, 0), bytes).unwrap();
            let (log, _) = open(&dir);
            let (found, refused) = read_around(&log);
            let others: Vec<_> = before.iter().filter(|batch| batch.0 != before[hit].0).cloned().collect();
            assert_eq!(found, others, "batch {hit}, byte {byte}, bit {bit}: {refused:?}");
            drop(log);
            fs::remove_dir_all(&dir).unwrap();
        }
    }
}

#[test]
fn no_single_bit_of_a_header_costs_another_batch() {
    each_bit_costs_its_own_batch_only(0..8, |log| log.close().unwrap());
}

#[test]
fn no_single_bit_of_a_header_costs_another_batch_of_a_tail_that_was_not_closed() {
    // Those at the two ends have too few witnesses of what lies outside the CRC.
    each_bit_costs_its_own_batch_only(1..6, drop);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// Bits flip while the log is closed, anywhere in its segments, flushed or not, with or without a checkpoint.
    #[test]
    fn flipped_bits_are_never_served_and_cost_no_other_batch(
        flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4),
        closing in prop::sample::select(vec!["clean", "checkpointed", "killed", "no checkpoint"]),
    ) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let (mut log, _) = open(&dir);
        for number in 0..90u8 {
            append(&mut log, 1 + u32::from(number % 3), &vec![number; usize::from(number)]);
            if closing == "checkpointed" && number == 60 {
                log.tidy().unwrap();
            }
        }
        let before = read_all(&log.reader(), Offset::ZERO).unwrap();
        let segments = log.reader().segments();
        match closing {
            "clean" => log.close().unwrap(),
            "no checkpoint" => {
                log.close().unwrap();
                fs::remove_file(dir.join("checkpoint")).unwrap();
            }
            _ => drop(log),
        }
        let total: u64 = segments.iter().map(|segment| segment.bytes).sum();
        let mut hit = Vec::new();
        // An epoch lies outside the CRC. Where the history was not yet flushed, nothing contradicts that of the last batch, nor one that is
        // too low of the first.
        let mut may_pass = None;
        // Batches whose base offset or epoch is hit: those lie outside the CRC, and only the two on each side can contradict them.
        let mut unproven = Vec::new();
        for (index, bit) in &flips {
            let mut at = index.index(total as usize) as u64;
            let segment_hit = segments.iter().find(|s| { if at < s.bytes { true } else { at -= s.bytes; false } }).unwrap();
            let path = segment(&dir, segment_hit.base.0);
            let mut bytes = fs::read(&path).unwrap();
            bytes[at as usize] ^= 1 << bit;
            fs::write(&path, &bytes).unwrap();
            // Which batch that was, for the count of what may be missing.
            let mut position = 0;
            for (base, payload) in before.iter().filter(|(b, _)| (segment_hit.base.0..segment_hit.end.0).contains(b)) {
                let next = position + 61 + payload.len() as u64;
                if (position..next).contains(&at) {
                    hit.push(*base);
                    if !(8..12).contains(&(at - position)) && at - position < 16 {
                        unproven.push(*base);
                    }
                    let is_at_an_end = *base == 0 || base + 3 >= segments.last().unwrap().end.0;
                    if (12..16).contains(&(at - position)) && is_at_an_end && closing != "clean" {
                        may_pass = Some(*base);
                    }
                }
                position = next;
            }
        }
        hit.sort_unstable();
        hit.dedup();
        let (log, _) = open(&dir);
        let (found, refused) = read_around(&log);
        let without_witness = unproven.iter().any(|unproven| {
            let at = before.iter().position(|(base, _)| base == unproven).unwrap();
            let near = &before[at.saturating_sub(2)..before.len().min(at + 3)];
            near.iter().any(|(base, _)| base != unproven && hit.contains(base))
        });
        if without_witness && closing != "clean" {
            return Ok(());
        }
        for batch in &found {
            prop_assert!(before.contains(batch), "served {batch:?}");
        }
        let missing: Vec<_> = before.iter().filter(|batch| !found.contains(batch)).map(|(base, _)| *base).collect();
        // Two flips that cancel out leave nothing to find; else each hit batch is gone, and no other one. But where a damaged length reaches
        // past it, a whole batch with damage on both sides might as well be what a producer wrote into a record: nothing vouches for it.
        let is_alone = |base: &u64| {
            let at = before.iter().position(|(b, _)| b == base).unwrap();
            let is_hit_before = at > 0 && hit.contains(&before[at - 1].0);
            let ends_segment = segments.iter().any(|s| s.end.0 == before.get(at + 1).map_or(s.end.0, |next| next.0));
            is_hit_before && hit.len() > 1 && (ends_segment || hit.contains(&before[at + 1].0))
        };
        let is_excused = |base: &u64| hit.contains(base) || is_alone(base);
        prop_assert!(missing.iter().all(is_excused), "hit {hit:?}, missing {missing:?}, {refused:?}");
        if flips.len() == 1 && may_pass.is_none() {
            prop_assert_eq!(&missing, &hit);
        }
        // What is missing is refused by name, unless it was a tail that nobody was promised.
        for base in &missing {
            let is_refused = refused.iter().any(|(from, to)| (from..to).contains(&base));
            prop_assert!(is_refused || *base >= log.end().0, "{base} is silently missing; {refused:?}");
        }
    }
}
