//! Bytes that were whole in memory may be others once they left the page cache and come back from the disk: they are verified again before they
//! are served, whoever has read them in.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tidelog_log::OsDisk;
use tidelog_log::{
    Batches, Flusher, FlusherHandle, FlusherOptions, Log, LogOptions, LogReader, ReadError, ReadOutcome, Scrub,
    SegmentOptions,
};
use tidelog_protocol::Offset;

use crate::support::{append, options, segment};

const BATCHES: u64 = 40;
const PAYLOAD_BYTES: usize = 20_000;
const BATCH_BYTES: u64 = 61 + PAYLOAD_BYTES as u64;
/// The batch that rots, far behind what a read of the first brings in by reading ahead.
const ROTTEN: u64 = 30;
/// A piece that the disk takes past the page cache.
const BLOCK: usize = 4096;

struct Written {
    path: PathBuf,
    log: Log,
    _temp: tempfile::TempDir,
}

impl Written {
    /// A log of batches of a record each, all flushed.
    fn new() -> Self {
        Self::flushed_by(FlusherHandle::detached())
    }

    fn flushed_by(flusher: FlusherHandle) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join("t-0");
        let sizes =
            SegmentOptions { segment_bytes: 4 << 20, index_interval_bytes: 4096, first_allocation_bytes: 64 << 10 };
        let (mut log, _) =
            Log::open(LogOptions { segment: sizes, flusher, ..options(&dir, OsDisk::shared()) }).unwrap();
        for number in 0..BATCHES {
            append(&mut log, 1, &[number as u8; PAYLOAD_BYTES]);
        }
        log.flush().unwrap();
        Self { path: segment(&dir, 0), log, _temp: temp }
    }

    /// What a network thread gets, which may not wait.
    fn warm(&self, offset: u64) -> Option<Batches> {
        match self.log.reader().read(Offset(offset), Offset::MAX, 1).unwrap() {
            ReadOutcome::Batches(batches) => Some(batches),
            ReadOutcome::Cold(_) => None,
            ReadOutcome::UpToDate => panic!("{offset} was written"),
        }
    }

    fn is_all_warm(&self) -> bool {
        (0..BATCHES).all(|offset| self.warm(offset).is_some())
    }

    /// Changes bytes in the midst of a batch where they lie on the disk. That it goes past the page cache drops the pages there.
    fn rot(&self) {
        let at = (ROTTEN * BATCH_BYTES).next_multiple_of(BLOCK as u64);
        let mut block = Block([0; BLOCK]);
        File::open(&self.path).unwrap().read_exact_at(&mut block.0, at).unwrap();
        block.0[100..104].copy_from_slice(b"####");
        past_the_cache(&self.path).write_all_at(&block.0, at).unwrap();
    }

    /// Drops all pages of the file, by writing past them what is there.
    fn evict(&self) {
        let whole = std::fs::read(&self.path).unwrap();
        let file = past_the_cache(&self.path);
        for (number, bytes) in whole.chunks_exact(BLOCK).enumerate() {
            file.write_all_at(&Block(bytes.try_into().unwrap()).0, (number * BLOCK) as u64).unwrap();
        }
    }
}

#[repr(align(4096))]
struct Block([u8; BLOCK]);

fn past_the_cache(path: &Path) -> File {
    OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(path).unwrap()
}

/// Reads all, as a consumer does that passes over what is refused; the answer is what was refused.
fn read_through(reader: &LogReader, bytes_max: u32) -> Vec<(u64, u64)> {
    let (mut at, mut refused) = (Offset(0), Vec::new());
    while at < Offset(BATCHES) {
        let read = match reader.read(at, Offset::MAX, bytes_max) {
            Ok(ReadOutcome::Cold(pending)) => pending.complete(),
            read => read,
        };
        match read {
            Ok(ReadOutcome::Batches(batches)) => {
                assert!(batches.are_whole(), "served at {at}");
                at = batches.next;
            }
            Err(ReadError::Corrupt { from, to }) => {
                refused.push((from.0, to.0));
                at = to;
            }
            other => panic!("{other:?}"),
        }
    }
    refused
}

#[test]
fn what_was_written_by_this_process_is_verified_when_it_is_read_cold() {
    for bytes_max in [1, 100_000, 1 << 20] {
        let written = Written::new();
        assert!(written.is_all_warm(), "nothing is asked of what is there");
        written.rot();
        assert_eq!(read_through(&written.log.reader(), bytes_max), [(ROTTEN, ROTTEN + 1)], "{bytes_max} at once");
        assert_eq!(written.log.reader().holes().len(), 1, "known from now on");
    }
}

#[test]
fn what_was_read_and_verified_before_is_verified_again_when_it_is_read_cold() {
    let written = Written::new();
    written.evict();
    assert_eq!(read_through(&written.log.reader(), 1 << 20), []);
    assert!(written.is_all_warm(), "verified once, and there");
    written.rot();
    assert_eq!(read_through(&written.log.reader(), 100_000), [(ROTTEN, ROTTEN + 1)]);
}

#[test]
fn what_others_brought_back_into_memory_is_not_believed_once_anything_was_cold() {
    let written = Written::new();
    written.rot();
    written.evict();
    // The first page of the file is seen to be gone. Then all comes back, as by reading ahead.
    assert!(written.warm(0).is_none());
    std::fs::read(&written.path).unwrap();
    assert!(written.warm(ROTTEN).is_none(), "it is there, but who knows what it is");
    assert_eq!(read_through(&written.log.reader(), 100_000), [(ROTTEN, ROTTEN + 1)]);
}

#[test]
fn a_blocking_read_verifies_what_is_cold_too() {
    let written = Written::new();
    written.rot();
    let reader = written.log.reader();
    let read = reader.read_blocking(Offset(ROTTEN), Offset::MAX, 1);
    assert!(matches!(read, Err(ReadError::Corrupt { from: Offset(ROTTEN), .. })), "{read:?}");
}

#[test]
fn what_a_walk_in_search_of_rot_reads_past_the_cache_is_verified_when_it_is_read_next() {
    let written = Written::new();
    let mut scrub = Scrub::between(written.log.reader(), Offset(0)..Offset(BATCHES));
    while !scrub.step(1 << 20).unwrap().is_complete {}
    std::fs::read(&written.path).unwrap();
    assert!(!written.is_all_warm());
    assert_eq!(read_through(&written.log.reader(), 1 << 20), []);
    assert!(written.is_all_warm());
}

#[test]
fn what_nobody_read_for_a_while_is_verified_when_it_is_read_next() {
    let looks = FlusherOptions { background_interval: Duration::from_millis(10), idle_looks: 1, ..Default::default() };
    let flusher = Flusher::start(looks).unwrap();
    let mut written = Written::flushed_by(flusher.handle());
    assert!(written.is_all_warm());
    written.rot();
    // Somebody else reads the file, so that its pages are there again.
    std::fs::read(&written.path).unwrap();
    written.log.roll().unwrap();
    written.log.flush().unwrap();
    let limit = Instant::now() + Duration::from_secs(60);
    while opened(&written.path) {
        assert!(Instant::now() < limit, "an idle segment is let go of");
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(read_through(&written.log.reader(), 100_000), [(ROTTEN, ROTTEN + 1)]);
}

/// Whether this process has the file open.
fn opened(path: &Path) -> bool {
    let mut held = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
    held.any(|held| std::fs::read_link(held.path()).is_ok_and(|file| file == path))
}
