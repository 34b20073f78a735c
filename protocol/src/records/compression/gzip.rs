//! Gzip (RFC 1952), several members allowed. Knows nothing of batches.

use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::Failure;

/// The first guess at the output, and the least growth.
const GROWTH_BYTES: usize = 64 << 10;

pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    let mut decoder = MultiGzDecoder::new(input);
    let mut end = 0;
    loop {
        if end == out.len() {
            // One byte more than the limit tells "just fits" from "too much".
            let growth = end.max(GROWTH_BYTES).min(limit.saturating_add(1) - end);
            out.reserve_exact(growth);
            out.resize(end + growth, 0);
        }
        let read = decoder.read(&mut out[end..]).map_err(|_| Failure::Corrupt)?;
        end += read;
        if end > limit {
            return Err(Failure::TooLarge);
        }
        if read == 0 {
            out.truncate(end);
            return Ok(());
        }
    }
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) {
    let mut encoder = GzEncoder::new(out, flate2::Compression::default());
    #[expect(clippy::expect_used, reason = "the only writer below is a Vec")]
    {
        encoder.write_all(input).expect("a Vec takes every byte");
        encoder.finish().expect("a Vec takes every byte");
    }
}
