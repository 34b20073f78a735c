//! The compaction rows of `RESULTS.md`: writes a log of many values to few keys, compacts it in one go, and tells rate and memory. Knows nothing
//! of brokers: it is one log on a disk.
//!
//! `cargo run --release -p tidelog-benches --bin compaction -- [RECORDS [KEYS [MAP_BYTES [FOLDER]]]]`

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tidelog_log::{
    CompactionDriver, CompactionRules, FlusherHandle, Group, Identity, Log, LogOptions, LogReader, OsDisk, ReadOutcome,
    SegmentOptions, Unheard,
};
use tidelog_protocol::records::{BatchBuilder, BatchHeader, Batches, Compression, NO_HEADERS};
use tidelog_protocol::{IncarnationId, LeaderEpoch, Offset, PartitionId, Timestamp, TopicId};

/// Bytes of each value.
const VALUE_BYTES: usize = 100;
/// Records of one batch.
const BATCH_RECORDS: u64 = 100;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |name: &'static str, usual: u64| {
        arguments.next().map_or(Ok(usual), |text| text.parse()).with_context(|| format!("{name} is a number"))
    };
    let records = number("RECORDS", 10_000_000)?;
    let keys = number("KEYS", 1_000_000)?;
    let map_bytes = usize::try_from(number("MAP_BYTES", 128 << 20)?)?;
    let parent = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::Builder::new().prefix("tidelog-compaction-").tempdir_in(parent)?;
    println!(
        "| codec | records | keys | passes | seconds | records/s | MB/s read | MB before | MB after | map MiB | peak RSS MiB |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|");
    for codec in [Compression::None, Compression::Lz4] {
        let dir = folder.path().join(codec.to_string());
        let mut log = open(&dir)?;
        write(&mut log, records, keys, codec)?;
        reset_peak()?;
        let before = log.reader().size_bytes();
        let began = Instant::now();
        let (mut passes, mut read, mut map) = (0, 0, 0);
        loop {
            let done = log.compaction().run(&rules(map_bytes), &mut FullSpeed)?;
            (passes, read, map) = (passes + 1, read + done.read_bytes, map.max(done.map_bytes));
            if !done.is_partial {
                break;
            }
        }
        let seconds = began.elapsed().as_secs_f64();
        let (after, peak) = (log.reader().size_bytes(), peak_bytes()?);
        ensure!(count(&log.reader())? <= keys, "a key stands twice");
        println!(
            "| {codec} | {records} | {keys} | {passes} | {seconds:.1} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
            records as f64 / seconds,
            read as f64 / seconds / 1e6,
            before as f64 / 1e6,
            after as f64 / 1e6,
            map as f64 / f64::from(1 << 20),
            peak as f64 / f64::from(1 << 20),
        );
        log.discard();
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

fn open(dir: &Path) -> Result<Log> {
    let (log, _) = Log::open(LogOptions {
        dir: dir.to_owned(),
        disk: OsDisk::shared(),
        identity: Identity { topic: TopicId([7; 16]), partition: PartitionId(0), incarnation: IncarnationId([9; 16]) },
        segment: SegmentOptions::default(),
        flusher: FlusherHandle::detached(),
        listener: Arc::new(Unheard),
    })?;
    Ok(log)
}

fn write(log: &mut Log, records: u64, keys: u64, codec: Compression) -> Result<()> {
    let mut random = fastrand::Rng::with_seed(1);
    let mut builder = BatchBuilder::new(1 << 20);
    let mut value = [0; VALUE_BYTES];
    for first in (0..records).step_by(BATCH_RECORDS as usize) {
        for _ in first..records.min(first + BATCH_RECORDS) {
            let key = format!("key-{:012}", random.u64(..keys));
            // Half of it compresses.
            random.fill(&mut value[..VALUE_BYTES / 2]);
            builder.append(Timestamp(1), Some(key.as_bytes()), Some(&value), NO_HEADERS)?;
        }
        let batch = builder.finish(codec)?;
        let header = BatchHeader::parse(&batch)?;
        let _ = log.append(&[Group::new(&batch, &[header])], LeaderEpoch(1))?;
    }
    log.roll()?;
    log.flush()?;
    Ok(log.tidy()?)
}

fn rules(map_bytes: usize) -> CompactionRules<'static> {
    CompactionRules {
        now: Timestamp(1_000),
        below: Offset::MAX,
        tombstones_below: Offset::MAX,
        tombstone_grace: Duration::ZERO,
        lag: Duration::ZERO,
        map_bytes,
        aborted: &[],
    }
}

struct FullSpeed;

impl CompactionDriver for FullSpeed {
    fn pace(&mut self, _bytes: u64) -> ControlFlow<()> {
        ControlFlow::Continue(())
    }

    fn tombstones_below(&mut self) -> Offset {
        Offset::MAX
    }
}

/// Records that are left.
fn count(reader: &LogReader) -> Result<u64> {
    let (mut at, mut records) = (reader.log_start(), 0);
    while let ReadOutcome::Batches(batches) = reader.read_blocking(at, Offset::MAX, 1 << 20)? {
        for batch in Batches::compacted(&batches.bytes) {
            records += u64::from(batch?.header().record_count);
        }
        at = batches.next;
    }
    Ok(records)
}

/// The most memory this process has had resident since [`reset_peak`].
fn peak_bytes() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(kib << 10)
}

fn reset_peak() -> Result<()> {
    std::fs::write("/proc/self/clear_refs", "5").context("the peak cannot be reset")
}
