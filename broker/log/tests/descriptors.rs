//! A process at its limit of open files, the real one. Alone in its file: the limit holds for the whole process.
#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

#[path = "log/support/mod.rs"]
mod support;

use std::fs::File;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::{EPOCH, append, batch, open, read_all};
use tidelog_log::{AppendError, Group};
use tidelog_protocol::Offset;

/// Files besides those that the process has already.
const LIMIT: u64 = 200;

#[test]
fn a_log_that_cannot_roll_for_want_of_descriptors_is_read_and_rolls_when_some_are_closed() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: Some(LIMIT), ..limit }).unwrap();
    let temp = tempfile::tempdir().unwrap();
    let (mut log, _) = open(&temp.path().join("t-0"));
    append(&mut log, 1, &[0; 900]);
    // Segments of 4096 bytes: the fifth batch needs the next one, which is not prepared.
    let mut taken = Vec::new();
    while let Ok(file) = File::open("/dev/null") {
        taken.push(file);
    }
    assert!(!taken.is_empty());
    let (header, bytes) = batch(1, 1, &[1; 900]);
    let refused = (0..5).find_map(|_| log.append(&[Group::new(&bytes, &[header])], EPOCH).err());
    assert!(matches!(refused, Some(AppendError::OutOfDescriptors(_))), "{refused:?}");
    let written = log.end();
    assert_eq!(read_all(&log.reader(), Offset::ZERO).unwrap().len() as u64, written.0, "reads go on");
    taken.clear();
    assert_eq!(append(&mut log, 1, &[2; 900]), written);
    log.flush().unwrap();
    assert_eq!(log.reader().segments().len(), 2);
    setrlimit(Resource::Nofile, limit).unwrap();
}
