//! Records on their way: what was sent and is not acknowledged yet, and what became of the rest. Knows nothing of when to send.

use std::collections::VecDeque;
use std::task::Poll;
use std::time::{Duration, Instant};

use tidelog_client::{Delivery, SendError};

use super::latency::Latencies;
use super::progress::Progress;
use crate::connect::send_failure;
use crate::exit::Failure;

/// What became of the records of one worker.
#[derive(Debug)]
pub struct Sent {
    /// How long the acknowledged ones took.
    pub latencies: Latencies,
    /// Records acknowledged.
    pub records: u64,
    /// Records that failed, or of which nothing was heard once one had.
    pub failed: u64,
    /// Why the first of them did.
    pub failure: Option<Failure>,
    /// When the last ack was seen.
    pub ended: Instant,
}

/// How many unacknowledged records an open loop looks through for acks, where several partitions answer in any order. A closed
/// loop looks at the oldest alone: it has far more, and its latencies are those of a full pipe anyway.
pub const LOOK_THROUGH: usize = 1024;

/// How long the fate of the others is waited for once a record has failed: what stands in the way of one mostly stands in the way of all, and
/// each would be tried for a delivery timeout of its own.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How many of those it can be woken by.
const WOKEN_BY: usize = 64;

/// Records that are not acknowledged yet, in the order they were sent, and what became of the others.
#[derive(Debug)]
pub struct Flight<'a> {
    waiting: VecDeque<(Instant, Delivery)>,
    /// How far from the oldest acks are looked for.
    look_through: usize,
    sent: Sent,
    counted: u64,
    progress: &'a Progress,
    worker: usize,
    record_bytes: u64,
}

impl<'a> Flight<'a> {
    /// Nothing sent yet. `look_through`: how far from the oldest acks are looked for, see [`LOOK_THROUGH`].
    #[must_use]
    pub fn new(progress: &'a Progress, worker: usize, record_bytes: u64, look_through: usize) -> Self {
        let sent = Sent { latencies: Latencies::new(), records: 0, failed: 0, failure: None, ended: Instant::now() };
        Self { waiting: VecDeque::new(), look_through, sent, counted: 0, progress, worker, record_bytes }
    }

    /// Takes a record in that was sent; its latency counts from `since`.
    #[inline]
    pub fn push(&mut self, since: Instant, delivery: Delivery) {
        self.waiting.push_back((since, delivery));
    }

    /// Takes the oldest records whose fate is known; `now` is when that was seen.
    pub fn drain(&mut self, now: Instant) {
        // Records of one stride share their time: they count into the histogram together.
        let mut run: Option<(Instant, u64)> = None;
        let mut at = 0;
        while at < self.waiting.len().min(self.look_through) {
            let (since, delivery) = &self.waiting[at];
            let (since, Some(result)) = (*since, delivery.now()) else {
                at += 1;
                continue;
            };
            self.waiting.remove(at);
            match (result, run) {
                (Err(error), _) => self.fail(error),
                (Ok(_), Some((start, count))) if start == since => run = Some((start, count + 1)),
                (Ok(_), other) => {
                    if let Some((start, count)) = other {
                        self.count(start, now, count);
                    }
                    run = Some((since, 1));
                }
            }
        }
        if let Some((start, count)) = run {
            self.count(start, now, count);
        }
        let new = self.sent.records - self.counted;
        if new > 0 {
            self.sent.ended = now;
            self.counted = self.sent.records;
            self.progress.counter(self.worker).add(new, new * self.record_bytes);
        }
    }

    fn count(&mut self, since: Instant, now: Instant, records: u64) {
        self.sent.latencies.record(now.saturating_duration_since(since), records);
        self.sent.records += records;
    }

    fn fail(&mut self, error: SendError) {
        self.sent.failed += 1;
        self.sent.failure.get_or_insert_with(|| send_failure(error));
    }

    /// True while nothing has failed.
    #[must_use]
    pub const fn is_sound(&self) -> bool {
        self.sent.failure.is_none()
    }

    /// Waits until the fate of a record that is looked at is known; for ever where there is none.
    pub async fn any_settled(&mut self) {
        let window = self.look_through.min(WOKEN_BY);
        std::future::poll_fn(|cx| {
            let mut oldest = self.waiting.iter_mut().take(window);
            // What became of it is told by `drain`, which comes next.
            if oldest.any(|(_, delivery)| std::pin::Pin::new(delivery).poll(cx).is_ready()) {
                Poll::Ready(())
            } else {
                Poll::Pending
            }
        })
        .await;
    }

    /// Waits for everything that is under way; not for long once something has failed.
    pub async fn settle(mut self, failure: Option<Failure>) -> Sent {
        while !self.waiting.is_empty() && failure.is_none() && self.is_sound() {
            self.any_settled().await;
            self.drain(Instant::now());
        }
        let last = tokio::time::Instant::now() + LAST_WAIT;
        while !self.waiting.is_empty() && tokio::time::timeout_at(last, self.any_settled()).await.is_ok() {
            self.drain(Instant::now());
        }
        self.sent.failed += self.waiting.len() as u64;
        self.sent.failure = self.sent.failure.or(failure);
        self.sent
    }
}
