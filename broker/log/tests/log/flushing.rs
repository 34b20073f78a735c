//! Flushes of different logs do not wait for each other, and those that somebody waits for never for those that nobody does.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::support::{append, options};
use parking_lot::{Condvar, Mutex};
use tidelog_log::{DiskWork, Flusher, FlusherOptions, Log, LogListener, OsDisk, StorageError};
use tidelog_protocol::Offset;

/// More than there are threads that flush.
const LOGS: usize = 8;

/// Hears what was flushed, and keeps the thread that says so for as long as it is closed, as a disk does that takes long.
#[derive(Default)]
struct Gate {
    state: Mutex<GateState>,
    news: Condvar,
}

#[derive(Default)]
struct GateState {
    closed: bool,
    flushed: Offset,
    flushes: u64,
}

impl LogListener for Gate {
    fn flushed(&self, end: Offset) {
        let mut state = self.state.lock();
        state.flushed = end;
        state.flushes += 1;
        self.news.notify_all();
        // Not for ever, or a test that fails would not end.
        while state.closed && !self.news.wait_for(&mut state, Duration::from_secs(60)).timed_out() {}
    }

    fn poisoned(&self, error: &Arc<StorageError>) {
        panic!("{error}");
    }
}

impl Gate {
    fn set_closed(&self, closed: bool) {
        self.state.lock().closed = closed;
        self.news.notify_all();
    }

    fn wait_until(&self, flushed: u64) {
        let mut state = self.state.lock();
        while state.flushed < Offset(flushed) {
            assert!(!self.news.wait_for(&mut state, Duration::from_secs(20)).timed_out(), "it is not flushed");
        }
    }
}

fn open(dir: &Path, flusher: &Flusher) -> (Log, Arc<Gate>) {
    let gate = Arc::new(Gate::default());
    let mut opened = options(dir, OsDisk::shared());
    (opened.listener, opened.flusher) = (gate.clone(), flusher.handle());
    (Log::open(opened).unwrap().0, gate)
}

fn logs(temp: &Path, flusher: &Flusher) -> Vec<(Log, Arc<Gate>)> {
    (0..LOGS).map(|at| open(&temp.join(format!("t-{at}")), flusher)).collect()
}

#[test]
fn a_flush_that_takes_long_holds_up_no_other_log_however_often_its_own_is_asked_for() {
    let temp = tempfile::tempdir().unwrap();
    let flusher = Flusher::start(FlusherOptions::default()).unwrap();
    let mut logs = logs(temp.path(), &flusher);
    logs[0].1.set_closed(true);
    append(&mut logs[0].0, 1, b"slow");
    logs[0].0.request_flush();
    logs[0].1.wait_until(1);
    for round in 1..=5 {
        append(&mut logs[0].0, 1, b"behind it");
        logs[0].0.request_flush();
        for (log, gate) in &mut logs[1..] {
            append(log, 1, b"quick");
            log.request_flush();
            gate.wait_until(round);
        }
    }
    assert_eq!(logs[0].1.state.lock().flushes, 1, "it is still held up");
    logs[0].1.set_closed(false);
    logs[0].1.wait_until(6);
}

#[test]
fn a_flush_that_somebody_waits_for_does_not_wait_for_those_in_the_background() {
    let temp = tempfile::tempdir().unwrap();
    let flusher = Flusher::start(FlusherOptions { background_bytes: 0, ..FlusherOptions::default() }).unwrap();
    let mut logs = logs(temp.path(), &flusher);
    let (mut awaited, gate) = open(&temp.path().join("awaited-0"), &flusher);
    for (log, gate) in &mut logs {
        gate.set_closed(true);
        append(log, 1, b"nobody asks for it");
    }
    logs[0].1.wait_until(1);
    append(&mut awaited, 1, b"somebody waits");
    awaited.request_flush();
    gate.wait_until(1);
    for (log, gate) in &logs {
        gate.set_closed(false);
        // Both at once: who asks is not passed over since it is under way already.
        log.request_flush();
        gate.wait_until(1);
    }
}

#[test]
fn what_was_asked_for_is_flushed_before_the_flusher_is_gone() {
    let temp = tempfile::tempdir().unwrap();
    let flusher = Flusher::start(FlusherOptions::default()).unwrap();
    let mut logs = logs(temp.path(), &flusher);
    for (log, _) in &mut logs {
        append(log, 1, b"last words");
        log.request_flush();
    }
    drop(flusher);
    for (_, gate) in &logs {
        assert_eq!(gate.state.lock().flushed, Offset(1));
    }
}

#[test]
fn a_flush_that_somebody_waits_for_is_known_until_it_is_done_and_one_that_nobody_does_is_not() {
    let temp = tempfile::tempdir().unwrap();
    let flusher = Flusher::start(FlusherOptions::default()).unwrap();
    let (mut log, gate) = open(&temp.path().join("t-0"), &flusher);
    let waits = flusher.handle().waits();
    gate.set_closed(true);
    append(&mut log, 1, b"nobody asks for it");
    log.request_unawaited_flush();
    gate.wait_until(1);
    assert_eq!(waits.oldest(), None);
    append(&mut log, 1, b"somebody waits");
    log.request_flush();
    let wait = waits.oldest().unwrap();
    assert_eq!((wait.dir, wait.work), (temp.path().join("t-0"), DiskWork::Flush), "behind the one that is under way");
    gate.set_closed(false);
    gate.wait_until(2);
    let give_up_at = Instant::now() + Duration::from_secs(20);
    while waits.oldest().is_some() {
        assert!(Instant::now() < give_up_at, "it is done");
        std::thread::yield_now();
    }
}
