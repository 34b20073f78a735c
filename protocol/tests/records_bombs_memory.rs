//! Small bytes that become gigabytes are refused in bounded memory. Alone in its program: what other tests take would count too.
#![cfg(feature = "compression")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

#[path = "formats/records_crafted/mod.rs"]
mod records_crafted;

use std::io::Write;

use bytes::Bytes;
use records_crafted::{batch, header};
use tidelog_protocol::ErrorCode;
use tidelog_protocol::records::{
    BatchError, Compression, DecompressError, ProduceLimits, RawBatch, Scratch, validate_produce,
};

const LIMIT: usize = 8 << 20;

/// A gibibyte of zeros: members and frames may follow one another.
fn zeros(compress: impl FnOnce(&[u8]) -> Vec<u8>) -> Vec<u8> {
    compress(&vec![0; 16 << 20]).repeat(64)
}

fn zstd_bomb() -> Vec<u8> {
    zeros(|zeros| zstd::stream::encode_all(zeros, 1).unwrap())
}

fn gzip_bomb() -> Vec<u8> {
    zeros(|zeros| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(zeros).unwrap();
        encoder.finish().unwrap()
    })
}

fn lz4_bomb() -> Vec<u8> {
    let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
    encoder.write_all(&vec![0; LIMIT + 1]).unwrap();
    encoder.finish().unwrap()
}

/// A bare block that claims 4 GiB − 1 in five bytes.
const RAW_SNAPPY_CLAIM: &[u8] = &[0xff, 0xff, 0xff, 0xff, 0x0f];

fn xerial(block: &[u8]) -> Vec<u8> {
    [b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", &(block.len() as u32).to_be_bytes()[..], block].concat()
}

/// A frame header that claims a content of 2⁶⁰ bytes, then one empty last block.
const ZSTD_CLAIM: &[u8] = &[0x28, 0xb5, 0x2f, 0xfd, 0xe0, 0, 0, 0, 0, 0, 0, 0, 0x10, 1, 0, 0];

#[cfg(target_os = "linux")]
fn peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

#[cfg(not(target_os = "linux"))]
fn peak_bytes() -> u64 {
    0
}

#[test]
fn bombs_are_refused_in_bounded_memory() {
    let bombs = [
        (Compression::Zstd, zstd_bomb()),
        (Compression::Zstd, ZSTD_CLAIM.to_vec()),
        (Compression::Gzip, gzip_bomb()),
        (Compression::Lz4, lz4_bomb()),
        (Compression::Snappy, RAW_SNAPPY_CLAIM.to_vec()),
        (Compression::Snappy, xerial(RAW_SNAPPY_CLAIM)),
    ];
    let payloads = bombs.map(|(codec, bomb)| {
        let bytes = Bytes::from(batch(header(codec, 1, bomb.len()), &bomb));
        (codec, bytes)
    });
    let before = peak_bytes();
    let limits = ProduceLimits { batch_bytes_max: 64 << 20, decompressed_bytes_max: LIMIT, ..ProduceLimits::default() };
    for (codec, bytes) in payloads {
        let error = validate_produce(bytes.clone(), limits).unwrap_err();
        assert_eq!(error, BatchError::Decompress(DecompressError::TooLarge { limit: LIMIT }), "{codec}");
        assert_eq!(error.code(), ErrorCode::TooLarge);
        let mut scratch = Scratch::with_limit(LIMIT);
        let batch = RawBatch::parse(&bytes).unwrap();
        assert!(matches!(batch.records(&mut scratch), Err(BatchError::Decompress(_))));
    }
    let growth = peak_bytes() - before;
    assert!(growth < 8 * LIMIT as u64, "memory grew by {growth} bytes over a limit of {LIMIT}");
}
