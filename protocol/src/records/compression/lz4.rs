//! The LZ4 frame format, as Kafka's clients read it: independent blocks of 64 KB, no content checksum (the batch has a CRC).
//! Linked blocks and checksums are read as well. Knows nothing of batches.

use std::io::{BufRead, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameDecoder, FrameEncoder, FrameInfo};

use super::Failure;

/// First bytes of a frame.
const MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];

pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    if !is_one_whole_frame(input) {
        return Err(Failure::Corrupt);
    }
    let mut rest = input;
    let mut decoder = FrameDecoder::new(&mut rest);
    loop {
        let block = decoder.fill_buf().map_err(|_| Failure::Corrupt)?;
        if block.is_empty() {
            break;
        }
        if block.len() > limit - out.len() {
            return Err(Failure::TooLarge);
        }
        out.extend_from_slice(block);
        let bytes = block.len();
        decoder.consume(bytes);
    }
    // A block that decompresses to nothing looks like the end to the decoder.
    if rest.is_empty() { Ok(()) } else { Err(Failure::Corrupt) }
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) {
    let info = FrameInfo::new().block_size(BlockSize::Max64KB).block_mode(BlockMode::Independent);
    let mut encoder = FrameEncoder::with_frame_info(info, out);
    #[expect(clippy::expect_used, reason = "the only writer below is a Vec, and no content size is promised")]
    {
        encoder.write_all(input).expect("a Vec takes every byte");
        encoder.finish().expect("a Vec takes every byte");
    }
}

/// True where the blocks of `input` chain to an end mark at its very end. The decoder takes a frame that is cut between two
/// blocks for a whole one, and leaves alone what follows the end mark.
fn is_one_whole_frame(input: &[u8]) -> bool {
    let Some((MAGIC, descriptor)) = input.split_first_chunk::<4>().map(|(magic, rest)| (*magic, rest)) else {
        return false;
    };
    let Some(flags) = descriptor.first() else { return false };
    let checksum_bytes = |bit: u8| if flags >> bit & 1 == 1 { 4 } else { 0 };
    let content_size_bytes = if flags >> 3 & 1 == 1 { 8 } else { 0 };
    let dictionary_id_bytes = checksum_bytes(0);
    let Some(mut rest) = descriptor.get(3 + content_size_bytes + dictionary_id_bytes..) else { return false };
    loop {
        let Some((size, after)) = rest.split_first_chunk::<4>() else { return false };
        // The top bit says that the block is stored as it is.
        let bytes = (u32::from_le_bytes(*size) & 0x7fff_ffff) as usize;
        if u32::from_le_bytes(*size) == 0 {
            return after.len() == checksum_bytes(2);
        }
        let Some(next) = after.get(bytes + checksum_bytes(4)..) else { return false };
        rest = next;
    }
}
