//! The records of one partition on their way, in order: the batch being filled, batches that wait, batches in flight. Pure: it
//! is told the time and what happened, and says what to do. Knows nothing of connections, tasks or locks.
//!
//! Order is kept by two rules. Batches leave one after the other (whoever drives the lane is alone, see [`Lane::begin_drive`]).
//! And once one has failed in a way that can pass, nothing leaves until the fate of all in flight is known; what failed then
//! goes back to the front, in its order.
//!
//! An idempotent lane numbers its records (see `numbering`), so that the leader takes what comes twice for once and nothing before what
//! comes earlier. One that belongs to a transaction does so under the identity of that transaction alone, and is abandoned with it.

mod abandonment;
mod fit;
mod numbering;
mod settled;
mod unacknowledged;

pub(super) use numbering::{Belonging, LinkTerms, Wants, Who};
use numbering::{Numbering, Stamp};
pub(super) use settled::Settled;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_protocol::records::{BatchBuilder, BuildError, Compression};
use tidelog_protocol::{ErrorCode, Timestamp};

use super::delivery::Completion;
use super::memory::Reservation;
use super::{Receipt, RecordRef, SendError};
use crate::ClientError;
use crate::backoff::Backoff;

/// What rules a lane.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// Batches in flight at once.
    pub(super) max_in_flight: usize,
    /// A batch that is not full leaves only after this time; with zero, as soon as nothing is in flight.
    pub(super) linger: Duration,
    /// From the first record of a batch to the end of all tries.
    pub(super) delivery_timeout: Duration,
    pub(super) compression: Compression,
    /// Records are numbered where the leader can tell by it what comes twice.
    pub(super) idempotent: bool,
    /// The leader says what it wrote.
    pub(super) acknowledged: bool,
    /// Records belong to a transaction.
    pub(super) transaction: Option<Belonging>,
}

/// Records that travel together.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) id: u64,
    pub(super) completion: Arc<Completion>,
    memory: Reservation,
    opened: Instant,
    content: Content,
    /// It left at least once and no answer tells what became of it.
    maybe_written: bool,
    stamp: Stamp,
    /// What the last answer said of its number, if it was that.
    refused: Option<ErrorCode>,
}

/// Where the bytes of a batch are.
#[derive(Debug)]
pub(super) enum Content {
    /// Here, record by record.
    Filling(Box<BatchBuilder>),
    /// Here, finished.
    Sealed(Bytes),
    /// In flight: who sent them has them.
    Away,
    /// They came back.
    Failed(Bytes),
    /// They came back as too many for one batch.
    Oversized(Bytes),
}

impl Content {
    const fn came_back(&self) -> bool {
        matches!(self, Self::Failed(_) | Self::Oversized(_))
    }
}

/// The state of a lane with respect to its leader.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// No leader has been looked for, or none is needed at the moment.
    Unlinked,
    /// Batches may leave.
    Linked,
    /// Something failed: nothing leaves until the fate of all in flight is known.
    Draining,
    /// Somebody looks for the leader.
    Recovering,
}

/// One partition's records.
#[derive(Debug)]
pub(super) struct Lane {
    rules: Rules,
    mode: Mode,
    driven: bool,
    /// After a failure one batch goes alone until one succeeds.
    careful: bool,
    /// In a row, since the last success or rest.
    failures: u32,
    last_error: Option<ClientError>,
    failed_at: Option<Instant>,
    next_id: u64,
    open: Option<Batch>,
    /// The open batch shall leave although it is not full.
    leave: bool,
    /// Bytes of the batches closed since [`Lane::had_its_share`] said so last.
    closed_bytes: usize,
    waiting: VecDeque<Batch>,
    in_flight: VecDeque<Batch>,
    numbering: Numbering,
    /// Its transaction is undone: nothing leaves any more.
    abandoned: bool,
}

/// Why a record was not appended.
#[derive(Debug)]
pub(super) enum NoRoom {
    /// A new batch is needed, with room for this many bytes at least.
    Batch {
        /// Bytes of the batch that holds the record alone.
        bytes: usize,
    },
    /// No batch can hold the record.
    Never(BuildError),
}

/// What whoever drives a lane does next.
#[derive(Debug)]
pub(super) enum Step {
    /// Nothing; the lane is not driven any more.
    Idle,
    /// Look for the leader, see [`Lane::recovery`]; the lane is not driven any more.
    Recover,
    /// Send this batch, then ask again.
    Send {
        /// Which, for the answer.
        id: u64,
        /// Its bytes, finished or not.
        content: Content,
        /// How long it may take.
        within: Duration,
    },
}

impl Lane {
    pub(super) const fn new(rules: Rules) -> Self {
        Self {
            rules,
            mode: Mode::Unlinked,
            driven: false,
            careful: false,
            failures: 0,
            last_error: None,
            failed_at: None,
            next_id: 0,
            open: None,
            leave: false,
            closed_bytes: 0,
            waiting: VecDeque::new(),
            in_flight: VecDeque::new(),
            numbering: match rules.transaction {
                Some(belonging) => Numbering::of_transaction(belonging),
                None => Numbering::new(rules.idempotent),
            },
            abandoned: false,
        }
    }

    /// Adds a record to the open batch; gives the batch's completion and the record's place.
    #[inline]
    pub(super) fn append(
        &mut self,
        timestamp: Timestamp,
        record: &RecordRef<'_>,
    ) -> Result<(Arc<Completion>, u32), NoRoom> {
        let Some(Batch { content: Content::Filling(builder), completion, .. }) = &mut self.open else {
            return Err(NoRoom::Batch { bytes: 0 });
        };
        match builder.append(timestamp, record.key, record.value, record.headers.iter().copied()) {
            Ok(index) => Ok((Arc::clone(completion), index)),
            Err(BuildError::RecordTooLarge { bytes, .. }) => Err(NoRoom::Batch { bytes }),
            Err(BuildError::Full { .. }) => Err(NoRoom::Batch { bytes: 0 }),
            Err(error) => Err(NoRoom::Never(error)),
        }
    }

    /// Closes the open batch, where there is one, and opens another. Returns its id.
    pub(super) fn open(&mut self, mut builder: BatchBuilder, memory: Reservation, now: Instant) -> u64 {
        self.close_open();
        if self.rules.transaction.is_some() {
            builder.set_attributes(builder.attributes().transactional());
        }
        let id = self.next_id;
        self.next_id += 1;
        self.open = Some(Batch {
            id,
            completion: Arc::default(),
            memory,
            opened: now,
            content: Content::Filling(Box::new(builder)),
            maybe_written: false,
            stamp: Stamp::Unset,
            refused: None,
        });
        id
    }

    /// The open batch is as full as it gets; where it is empty, nobody has seen it.
    pub(super) fn close_open(&mut self) {
        self.leave = false;
        if let Some(batch) = self.open.take()
            && let Content::Filling(builder) = &batch.content
            && !builder.is_empty()
        {
            self.closed_bytes += builder.bytes();
            self.waiting.push_back(batch);
        }
    }

    /// True once `share` bytes were closed here since it was true last: time for records that may go anywhere to go elsewhere.
    pub(super) const fn had_its_share(&mut self, share: usize) -> bool {
        let had = self.closed_bytes >= share;
        if had {
            self.closed_bytes = 0;
        }
        had
    }

    /// The open batch shall leave as soon as it may, if it is still `id` (or whichever it is).
    pub(super) fn let_leave(&mut self, id: Option<u64>) {
        self.leave |= self.open.as_ref().is_some_and(|open| id.is_none_or(|id| id == open.id));
    }

    /// The completions of everything that was taken and has no outcome yet, in order.
    pub(super) fn unsettled(&self) -> Vec<Arc<Completion>> {
        let batches = self.in_flight.iter().chain(&self.waiting).chain(&self.open);
        batches.map(|batch| Arc::clone(&batch.completion)).collect()
    }

    /// True where the caller shall drive the lane now: call [`Lane::step`] until it says otherwise.
    #[inline]
    pub(super) fn begin_drive(&mut self) -> bool {
        let begin = !self.driven && self.has_step();
        self.driven |= begin;
        begin
    }

    #[inline]
    fn has_step(&self) -> bool {
        match self.mode {
            _ if self.abandoned => false,
            Mode::Unlinked => self.open.is_some() || !self.waiting.is_empty(),
            Mode::Linked => self.may_send(),
            Mode::Draining => self.in_flight.iter().all(|batch| batch.content.came_back()),
            Mode::Recovering => false,
        }
    }

    #[inline]
    fn may_send(&self) -> bool {
        let limit = if self.careful { 1 } else { self.rules.max_in_flight };
        if self.in_flight.len() >= limit {
            return false;
        }
        if !self.waiting.is_empty() {
            return true;
        }
        self.open.is_some() && (self.leave || (self.rules.linger.is_zero() && self.in_flight.is_empty()))
    }

    /// What to do next.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        debug_assert!(self.driven);
        if !self.has_step() {
            self.driven = false;
            return Step::Idle;
        }
        if self.mode != Mode::Linked {
            self.mode = Mode::Recovering;
            self.driven = false;
            // What came back goes out again first, in its order.
            while let Some(mut batch) = self.in_flight.pop_back() {
                if let Content::Failed(bytes) = batch.content {
                    batch.content = Content::Sealed(bytes);
                }
                self.waiting.push_front(batch);
            }
            return Step::Recover;
        }
        if self.waiting.is_empty() {
            self.close_open();
        }
        if self.numbering.is_used_up() {
            self.mode = Mode::Draining;
            return self.step(now);
        }
        let Some(mut batch) = self.waiting.pop_front() else {
            self.driven = false;
            return Step::Idle;
        };
        self.numbering.stamp(&mut batch);
        let content = std::mem::replace(&mut batch.content, Content::Away);
        let left = (batch.opened + self.rules.delivery_timeout).saturating_duration_since(now);
        let id = batch.id;
        self.in_flight.push_back(batch);
        Step::Send { id, content, within: left.max(Duration::from_millis(1)) }
    }

    /// The leader cannot be used any more, or does not want to be.
    pub(super) fn unlink(&mut self) {
        if self.mode == Mode::Linked {
            self.mode = Mode::Draining;
        }
    }

    /// A leader was found: batches of up to `limit` bytes may leave. Where some came back as too large, what is larger goes on in
    /// parts, in its order, and a record that is too large alone fails.
    pub(super) fn link(&mut self, limit: usize, terms: LinkTerms) -> Vec<Settled> {
        debug_assert_eq!(self.mode, Mode::Recovering);
        self.mode = Mode::Linked;
        self.numbering.link(terms);
        let mut settled = Vec::new();
        if self.waiting.iter().any(|batch| matches!(batch.content, Content::Oversized(_))) {
            // It may have been opened under a higher limit.
            self.close_open();
            for batch in std::mem::take(&mut self.waiting) {
                settled.extend(self.fit(batch, limit));
            }
        }
        if self.numbering.is_used_up() {
            // What was too large leaves a gap: what comes behind it begins anew.
            self.mode = Mode::Draining;
        }
        self.undone_by(settled)
    }

    /// The broker answered, or did not. `payload` are the bytes that were sent.
    pub(super) fn answered(
        &mut self,
        id: u64,
        answer: Result<Receipt, ClientError>,
        payload: Bytes,
        now: Instant,
    ) -> Option<Settled> {
        let at = self.in_flight.iter().position(|batch| batch.id == id)?;
        let error = match answer {
            Ok(receipt) => {
                self.careful = false;
                if self.is_success(now) {
                    self.failures = 0;
                }
                let mut batch = self.in_flight.remove(at)?;
                batch.content = Content::Sealed(payload);
                let maybe_twice = batch.maybe_written && !self.numbering.tells_twice(&batch);
                let receipt = Receipt { maybe_twice, ..receipt };
                return Some(Settled::new(batch, Ok(receipt)));
            }
            Err(error) => error,
        };
        if self.abandoned {
            return self.in_flight.remove(at).map(Settled::abandoned);
        }
        let too_large = error.code() == Some(ErrorCode::TooLarge);
        let of_number = error.code().filter(|code| numbering::is_about_numbers(*code));
        if let ClientError::Broker(refusal) = &error
            && !refusal.code.is_retriable()
            && !too_large
            && of_number.is_none()
        {
            let mut batch = self.in_flight.remove(at)?;
            batch.content = Content::Sealed(payload);
            // Refused now, but perhaps written by an earlier try, or by this one before the disk failed.
            batch.maybe_written |= error.outcome_is_unknown();
            let outcome = Err(if batch.maybe_written {
                let after = now.saturating_duration_since(batch.opened);
                SendError::Unknown { after, cause: Box::new(error) }
            } else {
                SendError::Rejected(refusal.clone())
            });
            self.numbering.dropped(&batch);
            if self.numbering.is_used_up() && self.mode == Mode::Linked {
                self.mode = Mode::Draining;
            }
            return Some(Settled::new(batch, outcome));
        }
        if let Some(batch) = self.in_flight.get_mut(at) {
            batch.maybe_written |= error.outcome_is_unknown();
            batch.refused = of_number;
            batch.content = if too_large { Content::Oversized(payload) } else { Content::Failed(payload) };
        }
        // Many batches fail with one connection, and that is one failure.
        if self.mode == Mode::Linked {
            self.failed(error, now);
            self.careful = true;
            self.mode = Mode::Draining;
        } else {
            // No further failure, but what there is to tell of it.
            self.last_error.get_or_insert(error);
        }
        None
    }

    /// A try to reach the leader failed.
    pub(super) fn failed(&mut self, error: ClientError, now: Instant) {
        self.failures += 1;
        self.last_error = Some(error);
        self.failed_at = Some(now);
    }

    /// How long to wait before the leader is looked for, and since when what is known of it is not to be trusted.
    pub(super) fn recovery(&self, backoff: Backoff) -> (Duration, Option<Instant>) {
        let error = self.last_error.as_ref().filter(|_| self.failures > 0);
        let pause = error.map_or(Duration::ZERO, |error| backoff.draw_for(self.failures, error));
        // Where the transaction before is still being ended, the leader is not in doubt.
        (pause, self.failed_at.filter(|_| !error.is_some_and(ClientError::is_about_the_transaction_before)))
    }

    /// While recovering: takes the batches whose time is over. Says when the next one's is; `None` where nothing is left. `silence` is what
    /// stood in the way where nothing has failed: what is asked now is not answered yet.
    pub(super) fn expire(
        &mut self,
        now: Instant,
        silence: impl Fn() -> ClientError,
    ) -> (Vec<Settled>, Option<Instant>) {
        debug_assert_eq!(self.mode, Mode::Recovering);
        let timeout = self.rules.delivery_timeout;
        self.numbering.judge(&mut self.waiting);
        let mut settled = Vec::new();
        if self.open.as_ref().is_some_and(|open| open.opened + timeout <= now) {
            self.close_open();
        }
        while let Some(batch) = self.waiting.pop_front_if(|batch| batch.opened + timeout <= now) {
            self.numbering.dropped(&batch);
            let cause = Box::new(self.last_error.clone().unwrap_or_else(&silence));
            let outcome = Err(match batch.maybe_written {
                true => SendError::Unknown { after: timeout, cause },
                false => SendError::Expired { after: timeout, cause },
            });
            settled.push(Settled::new(batch, outcome));
        }
        for batch in self.numbering.begin_anew(&mut self.waiting) {
            let cause = Box::new(self.last_error.clone().unwrap_or(ClientError::Closed));
            let after = now.saturating_duration_since(batch.opened);
            settled.push(Settled::new(batch, Err(SendError::Unknown { after, cause })));
        }
        let settled = self.undone_by(settled);
        let next = self.waiting.front().or(self.open.as_ref()).map(|batch| batch.opened + timeout);
        (settled, next)
    }

    /// While recovering: what the lane needs of the cluster before batches may leave.
    pub(super) fn wants(&self) -> Option<numbering::Wants> {
        self.numbering.wants()
    }

    /// While recovering: stops where nothing is left to recover for. What comes later begins anew, without a pause.
    pub(super) fn rest(&mut self) -> bool {
        debug_assert_eq!(self.mode, Mode::Recovering);
        let rests = self.waiting.is_empty() && self.open.is_none();
        if rests {
            self.mode = Mode::Unlinked;
            self.failures = 0;
        }
        rests
    }

    /// While recovering: gives up everything, as the topic is gone.
    pub(super) fn give_up(&mut self, error: &ClientError) -> Vec<Settled> {
        debug_assert_eq!(self.mode, Mode::Recovering);
        self.close_open();
        self.mode = Mode::Unlinked;
        self.failures = 0;
        self.abandoned = self.rules.transaction.is_some();
        let waiting = std::mem::take(&mut self.waiting);
        waiting.iter().for_each(|batch| self.numbering.dropped(batch));
        let timeout = self.rules.delivery_timeout;
        let settle = |batch: Batch| {
            let outcome = if batch.maybe_written {
                Err(SendError::Unknown { after: timeout, cause: Box::new(error.clone()) })
            } else {
                Err(SendError::Client(error.clone()))
            };
            Settled::new(batch, outcome)
        };
        waiting.into_iter().map(settle).collect()
    }
}
