//! One partition on disk: appending, reading slices of the map, and recovering what no flush had reached. Without a flusher: what is
//! measured is the way to the page cache, except in recovery, which by its nature goes to the disk.

use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{Criterion, SamplingMode, Throughput};
use tempfile::TempDir;
use tidelog_log::{
    FlusherHandle, Group, Identity, Log, LogOptions, LogReader, OsDisk, ReadOutcome, RecoveryReport, SegmentOptions,
    Unheard,
};
use tidelog_protocol::records::{BatchHeader, Compression};
use tidelog_protocol::{IncarnationId, LeaderEpoch, Offset, PartitionId, TopicId};

use crate::samples::{self, Shape};

/// What one log takes before it makes room for a new one: the disk shall not fill with it.
const LIFE_BYTES: u64 = 128 << 20;
/// The tail that no flush had reached.
const TAIL_BYTES: u64 = 64 << 20;
const EPOCH: LeaderEpoch = LeaderEpoch(1);

/// In the folder of the build, not in a temporary one that may be memory.
fn folder() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn open(partition: &Path) -> (Log, RecoveryReport) {
    let options = LogOptions {
        dir: partition.to_owned(),
        disk: OsDisk::shared(),
        identity: Identity { topic: TopicId([7; 16]), partition: PartitionId(0), incarnation: IncarnationId([9; 16]) },
        segment: SegmentOptions::default(),
        flusher: FlusherHandle::detached(),
        listener: Arc::new(Unheard),
    };
    Log::open(options).unwrap()
}

fn append(log: &mut Log, batch: &[u8], header: &[BatchHeader]) {
    let appended = log.append(&[Group::new(batch, header)], EPOCH).unwrap();
    let _ = black_box(appended);
}

/// A log with about `bytes` of batches.
fn filled(partition: &Path, shape: Shape, bytes: u64) -> Log {
    let batch = samples::batch(shape, Compression::None);
    let header = [BatchHeader::parse(&batch).unwrap()];
    let (mut log, _) = open(partition);
    for _ in 0..bytes / batch.len() as u64 {
        append(&mut log, &batch, &header);
    }
    log
}

pub fn all(criterion: &mut Criterion) {
    appends(criterion);
    reads(criterion);
    recovery(criterion);
}

fn appends(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("append");
    for (name, shape) in [("1 x 256 KB", Shape::KILOBYTE), ("1 x 1 KB", Shape::SINGLE)] {
        let batch = samples::batch(shape, Compression::None);
        let header = [BatchHeader::parse(&batch).unwrap()];
        group.throughput(Throughput::Bytes(batch.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|mut left| {
                let mut took = Duration::ZERO;
                while left > 0 {
                    let folder = folder();
                    let (mut log, _) = open(&folder.path().join("bench-0"));
                    let now = left.min(LIFE_BYTES / batch.len() as u64);
                    let started = Instant::now();
                    for _ in 0..now {
                        append(&mut log, &batch, &header);
                    }
                    took += started.elapsed();
                    left -= now;
                }
                took
            });
        });
    }
}

/// Everything from the start to the end in reads of at most `max_bytes`; says how many bytes that was.
fn read_all(reader: &LogReader, max_bytes: u32) -> u64 {
    let (mut at, mut bytes) = (Offset::ZERO, 0);
    loop {
        let outcome = match reader.read(at, Offset::MAX, max_bytes).unwrap() {
            ReadOutcome::Cold(pending) => pending.complete().unwrap(),
            outcome => outcome,
        };
        let ReadOutcome::Batches(batches) = outcome else { return bytes };
        bytes += batches.bytes.len() as u64;
        at = batches.next;
        black_box(batches);
    }
}

fn reads(criterion: &mut Criterion) {
    let folder = folder();
    let log = filled(&folder.path().join("bench-0"), Shape { batch_bytes: 16 << 10, ..Shape::KILOBYTE }, TAIL_BYTES);
    let reader = log.reader();
    let mut group = criterion.benchmark_group("read slices");
    group.throughput(Throughput::Bytes(reader.size_bytes()));
    for (name, max_bytes) in [("1 MB at once", 1 << 20), ("16 KB at once", 16 << 10)] {
        group.bench_function(name, |bencher| bencher.iter(|| read_all(&reader, max_bytes)));
    }
}

fn recovery(criterion: &mut Criterion) {
    let folder = folder();
    let partition = folder.path().join("bench-0");
    // Dropped without a close, as a killed process leaves it.
    drop(filled(&partition, Shape { batch_bytes: 16 << 10, ..Shape::KILOBYTE }, TAIL_BYTES));
    let mut group = criterion.benchmark_group("recovery");
    group.throughput(Throughput::Bytes(TAIL_BYTES)).sampling_mode(SamplingMode::Flat).sample_size(10);
    group.bench_function("64 MB unflushed tail", |bencher| {
        bencher.iter_custom(|times| {
            let mut took = Duration::ZERO;
            for _ in 0..times {
                let started = Instant::now();
                let (log, report) = open(&partition);
                took += started.elapsed();
                assert!(report.scanned_bytes > TAIL_BYTES * 9 / 10 && report.torn_bytes == 0, "{report:?}");
                drop(log);
            }
            took
        });
    });
}
