//! Compressed streams that claim too much, are cut, are followed by more, or fit exactly. Bombs: `records_bombs_memory.rs`.

#![cfg(feature = "compression")]

use std::io::Write;

use tidelog_protocol::records::{Compression, DecompressError, compress, decompress};

const LIMIT: usize = 8 << 20;

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
