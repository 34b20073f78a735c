//! How fast a frame arrives. One that others wait for must keep a pace: clients that send half of a frame and fall silent, or drip
//! the rest, would hold memory that everybody needs. The pace is a least one for every frame, and for larger frames one that brings all
//! of it within a few seconds, unless those who wait are no faster themselves (`least_rate.rs`). A frame that all others wait for, since one at a time is
//! completed, is judged sooner, and one that waits itself by how it came so far. One that was let go first since it came quickly must
//! go on so. Pure: it is told what time it is.

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use super::least_rate::{LEAST_RATE, LeastRate};
use crate::gait::{Gait, Worth};

/// A pace is taken over this time, so that a short pause of a client is none.
pub(super) const WINDOW: Duration = Duration::from_secs(1);
/// The window of a frame that is completed, with as much less to arrive in it, where few wait.
const COMPLETION_WINDOW: Duration = Duration::from_millis(500);
/// The same of one that is completed since it came quickly.
const QUICK_WINDOW: Duration = Duration::from_millis(250);
/// How often it is looked at.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(125);

/// A frame that would be whole within this time comes quickly.
pub(super) const QUICK_TIME: Duration = Duration::from_millis(250);
/// From so many bytes on it is known how quickly a frame comes: what is less may be what a client sends at once before it falls silent.
const EVIDENCE_BYTES: u64 = 64 << 10;
/// A frame that came quickly proves that of one so many times as large, and of no larger one: to show it must cost something.
const PROOF_TIMES: u64 = 4;
/// All that wait for a turn of frames that come quickly, and of those that are completed, should not wait longer than this even where each
/// wastes its turn: the more of them wait one behind the other, the sooner each is judged,
const TURNS_TIME: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(6));
/// but not sooner than this, in which a client that is there, on a machine that does other things as well and behind a line that is far
/// away, sends more than once.
const LEAST_WINDOW: Duration = Duration::from_millis(250);
/// The same of one that has shown that it comes quickly: its line is not far away.
const LEAST_QUICK_WINDOW: Duration = Duration::from_millis(150);

/// The window of a frame that is completed since it came quickly, while so many rounds wait for the same.
pub(super) fn quick_window(rounds: usize) -> Duration {
    window(TURNS_TIME.0, rounds, LEAST_QUICK_WINDOW..=QUICK_WINDOW)
}

/// The window of a frame that is completed, while so many rounds wait for the same.
pub(super) fn completion_window(rounds: usize) -> Duration {
    window(TURNS_TIME.1, rounds, LEAST_WINDOW..=COMPLETION_WINDOW)
}

fn window(for_all: Duration, rounds: usize, of: RangeInclusive<Duration>) -> Duration {
    (for_all / u32::try_from(rounds.max(1)).unwrap_or(u32::MAX)).clamp(*of.start(), *of.end())
}

/// The pace of what arrives on one connection.
#[derive(Debug)]
pub(super) struct Pace {
    /// Of the window.
    since: Instant,
    bytes: u64,
    slow: Option<TooSlow>,
    /// Of the frame as far as it was read before this window, and the time that this took.
    frame_bytes: u64,
    frame_time: Duration,
    /// What came of the frame while the broker read, so that it tells how fast the client is.
    telling_bytes: u64,
    /// The time in which that came, up to when it began to come again.
    telling_time: Duration,
    telling_since: Instant,
    /// What is read piled up while the broker did not read, here and at the client, and tells nothing: it is read at once, however slowly it
    /// came. So until nothing is left of it.
    is_piled: bool,
    /// How the last frame came that was large enough to tell.
    last: Option<Came>,
}

/// How a whole frame came.
#[derive(Clone, Debug)]
struct Came {
    bytes: u64,
    time: Duration,
    /// So large was it, where it used the turn that it had.
    used: u64,
    /// It counts once the frame was a good request: whoever sends anything at all may send it quickly.
    worth: Worth,
}

/// A frame that was completed by leave.
#[derive(Clone, Copy, Debug)]
pub(super) struct Completed {
    /// All of it.
    pub(super) bytes: usize,
    /// It was let go first since it came quickly.
    pub(super) was_quick: bool,
}

/// What was too little.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct TooSlow {
    /// So much came, in bytes,
    pub(super) came: u64,
    /// where this was the least,
    pub(super) least: u64,
    /// in this time.
    pub(super) within: Duration,
}

impl Pace {
    /// Nothing is known yet: the first frame begins.
    pub(super) fn new(now: Instant) -> Self {
        Self {
            since: now,
            bytes: 0,
            slow: None,
            frame_bytes: 0,
            frame_time: Duration::ZERO,
            telling_bytes: 0,
            telling_time: Duration::ZERO,
            telling_since: now,
            is_piled: false,
            last: None,
        }
    }

    /// The frame is whole. Where it was let go first and used that, it came quickly, however little was read of it as it came; where it was
    /// completed by leave and took no longer to read than a window, it used its turn, however it came. This counts once its worth is noted, if it
    /// tells anything.
    pub(super) fn end_frame(&mut self, now: Instant, completed: Option<Completed>) -> Option<Worth> {
        let shown = completed.filter(|frame| frame.was_quick).map(|frame| (frame.bytes as u64, QUICK_TIME));
        let came = shown.or_else(|| self.evidence(0, now));
        self.begin_window(now);
        let used = completed.filter(|_| self.frame_time <= WINDOW).map_or(0, |frame| frame.bytes as u64);
        if came.is_none() && used == 0 {
            return None;
        }
        let (bytes, time) = came.unwrap_or_default();
        let worth = Worth::default();
        self.last = Some(Came { bytes, time, used, worth: worth.clone() });
        Some(worth)
    }

    /// The next one begins, of which so much is here.
    pub(super) fn begin_frame(&mut self, now: Instant, bytes: usize) {
        let bytes = bytes as u64;
        let (last, is_piled) = (self.last.take(), self.is_piled);
        *self = Self { last, is_piled, frame_bytes: bytes, telling_bytes: bytes, ..Self::new(now) };
    }

    /// How a frame of so many bytes comes, as far as is known: by what came of it, of which so much is not read yet, and by how the last
    /// one came.
    pub(super) fn gait(&self, frame_bytes: usize, unread: u64, now: Instant) -> Gait {
        let is_quick = |(bytes, time): (u64, Duration)| {
            time.as_micros().saturating_mul(frame_bytes as u128) <= QUICK_TIME.as_micros().saturating_mul(bytes.into())
        };
        let proves = |bytes: u64| bytes > 0 && bytes.saturating_mul(PROOF_TIMES) >= frame_bytes as u64;
        let last = self.last.as_ref().filter(|last| last.worth.is_noted());
        let is_proved = last.is_some_and(|last| proves(last.used));
        let was_quick = last.filter(|last| proves(last.bytes)).map(|last| is_quick((last.bytes, last.time)));
        match (self.evidence(unread, now).map(is_quick), was_quick) {
            (Some(false), _) | (None, Some(false) | None) if is_proved => Gait::Proved,
            (Some(false), _) | (None, Some(false) | None) => Gait::Slow,
            (_, Some(true)) => Gait::ProvedQuick,
            (Some(true), _) if is_proved => Gait::ProvedQuick,
            (Some(true), _) => Gait::Quick,
        }
    }

    /// How many bytes a second its client sends, by how this frame came so far, of which so much is not read yet, or else by how the last one came,
    /// if any of them tells.
    pub(super) fn rate(&self, unread: u64, now: Instant) -> Option<u64> {
        let last = || self.last.as_ref().filter(|last| last.bytes > 0).map(|last| (last.bytes, last.time));
        self.evidence(unread, now).or_else(last).map(|(bytes, time)| {
            u64::try_from(u128::from(bytes) * 1_000_000 / time.as_micros().max(1)).unwrap_or(u64::MAX)
        })
    }

    fn evidence(&self, unread: u64, now: Instant) -> Option<(u64, Duration)> {
        let (unread, live) = if self.is_piled {
            (0, Duration::ZERO)
        } else {
            (unread, now.saturating_duration_since(self.telling_since))
        };
        let bytes = self.telling_bytes + unread;
        (bytes >= EVIDENCE_BYTES).then(|| (bytes, self.telling_time + live))
    }

    /// The broker does not read for a while: what comes of that is not the client's. So much has come and is not read.
    pub(super) fn pause(&mut self, now: Instant, unread: u64) {
        self.begin_window(now);
        self.tell(unread, now);
    }

    /// The broker reads again, first so much that lies there.
    pub(super) fn resume(&mut self, now: Instant, unread: u64) {
        (self.since, self.bytes, self.slow) = (now, 0, None);
        (self.telling_since, self.is_piled) = (now, unread > 0);
    }

    /// So much was read; `unread` is what is left.
    pub(super) fn note(&mut self, bytes: usize, now: Instant, unread: impl FnOnce() -> u64) {
        self.bytes += bytes as u64;
        self.tell(bytes as u64, now);
        self.is_piled = self.is_piled && unread() > 0;
    }

    /// So much has come since the last time, if it came as the broker read.
    fn tell(&mut self, bytes: u64, now: Instant) {
        if !self.is_piled {
            self.telling_bytes += bytes;
            self.telling_time += now.saturating_duration_since(self.telling_since);
        }
        self.telling_since = now;
    }

    fn begin_window(&mut self, now: Instant) {
        self.frame_bytes += self.bytes;
        self.frame_time += now.saturating_duration_since(self.since);
        (self.since, self.bytes) = (now, 0);
    }

    /// What was too slow in the last whole window. `unread` has arrived as well, the broker only did not come to read it: where that is
    /// as much as a socket holds, it is the broker that is slow.
    pub(super) fn too_slow(
        &mut self,
        now: Instant,
        window: Duration,
        rate: LeastRate,
        unread: impl FnOnce() -> u64,
    ) -> Option<TooSlow> {
        if now.saturating_duration_since(self.since) >= window {
            let least = rate.bytes_in(window);
            self.slow = None;
            if self.bytes < least {
                let unread = unread();
                if unread < LEAST_RATE && self.bytes + unread < least {
                    self.slow = Some(TooSlow { came: self.bytes, least, within: window });
                }
            }
            self.begin_window(now);
        }
        self.slow
    }

    /// What was too slow of one that all others wait for: as above, or nothing came for as long as the window, wherever that begins. A client that
    /// fell silent behind a burst keeps nobody waiting for the rest of one window and for all of the next.
    pub(super) fn too_slow_alone(
        &mut self,
        now: Instant,
        window: Duration,
        rate: LeastRate,
        unread: impl Fn() -> u64,
    ) -> Option<TooSlow> {
        if self.silent_for(now) >= window && unread() == 0 {
            return Some(TooSlow { came: 0, least: rate.bytes_in(window), within: window });
        }
        self.too_slow(now, window, rate, unread)
    }

    /// How long nothing was read, though the broker read.
    pub(super) fn silent_for(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.telling_since)
    }

    /// What was too slow over the whole frame so far, once it has taken a window to read. For one that is not read now.
    pub(super) fn too_slow_so_far(&self, rate: LeastRate) -> Option<TooSlow> {
        let least = rate.bytes_in(self.frame_time);
        (self.frame_time >= WINDOW && self.frame_bytes < least).then_some(TooSlow {
            came: self.frame_bytes,
            least,
            within: self.frame_time,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: LeastRate = LeastRate(LEAST_RATE);

    #[test]
    fn a_pause_shorter_than_a_window_is_none_and_a_drip_is_one() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.too_slow(start + WINDOW / 2, WINDOW, LEAST, || 0), None);
        pace.note(64 << 10, start, || 0);
        assert_eq!(pace.too_slow(start + WINDOW, WINDOW, LEAST, || 0), None);
        pace.note(100, start, || 0);
        assert_eq!(pace.too_slow(start + WINDOW * 3 / 2, WINDOW, LEAST, || 0), None);
        let drip = TooSlow { came: 100, least: 64 << 10, within: WINDOW };
        assert_eq!(pace.too_slow(start + WINDOW * 2, WINDOW, LEAST, || 100), Some(drip));
        assert_eq!(
            pace.too_slow(start + WINDOW * 5 / 2, WINDOW, LEAST, || 0),
            Some(drip),
            "until it is seen to be faster"
        );
        let unread = pace.too_slow(start + WINDOW * 3, WINDOW, LEAST, || 64 << 10);
        assert_eq!(unread, None, "what the broker did not read is not the client's fault");
        pace.resume(start + WINDOW * 3, 0);
        assert_eq!(pace.too_slow(start + WINDOW * 7 / 2, WINDOW, LEAST, || 0), None);
    }

    #[test]
    fn who_keeps_everybody_waiting_is_judged_sooner_by_the_same_pace() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.note(32 << 10, start, || 0);
        assert_eq!(pace.too_slow(start + COMPLETION_WINDOW, COMPLETION_WINDOW, LEAST, || 0), None);
        pace.note((32 << 10) - 1, start, || 0);
        assert!(pace.too_slow(start + COMPLETION_WINDOW * 2, COMPLETION_WINDOW, LEAST, || 0).is_some());
    }

    #[test]
    fn who_falls_silent_behind_a_burst_is_judged_a_window_later_and_who_goes_on_is_not() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let (window, rate) = (Duration::from_millis(100), LeastRate(1 << 20));
        let mut pace = Pace::new(start);
        pace.note(1 << 20, after(40), || 0);
        assert_eq!(pace.too_slow_alone(after(139), window, rate, || 0), None, "it may still go on");
        assert_eq!(pace.too_slow_alone(after(140), window, rate, || 1), None, "it did, and the broker did not read it");
        let slow = TooSlow { came: 0, least: rate.bytes_in(window), within: window };
        assert_eq!(pace.too_slow_alone(after(140), window, rate, || 0), Some(slow));
        // While the broker does not read nobody is silent.
        pace.pause(after(141), 0);
        pace.resume(after(900), 0);
        assert_eq!(pace.too_slow_alone(after(999), window, rate, || 0), None);
        pace.note(1 << 20, after(999), || 0);
        assert_eq!(pace.too_slow_alone(after(1_098), window, rate, || 0), None);
    }

    #[test]
    fn a_socket_that_is_full_is_the_brokers_fault() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.note(100_000, start, || 0);
        let rate = LeastRate::of(60 << 20, u64::MAX);
        assert!(pace.too_slow(start + WINDOW, WINDOW, rate, || 1_000).is_some());
        let mut pace = Pace::new(start);
        pace.note(100_000, start, || 0);
        assert_eq!(pace.too_slow(start + WINDOW, WINDOW, rate, || 64 << 10), None, "a full socket is the broker's");
    }

    #[test]
    fn a_frame_comes_quickly_by_what_came_of_it_or_by_how_the_last_one_came() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(start);
        assert_eq!(pace.gait(1 << 20, (64 << 10) - 1, start), Gait::Slow, "nothing is known");
        assert_eq!(pace.gait(1 << 20, 64 << 10, start), Gait::Quick, "what waits in the socket has come");
        pace.begin_frame(start, 32 << 10);
        pace.note(32 << 10, start, || 0);
        assert_eq!(pace.gait(1 << 20, 0, after(15)), Gait::Quick);
        assert_eq!(pace.gait(1 << 20, 0, after(16)), Gait::Slow, "1 MiB would take longer than a quarter of a second");
        assert_eq!(pace.gait(2 << 20, 0, after(8)), Gait::Slow);
        pace.note((1 << 20) - (64 << 10), start, || 0);
        let worth = pace.end_frame(after(200), None).unwrap();
        pace.begin_frame(after(5_000), 8 << 10);
        assert_eq!(pace.gait(1 << 20, 0, after(5_000)), Gait::Slow, "the last one may have been no good request");
        worth.note();
        assert_eq!(pace.gait(1 << 20, 0, after(5_000)), Gait::ProvedQuick, "as the last one came");
        assert_eq!(pace.gait(2 << 20, 0, after(5_000)), Gait::Slow);
        pace.note(56 << 10, after(5_000), || 0);
        assert_eq!(pace.gait(1 << 20, 0, after(5_001)), Gait::ProvedQuick);
        assert_eq!(
            pace.gait(2 << 20, 0, after(5_001)),
            Gait::Quick,
            "no frame of this size was seen to come as quickly"
        );
        assert_eq!(pace.gait(1 << 20, 0, after(6_000)), Gait::Slow, "this one does not");
        pace.end_frame(after(6_000), None).unwrap().note();
        pace.begin_frame(after(6_000), 0);
        pace.note(100, after(6_000), || 0);
        assert!(pace.end_frame(after(6_001), None).is_none());
        assert_eq!(
            pace.gait(1 << 20, 0, after(6_001)),
            Gait::Slow,
            "a little frame tells nothing, the last large one does"
        );
        assert_eq!(LeastRate::quick(3 << 20).bytes_in(QUICK_WINDOW), 1 << 20);
    }

    #[test]
    fn what_a_client_sends_in_a_second_is_known_by_what_came_or_by_the_last_frame() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let mut pace = Pace::new(start);
        pace.begin_frame(start, 0);
        pace.note(40 << 10, start, || 0);
        assert_eq!(pace.rate(0, after(100)), None, "too little tells nothing");
        assert_eq!(pace.rate(60 << 10, after(100)), Some(1_000 << 10));
        pace.note(60 << 10, after(100), || 0);
        let _ = pace.end_frame(after(200), None);
        pace.begin_frame(after(900), 100);
        assert_eq!(pace.rate(0, after(900)), Some(500 << 10), "as the last one came");
        // While the broker does not read no time passes.
        pace.note(100 << 10, after(1_000), || 0);
        pace.pause(after(1_000), 0);
        assert!(pace.rate(0, after(1_000)).is_some_and(|rate| (900 << 10..1_100 << 10).contains(&rate)));
    }

    #[test]
    fn a_little_frame_proves_nothing_of_a_large_one() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.begin_frame(start, 0);
        pace.note(256 << 10, start, || 0);
        pace.end_frame(start, None).unwrap().note();
        pace.begin_frame(start, 0);
        assert_eq!(pace.gait(1 << 20, 0, start), Gait::ProvedQuick);
        assert_eq!(pace.gait((1 << 20) + 1, 0, start), Gait::Slow);
        assert_eq!(pace.gait(8 << 20, 64 << 10, start), Gait::Quick, "it may come quickly itself");
    }

    #[test]
    fn a_frame_that_used_its_turn_proves_that_the_next_one_will_however_it_comes() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        let gait = |read_in: u64, was_good: bool, next_bytes| {
            let mut pace = Pace::new(start);
            pace.begin_frame(start, 8 << 10);
            // Most of it piled up while it waited for its turn.
            pace.pause(after(1), 56 << 10);
            pace.resume(after(9_000), 4 << 20);
            pace.note(8 << 20, after(9_000 + read_in), || 0);
            let whole = Completed { bytes: 8 << 20, was_quick: false };
            let worth = pace.end_frame(after(9_000 + read_in), Some(whole)).unwrap();
            if was_good {
                worth.note();
            }
            pace.begin_frame(after(20_000), 0);
            pace.gait(next_bytes, 0, after(20_000))
        };
        assert_eq!(gait(900, true, 32 << 20), Gait::Proved);
        assert_eq!(gait(900, false, 32 << 20), Gait::Slow, "it was no good request");
        assert_eq!(gait(900, true, (32 << 20) + 1), Gait::Slow, "it was a small one");
        assert_eq!(gait(1_100, true, 32 << 20), Gait::Slow, "it took long for it");
    }

    #[test]
    fn the_more_wait_the_sooner_whoever_holds_them_up_is_judged() {
        let millis = |rounds| (quick_window(rounds).as_millis(), completion_window(rounds).as_millis());
        assert_eq!((millis(0), millis(8)), ((250, 500), (250, 500)));
        assert_eq!((millis(10), millis(15)), ((200, 500), (150, 400)));
        assert_eq!(millis(10_000), (150, 250), "a client that is there sends something meanwhile");
    }

    #[test]
    fn what_piled_up_while_the_broker_did_not_read_tells_nothing_of_how_fast_it_came() {
        let start = Instant::now();
        let after = |millis| start + Duration::from_millis(millis);
        // Slowly: 64 KiB in a quarter of a second, then as much again and more while nobody reads.
        let mut slow = Pace::new(start);
        slow.begin_frame(start, 0);
        slow.note(64 << 10, after(250), || 0);
        assert_eq!(slow.gait(1 << 20, 0, after(250)), Gait::Slow);
        slow.pause(after(250), 0);
        slow.resume(after(1_500), 128 << 10);
        assert_eq!(slow.gait(1 << 20, 128 << 10, after(1_500)), Gait::Slow);
        slow.note(128 << 10, after(1_501), || 192 << 10);
        assert_eq!(slow.gait(1 << 20, 192 << 10, after(1_501)), Gait::Slow, "nor does what the client could not send");
        slow.note(192 << 10, after(1_501), || 0);
        assert_eq!(slow.gait(1 << 20, 0, after(1_501)), Gait::Slow, "it is read at once, and did not come at once");
        slow.note(16 << 10, after(1_563), || 0);
        slow.end_frame(after(1_563), None).unwrap().note();
        slow.begin_frame(after(1_563), 0);
        assert_eq!(slow.gait(1 << 20, 0, after(1_563)), Gait::Slow, "nor is the next one taken for quick");
        // Quickly: what lay in the socket as the broker stopped to read had come by then.
        let mut quick = Pace::new(start);
        quick.begin_frame(start, 8 << 10);
        quick.pause(after(1), 56 << 10);
        quick.resume(after(9_000), 2 << 20);
        quick.note(1 << 20, after(9_400), || 1 << 20);
        let now = after(9_400);
        assert_eq!(quick.gait(4 << 20, 1 << 20, now), Gait::Quick, "nor does the time tell that reading it takes");
        quick.note(3 << 20, after(9_800), || 0);
        quick.end_frame(after(9_800), Some(Completed { bytes: 4 << 20, was_quick: true })).unwrap().note();
        quick.begin_frame(after(9_800), 0);
        assert_eq!(quick.gait(4 << 20, 0, after(9_800)), Gait::ProvedQuick, "it used what it was let go first for");
    }

    #[test]
    fn what_waits_is_judged_by_how_it_came_so_far_without_the_time_that_the_broker_did_not_read() {
        let start = Instant::now();
        let rate = LeastRate::of(60 << 20, u64::MAX);
        let mut pace = Pace::new(start);
        pace.note(1 << 20, start, || 0);
        pace.pause(start + WINDOW / 4, 0);
        assert_eq!(pace.too_slow_so_far(rate), None, "it came at once");
        pace.resume(start + WINDOW * 9, 0);
        pace.note(3 << 20, start, || 0);
        pace.pause(start + WINDOW * 9 + WINDOW * 3 / 4, 0);
        assert_eq!(pace.too_slow_so_far(rate), None);
        pace.resume(start + WINDOW * 20, 0);
        pace.note(300_000, start, || 0);
        assert!(pace.too_slow(start + WINDOW * 23, WINDOW, rate, || 0).is_some());
        pace.pause(start + WINDOW * 23, 0);
        let slow = pace.too_slow_so_far(rate).map(|slow| (slow.came, slow.within));
        assert_eq!(slow, Some(((4 << 20) + 300_000, WINDOW * 4)));
    }
}
