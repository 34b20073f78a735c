//! Where a log begins: records that were deleted stay so whichever one of the files that say it is lost, and however the log ended.

use std::fs;
use std::path::Path;

use crate::support::{append, open, options, segment};
use tidelog_log::fault::FaultDisk;
use tidelog_log::{Log, OsDisk};
use tidelog_protocol::Offset;

fn flip(mut bytes: Vec<u8>, at: usize) -> Vec<u8> {
    bytes[at] ^= 1;
    bytes
}

/// Ten records of which seven are deleted, in a log that ended as it says.
fn with_deleted_records(dir: &Path, ending: &str) {
    let (mut log, _) = open(dir);
    for _ in 0..10 {
        append(&mut log, 1, b"x");
    }
    assert_eq!(log.retention().delete_records(Offset(7)).unwrap(), Offset(7));
    match ending {
        "closed" => log.close().unwrap(),
        _ => drop(log),
    }
}

/// Damages what stands there in one of the ways in which it may come to be damaged.
fn damage(path: &Path, how: &str) {
    match how {
        "kept" => {}
        "missing" => fs::remove_file(path).unwrap(),
        "flipped" => fs::write(path, flip(fs::read(path).unwrap(), 20)).unwrap(),
        _ => fs::write(path, b"short").unwrap(),
    }
}

#[test]
fn deleted_records_do_not_come_back_with_the_loss_of_one_file() {
    let (checkpoint, note) = ("checkpoint", "log-start");
    for ending in ["closed", "killed"] {
        for lost in [checkpoint, note] {
            for how in ["missing", "flipped", "short"] {
                let temp = tempfile::tempdir().unwrap();
                let dir = temp.path().join("t-0");
                with_deleted_records(&dir, ending);
                // Whoever loses one, and then the other, has lost it once each time.
                for lost in [lost, if lost == note { checkpoint } else { note }, checkpoint] {
                    damage(&dir.join(lost), how);
                    let (log, report) = open(&dir);
                    let ends = (log.reader().log_start(), log.end());
                    assert_eq!(ends, (Offset(7), Offset(10)), "{ending}, {lost} {how}");
                    assert!(report.holes.is_empty(), "{ending}, {lost} {how}: {report:?}");
                    assert_eq!(report.distrusted.is_some(), lost == checkpoint, "{ending}, {lost} {how}: {report:?}");
                    log.close().unwrap();
                }
            }
        }
    }
}

#[test]
fn a_log_whose_start_no_file_tells_begins_with_its_first_segment() {
    for how in ["missing", "flipped"] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        with_deleted_records(&dir, "killed");
        damage(&dir.join("checkpoint"), how);
        damage(&dir.join("log-start"), "short");
        for _ in 0..2 {
            let (log, _) = open(&dir);
            assert_eq!((log.reader().log_start(), log.end()), (Offset(0), Offset(10)), "{how}");
        }
    }
}

#[test]
fn the_start_of_a_log_from_before_it_was_noted_is_noted_with_its_opening() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    with_deleted_records(&dir, "killed");
    // As a release before left it.
    fs::remove_file(dir.join("log-start")).unwrap();
    let (log, report) = open(&dir);
    assert_eq!((log.reader().log_start(), report.distrusted), (Offset(7), None));
    drop(log);
    damage(&dir.join("checkpoint"), "flipped");
    assert_eq!(open(&dir).0.reader().log_start(), Offset(7));
}

#[test]
fn a_log_that_begins_anew_further_back_is_not_cut_by_where_it_began_before() {
    for how in ["kept", "flipped"] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        with_deleted_records(&dir, "closed");
        let (mut log, _) = open(&dir);
        log.restart_at(Offset(2)).unwrap();
        append(&mut log, 3, b"y");
        log.flush().unwrap();
        drop(log);
        damage(&dir.join("checkpoint"), how);
        let (log, _) = open(&dir);
        assert_eq!((log.reader().log_start(), log.end()), (Offset(2), Offset(5)), "{how}");
    }
}

#[test]
fn a_log_never_ends_below_where_it_is_noted_to_begin() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    with_deleted_records(&dir, "killed");
    damage(&dir.join("checkpoint"), "flipped");
    let path = segment(&dir, 0);
    let bytes = fs::read(&path).unwrap();
    fs::write(&path, &bytes[..100]).unwrap();
    for _ in 0..2 {
        let (log, _) = open(&dir);
        assert_eq!((log.reader().log_start(), log.end()), (Offset(7), Offset(7)), "no offset is given twice");
    }
}

#[test]
fn deleted_segments_do_not_come_back_with_a_loss_of_power_and_of_the_checkpoint() {
    for seed in 0..40 {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let disk = FaultDisk::new();
        let (mut log, _) = Log::open(options(&dir, disk.clone())).unwrap();
        while log.reader().segments().len() < 6 {
            append(&mut log, 1, &[1; 700]);
        }
        // Where a segment begins: its name alone says it then.
        let start = log.reader().segments()[4].base;
        assert_eq!(log.retention().delete_records(start).unwrap(), start);
        assert!(!dir.join("log-start").exists(), "seed {seed}");
        drop(log);
        disk.lose_power(seed).unwrap();
        damage(&dir.join("checkpoint"), "flipped");
        let (log, _) = Log::open(options(&dir, OsDisk::shared())).unwrap();
        assert_eq!(log.reader().log_start(), start, "seed {seed}");
    }
}

/// Sixty records in several segments, of which those before `start` are deleted; the bases of the segments that are left.
fn with_deleted_segments(dir: &Path, start: u64) -> Vec<u64> {
    let (mut log, _) = open(dir);
    for number in 0..60_u8 {
        append(&mut log, 1, &[number; 150]);
    }
    log.retention().delete_records(Offset(start)).unwrap();
    log.tidy().unwrap();
    log.reader().segments().iter().map(|segment| segment.base.0).collect()
}

#[test]
fn segments_that_are_gone_from_behind_the_noted_start_are_a_hole_without_the_checkpoint_too() {
    for emptied in [false, true] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let bases = with_deleted_segments(&dir, 25);
        assert!(bases.len() > 2 && bases[0] < 25, "{bases:?}");
        // All but the last, or the first alone.
        let lost = if emptied { &bases[..bases.len() - 1] } else { &bases[..1] };
        let next = bases[lost.len()];
        for base in lost {
            fs::remove_file(segment(&dir, *base)).unwrap();
        }
        if emptied {
            fs::write(segment(&dir, next), [0; 4096]).unwrap();
        }
        fs::remove_file(dir.join("checkpoint")).unwrap();
        for life in 0..2 {
            let (log, report) = open(&dir);
            let end = if emptied { next } else { 60 };
            assert_eq!((log.reader().log_start(), log.end()), (Offset(25), Offset(end)), "{life}");
            let holes: Vec<_> = report.holes.iter().map(|hole| (hole.from.0, hole.to.0)).collect();
            assert_eq!(holes, [(25, next)], "{life}");
            log.close().unwrap();
        }
    }
}

#[test]
fn a_start_that_was_noted_once_stays_up_to_date_so_that_what_was_deleted_is_not_missed() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let bases = with_deleted_segments(&dir, 25);
    let (log, _) = open(&dir);
    // Where a segment begins: of a log that was never cut elsewhere there is no note.
    log.retention().delete_records(Offset(bases[1])).unwrap();
    log.tidy().unwrap();
    drop(log);
    fs::remove_file(dir.join("checkpoint")).unwrap();
    let (log, report) = open(&dir);
    assert_eq!((log.reader().log_start(), log.end(), report.holes.len()), (Offset(bases[1]), Offset(60), 0));
}
