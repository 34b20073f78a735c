//! Frames out: everything queued leaves in one vectored write, the payloads uncopied. Knows nothing of what it writes.

use std::collections::VecDeque;
use std::io::{ErrorKind, IoSlice};
use std::sync::Arc;

use bytes::Buf;

use super::connection::{Outgoing, QUEUE_BYTES_MAX, Wire};

/// Frames in one write; two slices each.
const FRAMES_PER_WRITE: usize = 32;

pub(super) async fn run(wire: Arc<Wire>) {
    let mut frames = VecDeque::new();
    loop {
        {
            let mut state = wire.state.lock();
            std::mem::swap(&mut frames, &mut state.queue);
        }
        if frames.is_empty() {
            tokio::select! {
                () = wire.outgoing.notified() => continue,
                () = wire.ended.cancelled() => return,
            }
        }
        if let Err(error) = write_all(&wire, &mut frames).await {
            wire.close(wire.disconnected(error.to_string()));
            for frame in frames {
                if let Some(written) = frame.written {
                    written(Err(wire.disconnected("the connection ended before the frame was written")));
                }
            }
            return;
        }
    }
}

/// Writes all of `frames`, or leaves those that were not written.
async fn write_all(wire: &Wire, frames: &mut VecDeque<Outgoing>) -> std::io::Result<()> {
    while !frames.is_empty() {
        let mut slices = [IoSlice::new(&[]); FRAMES_PER_WRITE * 2];
        let mut count = 0;
        for frame in frames.iter().take(FRAMES_PER_WRITE) {
            for part in [&frame.head[..], &frame.payload[..]] {
                if !part.is_empty() {
                    slices[count] = IoSlice::new(part);
                    count += 1;
                }
            }
        }
        match wire.stream.try_write_vectored(&slices[..count]) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => advance(wire, frames, written),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                tokio::select! {
                    ready = wire.stream.writable() => ready?,
                    () = wire.ended.cancelled() => return Err(ErrorKind::ConnectionAborted.into()),
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Takes `written` bytes off the front.
fn advance(wire: &Wire, frames: &mut VecDeque<Outgoing>, mut written: usize) {
    let freed = written;
    let was_full = {
        let mut state = wire.state.lock();
        let before = state.queued_bytes;
        state.queued_bytes = before.saturating_sub(freed);
        before >= QUEUE_BYTES_MAX && state.queued_bytes < QUEUE_BYTES_MAX
    };
    if was_full {
        wire.drained.notify_waiters();
    }
    while let Some(frame) = frames.front_mut() {
        if written < frame.bytes() {
            let head = written.min(frame.head.len());
            frame.head.advance(head);
            frame.payload.advance(written - head);
            return;
        }
        written -= frame.bytes();
        if let Some(Outgoing { written: Some(handler), payload, .. }) = frames.pop_front() {
            // Its buffer may be used again by whoever hears of it.
            drop(payload);
            handler(Ok(()));
        }
    }
}
