//! The owner's part in transactions: markers that end them, and batches that wait until the coordinator has said that the partition is part of
//! theirs. Knows nothing of how the coordinator is asked.
//!
//! What waits for a word keeps its order: everything of a producer goes behind what of it waits. Several batches of one transaction ask once.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use tidelog_protocol::messages::Acks;
use tidelog_protocol::{ErrorCode, ProducerId, WireError};
use tidelog_replication::{AppendedRange, MarkerAdmission, MarkerEpoch, Refusal, SequenceFault, Word};

use super::leading::Waiter;
use super::{Owner, Role};
use crate::partition::command::{Append, Ticket};
use crate::partition::marker::Marker;
use crate::partition::refusals;

/// So many transactions may wait for a word at once.
const QUESTIONS_MAX: usize = 1_000;
/// Nobody waits longer for a word: what a log knows of an earlier marker is kept for much longer than that.
const WORD_WAIT_MAX: Duration = Duration::from_secs(60);
/// Nor longer for a marker; the coordinator sends it again.
const MARKER_WAIT_MAX: Duration = Duration::from_secs(10);

/// Batches that wait for a coordinator's word.
#[derive(Default)]
pub(super) struct Words {
    waiting: HashMap<ProducerId, Waiting>,
    bytes: u64,
    /// Nobody has waited long enough before.
    earliest_deadline: Option<Instant>,
}

struct Waiting {
    /// What was asked for.
    word: Word,
    since: Instant,
    appends: VecDeque<Append>,
}

impl Words {
    /// The producer in the batches of which something waits already.
    fn waiting_for(&self, append: &Append) -> Option<ProducerId> {
        if self.waiting.is_empty() {
            return None;
        }
        let mut producers = append.batches.headers().iter().map(|header| header.producer_id);
        producers.find(|producer| self.waiting.contains_key(producer))
    }

    fn has_room(&self, append: &Append, bytes_max: u64) -> bool {
        let bytes = append.batches.payload().len() as u64;
        self.waiting.len() < QUESTIONS_MAX && (self.bytes == 0 || self.bytes + bytes <= bytes_max)
    }

    fn take(&mut self, producer: ProducerId) -> Option<Waiting> {
        let taken = self.waiting.remove(&producer)?;
        let bytes: usize = taken.appends.iter().map(|append| append.batches.payload().len()).sum();
        self.bytes -= bytes as u64;
        Some(taken)
    }

    pub(super) const fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest_deadline
    }

    fn wakes_at(&mut self, deadline: Instant) {
        self.earliest_deadline = Some(self.earliest_deadline.map_or(deadline, |earliest| earliest.min(deadline)));
    }

    fn expired(&mut self, now: Instant) -> Vec<Append> {
        let mut expired = Vec::new();
        let late: Vec<ProducerId> = {
            let late = self.waiting.iter().filter(|(_, waiting)| now >= waiting.since + WORD_WAIT_MAX);
            late.map(|(producer, _)| *producer).collect()
        };
        expired.extend(late.into_iter().filter_map(|producer| self.take(producer)).flat_map(|taken| taken.appends));
        for waiting in self.waiting.values_mut() {
            let is_due = |append: &Append| append.deadline.is_some_and(|deadline| deadline <= now);
            if waiting.appends.iter().any(is_due) {
                let (due, rest) = std::mem::take(&mut waiting.appends).into_iter().partition(is_due);
                waiting.appends = rest;
                let due: VecDeque<Append> = due;
                self.bytes -= due.iter().map(|append| append.batches.payload().len() as u64).sum::<u64>();
                expired.extend(due);
            }
        }
        let of = |waiting: &Waiting| {
            let deadlines = waiting.appends.iter().filter_map(|append| append.deadline);
            deadlines.chain([waiting.since + WORD_WAIT_MAX]).min()
        };
        self.earliest_deadline = self.waiting.values().filter_map(of).min();
        expired
    }
}

impl Owner {
    /// Puts an append behind what waits of its producer, if anything does. Gives it back otherwise.
    pub(super) fn unless_behind(&mut self, append: Append) -> Option<Append> {
        let Some(producer) = self.words.waiting_for(&append) else { return Some(append) };
        self.queue(producer, append);
        None
    }

    /// Asks whether the partition is part of a transaction that begins with this append, which waits for the answer.
    pub(super) fn ask_for_word(&mut self, word: Word, mut append: Append, now: Instant) {
        let Some(ask) = append.ask.take() else {
            let sentence = "a transactional batch needs the name under which its producer has its transactions: nothing was written";
            return self.refuse(append, WireError::new(ErrorCode::InvalidTransactionalId, sentence));
        };
        if !self.words.has_room(&append, self.queue_bytes_max) {
            return self.refuse(append, too_many());
        }
        let waiting = Waiting { word, since: now, appends: VecDeque::new() };
        self.words.waiting.insert(word.producer, waiting);
        self.queue(word.producer, append);
        ask(word);
    }

    fn queue(&mut self, producer: ProducerId, append: Append) {
        if self.words.bytes > 0 && !self.words.has_room(&append, self.queue_bytes_max) {
            return self.refuse(append, too_many());
        }
        if let Some(waiting) = self.words.waiting.get_mut(&producer) {
            self.words.bytes += append.batches.payload().len() as u64;
            let ends = waiting.since + WORD_WAIT_MAX;
            let deadline = append.deadline.map_or(ends, |deadline| deadline.min(ends));
            waiting.appends.push_back(append);
            self.words.wakes_at(deadline);
        }
    }

    /// The coordinator has answered: what waited is judged anew, in its order.
    pub(super) fn word_given(&mut self, word: Word, result: &Result<(), WireError>, now: Instant) {
        if self.words.waiting.get(&word.producer).is_none_or(|waiting| waiting.word != word) {
            return;
        }
        let Some(waiting) = self.words.take(word.producer) else { return };
        for append in waiting.appends {
            let is_of_it = append.batches.headers().iter().any(|header| {
                let is_its = (header.producer_id, header.producer_epoch) == (word.producer, word.epoch);
                is_its && header.attributes.is_transactional()
            });
            match result {
                Err(error) if is_of_it => self.refuse(append, error.clone()),
                Ok(()) => self.append_with(append, Some(word), now),
                Err(_) => self.append_with(append, None, now),
            }
        }
    }

    /// The transaction that was asked about has ended, and the next one has the same epoch: what comes back would be taken for its word.
    fn void_word(&mut self, ended: Word) {
        if self.words.waiting.get(&ended.producer).is_none_or(|waiting| waiting.word != ended) {
            return;
        }
        for append in self.words.take(ended.producer).into_iter().flat_map(|waiting| waiting.appends) {
            let sentence =
                "the transaction ended while its coordinator was asked for this partition; nothing was written";
            self.refuse(append, WireError::new(ErrorCode::UnknownTransaction, sentence));
        }
    }

    /// Nobody waits for a word beyond a deadline.
    pub(super) fn expire_words(&mut self, now: Instant) {
        for append in self.words.expired(now) {
            let sentence = "the deadline passed while the transaction's coordinator was asked; nothing was written";
            self.refuse(append, WireError::new(ErrorCode::DeadlineExceeded, sentence));
        }
    }

    /// Whatever the coordinator says now is for another leadership.
    pub(super) fn fail_words(&mut self, error: &WireError) {
        for waiting in std::mem::take(&mut self.words).waiting.into_values() {
            for append in waiting.appends {
                self.refuse(append, error.clone());
            }
        }
    }

    /// Writes a marker, unless it stands. The ticket is answered once it does on all in-sync replicas.
    pub(super) fn write_marker(&mut self, marker: &Marker, ticket: Ticket<()>, now: Instant) {
        let admission = match self.admit_marker(marker) {
            Ok(admission) => admission,
            Err(refusal) => return ticket(Err(refusal)),
        };
        if marker.carries == MarkerEpoch::Own {
            self.void_word(marker.word());
        }
        let Role::Leads(leader) = &mut self.role else { return ticket(Err(refusals::not_leader())) };
        let deadline = now + MARKER_WAIT_MAX;
        self.appends.wakes_at(deadline);
        let waiter = Waiter::new(Some(deadline), Box::new(move |result| ticket(result.map(drop))));
        match admission {
            MarkerAdmission::Stands { next_offset } => {
                let range = AppendedRange { base_offset: next_offset, next_offset, bytes: 0 };
                leader.duplicated(range, Acks::All, waiter, &mut self.effects);
            }
            MarkerAdmission::Append => {
                let batches = marker.batches();
                let base_offset = leader.offsets().log_end();
                let range = AppendedRange { base_offset, next_offset: base_offset.plus(1), bytes: 0 };
                leader.sequenced(batches.headers());
                leader.appended(range, Acks::All, waiter);
                self.appends.push(batches, None);
            }
        }
    }

    fn admit_marker(&self, marker: &Marker) -> Result<MarkerAdmission, WireError> {
        let (Role::Leads(leader), Some(log), None) = (&self.role, &self.log, &self.ended) else {
            return Err(self.not_served().unwrap_or_else(refusals::not_leader));
        };
        let word = marker.word();
        if word.producer < ProducerId(0) || word.epoch.0 < 0 {
            return Err(WireError::new(ErrorCode::Malformed, "a marker names a producer and an epoch"));
        }
        if !self.space.has_room() {
            return Err(refusals::storage_full("free space is below disk_free_min_bytes"));
        }
        let admission = log.with_producers(|producers| match leader.admit_marker(word, marker.carries, producers) {
            Err(Refusal::Sequence { fault: SequenceFault::TooMany { .. }, .. }) => {
                producers.make_room(leader.offsets().high_watermark());
                leader.admit_marker(word, marker.carries, producers)
            }
            admission => admission,
        });
        Ok(admission?)
    }
}

fn too_many() -> WireError {
    let sentence = "too much waits for coordinators of transactions here already; nothing was written";
    WireError { retry_after_ms: 50, ..WireError::new(ErrorCode::Overloaded, sentence) }
}
