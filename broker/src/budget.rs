//! The global memory budget: half of it for frames that are still arriving, most of the rest for requests under way, and a little each
//! for batches that are large once decompressed and for streams. Requests under way finish by themselves and wait for nothing of the
//! other half: those that bring batches have memory of their own, and one that waits for something to happen gives its memory back first. Small frames have a share of their own, so they never wait behind large ones; each takes all that it needs at once, so that none of them waits with memory in its hands. Large frames hold what they
//! have and wait for more; half of the half is kept for those that are next to be completed, which wait for nobody but their clients.
//! Beside them, frames of up to some megabytes that come quickly are completed in turn in memory of their own, so that they wait
//! for none that comes slowly. While anyone waits, a client that holds memory and falls silent or is slow is given up (`net/pace.rs`),
//! and however many there are of those, a frame whose client goes on waits for few of them (`turns/`). So nothing is held for ever,
//! nor for long. Knows nothing of connections.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::gait::{Gait, Worth};
use crate::turns::{Rank, Ranks, Source, Turn, Turns};

/// Granularity of the budget, in bytes.
const UNIT_BYTES: usize = 1 << 10;

/// The largest small frame, in bytes: a batch of the usual largest size, and what goes around it.
const SMALL_FRAME_BYTES: usize = (1 << 20) + (64 << 10);

/// Of so many sources it is known at most how fast they send.
const KNOWN_MAX: usize = 1_024;

/// Those who wait.
#[derive(Debug, Default)]
struct Waiters {
    count: AtomicUsize,
    all: Mutex<AllWaiters>,
}

#[derive(Debug, Default)]
struct AllWaiters {
    /// Since when each waits, by the order in which they came.
    since: BTreeMap<u64, Instant>,
    /// How many bytes a second their clients send, with the places of those who send so many.
    rates: BTreeSet<(u64, u64)>,
    /// How many those sent last that come from there, as far as it was known, for others from there of whom nothing is known yet.
    known: HashMap<Source, u64>,
}

impl AllWaiters {
    /// The rate of one who comes from there: as it is known, or as others', or else as fast as may be.
    fn rate(&mut self, source: Source, rate: Option<u64>) -> u64 {
        let Some(rate) = rate else { return self.known.get(&source).copied().unwrap_or(u64::MAX) };
        if self.known.len() >= KNOWN_MAX && !self.known.contains_key(&source) {
            self.known.clear();
        }
        self.known.insert(source, rate);
        rate
    }
}

/// One that waits, for as long as it lives.
struct Waits {
    among: Arc<Waiters>,
    place: u64,
    rate: u64,
}

impl Waits {
    fn new(waiters: &Arc<Waiters>, source: Source, rate: Option<u64>) -> Self {
        let mut all = waiters.all.lock();
        let rate = all.rate(source, rate);
        let place = all.since.last_key_value().map_or(0, |(last, _)| last + 1);
        all.since.insert(place, Instant::now());
        all.rates.insert((rate, place));
        waiters.count.fetch_add(1, Ordering::Relaxed);
        Self { among: waiters.clone(), place, rate }
    }
}

impl Drop for Waits {
    fn drop(&mut self) {
        let mut all = self.among.all.lock();
        all.since.remove(&self.place);
        all.rates.remove(&(self.rate, self.place));
        if all.since.is_empty() {
            // What was before says nothing of those who come later.
            all.known.clear();
        }
        self.among.count.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Memory lent; given back on drop.
#[derive(Debug)]
pub struct Lent {
    // Held for its drop.
    _permit: OwnedSemaphorePermit,
    _holder: Option<Arc<()>>,
    worth: Option<Worth>,
}

impl Lent {
    fn new(permit: OwnedSemaphorePermit) -> Self {
        Self { _permit: permit, _holder: None, worth: None }
    }

    /// For something whose worth matters to somebody.
    #[must_use]
    pub fn of_worth(mut self, worth: Option<Worth>) -> Self {
        self.worth = worth;
        self
    }

    /// What it was lent for was worth it: the request is good, and is carried out.
    pub fn note_worth(&self) {
        if let Some(worth) = &self.worth {
            worth.note();
        }
    }

    /// As the loan of this holder.
    #[must_use]
    pub fn held_by(mut self, holder: &Holder) -> Self {
        self._holder = Some(holder.0.clone());
        self
    }
}

/// Somebody of whom it matters whether he holds a loan at all.
#[derive(Debug, Default)]
pub struct Holder(Arc<()>);

impl Holder {
    /// True as long as one of his loans was not given back.
    #[must_use]
    pub fn holds_any(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// One half of the budget.
#[derive(Clone, Debug)]
pub struct Pool {
    units: Arc<Semaphore>,
    size: u32,
    waiters: Arc<Waiters>,
}

impl Pool {
    /// A pool of its own.
    #[must_use]
    pub fn new(bytes: u64) -> Self {
        let size = (bytes / UNIT_BYTES as u64).clamp(1, (u32::MAX >> 4).into()) as u32;
        Self { units: Arc::new(Semaphore::new(size as usize)), size, waiters: Arc::default() }
    }

    fn count(&self, bytes: usize) -> u32 {
        // More than the whole budget counts as the whole: such a request waits until it is alone.
        (bytes.div_ceil(UNIT_BYTES) as u32).clamp(1, self.size)
    }

    /// Memory at once, or none.
    #[must_use]
    pub fn try_lend(&self, bytes: usize) -> Option<Lent> {
        let permit = self.units.clone().try_acquire_many_owned(self.count(bytes)).ok()?;
        Some(Lent::new(permit))
    }

    /// Memory as soon as there is some.
    pub fn lend(&self, bytes: usize) -> impl Future<Output = Option<Lent>> + Send + 'static {
        self.lend_to(bytes, Source::default(), None)
    }

    /// The same for one whose client, from there, sends so many bytes a second, as far as is known.
    fn lend_to(
        &self,
        bytes: usize,
        source: Source,
        rate: Option<u64>,
    ) -> impl Future<Output = Option<Lent>> + Send + 'static {
        let wait = self.units.clone().acquire_many_owned(self.count(bytes));
        let waits = Waits::new(&self.waiters, source, rate);
        async move {
            let _waits = waits;
            wait.await.ok().map(Lent::new)
        }
    }

    /// How many wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiters.count.load(Ordering::Relaxed)
    }

    /// For how long the first of them has waited.
    #[must_use]
    pub fn longest_wait(&self) -> Option<Duration> {
        self.waiters.all.lock().since.values().next().map(Instant::elapsed)
    }

    /// How many bytes a second the fastest of them sends.
    #[must_use]
    pub fn fastest_waiting(&self) -> u64 {
        self.waiters.all.lock().rates.last().map_or(0, |(rate, _)| *rate)
    }

    /// All its bytes.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        u64::from(self.size) * UNIT_BYTES as u64
    }

    /// Bytes lent out now.
    #[must_use]
    pub fn lent_bytes(&self) -> u64 {
        (self.size as u64).saturating_sub(self.units.available_permits() as u64) * UNIT_BYTES as u64
    }
}

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
    async fn what_is_lent_comes_back_on_drop() {
        let pool = Pool::new(10 * 1024);
        let first = pool.try_lend(6 * 1024).unwrap();
        assert!(pool.try_lend(5 * 1024).is_none());
        assert_eq!(pool.lent_bytes(), 6 * 1024);
        let waiting = tokio::spawn(pool.lend(1 << 30));
        drop(first);
        let all = waiting.await.unwrap().unwrap();
        assert_eq!(pool.lent_bytes(), 10 * 1024);
        drop(all);
        assert_eq!(pool.lent_bytes(), 0);
    }

    #[tokio::test]
    async fn the_fastest_of_those_who_wait_is_known_as_they_come_and_go() {
        let pool = Pool::new(1 << 10);
        let all = pool.try_lend(1 << 10).unwrap();
        let mut waiting: Vec<_> =
            [3, 9, 9, 5].map(|rate| pool.lend_to(1, Source::default(), Some(rate))).into_iter().collect();
        assert_eq!(pool.fastest_waiting(), 9);
        drop(waiting.remove(1));
        assert_eq!(pool.fastest_waiting(), 9, "there were two");
        drop(waiting.remove(1));
        assert_eq!(pool.fastest_waiting(), 5);
        drop(all);
        drop(waiting.remove(0).await);
        drop(waiting);
        assert_eq!((pool.fastest_waiting(), pool.waiting()), (0, 0));
    }

    #[test]
    fn of_one_who_just_came_it_is_known_how_fast_others_from_there_send() {
        let from = |number: u32| Source::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(number)));
        let pool = Pool::new(1 << 10);
        let _all = pool.try_lend(1 << 10).unwrap();
        let known = pool.lend_to(1, from(1), Some(7));
        let fresh = pool.lend_to(1, from(1), None);
        assert_eq!(pool.fastest_waiting(), 7);
        let other = pool.lend_to(1, from(2), None);
        assert_eq!(pool.fastest_waiting(), u64::MAX, "nobody else came from there");
        drop((known, fresh, other));
        let _later = pool.lend_to(1, from(1), None);
        assert_eq!(pool.fastest_waiting(), u64::MAX, "nobody waited meanwhile");
        for number in 0..3 * KNOWN_MAX as u32 {
            drop(pool.lend_to(1, from(number), Some(1)));
            assert!(pool.waiters.all.lock().known.len() <= KNOWN_MAX);
        }
    }

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
