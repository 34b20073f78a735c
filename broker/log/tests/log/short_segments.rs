//! The last segment of a log that was not closed, cut short by somebody else: no crash makes it shorter than it was made, so that is no torn tail.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{append, open, options, read_all, read_range, segment, small_segments};
use tidelog_log::checkpoint::Shutdown;
use tidelog_log::fault::{Fault, FaultDisk, Operation};
use tidelog_log::{
    Dump, DumpEntry, Flusher, FlusherOptions, Log, LogOptions, OpenError, OsDisk, ReadError, RecoveryReport,
    SegmentOptions, Witness,
};
use tidelog_protocol::Offset;

/// What a new segment has.
const RESERVED: u64 = 512;
/// Bytes of a batch.
const BATCH: u64 = 111;

fn open_with(dir: &Path, witness: Witness) -> Result<(Log, RecoveryReport), OpenError> {
    assert_eq!(u64::from(small_segments().first_allocation_bytes), RESERVED);
    Log::open_with(options(dir, OsDisk::shared()), witness)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn cut(path: &Path, bytes: u64) {
    let file = fs::File::options().write(true).open(path).unwrap();
    assert!(bytes < file.metadata().unwrap().len(), "nothing to cut off");
    file.set_len(bytes).unwrap();
}

fn batches(log: &mut Log, count: u64) {
    for number in 0..count {
        append(log, 1, &[number as u8; 50]);
    }
    log.flush().unwrap();
}

#[test]
fn a_last_segment_shorter_than_it_was_made_or_is_known_to_be_is_no_torn_tail() {
    let temp = tempfile::tempdir().unwrap();
    // Below which length it is known to be cut, and at which segment.
    for (lived, known, base) in
        [("founded", RESERVED, 0), ("written", RESERVED, 0), ("tidied", 8 * BATCH, 0), ("rolled", RESERVED, 8)]
    {
        let dir = temp.path().join(lived);
        let (mut log, _) = open(&dir);
        if lived != "founded" {
            batches(&mut log, 8);
        }
        if lived == "tidied" {
            log.tidy().unwrap();
        }
        if lived == "rolled" {
            log.roll().unwrap();
            batches(&mut log, 8);
        }
        let end = log.end();
        drop(log);
        let (mut refused, mut opened) = (0, 0);
        for length in (0..known + 40).filter(|length| *length != RESERVED || lived != "founded") {
            let copied = temp.path().join(format!("{lived}-{length}"));
            copy(&dir, &copied);
            let path = segment(&copied, base);
            if length >= fs::metadata(&path).unwrap().len() {
                break;
            }
            cut(&path, length);
            if length >= known {
                let (log, report) = open(&copied);
                assert_eq!(log.end(), Offset(base + length / BATCH), "{lived}, {length}: {report:?}");
                opened += 1;
                continue;
            }
            for witness in [Witness::Nobody, Witness::Note(end), Witness::Nobody] {
                let error = open_with(&copied, witness).unwrap_err();
                let OpenError::EndLost { path: named, found, checkpoint } = &error else { panic!("{lived}: {error}") };
                assert_eq!((named, *found, checkpoint), (&path, Some(length), &copied.join("checkpoint")), "{lived}");
                for word in [path.to_str().unwrap(), &format!("to {length} bytes"), checkpoint.to_str().unwrap()] {
                    assert!(error.to_string().contains(word), "{word}: {error}");
                }
                assert_eq!(fs::metadata(&path).unwrap().len(), length, "as it was");
            }
            refused += 1;
            // A replica that nobody counts on gets what is lost from others.
            if length % 50 == 0 {
                let uncounted = temp.path().join(format!("{lived}-{length}-uncounted"));
                copy(&copied, &uncounted);
                drop(open_with(&uncounted, Witness::Replicas).unwrap());
            }
            // As the error says; and what was noted is not given out again.
            fs::remove_file(copied.join("checkpoint")).unwrap();
            let (mut log, report) = open_with(&copied, Witness::Note(end)).unwrap();
            let lost = base + (length / BATCH).min(end.0 - base) < end.0;
            assert_eq!((log.end(), report.holes.len()), (end, usize::from(lost)), "{lived}, {length}: {report:?}");
            assert_eq!(append(&mut log, 1, b"on"), end);
            log.close().unwrap();
            assert_eq!(open(&copied).0.end(), end.plus(1), "{lived}, {length}");
        }
        assert!(refused == known && (opened > 0 || lived == "founded"), "{lived}: {refused}, {opened}");
    }
}

/// As earlier releases wrote it, who cut torn tails off wherever they began.
fn say_nothing_of_lengths(checkpoint: &Path) {
    let mut bytes = fs::read(checkpoint).unwrap();
    let (magic_and_crc, shutdown) = (14, 14 + 16);
    assert_eq!(bytes[shutdown], 9, "2^9 bytes");
    bytes[shutdown] = 0;
    let crc = crc32c::crc32c_append(crc32c::crc32c(&bytes[4..10]), &bytes[magic_and_crc..]);
    bytes[10..14].copy_from_slice(&crc.to_be_bytes());
    fs::write(checkpoint, bytes).unwrap();
}

#[test]
fn a_folder_of_an_earlier_release_may_end_in_a_short_segment() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    batches(&mut log, 2);
    log.tidy().unwrap();
    drop(log);
    say_nothing_of_lengths(&dir.join("checkpoint"));
    cut(&segment(&dir, 0), 2 * BATCH);
    let (mut log, report) = open(&dir);
    assert_eq!((log.end(), report.holes.len()), (Offset(2), 0));
    batches(&mut log, 1);
    // From here on it is known.
    log.tidy().unwrap();
    drop(log);
    cut(&segment(&dir, 0), 3 * BATCH);
    assert!(matches!(open_with(&dir, Witness::Nobody), Err(OpenError::EndLost { .. })));
}

#[test]
fn a_log_that_was_closed_and_opened_again_grows_before_a_checkpoint_vouches_for_its_length() {
    for appended in [0, 3] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let (mut log, _) = open(&dir);
        batches(&mut log, appended);
        log.close().unwrap();
        assert_eq!(fs::metadata(segment(&dir, 0)).unwrap().len(), appended * BATCH, "trimmed");
        let (log, report) = open(&dir);
        assert_eq!(report.shutdown, Shutdown::Clean);
        log.tidy().unwrap();
        drop(log);
        let (log, report) = open(&dir);
        assert_eq!((log.end(), report.holes.len()), (Offset(appended), 0));
        drop(log);
        cut(&segment(&dir, 0), appended * BATCH);
        assert!(matches!(open_with(&dir, Witness::Nobody), Err(OpenError::EndLost { .. })), "{appended}");
    }
}

#[test]
fn a_crash_at_any_step_of_cutting_a_torn_tail_leaves_no_segment_that_looks_cut_short() {
    let mut struck = 0;
    for power_lost in [false, true] {
        for step in 0.. {
            let temp = tempfile::tempdir().unwrap();
            let (dir, disk) = (temp.path().join("t-0"), FaultDisk::new());
            let on = || options(&dir, Arc::<FaultDisk>::clone(&disk));
            let (mut log, _) = Log::open(on()).unwrap();
            batches(&mut log, 2);
            drop(log);
            let path = segment(&dir, 0);
            let mut bytes = fs::read(&path).unwrap();
            bytes[2 * BATCH as usize..][..100].fill(0x55);
            fs::write(&path, bytes).unwrap();
            disk.arm(Operation::Change, step, Fault::Crash);
            let opened = Log::open(on()).is_ok();
            let fired = disk.fired() == 1;
            assert_ne!(opened, fired, "step {step}");
            struck += u64::from(fired);
            if power_lost {
                disk.lose_power(step * 7).unwrap();
            } else {
                disk.restart();
            }
            for _ in 0..2 {
                let (log, report) = Log::open(on()).unwrap_or_else(|error| panic!("step {step}: {error}"));
                assert_eq!((log.end(), report.holes.len()), (Offset(2), 0), "step {step}: {report:?}");
                let bytes = fs::read(&path).unwrap();
                assert!(bytes.len() as u64 >= RESERVED, "step {step}");
                assert!(bytes[2 * BATCH as usize..].iter().all(|byte| *byte == 0), "step {step}: what is torn is gone");
            }
            if !fired {
                break;
            }
        }
    }
    assert!(struck >= 6, "{struck}");
}

/// On a full disk it takes no blocks, and is as long as any other.
#[test]
fn the_segment_of_a_log_that_was_emptied_does_not_look_cut_short() {
    for ending in ["killed", "closed"] {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let (mut log, _) = open(&dir);
        batches(&mut log, 3);
        log.tidy().unwrap();
        log.retention().delete_records(Offset(3)).unwrap();
        assert!(log.roll_if_emptied().unwrap());
        assert_eq!(log.reader().segments()[1].allocated_bytes, 0);
        assert_eq!(fs::metadata(segment(&dir, 3)).unwrap().len(), RESERVED);
        match ending {
            "killed" => drop(log),
            _ => log.close().unwrap(),
        }
        let (mut log, report) = open(&dir);
        assert_eq!((log.end(), report.holes.len()), (Offset(3), 0), "{ending}");
        batches(&mut log, 1);
    }
}

#[test]
fn what_comes_after_a_clean_end_is_soon_known_to_have_come() {
    let temp = tempfile::tempdir().unwrap();
    let dir = temp.path().join("t-0");
    let (mut log, _) = open(&dir);
    batches(&mut log, 3);
    log.close().unwrap();
    // It looks at nothing by itself.
    let hour = Duration::from_secs(3600);
    let flusher = Flusher::start(FlusherOptions { background_interval: hour, ..FlusherOptions::default() }).unwrap();
    let on = LogOptions { flusher: flusher.handle(), ..options(&dir, OsDisk::shared()) };
    let (mut log, report) = Log::open(on).unwrap();
    assert_eq!(report.shutdown, Shutdown::Clean);
    append(&mut log, 1, b"after");
    log.request_flush();
    let said = || match Dump::open(&dir.join("checkpoint")).unwrap().next() {
        Some(Ok(DumpEntry::Checkpoint(checkpoint))) => checkpoint.shutdown,
        other => panic!("{other:?}"),
    };
    let give_up_at = Instant::now() + Duration::from_secs(60);
    while said() == Shutdown::Clean {
        assert!(Instant::now() < give_up_at, "the checkpoint still says that the log was closed");
        std::thread::yield_now();
    }
    drop((log, flusher));
    assert_eq!(read_all(&open(&dir).0.reader(), Offset::ZERO).unwrap().len(), 4);
    fs::remove_file(segment(&dir, 0)).unwrap();
    let error = open_with(&dir, Witness::Nobody).unwrap_err();
    assert!(matches!(error, OpenError::EndLost { .. } | OpenError::LogLost { .. }), "{error}");
}

/// What was read and found whole before is no proof of what the file holds now.
#[test]
fn a_segment_that_is_cut_short_under_a_running_log_is_damage_and_the_rest_is_served() {
    const PAGES: u64 = 3 * 4096;
    for (rolled, length) in [(true, 3 * BATCH), (true, 0), (true, PAGES / 2), (false, PAGES / 2)] {
        let temp = tempfile::tempdir().unwrap();
        let segment_options = SegmentOptions { segment_bytes: 1 << 20, ..small_segments() };
        let opened = LogOptions { segment: segment_options, ..options(temp.path(), OsDisk::shared()) };
        let (mut log, _) = Log::open(opened).unwrap();
        let count = PAGES / BATCH;
        batches(&mut log, count);
        log.roll().unwrap();
        batches(&mut log, count);
        if rolled {
            log.roll().unwrap();
            batches(&mut log, count);
        }
        let reader = log.reader();
        assert_eq!(read_all(&reader, Offset(0)).unwrap().len() as u64, log.end().0);

        cut(&segment(temp.path(), count), length);
        let lost = Offset(count + length / BATCH)..Offset(2 * count);
        let error = read_all(&reader, Offset(0)).unwrap_err();
        let ReadError::Corrupt { from, to } = error else { panic!("{error}") };
        assert_eq!(from..to, lost, "rolled {rolled}, cut to {length}");
        assert_eq!(
            read_range(&reader, Offset(0), lost.start).unwrap().len() as u64,
            lost.start.0,
            "what stands before"
        );
        let behind = if rolled { read_all(&reader, lost.end).unwrap().len() as u64 } else { 0 };
        assert_eq!(behind, log.end().0 - lost.end.0, "and what stands behind");
    }
}
