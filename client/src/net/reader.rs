//! Frames in: lengths are checked before memory is reserved, checksums before a body is believed. Knows which table a frame
//! belongs to, not what it means.

use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, Bytes};
use tidelog_protocol::api::Api;
use tidelog_protocol::frame::{Flags, FrameError, FrameKind, FrameLimits, HEADER_BYTES, Header, TRACE_BYTES, verify};
use tidelog_protocol::messages::{Fault, GoAwayPush, ProduceRequest, StreamItemPush};
use tidelog_protocol::{Message, WireError};

use super::connection::{Reply, Wire};
use super::receive_buffer::ReceiveBuffer;
use crate::ClientError;

/// One piece of the receive buffer. Several usual stream items fit, so that a read brings many frames at once and few are moved.
const PIECE_BYTES: usize = 1 << 20;

pub(super) async fn run(wire: Arc<Wire>) {
    let reason = tokio::select! {
        reason = receive(&wire) => reason,
        () = wire.ended.cancelled() => return,
    };
    wire.close(reason);
}

/// Reads until the connection ends, and says why it did.
async fn receive(wire: &Wire) -> ClientError {
    let mut buffer = ReceiveBuffer::new(PIECE_BYTES);
    // Bytes of the frame at the front, as far as known.
    let mut needed = HEADER_BYTES;
    loop {
        buffer.make_room(needed);
        match wire.stream.try_read_buf(buffer.received()) {
            Ok(0) => return wire.disconnected("the broker closed it"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if let Err(error) = wire.stream.readable().await {
                    return wire.disconnected(error.to_string());
                }
                continue;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return wire.disconnected(error.to_string()),
        }
        wire.heard_ms.store(wire.started.elapsed().as_millis() as u64, Ordering::Relaxed);
        match take_frames(wire, &mut buffer) {
            Ok(missing) => needed = missing,
            Err(error) => return error,
        }
    }
}

/// Hands out every whole frame; says how many bytes the one at the front needs.
fn take_frames(wire: &Wire, buffer: &mut ReceiveBuffer) -> Result<usize, ClientError> {
    let received = buffer.received();
    loop {
        let Some(bytes) = received.first_chunk::<HEADER_BYTES>() else { return Ok(HEADER_BYTES) };
        let broken = |error: FrameError| wire.disconnected(error.to_string());
        let header = Header::decode(bytes, FrameLimits::DEFAULT).map_err(broken)?;
        let total = header.frame_bytes() as usize;
        if received.len() < total {
            return Ok(total);
        }
        let body_end = HEADER_BYTES + header.body_bytes as usize;
        verify(bytes, &received[HEADER_BYTES..body_end]).map_err(broken)?;
        if header.payload_bytes == 0 {
            let body = without_trace(header.flags, &received[HEADER_BYTES..body_end]);
            dispatch(wire, &header, body, Bytes::new())?;
            received.advance(total);
        } else {
            let frame = received.split_to(total).freeze();
            let body = without_trace(header.flags, &frame[HEADER_BYTES..body_end]);
            dispatch(wire, &header, body, frame.slice(body_end..))?;
        }
    }
}

/// The body behind the trace context, where there is one (the header was checked to leave room for it).
pub(super) fn without_trace(flags: Flags, body: &[u8]) -> &[u8] {
    if flags.contains(Flags::TRACE) { &body[TRACE_BYTES..] } else { body }
}

fn dispatch(wire: &Wire, header: &Header, body: &[u8], payload: Bytes) -> Result<(), ClientError> {
    match header.kind {
        FrameKind::Response => {
            let reply = Reply { version: wire.version, flags: header.flags, body, address: &wire.address };
            let mut state = wire.state.lock();
            let pending = state.pending.remove(&header.correlation.0);
            // One whose caller has given up is nobody's.
            let refused = if pending.is_none() { state.refusals.get(&header.correlation.0).cloned() } else { None };
            drop(state);
            if let Some(pending) = pending {
                (pending.handler)(Ok(reply));
            } else if let Some(refused) = refused
                && let Err(error) = reply.decode::<ProduceRequest>()
            {
                refused(error);
            }
            Ok(())
        }
        FrameKind::Push => push(wire, header, body, payload),
        FrameKind::Request | FrameKind::Signal => {
            Err(wire.disconnected(format!("the broker sent a {:?}, which only clients do", header.kind)))
        }
    }
}

fn push(wire: &Wire, header: &Header, body: &[u8], payload: Bytes) -> Result<(), ClientError> {
    let malformed = |error| wire.disconnected(format!("a push does not parse: {error}"));
    match Api::from_u16(header.api) {
        Some(Api::StreamItem) if header.flags.contains(Flags::FAULT) => {
            let fault = Fault::from_body(body, wire.version).map_err(malformed)?;
            let handler = wire.state.lock().streams.remove(&header.correlation.0);
            if let Some(handler) = handler {
                handler.ended(WireError::from(fault).into());
            }
        }
        Some(Api::StreamItem) => {
            let item = StreamItemPush::from_body(body, wire.version).map_err(malformed)?;
            let handler = wire.state.lock().streams.get(&header.correlation.0).cloned();
            if let Some(handler) = handler {
                handler.item(item, payload);
            }
        }
        Some(Api::GoAway) => {
            let notice = GoAwayPush::from_body(body, wire.version).map_err(malformed)?;
            tracing::info!(address = %wire.address, reason = %notice.reason, closes_in_ms = notice.closes_in_ms, "broker drains");
            wire.draining.cancel();
        }
        // A newer broker may push what this client never asked for.
        _ => {}
    }
    Ok(())
}
