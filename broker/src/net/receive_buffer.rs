//! Bytes that arrive on one connection, until they are whole frames. Memory grows with what has really arrived, and what exceeds
//! a small start is lent by the budget, to the frame until it is handed over. Knows nothing of sockets.

use bytes::buf::Limit;
use bytes::{BufMut, BytesMut};
use tidelog_protocol::frame::FrameLimits;

use super::ended::Ended;
use super::framing::{self, Framing};
use super::in_frame::{Content, InFrame};
use crate::budget::{Arriving, Claim, Completion, Growth, Lent, Share};
use crate::gait::Gait;
use crate::turns::Source;

/// What a quiet connection holds, in bytes.
const START_BYTES: usize = 8 << 10;
/// What a busy connection reads at once, in bytes.
const BUSY_BYTES: usize = 256 << 10;

/// What the buffer needs before more can be read into it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// There is room.
    Ready,
    /// So many bytes must be lent first.
    Lend(usize),
}

#[derive(Debug)]
pub(super) struct ReceiveBuffer {
    bytes: BytesMut,
    framing: Framing,
    limits: FrameLimits,
    /// For the busy size; kept until the connection falls quiet.
    busy: Option<Lent>,
    /// For the frame that is arriving, and goes with it.
    growth: Vec<Lent>,
    /// The leave to complete the frame, which then needs no `growth`.
    completion: Option<Completion>,
    /// Of the frame among those that ask for memory, once it has.
    claim: Option<Claim>,
    frame_bytes: Option<usize>,
}

impl ReceiveBuffer {
    pub(super) fn new(limits: FrameLimits) -> Self {
        Self {
            bytes: BytesMut::new(),
            framing: Framing::Native,
            limits,
            busy: None,
            growth: Vec::new(),
            completion: None,
            claim: None,
            frame_bytes: None,
        }
    }

    /// Of which this much was read already.
    pub(super) fn begun(limits: FrameLimits, read: &[u8]) -> Self {
        Self { bytes: BytesMut::from(read), ..Self::new(limits) }
    }

    /// For a client that speaks Kafka's protocol, of which this much was read already.
    pub(super) fn of_kafka(limits: FrameLimits, read: &[u8]) -> Self {
        Self { framing: Framing::Kafka, ..Self::begun(limits, read) }
    }

    pub(super) fn set_limits(&mut self, limits: FrameLimits) {
        self.limits = limits;
    }

    /// The next whole frame.
    pub(super) fn next_frame(&mut self) -> Result<Option<InFrame>, Ended> {
        let Some(total) = self.framing.frame_bytes(&self.bytes, self.limits)? else { return Ok(None) };
        if self.bytes.len() < total {
            self.frame_bytes = Some(total);
            return Ok(None);
        }
        self.frame_bytes = None;
        let was_here = self.claim.take().is_some_and(|claim| claim.is_here());
        let growth = std::mem::take(&mut self.growth);
        let mut completion = self.completion.take();
        if let Some(completion) = &mut completion {
            completion.note_whole();
        }
        let frame = self.bytes.split_to(total).freeze();
        if total > BUSY_BYTES {
            // What is left shares the frame's memory, and would take back all of it once the frame is dropped: memory that nobody lent any more.
            self.bytes = BytesMut::from(&self.bytes[..]);
        }
        let content = match self.framing {
            Framing::Native => Content::native(frame, self.limits)?,
            Framing::Kafka => Content::Kafka(frame.slice(framing::KAFKA_LENGTH_BYTES..)),
        };
        Ok(Some(InFrame { content, _growth: growth, completion, was_here, worth: None }))
    }

    /// True while a frame has begun and is not whole.
    pub(super) fn is_within_frame(&self) -> bool {
        !self.bytes.is_empty()
    }

    /// How much is here of a frame that has begun and is not whole.
    pub(super) fn bytes_within_frame(&self) -> usize {
        self.bytes.len()
    }

    /// Makes room to read into, as far as that needs no memory of the budget.
    pub(super) fn make_room(&mut self, arriving: &Arriving) -> Room {
        let spare = self.bytes.capacity() - self.bytes.len();
        let missing = self.missing();
        let base = if self.busy.is_some() { BUSY_BYTES } else { START_BYTES };
        // Within a frame, room for its rest is enough; otherwise a read should bring more than a header.
        let enough = if missing > 0 { missing.min(base) } else { 512 };
        if spare >= enough {
            return Room::Ready;
        }
        if self.bytes.len() + missing <= base {
            self.bytes.reserve(base - self.bytes.len());
            return Room::Ready;
        }
        if self.busy.is_none()
            && let Some(lent) = arriving.busy.try_lend(BUSY_BYTES)
        {
            self.busy = Some(lent);
            return self.make_room(arriving);
        }
        let more = if arriving.is_small(self.frame_bytes.unwrap_or_default()) {
            // All at once: whoever waits holds nothing that others wait for.
            missing
        } else {
            // Never more than twice what the peer has really sent, so that a stated length alone costs nothing.
            missing.min((2 * self.bytes.len()).max(base))
        };
        if self.completes() {
            self.bytes.reserve(more);
            return Room::Ready;
        }
        Room::Lend(more)
    }

    /// Grows by memory that was lent.
    pub(super) fn grow(&mut self, growth: Growth, bytes: usize) {
        match growth {
            Growth::Part(lent) => self.growth.push(lent),
            Growth::Whole(completion) => {
                // The others get what this one held: it is counted against the share that one frame has for itself.
                self.growth.clear();
                self.completion = Some(completion);
            }
        }
        self.bytes.reserve(bytes);
    }

    /// As much of its share as the frame that has begun asks for. How it comes counts the first time, and where it is better than before; at how
    /// many bytes a second, each time.
    pub(super) fn lend(
        &mut self,
        arriving: &Arriving,
        bytes: usize,
        (gait, rate): (Gait, Option<u64>),
        source: Source,
    ) -> impl Future<Output = Option<Growth>> + Send + 'static {
        let (share, frame_bytes) = (self.share(arriving), self.frame_bytes());
        let claim = match self.claim {
            Some(claim) if !claim.is_less_than(gait) => claim,
            _ => share.claim(frame_bytes, gait, source),
        };
        let lent = share.lend(bytes, claim, rate);
        self.claim = Some(claim);
        lent
    }

    /// True where the frame that has begun asked for memory with less of a claim than one that comes like this has.
    pub(super) fn asked_as_less_than(&self, gait: Gait) -> bool {
        self.claim.is_some_and(|claim| claim.is_less_than(gait))
    }

    /// All bytes of the frame that has begun, as far as its length is known.
    pub(super) fn frame_bytes(&self) -> usize {
        self.frame_bytes.unwrap_or_default()
    }

    /// What the frame that has begun still needs, in bytes, as far as its length is known.
    pub(super) fn missing(&self) -> usize {
        self.frame_bytes.map_or(0, |total| total.saturating_sub(self.bytes.len()))
    }

    /// Where to read into: of a frame that was lent memory no more than what is its own.
    pub(super) fn space(&mut self) -> Limit<&mut BytesMut> {
        let spare = self.bytes.capacity() - self.bytes.len();
        let limit = if self.frame_bytes() > BUSY_BYTES { self.missing().min(spare) } else { spare };
        (&mut self.bytes).limit(limit)
    }

    /// After a read: a buffer that was filled to the brim belongs to a busy connection.
    pub(super) fn note_read(&mut self, arriving: &Arriving) {
        if self.busy.is_none() && self.bytes.len() == self.bytes.capacity() {
            self.busy = arriving.busy.try_lend(BUSY_BYTES);
        }
    }

    /// True while a frame that is not whole holds part of its share.
    pub(super) fn holds_lent(&self) -> bool {
        !self.growth.is_empty() || self.completes()
    }

    /// True where the frame that has begun may be completed.
    pub(super) fn completes(&self) -> bool {
        self.completion.is_some()
    }

    /// The leave to complete it.
    pub(super) fn completion(&self) -> Option<&Completion> {
        self.completion.as_ref()
    }

    /// The share from which the frame that has begun grows.
    pub(super) fn share<'a>(&self, arriving: &'a Arriving) -> &'a Share {
        arriving.share_of(self.frame_bytes.unwrap_or_default())
    }

    /// Gives back what a quiet connection does not need.
    pub(super) fn shrink(&mut self) {
        if self.bytes.is_empty() {
            self.bytes = BytesMut::new();
            self.busy = None;
        }
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::budget::Budget;
    use tidelog_protocol::CorrelationId;
    use tidelog_protocol::frame::{Flags, FrameKind, Header};

    fn lent_bytes(arriving: &Arriving) -> u64 {
        arriving.busy.lent_bytes() + arriving.small.parts().lent_bytes() + arriving.large.parts().lent_bytes()
    }

    fn frame(body: &[u8], payload: usize) -> Vec<u8> {
        let header = Header {
            kind: FrameKind::Request,
            flags: Flags::default(),
            api: 1,
            correlation: CorrelationId(1),
            timeout_ms: 0,
            body_bytes: body.len() as u32,
            payload_bytes: payload as u32,
        };
        let mut bytes = header.encode(&[body]).to_vec();
        bytes.extend_from_slice(body);
        bytes.resize(bytes.len() + payload, 7);
        bytes
    }

    /// Feeds `bytes` in pieces of `step`, as a socket would.
    fn feed(buffer: &mut ReceiveBuffer, arriving: &Arriving, mut bytes: &[u8], step: usize) -> Vec<InFrame> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            if let Room::Lend(count) = buffer.make_room(arriving) {
                let lent = buffer.share(arriving).try_lend(count).unwrap();
                buffer.grow(Growth::Part(lent), count);
                assert_eq!(buffer.make_room(arriving), Room::Ready, "what was lent is enough");
            }
            let mut space = buffer.space();
            let count = step.min(bytes.len()).min(space.remaining_mut());
            assert!(count > 0);
            space.put_slice(&bytes[..count]);
            bytes = &bytes[count..];
            buffer.note_read(arriving);
            while let Some(frame) = buffer.next_frame().unwrap() {
                frames.push(frame);
            }
        }
        frames
    }

    #[test]
    fn frames_come_out_whole_however_the_bytes_arrive() {
        let mut bytes = frame(b"one", 0);
        bytes.extend(frame(b"two", 3_000_000));
        bytes.extend(frame(b"three", 5));
        for step in [1 << 20, 70_001, 1_000] {
            let pool = Budget::new(64 << 20).arriving;
            let mut buffer = ReceiveBuffer::new(FrameLimits::DEFAULT);
            let frames = feed(&mut buffer, &pool, &bytes, step);
            let shape: Vec<_> = (frames.iter())
                .map(|frame| match &frame.content {
                    Content::Native { body, payload, .. } => (body.to_vec(), payload.len()),
                    Content::Kafka(_) => panic!("nobody speaks Kafka's protocol here"),
                })
                .collect();
            assert_eq!(shape, [(b"one".to_vec(), 0), (b"two".to_vec(), 3_000_000), (b"three".to_vec(), 5)]);
            buffer.shrink();
            assert!(lent_bytes(&pool) > 2_000_000, "a frame keeps what it was lent");
            drop(frames);
            assert_eq!(lent_bytes(&pool), 0);
        }
    }

    #[test]
    fn frames_just_over_the_busy_size_borrow_no_more_than_they_need() {
        let frame = frame(b"0123456789012345678901234567890123456789", 262_130);
        let bytes: Vec<u8> = (0..40).flat_map(|_| frame.clone()).collect();
        for step in [1 << 20, 65_483, 130_000, 262_144, 261_932, 250] {
            let pool = Budget::new(128 << 20).arriving;
            let mut buffer = ReceiveBuffer::new(FrameLimits::DEFAULT);
            assert_eq!(feed(&mut buffer, &pool, &bytes, step).len(), 40, "step {step}");
            assert!(lent_bytes(&pool) <= 2 * BUSY_BYTES as u64);
        }
    }

    #[tokio::test]
    async fn a_frame_that_may_be_completed_gives_its_parts_back_and_asks_for_no_more() {
        let pool = Budget::new(64 << 20).arriving;
        let mut buffer = ReceiveBuffer::new(FrameLimits::DEFAULT);
        let bytes = frame(b"", 3_000_000);
        feed(&mut buffer, &pool, &bytes[..1_000_000], 70_001);
        assert!(lent_bytes(&pool) > BUSY_BYTES as u64);
        let taken: Vec<_> = std::iter::from_fn(|| pool.large.try_lend(1 << 10)).collect();
        let leave =
            pool.large.lend(1 << 10, pool.large.claim(3_000_000, Gait::Slow, Source::default()), None).await.unwrap();
        assert!(matches!(leave, Growth::Whole(_)));
        buffer.grow(leave, 1);
        drop(taken);
        assert_eq!(lent_bytes(&pool), BUSY_BYTES as u64);
        let none_left: Vec<_> = std::iter::from_fn(|| pool.large.try_lend(1 << 10)).collect();
        let frames = feed(&mut buffer, &pool, &bytes[1_000_000..], 70_001);
        assert_eq!(frames.len(), 1);
        drop(none_left);
    }

    #[tokio::test]
    async fn that_a_frame_was_let_go_first_since_all_of_it_was_here_does_not_show_that_it_came_quickly() {
        let bytes = frame(b"", 3_000_000);
        for (gait, was_quick) in [(Gait::Quick, true), (Gait::Here, false)] {
            let pool = Budget::new(256 << 20).arriving;
            let mut buffer = ReceiveBuffer::new(FrameLimits::DEFAULT);
            feed(&mut buffer, &pool, &bytes[..1_000_000], 70_001);
            let _none_left: Vec<_> = std::iter::from_fn(|| pool.large.try_lend(1 << 10)).collect();
            let leave = buffer.lend(&pool, 1 << 10, (gait, None), Source::default()).await.unwrap();
            buffer.grow(leave, 1 << 10);
            let whole = feed(&mut buffer, &pool, &bytes[1_000_000..], 70_001);
            let completed = whole[0].completed().map(|frame| (frame.bytes, frame.was_quick));
            assert_eq!(completed, Some((bytes.len(), was_quick)), "{gait:?}");
        }
    }

    type Asking = Pin<Box<dyn Future<Output = Option<Growth>>>>;

    fn leave(asking: &mut Asking) -> Option<Growth> {
        match asking.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(growth) => growth,
            Poll::Pending => None,
        }
    }

    #[test]
    fn frames_are_completed_in_the_order_in_which_each_asked_for_the_first_time() {
        let pool = Budget::new(512 << 20).arriving;
        let bytes = frame(b"", 3_000_000);
        let none_left = || std::iter::from_fn(|| pool.large.try_lend(1 << 10)).collect::<Vec<_>>();
        let half = || {
            let mut buffer = ReceiveBuffer::new(FrameLimits::DEFAULT);
            feed(&mut buffer, &pool, &bytes[..1_000_000], 70_001);
            buffer
        };
        let mut buffers = [half(), half(), half(), half()];
        let _before = none_left();
        // There is room for one of them beside it.
        let mut large = Box::pin(pool.large.lend(
            1 << 10,
            pool.large.claim((128 << 20) - 4_000_000, Gait::Slow, Source::default()),
            None,
        )) as Asking;
        let _large = leave(&mut large).unwrap();
        let mut asking = buffers
            .each_mut()
            .map(|buffer| Box::pin(buffer.lend(&pool, 1 << 10, (Gait::Slow, None), Source::default())) as Asking);
        let growth = leave(&mut asking[0]).unwrap();
        assert!(matches!(growth, Growth::Whole(_)));
        buffers[0].grow(growth, 1);
        let _of_the_first = none_left();
        // To ask again is not to ask later.
        asking[1] = Box::pin(std::future::pending());
        asking[1] = Box::pin(buffers[1].lend(&pool, 1 << 10, (Gait::Slow, None), Source::default()));
        assert!(asking[1..].iter_mut().all(|asking| leave(asking).is_none()));
        // Nor does a frame that became whole make those who came last the next.
        drop(feed(&mut buffers[0], &pool, &bytes[1_000_000..], 70_001));
        assert!(leave(&mut asking[3]).is_none() && leave(&mut asking[2]).is_none());
        assert!(matches!(leave(&mut asking[1]), Some(Growth::Whole(_))));
    }

    #[test]
    fn a_small_frame_asks_once_and_holds_nothing_of_its_share_meanwhile() {
        let pool = Budget::new(64 << 20).arriving;
        let bytes = frame(b"", 900_000);
        let mut buffer = ReceiveBuffer::new(FrameLimits::DEFAULT);
        feed(&mut buffer, &pool, &bytes[..4_000], 4_000);
        let busy: Vec<_> = std::iter::from_fn(|| pool.busy.try_lend(1 << 10)).collect();
        buffer.space().put_slice(&bytes[4_000..8_192]);
        let Room::Lend(count) = buffer.make_room(&pool) else { panic!("there is no room left") };
        assert_eq!((count, buffer.holds_lent()), (bytes.len() - 8_192, false));
        let lent = buffer.share(&pool).try_lend(count).unwrap();
        buffer.grow(Growth::Part(lent), count);
        assert!(buffer.holds_lent());
        drop(busy);
        assert_eq!(feed(&mut buffer, &pool, &bytes[8_192..], 100_000).len(), 1);
        assert!(!buffer.holds_lent());
    }

    #[test]
    fn the_memory_of_a_frame_is_not_used_again_once_it_was_given_back() {
        let pool = Budget::new(1 << 30).arriving;
        let mut buffer = ReceiveBuffer::new(FrameLimits::DEFAULT);
        let bytes = frame(b"", 20 << 20);
        // Refused at once: nothing of it is left as the next one begins, and a little of that has come with it.
        let frames = feed(&mut buffer, &pool, &bytes, 70_001);
        assert_eq!(frames.len(), 1);
        drop(frames);
        assert_eq!(lent_bytes(&pool), BUSY_BYTES as u64);
        feed(&mut buffer, &pool, &bytes[..BUSY_BYTES], BUSY_BYTES);
        let held = buffer.bytes.capacity() as u64;
        assert!(held <= lent_bytes(&pool), "{held} bytes are held and {} lent", lent_bytes(&pool));
        assert!(matches!(buffer.make_room(&pool), Room::Lend(_)), "the next one asks for its own");
    }

    #[test]
    fn a_stated_length_alone_costs_no_memory() {
        let pool = Budget::new(64 << 20).arriving;
        let mut buffer = ReceiveBuffer::new(FrameLimits::DEFAULT);
        let bytes = frame(b"", 50 << 20);
        feed(&mut buffer, &pool, &bytes[..100], 100);
        let _ = buffer.make_room(&pool);
        assert!(buffer.bytes.capacity() <= BUSY_BYTES);
        assert!(lent_bytes(&pool) <= BUSY_BYTES as u64);
        // Nor does it later ask for more than came.
        let filled = buffer.bytes.capacity();
        feed(&mut buffer, &pool, &bytes[100..filled], 70_001);
        let Room::Lend(count) = buffer.make_room(&pool) else { panic!("there is no room left") };
        assert!(count <= BUSY_BYTES.max(2 * filled), "{count} after {filled}");
    }
}
