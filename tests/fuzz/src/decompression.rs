//! Every codec: nothing decompresses to more than the cap, memory stays near it, and what was compressed comes back.

use tidelog_protocol::records::{Compression, DecompressError, compress, decompress};

/// Caps that the second byte chooses from.
const CAPS: [usize; 4] = [0, 100, 64 << 10, 1 << 20];
/// What a codec may reserve beyond the cap: room to notice that there is more.
const SLACK_BYTES: usize = 128 << 10;

/// The first byte chooses the codec, the second the cap; the rest is compressed bytes, and bytes to compress.
pub fn check(input: &[u8]) {
    let [codec, cap, bytes @ ..] = input else { return };
    let codec = Compression::ALL[usize::from(*codec) % Compression::ALL.len()];
    let cap = CAPS[usize::from(*cap) % CAPS.len()];

    let mut out = Vec::new();
    match decompress(codec, bytes, &mut out, cap) {
        Ok(()) => assert!(out.len() <= cap, "{codec}: {} bytes over a cap of {cap}", out.len()),
        Err(DecompressError::TooLarge { limit }) => assert_eq!(limit, cap),
        Err(DecompressError::Corrupt { codec: named }) => assert_eq!(named, codec),
        Err(other) => panic!("{codec}: {other}"),
    }
    assert!(out.capacity() <= 2 * cap + SLACK_BYTES, "{codec}: {} bytes reserved for a cap of {cap}", out.capacity());

    let mut compressed = Vec::new();
    compress(codec, bytes, &mut compressed).expect("every codec is there");
    out.clear();
    assert_eq!(decompress(codec, &compressed, &mut out, bytes.len()), Ok(()), "{codec}");
    assert_eq!(out, bytes, "{codec}");
    if let Some(too_little) = bytes.len().checked_sub(1) {
        let refused = decompress(codec, &compressed, &mut out, too_little);
        assert_eq!(refused, Err(DecompressError::TooLarge { limit: too_little }), "{codec}");
    }
}
