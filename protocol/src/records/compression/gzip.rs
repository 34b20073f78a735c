//! Gzip (RFC 1952), several members allowed. Knows nothing of batches.

use std::io::{Read, Write};

use flate2::bufread::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::Failure;

pub(super) fn decompress(input: &[u8], out: &mut Vec<u8>, limit: usize) -> Result<(), Failure> {
    let mut decoder = MultiGzDecoder::new(input).take((limit as u64).saturating_add(1));
    decoder.read_to_end(out).map_err(|_| Failure::Corrupt)?;
    if out.len() > limit { Err(Failure::TooLarge) } else { Ok(()) }
}

pub(super) fn compress(input: &[u8], out: &mut Vec<u8>) {
    let mut encoder = GzEncoder::new(out, flate2::Compression::default());
    #[expect(clippy::expect_used, reason = "the only writer below is a Vec")]
    {
        encoder.write_all(input).expect("a Vec takes every byte");
        encoder.finish().expect("a Vec takes every byte");
    }
}
