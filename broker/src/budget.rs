//! The global memory budget: half of it for frames that are still arriving, most of the rest for requests under way, and a little each
//! for batches that are large once decompressed and for streams. Requests under way finish by themselves and wait for nothing of the
//! other half: those that bring batches have memory of their own, and one that waits for something to happen gives its memory back first.
//!
//! Small frames have a share of their own, so they never wait behind large ones; each takes all that it needs at once, so that none of them
//! waits with memory in its hands. Large frames hold what they have and wait for more; half of the half is kept for those that are next to be
//! completed, which wait for nobody but their clients. Beside them, frames of up to some megabytes that come quickly are completed in turn in
//! memory of their own, so that they wait for none that comes slowly. While anyone waits, a client that holds memory and falls silent or is
//! slow is given up (`net/pace.rs`), and however many there are of those, a frame whose client goes on waits for few of them (`turns/`). So
//! nothing is held for ever, nor for long. Knows nothing of connections.

use crate::gait::Gait;
pub use crate::pool::{Holder, Lent, Pool};
use crate::turns::{Rank, Ranks, Source, Turn, Turns};

/// The largest small frame, in bytes: a batch of the usual largest size, and what goes around it.
const SMALL_FRAME_BYTES: usize = (1 << 20) + (64 << 10);

/// What a frame that outgrows the memory it has may do.
#[derive(Debug)]
pub enum Growth {
    /// Grow by as much as it asked for.
    Part(Lent),
    /// Grow until it is whole. One frame at a time may; what it was lent in parts it does not need any more.
    Whole(Completion),
}

/// The leave to complete one frame, for as long as it is kept.
#[derive(Debug)]
pub struct Completion {
    turn: Turn,
    is_quick: bool,
}

impl Completion {
    /// The frame is whole. Where a leave ends without, others are let go first for a while (`turns/`).
    pub fn note_whole(&mut self) {
        self.turn.note_used();
    }

    /// True for one of those that only frames get that come quickly.
    #[must_use]
    pub const fn is_quick(&self) -> bool {
        self.is_quick
    }
}

/// What the place of a frame among those that wait rests on, from when it first asks for memory.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    rank: Rank,
    frame_bytes: usize,
    is_quick: bool,
    fits_quick: bool,
    is_here: bool,
}

impl Claim {
    /// True where all of the frame was here as it asked: that it is read at once tells nothing of how it came.
    #[must_use]
    pub const fn is_here(&self) -> bool {
        self.is_here
    }

    /// True where a frame that comes like this has a better claim.
    #[must_use]
    pub const fn is_less_than(&self, gait: Gait) -> bool {
        match gait {
            Gait::Slow => false,
            Gait::Quick => self.fits_quick && !self.is_quick,
            Gait::Proved => !self.rank.is_proved() && !self.is_quick,
            Gait::ProvedQuick | Gait::Here => !self.rank.is_proved() || self.fits_quick && !self.is_quick,
        }
    }
}

/// The memory in which frames that come quickly are completed.
#[derive(Clone, Debug)]
struct Quick {
    turns: Turns,
    /// The largest frame for which there is room.
    frame_bytes: usize,
}

impl Quick {
    /// Of so many bytes, for frames of up to so many.
    fn new(bytes: u64, frame_bytes: usize) -> Self {
        Self { turns: Turns::of(bytes as usize), frame_bytes }
    }
}

/// What frames of one class share while they arrive.
#[derive(Clone, Debug)]
pub struct Share {
    parts: Pool,
    /// At memory in which frames are completed: each of them at all that it needs.
    completions: Turns,
    quick: Quick,
    ranks: Ranks,
}

impl Share {
    fn new(parts_bytes: u64, completion_bytes: usize, quick: Quick) -> Self {
        let (parts, completions) = (Pool::new(parts_bytes), Turns::of(completion_bytes));
        Self { parts, completions, quick, ranks: Ranks::default() }
    }

    /// Memory at once, or none.
    #[must_use]
    pub fn try_lend(&self, bytes: usize) -> Option<Lent> {
        self.parts.try_lend(bytes)
    }

    /// How many times all the memory in which frames that come quickly are completed those take that wait for it.
    #[must_use]
    pub fn quick_rounds_waiting(&self) -> usize {
        self.quick.turns.rounds_waiting()
    }

    /// The same of the memory in which any frames are completed.
    #[must_use]
    pub fn rounds_waiting(&self) -> usize {
        self.completions.rounds_waiting()
    }

    /// The claim of a frame of this size, from there, that begins to ask for memory.
    #[must_use]
    pub fn claim(&self, frame_bytes: usize, gait: Gait, source: Source) -> Claim {
        let fits_quick = frame_bytes <= self.quick.frame_bytes;
        let rank = self.ranks.next(gait.is_proved()).from(source);
        let is_here = gait == Gait::Here;
        Claim { rank, frame_bytes, is_quick: fits_quick && gait.is_quick(), fits_quick, is_here }
    }

    /// Memory as soon as there is some, or the leave to complete a frame, by its claim. Its client sends so many bytes a second, as far
    /// as is known.
    pub fn lend(
        &self,
        bytes: usize,
        claim: Claim,
        rate: Option<u64>,
    ) -> impl Future<Output = Option<Growth>> + Send + 'static {
        let part = self.parts.lend_to(bytes, claim.rank.source(), rate);
        let whole = self.completions.take(claim.rank, claim.frame_bytes);
        let quick = claim.is_quick.then(|| self.quick.turns.take(claim.rank, claim.frame_bytes));
        async move {
            let quick = async {
                match quick {
                    Some(quick) => quick.await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                lent = part => lent.map(Growth::Part),
                turn = quick => Some(Growth::Whole(Completion { turn, is_quick: true })),
                turn = whole => Some(Growth::Whole(Completion { turn, is_quick: false })),
            }
        }
    }

    /// The memory that is lent in parts.
    #[must_use]
    pub fn parts(&self) -> &Pool {
        &self.parts
    }
}

/// The half for frames that are still arriving.
#[derive(Clone, Debug)]
pub struct Arriving {
    /// For what busy connections read at once; nobody waits for it.
    pub busy: Pool,
    /// For small frames, each of which takes all that it needs at once.
    pub small: Share,
    /// For large ones, which grow.
    pub large: Share,
    small_frame_bytes: usize,
}

impl Arriving {
    /// Of 17 times so many bytes, of which the large frames that are next to be completed have eight.
    fn new(unit_bytes: u64) -> Self {
        // A share too small for a few usual batches still has room for a few smaller frames.
        let small_frame_bytes = SMALL_FRAME_BYTES.min(unit_bytes as usize);
        let small = Share::new(3 * unit_bytes, small_frame_bytes, Quick::new(unit_bytes, small_frame_bytes));
        let large = Share::new(2 * unit_bytes, 8 * unit_bytes as usize, Quick::new(unit_bytes, unit_bytes as usize));
        Self { busy: Pool::new(2 * unit_bytes), small, large, small_frame_bytes }
    }

    /// True for a frame of this size where it is small.
    #[must_use]
    pub const fn is_small(&self, frame_bytes: usize) -> bool {
        frame_bytes <= self.small_frame_bytes
    }

    /// The share of a frame of this size.
    #[must_use]
    pub const fn share_of(&self, frame_bytes: usize) -> &Share {
        if self.is_small(frame_bytes) { &self.small } else { &self.large }
    }
}

/// The budget of a broker.
#[derive(Clone, Debug)]
pub struct Budget {
    /// For frames that are still arriving.
    pub arriving: Arriving,
    /// For requests under way that bring batches.
    pub batches: Pool,
    /// For all others under way, so that none of them keeps a batch waiting.
    pub requests: Pool,
    /// For what batches decompress to where that is much. One that takes more than there is has it alone.
    pub decompression: Pool,
    /// Likewise where it is more than has room there.
    pub large_decompression: Pool,
    /// For streams of clients.
    pub streams: Pool,
}

impl Budget {
    /// Splits `bytes` into its parts.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let unit = bytes / 32;
        Self {
            arriving: Arriving::new(unit),
            batches: Pool::new(8 * unit),
            requests: Pool::new(unit),
            decompression: Pool::new(unit),
            large_decompression: Pool::new(unit),
            streams: Pool::new(4 * unit),
        }
    }

    /// Each part of it, under the name that metrics give it.
    #[must_use]
    pub fn pools(&self) -> [(&'static str, &Pool); 8] {
        let Arriving { busy, small, large, .. } = &self.arriving;
        [
            ("batches", &self.batches),
            ("requests", &self.requests),
            ("busy", busy),
            ("small_frames", small.parts()),
            ("large_frames", large.parts()),
            ("decompression", &self.decompression),
            ("large_decompression", &self.large_decompression),
            ("streams", &self.streams),
        ]
    }
}

#[cfg(test)]
#[allow(clippy::panic, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn of_frames_that_all_wait_for_more_one_may_always_be_completed() {
        let arriving = Budget::new(1 << 20).arriving.large;
        let held: Vec<_> = std::iter::from_fn(|| arriving.try_lend(16 << 10)).collect();
        assert_eq!(held.len() as u64 * (16 << 10), arriving.parts().lent_bytes());
        let slow = || arriving.claim(1 << 20, Gait::Slow, Source::default());
        let Some(Growth::Whole(first)) = arriving.lend(16 << 10, slow(), None).await else {
            panic!("there are no parts left")
        };
        let second = arriving.lend(16 << 10, slow(), None);
        assert_eq!(arriving.parts().waiting(), 1);
        drop(first);
        assert!(matches!(second.await, Some(Growth::Whole(_))));
        assert_eq!(arriving.parts().waiting(), 0);
        drop(held);
        assert!(matches!(arriving.lend(16 << 10, slow(), None).await, Some(Growth::Part(_))));
    }

    #[tokio::test]
    async fn frames_that_come_quickly_are_completed_in_turn_whatever_slow_ones_hold() {
        let budget = Budget::new(256 << 20).arriving;
        for (share, frame_bytes, quick_ones, slow_ones) in
            [(&budget.small, 1 << 20, 8, 1), (&budget.large, 8 << 20, 1, 8)]
        {
            let _held: Vec<_> = std::iter::from_fn(|| share.try_lend(1 << 20)).collect();
            let lend = |gait| share.lend(1 << 20, share.claim(frame_bytes, gait, Source::default()), None);
            let mut slow = Vec::new();
            for _ in 0..slow_ones {
                let leave = lend(Gait::Slow).await.unwrap();
                assert!(matches!(&leave, Growth::Whole(leave) if !leave.is_quick()));
                slow.push(leave);
            }
            let mut waits = Box::pin(lend(Gait::Slow));
            let mut quick = Vec::new();
            for _ in 0..quick_ones {
                let leave = lend(Gait::Quick).await.unwrap();
                assert!(matches!(&leave, Growth::Whole(leave) if leave.is_quick()));
                quick.push(leave);
            }
            assert_eq!(share.quick_rounds_waiting(), 0);
            let second = lend(Gait::ProvedQuick);
            let too_large = share.lend(1 << 20, share.claim((8 << 20) + 1, Gait::Quick, Source::default()), None);
            assert_eq!(share.quick_rounds_waiting(), 1, "the other is too large");
            drop(quick.pop());
            assert!(matches!(second.await, Some(Growth::Whole(leave)) if leave.is_quick()));
            let mut too_large = Box::pin(too_large);
            tokio::select! {
                biased;
                _ = &mut waits => panic!("one that comes slowly was completed where only quick ones are"),
                _ = &mut too_large => panic!("there is no room for it among the quick"),
                () = std::future::ready(()) => {}
            }
            drop((slow, too_large));
            assert!(matches!(waits.await, Some(Growth::Whole(leave)) if !leave.is_quick()));
        }
    }

    #[tokio::test]
    async fn small_frames_do_not_wait_for_large_ones() {
        let arriving = Budget::new(256 << 20).arriving;
        let large = arriving.share_of(60 << 20);
        let claim = || large.claim(60 << 20, Gait::Slow, Source::default());
        let held = [large.lend(1 << 30, claim(), None).await, large.lend(1 << 30, claim(), None).await];
        let waiting = large.lend(1, claim(), None);
        assert!(large.parts().longest_wait().is_some());
        let small = arriving.share_of(1 << 20);
        assert!(small.parts().longest_wait().is_none());
        assert!(small.try_lend(1 << 20).is_some());
        drop((held, waiting));
        assert_eq!(large.parts().waiting(), 0);
    }
}
