//! What leaves one connection: a queue of encoded frames, filled from any thread, drained by the connection's own task.
//! Knows nothing of sockets and of what the frames mean.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use tidelog_protocol::frame::{Flags, FrameKind, HEADER_BYTES, Header};
use tidelog_protocol::{CorrelationId, Message, ProtocolVersion};
use tokio::sync::Notify;

use crate::budget::Lent;

/// An encoded frame. The payload is slices of a mapped log, or nothing; it is never copied.
#[derive(Debug)]
pub struct OutFrame {
    /// Header and body.
    pub head: Bytes,
    /// Record batches.
    pub payload: Vec<Bytes>,
    /// Memory that it takes, given back once it is out. Held for its drop.
    pub lent: Option<Lent>,
}

impl OutFrame {
    /// Encodes `message` under a header.
    #[must_use]
    pub fn encode<M: Message>(stamp: FrameStamp, message: &M, payload: Vec<Bytes>) -> Self {
        let mut out = bytes::BytesMut::with_capacity(HEADER_BYTES + 96);
        out.resize(HEADER_BYTES, 0);
        message.encode(&mut out, stamp.version);
        let header = Header {
            kind: stamp.kind,
            flags: stamp.flags,
            api: stamp.api,
            correlation: stamp.correlation,
            timeout_ms: 0,
            body_bytes: (out.len() - HEADER_BYTES) as u32,
            payload_bytes: payload.iter().map(Bytes::len).sum::<usize>() as u32,
        };
        let encoded = header.encode(&[&out[HEADER_BYTES..]]);
        out[..HEADER_BYTES].copy_from_slice(&encoded);
        Self { head: out.freeze(), payload, lent: None }
    }

    /// Bytes on the wire.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.head.len() + self.payload.iter().map(Bytes::len).sum::<usize>()
    }
}

/// What a frame's header says besides its lengths.
#[derive(Clone, Copy, Debug)]
pub struct FrameStamp {
    /// Response or push.
    pub kind: FrameKind,
    /// FAULT or nothing.
    pub flags: Flags,
    /// The API.
    pub api: u16,
    /// The request answered, or the stream.
    pub correlation: CorrelationId,
    /// The version that the connection speaks.
    pub version: ProtocolVersion,
}

/// The queue. Producers of frames look at [`Outbox::queued_bytes`] or wait for [`Outbox::room`] before they add large ones,
/// and the connection stops reading requests while much is queued: that is what bounds it.
#[derive(Debug, Default)]
pub struct Outbox {
    frames: Mutex<VecDeque<OutFrame>>,
    queued_bytes: AtomicUsize,
    filled: Notify,
    drained: Notify,
}

impl Outbox {
    /// Streams wait while more than this is queued, in bytes: enough to keep a socket busy over one wake-up.
    pub const STREAM_ROOM_BYTES: usize = 2 << 20;
    /// Requests are not read while more than this is queued, in bytes.
    pub const READ_ROOM_BYTES: usize = 16 << 20;

    /// Adds a frame and wakes the connection.
    pub fn push(&self, frame: OutFrame) {
        self.queued_bytes.fetch_add(frame.bytes(), Ordering::Relaxed);
        self.frames.lock().push_back(frame);
        self.filled.notify_one();
    }

    /// Moves up to `limit` waiting frames to the end of `into`.
    pub fn take(&self, into: &mut VecDeque<OutFrame>, limit: usize) {
        let mut frames = self.frames.lock();
        let count = frames.len().min(limit);
        into.extend(frames.drain(..count));
    }

    /// Tells how many bytes reached the socket (or were dropped with it).
    pub fn written(&self, bytes: usize) {
        let before = self.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
        if before > Self::STREAM_ROOM_BYTES && before - bytes <= Self::STREAM_ROOM_BYTES {
            self.drained.notify_waiters();
        }
    }

    /// Bytes queued and not yet on the socket.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes.load(Ordering::Relaxed)
    }

    /// Waits until a frame was added, or [`Outbox::poke`] was called, since the last wait.
    pub async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Wakes the connection without a frame, as when an unanswered request is done.
    pub fn poke(&self) {
        self.filled.notify_one();
    }

    /// Waits until no more than [`Outbox::STREAM_ROOM_BYTES`] are queued.
    pub async fn room(&self) {
        loop {
            let drained = self.drained.notified();
            tokio::pin!(drained);
            // Registered before the look, so that a drain in between is not missed.
            drained.as_mut().enable();
            if self.queued_bytes() <= Self::STREAM_ROOM_BYTES {
                return;
            }
            drained.await;
        }
    }
}
