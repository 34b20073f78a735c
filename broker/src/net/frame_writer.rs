//! Frames on their way into one socket, as vectored writes. Knows nothing of what they mean.

use std::collections::VecDeque;
use std::io::{self, IoSlice};

use tokio::net::TcpStream;

use crate::outbox::{OutFrame, Outbox};

/// Slices in one write; Linux takes 1,024 at most, and fewer already fill a socket.
const SLICES_MAX: usize = 128;
/// Frames taken over from the outbox at once.
const FRAMES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct FrameWriter {
    frames: VecDeque<OutFrame>,
    /// Bytes of the first frame that are on the socket already.
    sent: usize,
}

impl FrameWriter {
    /// Writes as much as the socket takes; true where everything is out.
    pub(super) fn flush(&mut self, socket: &TcpStream, outbox: &Outbox) -> io::Result<(usize, bool)> {
        let mut total = 0;
        loop {
            if self.frames.len() < FRAMES_MAX {
                outbox.take(&mut self.frames, FRAMES_MAX);
            }
            if self.frames.is_empty() {
                return Ok((total, true));
            }
            match socket.try_write_vectored(&self.slices()) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => {
                    total += count;
                    self.advance(count);
                    outbox.written(count);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((total, false)),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn slices(&self) -> Vec<IoSlice<'_>> {
        let mut slices = Vec::with_capacity(SLICES_MAX.min(self.frames.len() * 2));
        let mut skip = self.sent;
        for frame in &self.frames {
            for part in std::iter::once(&frame.head).chain(&frame.payload) {
                let from = skip.min(part.len());
                skip -= from;
                if from < part.len() {
                    slices.push(IoSlice::new(&part[from..]));
                }
                if slices.len() == SLICES_MAX {
                    return slices;
                }
            }
        }
        slices
    }

    fn advance(&mut self, count: usize) {
        self.sent += count;
        while let Some(first) = self.frames.front()
            && self.sent >= first.bytes()
        {
            self.sent -= first.bytes();
            self.frames.pop_front();
        }
    }
}
