//! What the tests of a log share: batches of a known shape, a log in a temporary folder, reading all of it back.
#![allow(dead_code)] // Each test file uses its part of it.
#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use tidelog_log::{
    Disk, FlusherHandle, Group, Identity, Log, LogOptions, LogReader, OsDisk, ReadError, ReadOutcome, RecoveryReport,
    SegmentOptions, Unheard,
};
use tidelog_protocol::records::{Attributes, BatchHeader, Batches};
use tidelog_protocol::{
    IncarnationId, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Timestamp, TopicId,
};

pub mod keyed;

pub const EPOCH: LeaderEpoch = LeaderEpoch(1);

pub fn identity() -> Identity {
    Identity { topic: TopicId([7; 16]), partition: PartitionId(3), incarnation: IncarnationId([9; 16]) }
}

/// Small segments, so that tests see many.
pub fn small_segments() -> SegmentOptions {
    SegmentOptions { segment_bytes: 4096, index_interval_bytes: 256, first_allocation_bytes: 512 }
}

pub fn options(dir: &Path, disk: Arc<dyn Disk>) -> LogOptions {
    LogOptions {
        dir: dir.to_owned(),
        disk,
        identity: identity(),
        segment: small_segments(),
        flusher: FlusherHandle::detached(),
        listener: Arc::new(Unheard),
    }
}

pub fn open(dir: &Path) -> (Log, RecoveryReport) {
    Log::open(options(dir, OsDisk::shared())).unwrap()
}

/// The file of the segment that begins at `base`.
pub fn segment(dir: &Path, base: u64) -> PathBuf {
    dir.join(format!("{base:020}.log"))
}

/// A batch of `records` offsets with `payload` behind the header; its records are not real ones, which no log looks at.
pub fn batch(records: u32, timestamp: i64, payload: &[u8]) -> (BatchHeader, Vec<u8>) {
    let header = BatchHeader {
        base_offset: Offset(0),
        batch_length: 49 + payload.len() as u32,
        leader_epoch: None,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: records - 1,
        base_timestamp: Timestamp(timestamp),
        max_timestamp: Timestamp(timestamp),
        producer_id: ProducerId::NONE,
        producer_epoch: ProducerEpoch::NONE,
        base_sequence: Sequence::NONE,
        record_count: records,
    };
    let mut bytes = header.encode().to_vec();
    bytes.extend_from_slice(payload);
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    (BatchHeader { crc, ..header }, bytes)
}

/// Appends one batch; the answer is its base offset.
pub fn append(log: &mut Log, records: u32, payload: &[u8]) -> Offset {
    let (header, bytes) = batch(records, 1_000, payload);
    log.append(&[Group::new(&bytes, &[header])], EPOCH).unwrap().base_offset
}

/// Base offset and payload of every batch from `from` on, read in small pieces.
pub fn read_all(reader: &LogReader, from: Offset) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
    read_range(reader, from, Offset::MAX)
}

/// As [`read_all`], up to `upper`.
pub fn read_range(reader: &LogReader, from: Offset, upper: Offset) -> Result<Vec<(u64, Vec<u8>)>, ReadError> {
    let mut found = Vec::new();
    let mut at = from;
    loop {
        let outcome = match reader.read(at, upper, 700)? {
            ReadOutcome::Cold(pending) => pending.complete()?,
            outcome => outcome,
        };
        match outcome {
            ReadOutcome::Batches(batches) => {
                for batch in Batches::compacted(&batches.bytes) {
                    let batch = batch.unwrap();
                    batch.verify_crc().unwrap();
                    found.push((batch.header().base_offset.0, batch.payload().to_vec()));
                }
                assert!(batches.next > at, "a read makes progress");
                at = batches.next;
            }
            ReadOutcome::UpToDate => return Ok(found),
            ReadOutcome::Cold(_) => panic!("a completed read is never cold"),
        }
    }
}
