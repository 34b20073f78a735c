//! The frame that arrives on a connection: since when, how fast, and for how long the broker itself did not read. Pure but for the clock.
//! Knows nothing of sockets and memory.

use std::time::{Duration, Instant};

use super::least_rate::LeastRate;
use super::pace;
use super::pace::{Completed, Pace, TooSlow, WINDOW};
use crate::gait::{Gait, Worth};

/// What a frame is to those who wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// One of those that hold what they have.
    OneOfMany,
    /// One that is completed, while others wait that need all the memory for that so many times.
    Completed(usize),
    /// One that is completed beside those since it came quickly, likewise.
    CompletedQuickly(usize),
}

impl Standing {
    /// The time over which its pace is taken.
    pub(super) fn window(self) -> Duration {
        match self {
            Self::OneOfMany => WINDOW,
            Self::Completed(rounds) => pace::completion_window(rounds),
            Self::CompletedQuickly(rounds) => pace::quick_window(rounds),
        }
    }
}

/// What arrives on one connection.
#[derive(Debug)]
pub(super) struct Arrival {
    /// Of a frame that is not whole.
    began_at: Option<Instant>,
    /// Since when nothing is read, for whatever reason: until it is, the time of the frame that has begun stands still.
    unread_since: Option<Instant>,
    pace: Pace,
}

impl Arrival {
    pub(super) fn new(now: Instant) -> Self {
        Self { began_at: None, unread_since: None, pace: Pace::new(now) }
    }

    /// A frame is whole, by leave or without. Gives what is to be noted once it is known to be a good request.
    pub(super) fn note_whole(&mut self, completed: Option<Completed>) -> Option<Worth> {
        self.began_at.take().and_then(|_| self.pace.end_frame(Instant::now(), completed))
    }

    /// So much of a frame is here that is not whole.
    pub(super) fn note_within(&mut self, bytes: usize) {
        if self.began_at.is_none() {
            let now = Instant::now();
            self.began_at = Some(now);
            self.pace.begin_frame(now, bytes);
        }
    }

    /// So much was read; `unread` is what is left.
    pub(super) fn note_read(&mut self, bytes: usize, now: Instant, unread: impl FnOnce() -> u64) {
        self.pace.note(bytes, now, unread);
    }

    /// The broker's own delays do not count against the frame that has begun. `unread` has arrived and was not read.
    pub(super) fn note_reading(&mut self, reading: bool, unread: impl FnOnce() -> u64) {
        if !reading {
            if self.unread_since.is_none() {
                let now = Instant::now();
                self.unread_since = Some(now);
                self.pace.pause(now, unread());
            }
        } else if let Some(since) = self.unread_since.take() {
            self.pace.resume(Instant::now(), unread());
            if let Some(began_at) = &mut self.began_at {
                *began_at += since.max(*began_at).elapsed();
            }
        }
    }

    /// True where the frame has taken so long, as far as the broker read.
    pub(super) fn takes_longer_than(&self, limit: Duration, now: Instant) -> bool {
        self.unread_since.is_none() && self.began_at.is_some_and(|at| now.saturating_duration_since(at) >= limit)
    }

    /// How a frame of so many bytes comes, of which so much is missing, and so much not read yet.
    pub(super) fn gait(&self, frame_bytes: usize, missing: usize, unread: u64) -> Gait {
        // All of it is here: it takes no time at all.
        if unread >= missing as u64 { Gait::Here } else { self.pace.gait(frame_bytes, unread, Instant::now()) }
    }

    /// How many bytes a second come, of which so much is not read yet, as far as is known.
    pub(super) fn rate(&self, unread: u64) -> Option<u64> {
        self.pace.rate(unread, Instant::now())
    }

    /// What was too slow of a frame of so many bytes, while the fastest of those who wait sends so many bytes per second.
    pub(super) fn too_slow(
        &mut self,
        standing: Standing,
        frame_bytes: usize,
        fastest_waiting: u64,
        unread: impl Fn() -> u64,
    ) -> Option<TooSlow> {
        let rate = match standing {
            Standing::OneOfMany => LeastRate::of(frame_bytes, fastest_waiting),
            Standing::Completed(_) => LeastRate::alone(frame_bytes, fastest_waiting),
            Standing::CompletedQuickly(_) => LeastRate::quick(frame_bytes),
        };
        if self.unread_since.is_some() {
            return self.pace.too_slow_so_far(rate);
        }
        let (now, window) = (Instant::now(), standing.window());
        match standing {
            Standing::OneOfMany => self.pace.too_slow(now, window, rate, unread),
            Standing::Completed(_) | Standing::CompletedQuickly(_) => {
                self.pace.too_slow_alone(now, window, rate, unread)
            }
        }
    }

    /// How long it may be until it is judged again: just until a window has passed in which nothing came, where that is short.
    pub(super) fn look_every(&self, standing: Standing) -> Duration {
        let window = standing.window();
        let silent = if self.unread_since.is_some() { Duration::ZERO } else { self.pace.silent_for(Instant::now()) };
        let rest = if silent < window { window.saturating_sub(silent) } else { window };
        pace::LOOK_EVERY.min(rest + Duration::from_millis(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_whose_rest_waits_in_the_socket_comes_quickly_however_little_is_known() {
        let arrival = Arrival::new(Instant::now());
        assert_eq!(arrival.gait(40_000, 32_000, 31_999), Gait::Slow);
        assert_eq!(arrival.gait(40_000, 32_000, 32_000), Gait::Here);
    }
}
