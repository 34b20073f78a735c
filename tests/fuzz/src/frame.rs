//! A stream of frames: lengths stay within the limits, a header is written as it was read, a wrong checksum is noticed.

use tidelog_protocol::ProtocolVersion;
use tidelog_protocol::frame::{FrameError, FrameLimits, HEADER_BYTES, Header, PREFACE_BYTES, Preface, verify};

/// Small, so that limits are met.
const LIMITS: FrameLimits = FrameLimits { frame_bytes: 4 << 10, body_bytes: 2 << 10 };

/// The bytes that one side of a connection sends: a preface, then frames.
pub fn check(input: &[u8]) {
    let Some((preface, mut rest)) = input.split_first_chunk::<PREFACE_BYTES>() else { return };
    if let Ok(read) = Preface::decode(*preface) {
        assert_eq!(read.encode(), *preface);
        if let Some(agreed) = ProtocolVersion::agree(read.version) {
            assert!(agreed <= read.version && agreed <= ProtocolVersion::CURRENT && agreed >= ProtocolVersion::OLDEST);
        }
    }
    while let Some(head) = rest.first_chunk::<HEADER_BYTES>() {
        let Ok(header) = Header::decode(head, LIMITS) else { return };
        assert!(header.frame_bytes() <= u64::from(LIMITS.frame_bytes) && header.body_bytes <= LIMITS.body_bytes);
        let Some(frame) = rest.get(..header.frame_bytes() as usize) else { return };
        let body = &frame[HEADER_BYTES..HEADER_BYTES + header.body_bytes as usize];
        let written = header.encode(&[body]);
        assert_eq!(written[..24], head[..24]);
        match verify(head, body) {
            Ok(()) => assert_eq!(written, *head),
            Err(FrameError::Checksum { stated, actual }) => {
                assert!(stated != actual && written[24..] == actual.to_le_bytes());
            }
            Err(other) => panic!("verifying looks at nothing but the checksum: {other}"),
        }
        rest = &rest[frame.len()..];
    }
}
