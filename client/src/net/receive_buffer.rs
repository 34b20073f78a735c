//! The memory that frames are received into: large pieces, of which payloads are handed out as slices, used again once the last
//! slice is gone. Knows nothing of frames but how many bytes the next one needs.

use std::collections::VecDeque;

use bytes::BytesMut;

/// A receive buffer of pieces.
pub(super) struct ReceiveBuffer {
    current: BytesMut,
    /// Pieces that were full; slices of them may still be held elsewhere. Oldest first.
    retired: VecDeque<BytesMut>,
    piece_bytes: usize,
}

impl ReceiveBuffer {
    /// Pieces kept for another use; beyond them a piece goes back to the allocator with its last slice.
    const RETIRED_MAX: usize = 16;
    /// Below this much room a read would be too small to pay for its system call.
    const READ_BYTES_MIN: usize = 16 << 10;

    pub(super) fn new(piece_bytes: usize) -> Self {
        Self { current: BytesMut::new(), retired: VecDeque::new(), piece_bytes }
    }

    /// What was received and not taken yet; frames are split off its front.
    pub(super) const fn received(&mut self) -> &mut BytesMut {
        &mut self.current
    }

    /// Makes room so that the frame at the front can grow to `frame_bytes` in one piece, and a read is worth its while.
    pub(super) fn make_room(&mut self, frame_bytes: usize) {
        let have = self.current.len();
        let needed = frame_bytes.max(have + Self::READ_BYTES_MIN);
        if self.current.capacity() >= needed {
            return;
        }
        let mut next = self.reusable(needed.max(self.piece_bytes));
        next.extend_from_slice(&self.current);
        let mut full = std::mem::replace(&mut self.current, next);
        // Pieces larger than usual were for one giant frame.
        full.clear();
        if self.retired.len() < Self::RETIRED_MAX {
            self.retired.push_back(full);
        }
    }

    fn reusable(&mut self, bytes: usize) -> BytesMut {
        if bytes == self.piece_bytes {
            for _ in 0..self.retired.len() {
                let Some(mut piece) = self.retired.pop_front() else { break };
                if piece.try_reclaim(bytes) {
                    return piece;
                }
                self.retired.push_back(piece);
            }
            if self.retired.len() == Self::RETIRED_MAX {
                // All of them are held for long: let the oldest go.
                self.retired.pop_front();
            }
        }
        BytesMut::with_capacity(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 64 << 10;

    fn fill(buffer: &mut ReceiveBuffer, bytes: usize) {
        buffer.make_room(bytes);
        buffer.received().extend_from_slice(&vec![7; bytes]);
    }

    #[test]
    fn a_piece_is_used_again_once_nobody_holds_a_slice_of_it() {
        let mut buffer = ReceiveBuffer::new(PIECE);
        fill(&mut buffer, PIECE);
        let first = buffer.received().split_to(PIECE).freeze();
        let address = first.as_ptr();
        fill(&mut buffer, PIECE);
        let second = buffer.received().split_to(PIECE).freeze();
        assert_ne!(second.as_ptr(), address, "the first piece is still held");
        drop((first, second));
        fill(&mut buffer, PIECE);
        assert_eq!(buffer.received().as_ptr(), address);
    }

    #[test]
    fn what_was_received_of_a_frame_moves_with_it() {
        let mut buffer = ReceiveBuffer::new(PIECE);
        fill(&mut buffer, PIECE - 3);
        let held = buffer.received().split_to(PIECE - 13).freeze();
        buffer.make_room(2 * PIECE);
        assert_eq!(buffer.received()[..], [7; 10]);
        assert!(buffer.received().capacity() >= 2 * PIECE);
        assert!(held.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn pieces_that_are_never_given_back_are_not_kept_count_of_for_ever() {
        let mut buffer = ReceiveBuffer::new(PIECE);
        let mut held = Vec::new();
        for _ in 0..50 {
            fill(&mut buffer, PIECE);
            held.push(buffer.received().split_to(PIECE).freeze());
        }
        assert!(buffer.retired.len() <= ReceiveBuffer::RETIRED_MAX);
    }
}
