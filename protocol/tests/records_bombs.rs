//! Small bytes that claim to be gigabytes: a clear error, in bounded memory.
#![cfg(feature = "compression")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed unwrap is a failed test")]

mod records_crafted;

use std::io::Write;

use bytes::Bytes;
use records_crafted::{batch, header};
use tidelog_protocol::ErrorCode;
use tidelog_protocol::records::{
    BatchError, Compression, DecompressError, ProduceLimits, RawBatch, Scratch, compress, decompress, validate_produce,
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
    // Tests that run beside this one count too, but none of them comes near a bomb's gibibyte.
    assert!(growth < 32 * LIMIT as u64, "memory grew by {growth} bytes over a limit of {LIMIT}");
}

#[test]
fn a_claim_within_the_limit_that_the_bytes_cannot_hold_reserves_nothing() {
    // Claims 8 MiB in four bytes.
    let claim = &[0x80, 0x80, 0x80, 0x04];
    let mut out = Vec::new();
    let corrupt = DecompressError::Corrupt { codec: Compression::Snappy };
    assert_eq!(decompress(Compression::Snappy, claim, &mut out, LIMIT), Err(corrupt));
    assert_eq!(out.capacity(), 0);
}

#[test]
fn exactly_the_limit_still_fits() {
    for codec in Compression::ALL {
        // Past one block of every codec, and not a multiple of it.
        for bytes in [0, 1, 100_000, 200_003] {
            let input: Vec<u8> = (0..bytes).map(|i| (i / 100) as u8).collect();
            let (mut compressed, mut out) = (Vec::new(), Vec::new());
            compress(codec, &input, &mut compressed).unwrap();
            assert_eq!(decompress(codec, &compressed, &mut out, bytes), Ok(()), "{codec} {bytes}");
            assert_eq!(out, input);
            if bytes > 0 {
                let limit = bytes - 1;
                let error = decompress(codec, &compressed, &mut out, limit).unwrap_err();
                assert_eq!(error, DecompressError::TooLarge { limit }, "{codec} {bytes}");
            }
            assert_eq!(decompress(codec, &compressed, &mut out, usize::MAX), Ok(()), "{codec} {bytes}");
        }
    }
}

#[test]
fn a_stream_cut_anywhere_or_with_bytes_behind_it_is_damaged() {
    let input: Vec<u8> = (0..150_000u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
        let (mut compressed, mut out) = (Vec::new(), Vec::new());
        compress(codec, &input, &mut compressed).unwrap();
        let step = 997;
        for cut in (0..compressed.len()).step_by(step).chain(compressed.len() - 10..compressed.len()) {
            if decompress(codec, &compressed[..cut], &mut out, 1 << 20).is_ok() {
                // Snappy's framing has no end mark: between two blocks a cut cannot be seen here, only by the record count.
                assert!(codec == Compression::Snappy && out.len() % (32 << 10) == 0, "{codec} cut at {cut}");
            }
        }
        compressed.push(0);
        let corrupt = DecompressError::Corrupt { codec };
        assert_eq!(decompress(codec, &compressed, &mut out, 1 << 20), Err(corrupt));
    }
}

#[test]
fn an_lz4_frame_cut_between_two_blocks_is_damaged() {
    let (mut compressed, mut out) = (Vec::new(), Vec::new());
    compress(Compression::Lz4, &[7; 130 << 10], &mut compressed).unwrap();
    let without_end_mark = &compressed[..compressed.len() - 4];
    let corrupt = DecompressError::Corrupt { codec: Compression::Lz4 };
    assert_eq!(decompress(Compression::Lz4, without_end_mark, &mut out, 1 << 20), Err(corrupt));
}

#[test]
fn streams_and_frames_may_follow_one_another_where_the_codec_allows_it() {
    for codec in [Compression::Gzip, Compression::Snappy, Compression::Zstd] {
        let (mut compressed, mut out) = (Vec::new(), Vec::new());
        compress(codec, b"one ", &mut compressed).unwrap();
        compress(codec, b"two", &mut compressed).unwrap();
        decompress(codec, &compressed, &mut out, 100).unwrap();
        assert_eq!(out, b"one two", "{codec}");
    }
}

#[test]
fn linked_lz4_blocks_and_bare_snappy_blocks_are_read() {
    let input: Vec<u8> = (0..300_000u32).map(|i| (i / 7 % 251) as u8).collect();
    let mut out = Vec::new();
    let info = lz4_flex::frame::FrameInfo::new()
        .block_mode(lz4_flex::frame::BlockMode::Linked)
        .block_checksums(true)
        .content_checksum(true)
        .content_size(Some(input.len() as u64));
    let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
    encoder.write_all(&input).unwrap();
    decompress(Compression::Lz4, &encoder.finish().unwrap(), &mut out, 1 << 20).unwrap();
    assert_eq!(out, input);

    let bare = snap::raw::Encoder::new().compress_vec(&input).unwrap();
    decompress(Compression::Snappy, &bare, &mut out, 1 << 20).unwrap();
    assert_eq!(out, input);
}

#[test]
fn a_zstd_frame_of_unknown_size_is_read() {
    let input: Vec<u8> = (0..300_000u32).map(|i| (i / 7 % 251) as u8).collect();
    let mut out = Vec::new();
    for level in [1, 3, 22] {
        let frame = zstd::stream::encode_all(&input[..], level).unwrap();
        decompress(Compression::Zstd, &frame, &mut out, input.len()).unwrap();
        assert_eq!(out, input);
    }
}
