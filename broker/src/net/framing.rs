//! Where a frame ends, and which protocol a connection speaks. Knows nothing of sockets and of what is in a frame.

use tidelog_protocol::frame::{FrameLimits, HEADER_BYTES, Header, PREFACE_BYTES};
use tidelog_protocol::kafka::header::{LEAST_BYTES, LENGTH_BYTES};

use super::ended::Ended;
use crate::kafka;

/// Bytes of the length in front of a frame of Kafka's.
pub(super) const KAFKA_LENGTH_BYTES: usize = LENGTH_BYTES;

/// How the frames of a connection are told from each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Framing {
    /// By native headers.
    Native,
    /// By a length, big-endian.
    Kafka,
}

impl Framing {
    /// What the first bytes of a connection say. Kafka's clients begin with the length of a request, of which every native preface and every
    /// HTTP method would be far too large a one, and with the number of its API.
    pub(super) fn of(first: [u8; PREFACE_BYTES], frame_bytes_max: u32) -> Self {
        let [a, b, c, d, api, ..] = first;
        let length = u32::from_be_bytes([a, b, c, d]);
        let is_kafka = (LEAST_BYTES as u32..=frame_bytes_max).contains(&length) && api == 0;
        if is_kafka { Self::Kafka } else { Self::Native }
    }

    /// How long the frame at the front is, once enough of it is there to know.
    pub(super) fn frame_bytes(self, bytes: &[u8], limits: FrameLimits) -> Result<Option<usize>, Ended> {
        match self {
            Self::Native => {
                let Some(head) = bytes.first_chunk::<HEADER_BYTES>() else { return Ok(None) };
                Ok(Some(Header::decode(head, limits)?.frame_bytes() as usize))
            }
            Self::Kafka => kafka_frame_bytes(bytes, limits),
        }
    }
}

fn kafka_frame_bytes(bytes: &[u8], limits: FrameLimits) -> Result<Option<usize>, Ended> {
    let Some(length) = bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = i32::from_be_bytes(*length);
    if length < LEAST_BYTES as i32 {
        return Err(Ended::Request(format!("a request of Kafka's protocol cannot have a length of {length} bytes")));
    }
    let Some(api) = bytes.get(LENGTH_BYTES..).and_then(|rest| rest.first_chunk::<2>()) else { return Ok(None) };
    let limit = kafka::request_bytes_max(i16::from_be_bytes(*api), limits.frame_bytes, limits.body_bytes);
    if length as u32 > limit {
        let sentence = format!("a request of {length} bytes is over the limit of {limit} for its API");
        return Err(Ended::Request(sentence));
    }
    Ok(Some(LENGTH_BYTES + length as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_are_told_by_their_first_bytes() {
        let of = |first: &[u8; 8]| Framing::of(*first, 1 << 30);
        assert_eq!(of(b"\0\0\0\x20\0\x12\0\x03"), Framing::Kafka);
        for other in
            [b"TIDE\x04\0\0\0", b"GET / HT", &[0; 8], &[0xff; 8], b"\0\0\0\x07\0\x12\0\0", b"\0\0\0\x20\x80\0\0\0"]
        {
            assert_eq!(of(other), Framing::Native, "{other:?}");
        }
        assert_eq!(Framing::of(*b"\0\x01\0\x01\0\0\0\x03", 65_536), Framing::Native);
    }

    #[test]
    fn a_kafka_frame_is_as_long_as_it_says_and_only_batches_are_large() {
        let limits = FrameLimits { frame_bytes: 1_000, body_bytes: 100 };
        let of = |bytes: &[u8]| Framing::Kafka.frame_bytes(bytes, limits);
        assert!(matches!(of(&[0, 0, 0]), Ok(None)) && matches!(of(&[0, 0, 0, 100, 0]), Ok(None)));
        assert!(matches!(of(&[0, 0, 0, 100, 0, 3]), Ok(Some(104))));
        assert!(matches!(of(&[0, 0, 0, 101, 0, 3]), Err(Ended::Request(_))));
        assert!(matches!(of(&[0, 0, 3, 0xe8, 0, 0]), Ok(Some(1_004))));
        assert!(matches!(of(&[0, 0, 3, 0xe9, 0, 0]), Err(Ended::Request(_))));
        for length in [[0, 0, 0, 7], [0xff; 4], [0x80, 0, 0, 0]] {
            assert!(matches!(of(&length), Err(Ended::Request(_))));
        }
    }
}
