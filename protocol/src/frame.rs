//! The preface and the frame: what stands around every message. Knows nothing of what bodies mean.
//!
//! A frame is a 28-byte little-endian header, a body (one message), and a payload (raw record batches, possibly empty).
//! Lengths are checked against [`FrameLimits`] before a byte of memory is reserved for them.

use crate::ids::CorrelationId;
use crate::version::ProtocolVersion;

/// First four bytes of a native connection. Read as a length by a Kafka listener they are far above any limit.
pub const MAGIC: [u8; 4] = *b"TIDE";
/// Bytes of the preface.
pub const PREFACE_BYTES: usize = 8;
/// Bytes of the header.
pub const HEADER_BYTES: usize = 28;
/// Bytes that a trace context takes at the start of the body.
pub const TRACE_BYTES: usize = 25;

/// What both sides send first: the magic, a version, feature bits (none defined yet).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Preface {
    /// From the client: its newest version. From the broker: the version chosen, or 0 for "none in common".
    pub version: ProtocolVersion,
    /// Reserved; senders write 0, receivers ignore bits they do not know.
    pub features: u16,
}

impl Preface {
    /// The eight bytes.
    #[must_use]
    pub fn encode(self) -> [u8; PREFACE_BYTES] {
        let mut bytes = [0; PREFACE_BYTES];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[4..6].copy_from_slice(&self.version.0.to_le_bytes());
        bytes[6..].copy_from_slice(&self.features.to_le_bytes());
        bytes
    }

    /// Parses the eight bytes.
    ///
    /// # Errors
    /// [`FrameError::Magic`] where the peer speaks something else.
    pub fn decode(bytes: [u8; PREFACE_BYTES]) -> Result<Self, FrameError> {
        let [a, b, c, d, v0, v1, f0, f1] = bytes;
        if [a, b, c, d] != MAGIC {
            return Err(FrameError::Magic { found: [a, b, c, d] });
        }
        Ok(Self { version: ProtocolVersion(u16::from_le_bytes([v0, v1])), features: u16::from_le_bytes([f0, f1]) })
    }
}

/// Which role a frame plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum FrameKind {
    /// Client to broker; answered by one [`FrameKind::Response`].
    Request = 1,
    /// Broker to client, with the correlation id of its request.
    Response = 2,
    /// Broker to client, unasked or as an item of a stream (whose id is the correlation id of its Subscribe).
    Push = 3,
    /// Client to broker, never answered.
    Signal = 4,
}

impl FrameKind {
    const fn from_u8(raw: u8) -> Option<Self> {
        match raw {
            1 => Some(Self::Request),
            2 => Some(Self::Response),
            3 => Some(Self::Push),
            4 => Some(Self::Signal),
            _ => None,
        }
    }
}

/// Flag bits of a header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// The body is a `Fault` in place of the message of its API.
    pub const FAULT: Self = Self(1);
    /// The body starts with a W3C trace context of [`TRACE_BYTES`]: trace id (16), parent id (8), trace flags (1).
    pub const TRACE: Self = Self(2);
    const KNOWN: u8 = 3;

    /// True where every bit of `other` is set here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// The header of a frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// Request, response, push or signal.
    pub kind: FrameKind,
    /// Fault, trace.
    pub flags: Flags,
    /// Number of the API, see [`crate::api::Api`]. Kept raw: an unknown one is answered, not cut off.
    pub api: u16,
    /// Matches answers to requests.
    pub correlation: CorrelationId,
    /// Milliseconds that the sender of a request waits for its answer; 0 means "no limit". 0 in other kinds.
    pub timeout_ms: u32,
    /// Bytes of the body, the trace context included.
    pub body_bytes: u32,
    /// Bytes of the payload.
    pub payload_bytes: u32,
}

/// The largest frame and body that a receiver accepts, in bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameLimits {
    /// Header, body and payload together.
    pub frame_bytes: u32,
    /// The body alone.
    pub body_bytes: u32,
}

impl FrameLimits {
    /// For a peer that has not said hello yet.
    pub const HANDSHAKE: Self = Self { frame_bytes: 16 << 10, body_bytes: 16 << 10 };
    /// The default for everyone else.
    pub const DEFAULT: Self = Self { frame_bytes: 64 << 20, body_bytes: 8 << 20 };
}

impl Header {
    /// Total length of the frame, in bytes.
    #[must_use]
    pub const fn frame_bytes(&self) -> u64 {
        HEADER_BYTES as u64 + self.body_bytes as u64 + self.payload_bytes as u64
    }

    /// The 28 bytes, with the checksum over themselves and `body` (which may come in several parts).
    #[must_use]
    pub fn encode(&self, body: &[&[u8]]) -> [u8; HEADER_BYTES] {
        debug_assert_eq!(body.iter().map(|part| part.len()).sum::<usize>(), self.body_bytes as usize);
        let mut bytes = [0; HEADER_BYTES];
        bytes[0..4].copy_from_slice(&(self.frame_bytes() as u32).to_le_bytes());
        bytes[4] = self.kind as u8;
        bytes[5] = self.flags.0;
        bytes[6..8].copy_from_slice(&self.api.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.correlation.0.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.timeout_ms.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.body_bytes.to_le_bytes());
        let crc = body.iter().fold(crc32c::crc32c(&bytes[..24]), |crc, part| crc32c::crc32c_append(crc, part));
        bytes[24..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Parses the 28 bytes and checks every length against `limits`. The checksum is checked by [`verify`], once the
    /// body is there.
    ///
    /// # Errors
    /// [`FrameError`] names the field at fault.
    pub fn decode(bytes: &[u8; HEADER_BYTES], limits: FrameLimits) -> Result<Self, FrameError> {
        let length = u32_at(bytes, 0);
        let body_bytes = u32_at(bytes, 20);
        if length > limits.frame_bytes {
            return Err(FrameError::FrameTooLarge { bytes: length, limit: limits.frame_bytes });
        }
        if body_bytes > limits.body_bytes {
            return Err(FrameError::BodyTooLarge { bytes: body_bytes, limit: limits.body_bytes });
        }
        let Some(payload_bytes) = length.checked_sub(HEADER_BYTES as u32).and_then(|rest| rest.checked_sub(body_bytes))
        else {
            return Err(FrameError::Lengths { frame: length, body: body_bytes });
        };
        let kind = FrameKind::from_u8(bytes[4]).ok_or(FrameError::Kind { found: bytes[4] })?;
        let flags = Flags(bytes[5]);
        if flags.0 & !Flags::KNOWN != 0 {
            return Err(FrameError::Flags { found: flags.0 });
        }
        if flags.contains(Flags::TRACE) && (body_bytes as usize) < TRACE_BYTES {
            return Err(FrameError::TraceContext { body: body_bytes });
        }
        let correlation = CorrelationId(u64::from(u32_at(bytes, 8)) | u64::from(u32_at(bytes, 12)) << 32);
        Ok(Self {
            kind,
            flags,
            api: u16::from_le_bytes([bytes[6], bytes[7]]),
            correlation,
            timeout_ms: u32_at(bytes, 16),
            body_bytes,
            payload_bytes,
        })
    }
}

/// Checks the checksum of a header and its body.
///
/// # Errors
/// [`FrameError::Checksum`].
pub fn verify(header: &[u8; HEADER_BYTES], body: &[u8]) -> Result<(), FrameError> {
    let stated = u32_at(header, 24);
    let actual = crc32c::crc32c_append(crc32c::crc32c(&header[..24]), body);
    if stated == actual { Ok(()) } else { Err(FrameError::Checksum { stated, actual }) }
}

fn u32_at(bytes: &[u8; HEADER_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// Why bytes are no frame. After any of these the receiver has lost its place and closes the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FrameError {
    /// The connection does not open with `TIDE`.
    #[error("the other side does not speak the Tidelog protocol: it began with \"{}\" instead of \"TIDE\"", .found.escape_ascii())]
    Magic {
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// No version in common.
    #[error(
        "no protocol version in common: the peer speaks up to {theirs}, this side {oldest} to {newest}; upgrade the older one"
    )]
    Version {
        /// The peer's newest.
        theirs: u16,
        /// Our oldest.
        oldest: u16,
        /// Our newest.
        newest: u16,
    },
    /// Larger than the receiver accepts.
    #[error("a frame of {bytes} bytes is over the limit of {limit}; send less in one")]
    FrameTooLarge {
        /// The stated length.
        bytes: u32,
        /// The limit.
        limit: u32,
    },
    /// The body alone is larger than the receiver accepts.
    #[error("a message body of {bytes} bytes is over the limit of {limit}")]
    BodyTooLarge {
        /// The stated length.
        bytes: u32,
        /// The limit.
        limit: u32,
    },
    /// The lengths contradict each other.
    #[error("the frame says {frame} bytes in all, which do not hold its header and {body} bytes of body")]
    Lengths {
        /// Stated for the frame.
        frame: u32,
        /// Stated for the body.
        body: u32,
    },
    /// The flags promise a trace context that does not fit.
    #[error("the frame's flags promise a trace context, which takes {TRACE_BYTES} bytes, and its body has {body}")]
    TraceContext {
        /// Stated for the body.
        body: u32,
    },
    /// No such kind.
    #[error("frame kind {found} does not exist")]
    Kind {
        /// The byte.
        found: u8,
    },
    /// A flag this version does not know.
    #[error("frame flags {found:#04x} hold a bit that does not exist")]
    Flags {
        /// The byte.
        found: u8,
    },
    /// Header or body were damaged.
    #[error("frame checksum is {actual:08x}, the header says {stated:08x}: the bytes were damaged on the way")]
    Checksum {
        /// In the header.
        stated: u32,
        /// Of the bytes.
        actual: u32,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header() -> Header {
        Header {
            kind: FrameKind::Request,
            flags: Flags::default(),
            api: 7,
            correlation: CorrelationId(0x0102_0304_0506_0708),
            timeout_ms: 30_000,
            body_bytes: 3,
            payload_bytes: 5,
        }
    }

    #[test]
    fn a_header_survives_the_round_trip() {
        let bytes = header().encode(&[b"a", b"bc"]);
        assert_eq!(Header::decode(&bytes, FrameLimits::DEFAULT), Ok(header()));
        assert_eq!(verify(&bytes, b"abc"), Ok(()));
    }

    #[test]
    fn any_flipped_bit_of_header_or_body_is_noticed() {
        let bytes = header().encode(&[b"abc"]);
        for bit in 0..HEADER_BYTES * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            let noticed = Header::decode(&bad, FrameLimits::DEFAULT).is_err() || verify(&bad, b"abc").is_err();
            assert!(noticed, "bit {bit}");
        }
        assert!(verify(&bytes, b"abd").is_err());
    }

    #[test]
    fn lengths_are_refused_before_memory_is_reserved() {
        let limits = FrameLimits { frame_bytes: 100, body_bytes: 50 };
        let at = |length: u32, body: u32| {
            let mut bytes = header().encode(&[b"abc"]);
            bytes[0..4].copy_from_slice(&length.to_le_bytes());
            bytes[20..24].copy_from_slice(&body.to_le_bytes());
            Header::decode(&bytes, limits)
        };
        assert!(matches!(at(u32::MAX, 3), Err(FrameError::FrameTooLarge { .. })));
        assert!(matches!(at(i32::MAX as u32, 3), Err(FrameError::FrameTooLarge { .. })));
        assert!(matches!(at(0, 0), Err(FrameError::Lengths { .. })));
        assert!(matches!(at(27, 0), Err(FrameError::Lengths { .. })));
        assert!(matches!(at(60, 33), Err(FrameError::Lengths { .. })));
        let traced = Header { flags: Flags::TRACE, ..header() }.encode(&[b"abc"]);
        assert_eq!(Header::decode(&traced, limits), Err(FrameError::TraceContext { body: 3 }));
        assert!(matches!(at(90, 51), Err(FrameError::BodyTooLarge { .. })));
        assert!(at(100, 50).is_ok());
    }

    #[test]
    fn another_protocol_on_the_port_is_named() {
        assert!(matches!(Preface::decode(*b"GET / HT"), Err(FrameError::Magic { .. })));
        let preface = Preface { version: ProtocolVersion(3), features: 0 };
        assert_eq!(Preface::decode(preface.encode()), Ok(preface));
    }
}
