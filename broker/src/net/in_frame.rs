//! A whole frame, and what it was lent. Knows nothing of how it arrived, nor of what is asked in it.

use bytes::Bytes;
use tidelog_protocol::api::Api;
use tidelog_protocol::frame::{self, FrameLimits, HEADER_BYTES, Header};

use super::ended::Ended;
use super::framing;
use super::pace::Completed;
use crate::budget::{Completion, Lent};
use crate::gait::Worth;
use crate::kafka;

/// What a whole frame holds.
#[derive(Debug)]
pub(super) enum Content {
    /// A native one, whose checksum holds.
    Native { header: Header, body: Bytes, payload: Bytes },
    /// A request of Kafka's protocol.
    Kafka(Bytes),
}

impl Content {
    /// Of a whole native frame.
    pub(super) fn native(frame: Bytes, limits: FrameLimits) -> Result<Self, Ended> {
        // A whole frame begins with a whole header.
        let Some(head) = frame.first_chunk::<HEADER_BYTES>() else { return Err(Ended::WithinFrame) };
        let header = Header::decode(head, limits)?;
        let mut body = frame.slice(HEADER_BYTES..);
        let payload = body.split_off(header.body_bytes as usize);
        frame::verify(head, &body)?;
        Ok(Self::Native { header, body, payload })
    }

    /// How large it is, in bytes, header aside.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Native { body, payload, .. } => body.len() + payload.len(),
            Self::Kafka(request) => request.len(),
        }
    }

    /// True where it brings batches.
    pub(super) fn is_produce(&self) -> bool {
        match self {
            Self::Native { header, .. } => header.api == Api::Produce as u16,
            Self::Kafka(request) => kafka::is_produce(request),
        }
    }

    /// All of the frame.
    fn frame_bytes(&self) -> usize {
        let head = match self {
            Self::Native { .. } => HEADER_BYTES,
            Self::Kafka(_) => framing::KAFKA_LENGTH_BYTES,
        };
        head + self.bytes()
    }
}

/// A whole frame.
#[derive(Debug)]
pub(super) struct InFrame {
    pub(super) content: Content,
    /// What the bytes were lent; held for its drop.
    pub(super) _growth: Vec<Lent>,
    /// The same, where the frame was completed by leave.
    pub(super) completion: Option<Completion>,
    /// All of it was here as it asked for that.
    pub(super) was_here: bool,
    /// Noted once it is known to be a good request.
    pub(super) worth: Option<Worth>,
}

impl InFrame {
    /// What it was, where it was completed by leave.
    pub(super) fn completed(&self) -> Option<Completed> {
        let completion = self.completion.as_ref()?;
        Some(Completed { bytes: self.content.frame_bytes(), was_quick: completion.is_quick() && !self.was_here })
    }
}
