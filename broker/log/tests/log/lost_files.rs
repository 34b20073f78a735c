//! Files of a partition folder that are gone: a log that was there is never taken for one that is new, nor a new one for one that was there.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{append, open, options, read_all, segment};
use tidelog_log::fault::{Fault, FaultDisk, Operation};
use tidelog_log::{
    AppendError, Dump, DumpEntry, Flusher, FlusherOptions, Log, LogOptions, OpenError, OsDisk, ReadError, Witness,
};
use tidelog_protocol::Offset;

fn try_open(dir: &Path) -> Result<Log, OpenError> {
    Log::open(options(dir, OsDisk::shared())).map(|(log, _)| log)
}

/// Sixty records in several segments.
fn sixty(log: &mut Log) {
    for number in 0..60u8 {
        append(log, 1, &[number; 150]);
    }
    assert!(log.reader().segments().len() > 2);
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for name in names(from) {
        fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Opens the same folder again and again, the disk failing each time at a later step, and finishes it in the end.
fn made_in_pieces(fault: Fault, power_lost: bool) -> u64 {
    let mut cut = 0;
    for step in 0.. {
        let temp = tempfile::tempdir().unwrap();
        let (dir, disk) = (temp.path().join("t-0"), FaultDisk::new());
        disk.arm(Operation::Change, step, fault);
        let began = Log::open(options(&dir, Arc::<FaultDisk>::clone(&disk)));
        let whole = began.is_ok();
        assert!(whole || disk.fired() == 1, "step {step}");
        cut += u64::from(!whole);
        drop(began);
        disk.disarm();
        if power_lost {
            disk.lose_power(step * 31).unwrap();
        } else if fault == Fault::Crash {
            disk.restart();
        }
        let finished = Log::open(options(&dir, Arc::<FaultDisk>::clone(&disk)));
        let (mut log, report) = finished.unwrap_or_else(|error| panic!("step {step}: {error}, {:?}", names(&dir)));
        assert!(report.distrusted.is_none() && report.holes.is_empty(), "step {step}: {report:?}");
        assert_eq!(append(&mut log, 1, b"first"), Offset(0), "step {step}");
        log.close().unwrap();
        assert_eq!(read_all(&open(&dir).0.reader(), Offset::ZERO).unwrap().len(), 1);
        if whole && disk.fired() == 0 {
            break;
        }
    }
    cut
}

#[test]
fn a_folder_that_was_half_made_is_finished_whatever_interrupted_it() {
    assert!(made_in_pieces(Fault::Crash, false) > 10);
    assert!(made_in_pieces(Fault::Crash, true) > 10);
    assert!(made_in_pieces(Fault::Error(ErrorKind::StorageFull), false) > 10);
}

#[test]
fn a_folder_without_a_segment_is_refused_whatever_else_is_left_of_it() {
    let temp = tempfile::tempdir().unwrap();
    for lived in ["new", "killed", "closed"] {
        let dir = temp.path().join(lived);
        let (mut log, _) = open(&dir);
        if lived != "new" {
            sixty(&mut log);
            log.retention().delete_records(Offset(3)).unwrap();
        }
        if lived == "closed" {
            log.close().unwrap()
        } else {
            drop(log)
        }
        let others: Vec<_> = names(&dir).into_iter().filter(|name| !name.ends_with(".log")).collect();
        assert!(others.len() >= if lived == "new" { 2 } else { 4 }, "{others:?}");
        // All of them, all but one, and each alone.
        let mut left = vec![others.clone()];
        for name in &others {
            left.push(others.iter().filter(|other| *other != name).cloned().collect());
            left.push(vec![name.clone()]);
        }
        for (number, left) in left.iter().enumerate() {
            let copied = temp.path().join(format!("{lived}-{number}"));
            fs::create_dir(&copied).unwrap();
            for name in left {
                fs::copy(dir.join(name), copied.join(name)).unwrap();
            }
            for _ in 0..2 {
                let error = try_open(&copied).expect_err(&format!("{lived}, {left:?}"));
                assert!(matches!(error, OpenError::LogLost { .. }), "{lived}, {left:?}: {error}");
                assert!(error.to_string().contains(copied.to_str().unwrap()), "{error}");
                assert_eq!(names(&copied), *left, "as it was");
            }
        }
    }
}

#[test]
fn damaged_identities_do_not_make_a_lost_log_a_new_one() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    drop(open(&dir));
    fs::write(dir.join("identity"), b"rot").unwrap();
    fs::remove_file(segment(&dir, 0)).unwrap();
    fs::remove_file(dir.join("checkpoint")).unwrap();
    assert!(matches!(try_open(&dir), Err(OpenError::LogLost { .. })));
}

#[test]
fn a_segment_with_records_whose_folder_lost_its_identity_is_not_begun_anew() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    append(&mut log, 1, b"x");
    drop(log);
    for name in names(&dir).iter().filter(|name| !name.ends_with(".log")) {
        fs::remove_file(dir.join(name)).unwrap();
    }
    assert!(matches!(try_open(&dir), Err(OpenError::Identity(_))));
    assert_eq!(names(&dir), ["00000000000000000000.log"]);
}

#[test]
fn a_last_segment_that_is_gone_is_a_hole_where_its_end_is_known_and_else_an_end_to_serving() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    sixty(&mut log);
    log.tidy().unwrap();
    // What the checkpoint knows nothing of.
    append(&mut log, 1, b"last");
    log.flush().unwrap();
    let segments = log.reader().segments();
    let last = segments.last().unwrap().base;
    let killed = temp.path().join("killed");
    copy(&dir, &killed);
    log.close().unwrap();

    fs::remove_file(segment(&dir, last.0)).unwrap();
    let (log, report) = open(&dir);
    assert_eq!((report.holes.len(), report.holes[0].from, log.end()), (1, last, Offset(61)));
    drop(log);

    fs::remove_file(segment(&killed, last.0)).unwrap();
    for _ in 0..2 {
        let error = try_open(&killed).unwrap_err();
        assert!(matches!(error, OpenError::EndLost { .. }), "{error}");
        let (path, checkpoint) = (segment(&killed, last.0), killed.join("checkpoint"));
        let said = error.to_string();
        assert!([path, checkpoint].iter().all(|path| said.contains(path.to_str().unwrap())), "{said}");
    }
    // Whoever is counted on by nobody gets it from others, and may begin where it is whole.
    let uncounted = temp.path().join("uncounted");
    copy(&killed, &uncounted);
    let (log, report) = Log::open_with(options(&uncounted, OsDisk::shared()), Witness::Replicas).unwrap();
    assert_eq!((log.end(), report.holes.len()), (Offset(60), 1));
    // As the error says.
    fs::remove_file(killed.join("checkpoint")).unwrap();
    assert_eq!(try_open(&killed).unwrap().end(), last);
}

#[test]
fn what_was_noted_of_an_end_that_is_lost_with_the_checkpoint_is_a_hole_and_is_not_given_out_again() {
    let temp = tempfile::tempdir().unwrap();
    for (ending, how) in [("killed", "gone"), ("closed", "gone"), ("killed", "rotten"), ("closed", "rotten")] {
        let dir = temp.path().join(format!("{ending}-{how}"));
        let (mut log, _) = open(&dir);
        sixty(&mut log);
        log.tidy().unwrap();
        let last = log.reader().segments().last().unwrap().base;
        if ending == "closed" {
            log.close().unwrap()
        } else {
            drop(log)
        }
        fs::remove_file(segment(&dir, last.0)).unwrap();
        match how {
            "gone" => fs::remove_file(dir.join("checkpoint")).unwrap(),
            _ => fs::write(dir.join("checkpoint"), b"rot").unwrap(),
        }
        let noted = Offset(58);
        assert!(last < noted);
        let witness = Witness::Note(noted);
        let (mut log, report) = Log::open_with(options(&dir, OsDisk::shared()), witness).unwrap();
        let [hole] = &report.holes[..] else { panic!("{ending}, {how}: {report:?}") };
        assert_eq!((hole.from, hole.to, log.end()), (last, noted, noted), "{ending}, {how}");
        assert_eq!(append(&mut log, 1, b"on"), noted);
        log.close().unwrap();
        // As said of it by the new checkpoint.
        let (log, report) = open(&dir);
        assert_eq!((report.holes.len(), log.end()), (1, Offset(59)), "{ending}, {how}");
    }
}

#[test]
fn what_was_noted_behind_an_older_copy_is_a_hole_once_and_for_all() {
    let temp = tempfile::tempdir().unwrap();
    for ending in ["closed", "killed", "never tidied"] {
        let dir = temp.path().join(ending);
        let (mut log, _) = open(&dir);
        sixty(&mut log);
        match ending {
            "closed" => log.close().unwrap(),
            "killed" => log.tidy().unwrap(),
            _ => log.flush().unwrap(),
        }
        let witness = Witness::Note(Offset(90));
        for expected in [90, 91] {
            let (mut log, report) = Log::open_with(options(&dir, OsDisk::shared()), witness).unwrap();
            let holes: Vec<_> = report.holes.iter().map(|hole| (hole.from, hole.to)).collect();
            assert_eq!((log.end(), &holes[..]), (Offset(expected), &[(Offset(60), Offset(90))][..]), "{ending}");
            assert_eq!(append(&mut log, 1, b"on"), Offset(expected), "{ending}");
            assert_eq!(read_all(&log.reader(), Offset(90)).unwrap()[0], (90, b"on".to_vec()));
            assert!(log.reader().is_damaged() && read_all(&log.reader(), Offset(60)).is_err(), "{ending}");
            log.flush().unwrap();
        }
        // The checkpoint says it from then on.
        Log::open_with(options(&dir, OsDisk::shared()), witness).unwrap().0.close().unwrap();
        let (log, report) = open(&dir);
        assert_eq!((log.end(), report.holes.len()), (Offset(92), 1), "{ending}");
    }
}

#[test]
fn a_hole_that_only_the_note_tells_of_is_soon_told_by_the_checkpoint() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    sixty(&mut log);
    log.close().unwrap();
    // It looks at nothing by itself.
    let hour = Duration::from_secs(3600);
    let flusher = Flusher::start(FlusherOptions { background_interval: hour, ..FlusherOptions::default() }).unwrap();
    let on = LogOptions { flusher: flusher.handle(), ..options(&dir, OsDisk::shared()) };
    let (log, _) = Log::open_with(on, Witness::Note(Offset(90))).unwrap();
    let told = || match Dump::open(&dir.join("checkpoint")).unwrap().next() {
        Some(Ok(DumpEntry::Checkpoint(checkpoint))) => checkpoint.holes.len(),
        other => panic!("{other:?}"),
    };
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while told() == 0 {
        assert!(Instant::now() < give_up_at, "the checkpoint does not tell of it");
        std::thread::yield_now();
    }
    drop((log, flusher));
    let (log, report) = open(&dir);
    assert_eq!((log.end(), report.holes.len()), (Offset(90), 1));
}

#[test]
fn a_note_does_not_lengthen_a_log_that_is_whole_nor_one_that_is_new() {
    let temp = tempfile::tempdir().unwrap();
    for how in ["kept", "gone"] {
        let dir = temp.path().join(how);
        let (mut log, _) = open(&dir);
        sixty(&mut log);
        log.close().unwrap();
        if how == "gone" {
            fs::remove_file(dir.join("checkpoint")).unwrap();
        }
        let (log, report) = Log::open_with(options(&dir, OsDisk::shared()), Witness::Note(Offset(60))).unwrap();
        assert_eq!((log.end(), report.holes.len()), (Offset(60), 0), "{how}");
    }
    let new = temp.path().join("new");
    let (log, report) = Log::open_with(options(&new, OsDisk::shared()), Witness::Note(Offset(7))).unwrap();
    assert_eq!((log.end(), report.holes.len()), (Offset(0), 0), "a new folder is no witness's matter");
}

#[test]
fn damage_below_what_was_noted_is_no_torn_tail_where_the_checkpoint_is_lost() {
    let temp = tempfile::tempdir().unwrap();
    for (noted, end, holes) in [(Offset(0), Offset(2), 0), (Offset(3), Offset(3), 1)] {
        let dir = temp.path().join(noted.to_string());
        let (mut log, _) = open(&dir);
        for _ in 0..3 {
            append(&mut log, 1, b"x");
        }
        log.flush().unwrap();
        let third = log.reader().segments()[0].bytes as usize - 1;
        drop(log);
        fs::remove_file(dir.join("checkpoint")).unwrap();
        let mut bytes = fs::read(segment(&dir, 0)).unwrap();
        bytes[third] ^= 1;
        fs::write(segment(&dir, 0), bytes).unwrap();
        let (log, report) = Log::open_with(options(&dir, OsDisk::shared()), Witness::Note(noted)).unwrap();
        assert_eq!((log.end(), report.holes.len()), (end, holes), "{noted}");
    }
}

#[test]
fn a_log_that_was_begun_anew_is_whole_after_a_crash_at_any_step_and_lost_without_its_segment() {
    let prepared = |dir: &Path, disk: &Arc<FaultDisk>| {
        let (mut log, _) = Log::open(options(dir, Arc::<FaultDisk>::clone(disk))).unwrap();
        sixty(&mut log);
        log.tidy().unwrap();
        log
    };
    let mut crashes = 0;
    for step in 0.. {
        let temp = tempfile::tempdir().unwrap();
        let (dir, disk) = (temp.path().join("t-0"), FaultDisk::new());
        let mut log = prepared(&dir, &disk);
        disk.arm(Operation::Change, step, Fault::Crash);
        let restarted = log.restart_at(Offset(100)).is_ok();
        let struck = disk.fired() == 1;
        drop(log);
        disk.restart();
        let (mut log, report) = Log::open(options(&dir, Arc::<FaultDisk>::clone(&disk))).unwrap();
        assert!([Offset(60), Offset(100)].contains(&log.end()) && report.holes.is_empty(), "step {step}: {report:?}");
        crashes += u64::from(struck);
        if !struck {
            assert!(restarted);
            append(&mut log, 1, b"x");
            log.tidy().unwrap();
            drop(log);
            fs::remove_file(segment(&dir, 100)).unwrap();
            let error = try_open(&dir).unwrap_err();
            assert!(matches!(error, OpenError::LogLost { .. }), "{error}");
            break;
        }
    }
    assert!(crashes > 8, "{crashes}");
}

#[test]
fn the_segment_of_a_log_that_was_begun_anew_is_missed_before_anything_is_in_it() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    sixty(&mut log);
    log.tidy().unwrap();
    log.restart_at(Offset(100)).unwrap();
    log.tidy().unwrap();
    drop(log);
    fs::remove_file(segment(&dir, 100)).unwrap();
    assert!(matches!(try_open(&dir), Err(OpenError::LogLost { .. })));
}

#[test]
fn a_checkpoint_knows_no_segment_that_a_loss_of_power_may_take() {
    for seed in 0..20 {
        let temp = tempfile::tempdir().unwrap();
        let (dir, disk) = (temp.path().join("t-0"), FaultDisk::new());
        let (mut log, _) = Log::open(options(&dir, Arc::<FaultDisk>::clone(&disk))).unwrap();
        sixty(&mut log);
        log.flush().unwrap();
        log.roll().unwrap();
        log.tidy().unwrap();
        drop(log);
        disk.lose_power(seed).unwrap();
        let opened = Log::open(options(&dir, Arc::<FaultDisk>::clone(&disk)));
        let (log, report) = opened.unwrap_or_else(|error| panic!("seed {seed}: {error}, {:?}", names(&dir)));
        assert_eq!((log.end(), report.holes.len()), (Offset(60), 0), "seed {seed}");
    }
}

#[test]
fn a_log_is_cut_where_its_first_segment_is_lost() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    sixty(&mut log);
    log.close().unwrap();
    fs::remove_file(segment(&dir, 0)).unwrap();
    let (mut log, report) = open(&dir);
    assert_eq!(report.holes[0].from, Offset(0));
    assert_eq!(log.truncate_to(Offset(2)).unwrap(), Offset(0));
    assert_eq!((log.end(), append(&mut log, 1, b"anew")), (Offset(0), Offset(0)));
    log.close().unwrap();
    let (log, report) = open(&dir);
    assert_eq!((log.end(), report.holes), (Offset(1), vec![]));
}

#[test]
fn a_link_that_leads_nowhere_is_named_with_what_to_do() {
    let temp = tempfile::tempdir().unwrap();
    for ending in ["closed", "killed"] {
        let dir = temp.path().join(ending);
        let (mut log, _) = open(&dir);
        sixty(&mut log);
        if ending == "closed" {
            log.close().unwrap()
        } else {
            drop(log)
        }
        let (path, elsewhere) = (segment(&dir, 0), temp.path().join("elsewhere"));
        fs::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(temp.path().join("nowhere"), &path).unwrap();
        let error = try_open(&dir).unwrap_err();
        assert!(matches!(&error, OpenError::Dangling { path: named } if *named == path), "{ending}: {error}");
        assert!(error.to_string().contains("symbolic link"), "{error}");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        let (log, report) = open(&dir);
        assert_eq!((log.end(), report.holes.len()), (Offset(60), 0), "{ending}");
    }
}

/// What goes to a file that the next start does not find is acknowledged to nobody.
#[test]
fn nothing_counts_as_flushed_in_a_file_that_somebody_took_away() {
    type Takes = fn(&Path);
    let takes: [(&str, Takes, &str); 5] = [
        ("deleted", |dir| fs::remove_dir_all(dir).unwrap(), "deleted or moved"),
        ("moved", |dir| fs::rename(dir, dir.with_file_name("elsewhere")).unwrap(), "deleted or moved"),
        ("the segment alone", |dir| fs::remove_file(segment(dir, 0)).unwrap(), "deleted or moved"),
        (
            "replaced by its copy",
            |dir| {
                fs::copy(segment(dir, 0), dir.join("copy")).unwrap();
                fs::rename(dir.join("copy"), segment(dir, 0)).unwrap();
            },
            "another file was put in its place",
        ),
        (
            "cut short",
            |dir| fs::File::options().write(true).open(segment(dir, 0)).unwrap().set_len(100).unwrap(),
            "cut short",
        ),
    ];
    for ((how, take, told), rolls) in takes.into_iter().flat_map(|take| [(take, false), (take, true)]) {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("log");
        fs::create_dir(&dir).unwrap();
        let (mut log, _) = open(&dir);
        append(&mut log, 1, b"before");
        log.flush().unwrap();
        take(&dir);
        append(&mut log, 1, b"");
        // Nor where the log goes on in another one before anybody looks; where there is no folder, it cannot.
        if rolls && dir.exists() {
            log.roll().unwrap();
            append(&mut log, 1, b"behind");
        }
        let error = log.flush().unwrap_err();
        assert!(matches!(error, AppendError::Poisoned(_)), "{how}: {error}");
        assert!(error.to_string().contains(told), "{how}: {error}");
        assert_eq!(log.reader().flushed_end(), Offset(1), "{how}");
    }
}

/// One that is not open any more, that is: while it is, nothing of it is lost yet.
#[test]
fn a_segment_that_is_deleted_under_a_running_log_is_damage_and_the_rest_is_served() {
    let temp = tempfile::tempdir().unwrap();
    let quick =
        FlusherOptions { background_interval: Duration::from_millis(10), idle_looks: 1, ..FlusherOptions::default() };
    let flusher = Flusher::start(quick).unwrap();
    let opened = LogOptions { flusher: flusher.handle(), ..options(temp.path(), OsDisk::shared()) };
    let (mut log, _) = Log::open(opened).unwrap();
    sixty(&mut log);
    log.flush().unwrap();
    log.tidy().unwrap();
    let reader = log.reader();
    let records = read_all(&reader, Offset(0)).unwrap().len();
    let segments = reader.segments();
    let (lost, next) = (segments[1].base, segments[2].base);
    let path = segment(temp.path(), lost.0);
    let begin = Instant::now();
    let is_open = || {
        fs::read_dir("/proc/self/fd").unwrap().any(|fd| fs::read_link(fd.unwrap().path()).is_ok_and(|to| to == path))
    };
    while is_open() {
        assert!(begin.elapsed() < Duration::from_secs(60), "it never rests");
        std::thread::sleep(Duration::from_millis(5));
    }
    fs::remove_file(&path).unwrap();
    let error = read_all(&reader, Offset(0)).unwrap_err();
    let ReadError::Corrupt { from, to } = error else { panic!("{error}") };
    assert_eq!((from, to), (lost, next));
    let behind = read_all(&reader, next).unwrap().len();
    assert_eq!(behind, records - next.0 as usize, "and what stands behind");
}
