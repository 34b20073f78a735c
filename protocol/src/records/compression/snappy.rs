//! Snappy blocks in the framing of the Java library: a 16-byte header, then blocks, each behind its length (big-endian). Bare
//! blocks, which some clients send, are read as well. Knows nothing of batches.

use core::cell::RefCell;

use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::Failure;

/// What the Java library begins a stream with: a magic of 8 bytes, its version and the oldest that can read it.
const STREAM_HEADER: [u8; 16] = *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const MAGIC_BYTES: usize = 8;
/// Uncompressed bytes to a block, as the Java library.
const BLOCK_BYTES: usize = 32 << 10;
/// No element of the format turns fewer than 3 bytes into 64, so a claim above this is a lie and reserves nothing.
const EXPANSION_MAX: usize = 22;

thread_local! {
    /// Its tables are 32 KB, which a new one would have to clear.
    static ENCODER: RefCell<Encoder> = RefCell::new(Encoder::new());
}

pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    if !input.starts_with(&STREAM_HEADER[..MAGIC_BYTES]) {
        return decompress_block(input, out, limit);
    }
    let mut rest = input;
    while !rest.is_empty() {
        if rest.starts_with(&STREAM_HEADER[..MAGIC_BYTES]) {
            // Streams may follow one another. The Java library has only ever written version 1.
            rest = rest.get(STREAM_HEADER.len()..).ok_or(Failure::Corrupt)?;
            continue;
        }
        let (length, after) = rest.split_first_chunk::<4>().ok_or(Failure::Corrupt)?;
        let (block, after) = after.split_at_checked(u32::from_be_bytes(*length) as usize).ok_or(Failure::Corrupt)?;
        decompress_block(block, out, limit)?;
        rest = after;
    }
    Ok(())
}

fn decompress_block(block: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    let bytes = decompress_len(block).map_err(|_| Failure::Corrupt)?;
    let start = out.len();
    if bytes > limit - start {
        return Err(Failure::TooLarge);
    }
    if bytes > block.len().saturating_mul(EXPANSION_MAX) {
        return Err(Failure::Corrupt);
    }
    out.resize(start + bytes, 0);
    Decoder::new().decompress(block, &mut out[start..]).map_err(|_| Failure::Corrupt)?;
    Ok(())
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&STREAM_HEADER);
    ENCODER.with_borrow_mut(|encoder| {
        for block in input.chunks(BLOCK_BYTES) {
            let length_at = out.len();
            let start = length_at + 4;
            out.resize(start + max_compress_len(block.len()), 0);
            #[expect(clippy::expect_used, reason = "the room is what the encoder asks for")]
            let bytes = encoder.compress(block, &mut out[start..]).expect("a block of 32 KB fits in its bound");
            out[length_at..start].copy_from_slice(&(bytes as u32).to_be_bytes());
            out.truncate(start + bytes);
        }
    });
}
