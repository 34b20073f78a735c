//! Frames in and out of a socket to another broker. Knows nothing of what they mean.

use bytes::{Bytes, BytesMut};
use tidelog_protocol::frame::{FrameError, FrameLimits, HEADER_BYTES, Header, verify};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The largest frame between brokers: the largest entry of the metadata log, and room around it.
pub(super) const LIMITS: FrameLimits = FrameLimits { frame_bytes: 64 << 20, body_bytes: 16 << 20 };

/// Why there are no more frames.
#[derive(Debug, thiserror::Error)]
pub(super) enum BrokenOff {
    #[error("{0}")]
    Socket(#[from] std::io::Error),
    #[error("{0}")]
    Frame(#[from] FrameError),
}

/// A whole frame.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) header: Header,
    pub(super) body: Bytes,
    pub(super) payload: Bytes,
}

/// Reads one frame.
pub(super) async fn read(socket: &mut (impl AsyncRead + Unpin)) -> Result<Frame, BrokenOff> {
    let mut head = [0; HEADER_BYTES];
    socket.read_exact(&mut head).await?;
    let header = Header::decode(&head, LIMITS)?;
    let bytes = header.frame_bytes() as usize - HEADER_BYTES;
    // A stated length alone takes no memory: it grows with what arrives.
    let mut rest = BytesMut::with_capacity(bytes.min(64 << 10));
    while rest.len() < bytes {
        let missing = (bytes - rest.len()) as u64;
        if (&mut *socket).take(missing).read_buf(&mut rest).await? == 0 {
            return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into());
        }
    }
    let mut body = rest.freeze();
    let payload = body.split_off(header.body_bytes as usize);
    verify(&head, &body)?;
    Ok(Frame { header, body, payload })
}

/// Writes one frame; `header` has everything but the lengths.
pub(super) async fn write(
    socket: &mut (impl AsyncWrite + Unpin),
    header: Header,
    body: &[u8],
    payload: &[Bytes],
) -> std::io::Result<()> {
    let payload_bytes = payload.iter().map(Bytes::len).sum::<usize>() as u32;
    let header = Header { body_bytes: body.len() as u32, payload_bytes, ..header };
    let mut head = BytesMut::with_capacity(HEADER_BYTES + body.len());
    head.extend_from_slice(&header.encode(&[body]));
    head.extend_from_slice(body);
    socket.write_all(&head).await?;
    for part in payload {
        socket.write_all(part).await?;
    }
    Ok(())
}
