//! Micro-benches of what every byte passes through, each with its throughput: `cargo bench -p tidelog-benches`, or with a name
//! behind `--` for some of them. Knows nothing of sockets; the end-to-end figures are in `RESULTS.md`.
//!
//! On a small shared machine a time alone says little: compare two builds in turns (`--save-baseline`, `--baseline`).
#![allow(missing_docs, reason = "the macros of criterion write functions without any")]
#![allow(clippy::unwrap_used, reason = "a bench that cannot set its stage up has nothing to measure")]

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

mod batches;
mod frames;
mod logs;
mod samples;

/// Short, so that all of them take a couple of minutes.
fn quick() -> Criterion {
    Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2))
}

criterion_group! {
    name = micro;
    config = quick();
    targets = frames::all, batches::all, logs::all
}
criterion_main!(micro);
