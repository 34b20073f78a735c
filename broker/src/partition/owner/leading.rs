//! The owner of a partition that is led here: admits, writes, answers producers and followers. Knows nothing of following.

use std::time::Instant;

use smallvec::SmallVec;
use tidelog_log::{AppendError, Group};
use tidelog_protocol::messages::Acks;
use tidelog_protocol::records::ValidBatches;
use tidelog_protocol::{ErrorCode, LeaderEpoch, Offset, PartitionEpoch, ProducerId, WireError};
use tidelog_replication::{
    AckFailure, Admission, AppendedRange, EpochEndAnswer, FollowAnswer, FollowOutcome, FollowTerms, Refusal, Released,
    ReplicaProgress, SequenceFault, Word,
};
use tracing::{debug, info};

use super::{Owner, Role};
use crate::budget::Lent;
use crate::partition::assignment::{Assignment, Part};
use crate::partition::command::{Acked, Append, Followed, Tick, Ticket};
use crate::partition::proposal::Proposed;
use crate::partition::refusals;

/// Appends are written together up to this many batches' worth of frames; more only delays the first.
const WRITE_TOGETHER_MAX: usize = 256;

/// How often a leader whose log broke asks others to lead, in milliseconds.
const RESIGN_EVERY_MS: u64 = 5_000;

/// Who waits for an append, and until when.
pub(super) struct Waiter {
    deadline: Option<Instant>,
    ticket: Ticket<Acked>,
}

impl Waiter {
    pub(super) const fn new(deadline: Option<Instant>, ticket: Ticket<Acked>) -> Self {
        Self { deadline, ticket }
    }
}

/// What was admitted, given offsets and is not yet written; and when somebody has waited long enough.
#[derive(Default)]
pub(super) struct Appends {
    unwritten: Vec<ValidBatches>,
    memory: Vec<Lent>,
    records: u64,
    bytes: u64,
    /// No deadline of those that wait is before this one.
    earliest_deadline: Option<Instant>,
}

impl Appends {
    pub(super) const fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest_deadline
    }

    /// Somebody waits until then.
    pub(super) fn wakes_at(&mut self, deadline: Instant) {
        let earliest = self.earliest_deadline.get_or_insert(deadline);
        *earliest = deadline.min(*earliest);
    }

    /// These were given offsets.
    pub(super) fn push(&mut self, batches: ValidBatches, lent: Option<Lent>) {
        self.records += batches.records();
        self.bytes += batches.payload().len() as u64;
        self.unwritten.push(batches);
        self.memory.extend(lent);
    }

    fn clear(&mut self) {
        self.unwritten.clear();
        self.memory.clear();
        (self.records, self.bytes) = (0, 0);
    }
}

impl Owner {
    pub(super) fn append(&mut self, append: Append, now: Instant) {
        self.append_with(append, None, now);
    }

    /// The same with what a coordinator has said.
    pub(super) fn append_with(&mut self, append: Append, word: Option<Word>, now: Instant) {
        let Some(append) = self.unless_behind(append) else { return };
        let admission = match self.admit(&append, word, now) {
            Ok(Admission::AskCoordinator { producer, epoch }) => {
                return self.ask_for_word(Word { producer, epoch }, append, now);
            }
            Ok(admission) => admission,
            Err(refusal) => return self.refuse(append, refusal),
        };
        let Role::Leads(leader) = &mut self.role else { return };
        let appends = &mut self.appends;
        let base_offset = leader.offsets().log_end();
        let records = append.batches.records();
        if append.terms.acks != Acks::None
            && let Some(deadline) = append.deadline
        {
            appends.wakes_at(deadline);
        }
        let waiter = Waiter::new(append.deadline, append.ticket);
        if let Admission::Duplicate { base_offset, next_offset } = admission {
            let range = AppendedRange { base_offset, next_offset, bytes: 0 };
            self.metrics.produce_duplicates.inc();
            return leader.duplicated(range, append.terms.acks, waiter, &mut self.effects);
        }
        let range = AppendedRange { base_offset, next_offset: base_offset.plus(records), bytes: 0 };
        leader.sequenced(append.batches.headers());
        leader.appended(range, append.terms.acks, waiter);
        appends.push(append.batches, append.lent);
        if appends.unwritten.len() >= WRITE_TOGETHER_MAX {
            self.write();
        }
    }

    pub(super) fn refuse(&self, append: Append, refusal: WireError) {
        self.metrics.produce_refused.inc();
        (append.ticket)(Err(refusal));
    }

    fn admit(&self, append: &Append, word: Option<Word>, now: Instant) -> Result<Admission, WireError> {
        let Role::Leads(leader) = &self.role else {
            return Err(self.not_served().unwrap_or_else(refusals::not_leader));
        };
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        if append.deadline.is_some_and(|deadline| deadline <= now) {
            let sentence = "the deadline passed while the request waited; nothing was written";
            return Err(WireError::new(ErrorCode::DeadlineExceeded, sentence));
        }
        let (bytes, segment_bytes) = (append.batches.payload().len() as u64, u64::from(self.config.segment_bytes));
        if bytes > segment_bytes {
            let sentence =
                format!("{bytes} bytes in one request do not fit into a segment of {segment_bytes}; send less at once");
            return Err(WireError::new(ErrorCode::TooLarge, sentence));
        }
        if !self.space.has_room() {
            return Err(refusals::storage_full("free space is below disk_free_min_bytes"));
        }
        let (terms, headers) = (&append.terms, append.batches.headers());
        let is_idempotent = headers.iter().any(|header| header.producer_id >= ProducerId(0));
        let Some(log) = self.log.as_ref().filter(|_| is_idempotent) else {
            leader.admit(terms)?;
            return Ok(Admission::Append);
        };
        let admission =
            log.with_producers(|producers| match leader.admit_with_word(terms, headers, (producers, word)) {
                Err(Refusal::Sequence { fault: SequenceFault::TooMany { .. }, .. }) => {
                    producers.make_room(leader.offsets().high_watermark());
                    leader.admit_with_word(terms, headers, (producers, word))
                }
                admission => admission,
            });
        if let Err(Refusal::Sequence { fault: SequenceFault::TooMany { .. }, .. }) = admission {
            self.metrics.produce_refused_producers.inc();
        }
        Ok(admission?)
    }

    /// Writes what was admitted, all of it or none.
    pub(super) fn write(&mut self) {
        if self.appends.unwritten.is_empty() {
            return;
        }
        match self.append_all() {
            Ok(()) => {
                self.topic_metrics.records_in.inc_by(self.appends.records);
                self.topic_metrics.bytes_in.inc_by(self.appends.bytes);
            }
            Err(error) if error.is_transient() => {
                self.failure = error.to_string();
                if let Role::Leads(leader) = &mut self.role {
                    leader.append_abandoned(AckFailure::StorageFull, &mut self.effects);
                }
            }
            Err(error) => self.poison(&error.to_string()),
        }
        self.appends.clear();
    }

    /// One write per segment that the batches fall into.
    fn append_all(&mut self) -> Result<(), AppendError> {
        let (Some(log), Role::Leads(leader)) = (&mut self.log, &mut self.role) else { return Ok(()) };
        let unwritten = &self.appends.unwritten;
        let groups: SmallVec<[Group<'_>; 8]> =
            unwritten.iter().map(|batches| Group::new(batches.payload(), batches.headers())).collect();
        let mut written = 0;
        while written < groups.len() {
            let appended = log.append(&groups[written..], leader.epoch())?;
            written += appended.groups;
            leader.written(appended.next_offset, &mut self.effects);
        }
        Ok(())
    }

    /// Publishes, answers, wakes followers, and asks for the flush that somebody waits for.
    pub(super) fn settle(&mut self) {
        self.publish();
        for released in self.effects.released.drain(..) {
            let Released {
                ticket,
                base_offset,
                next_offset,
                leader_epoch,
                log_start,
                replicas_written,
                replicas_flushed,
            } = released;
            let acked = Acked { base_offset, next_offset, leader_epoch, log_start, replicas_written, replicas_flushed };
            (ticket.ticket)(Ok(acked));
        }
        for failed in self.effects.failed.drain(..) {
            self.metrics.produce_refused.inc();
            let ended = self.ended.as_ref().map(|ended| ended.code);
            let error = match (ended, failed.cause, &self.ended) {
                (Some(ErrorCode::UnknownTopic), _, Some(deleted)) => deleted.clone(),
                (Some(ErrorCode::NotLeader), AckFailure::StorageFailed, _) => refusals::taken_over(&self.failure),
                (_, cause, _) => refusals::of_ack(cause, &self.failure),
            };
            (failed.ticket.ticket)(Err(error));
        }
        if let Some(proposal) = self.effects.alter_in_sync.take() {
            self.proposals.ask(Proposed { replica: self.replica, proposal });
        }
        self.effects.clear();
        let Role::Leads(leader) = &self.role else {
            // A follower's stream may have to hear that the leadership is over.
            self.followers.wake();
            return;
        };
        if leader.replicas().count() > 1 {
            self.followers.wake();
        }
        if let Some(log) = &self.log
            && leader.flush_wanted().is_some()
        {
            log.request_flush();
        }
    }

    /// Nobody waits beyond a deadline: not the client, and not the memory that would hold its ticket.
    pub(super) fn expire(&mut self, now: Instant) {
        let mut earliest: Option<Instant> = None;
        let due = |waiter: &Waiter| {
            let Some(deadline) = waiter.deadline else { return false };
            if deadline > now {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
            deadline <= now
        };
        if let Role::Leads(leader) = &mut self.role {
            leader.expire(due, &mut self.effects);
        }
        self.appends.earliest_deadline = earliest;
        self.expire_words(now);
    }

    pub(super) fn delete_records(&mut self, before: Option<Offset>) -> Result<Offset, WireError> {
        let refusal = self.not_served();
        match (&mut self.role, refusal) {
            (Role::Leads(leader), None) => Ok(leader.delete_before(before)?),
            (_, refusal) => Err(refusal.unwrap_or_else(refusals::not_leader)),
        }
    }

    /// Time has passed.
    pub(super) fn tick(&mut self, tick: &Tick) {
        let Tick { now, leased, ref barred } = *tick;
        match (self.leased, leased) {
            (true, false) => self.lease_ended(),
            (false, true) => self.lease_renewed(),
            _ => {}
        }
        match &mut self.role {
            Role::Leads(leader) => {
                leader.bar(barred);
                leader.tick(now, &mut self.effects);
                let due = self.resigned.is_none_or(|resigned| now.ms_since(resigned) >= RESIGN_EVERY_MS);
                if due
                    && self.has_heirs
                    && let Some(proposal) = leader.resignation()
                {
                    self.resigned = Some(now);
                    self.effects.alter_in_sync = Some(proposal);
                }
            }
            Role::Follows(_) => self.pursuit_tick(now),
            Role::Waits { .. } => {}
        }
    }

    /// A leader whose log is broken must know what holds now: the controller refuses a resignation that rests on what held before.
    pub(super) fn learn_heirs(&mut self, assignment: &Assignment) {
        if let (Role::Leads(leader), Part::Lead { epoch, membership, .. }) = (&mut self.role, &assignment.part)
            && leader.is_poisoned()
            && leader.epoch() == *epoch
        {
            self.has_heirs = assignment.has_heirs;
            leader.membership_changed(membership, &mut self.effects);
        }
    }

    pub(super) fn lease_ended(&mut self) {
        self.leased = false;
        self.fail_words(&refusals::not_leader());
        if let Role::Leads(leader) = &mut self.role {
            leader.lease_ended(&mut self.effects);
        }
    }

    pub(super) fn lease_renewed(&mut self) {
        self.leased = true;
        if let Role::Leads(leader) = &mut self.role {
            leader.lease_renewed(&mut self.effects);
        }
    }

    pub(super) fn alteration_failed(&mut self, partition_epoch: PartitionEpoch) {
        if let Role::Leads(leader) = &mut self.role {
            leader.alteration_failed(partition_epoch);
        }
    }

    pub(super) fn epoch_end(&self, leader_epoch: LeaderEpoch, epoch: LeaderEpoch) -> Result<EpochEndAnswer, WireError> {
        match (&self.role, self.not_served()) {
            (Role::Leads(leader), None) => Ok(leader.epoch_end(leader_epoch, epoch)?),
            (_, refusal) => Err(refusal.unwrap_or_else(refusals::not_leader)),
        }
    }

    pub(super) fn follow(&mut self, terms: &FollowTerms, wants_producers: bool) -> Result<Followed, WireError> {
        let refusal = self.not_served();
        let answer = match (&mut self.role, refusal) {
            (Role::Leads(leader), None) => {
                let answer = leader.follow(terms)?;
                self.unless_tombstones_are_missing(terms, answer)
            }
            (_, refusal) => return Err(refusal.unwrap_or_else(refusals::not_leader)),
        };
        let told = wants_producers && answer.outcome == FollowOutcome::Streams;
        let log = self.log.as_ref().filter(|_| told);
        Ok(Followed { answer, producers: log.map(|log| log.with_producers(|producers| producers.snapshot())) })
    }

    /// A replica that ends before a tombstone which compaction has dropped here may hold the value that it deleted, and would keep it for
    /// ever: it begins anew, with what the log here holds from its start on.
    fn unless_tombstones_are_missing(&mut self, terms: &FollowTerms, answer: FollowAnswer) -> FollowAnswer {
        // First that it counts, then what was dropped: a pass that has just begun makes known what it drops, then asks who counts.
        self.publish();
        let dropped_below = self.log.as_ref().map_or(Offset::ZERO, |log| log.compaction().dropped_below());
        let is_behind = terms.last_epoch.is_some() && terms.from < dropped_below;
        if is_behind && answer.outcome == FollowOutcome::Streams {
            let (replica, from, log_start) = (terms.replica, terms.from, answer.log_start);
            info!(partition = %self.name, %replica, %from, %dropped_below, %log_start, "a replica ends before records that were deleted and whose deletion is forgotten by now: it begins anew");
            return FollowAnswer { outcome: FollowOutcome::OutOfRange, ..answer };
        }
        answer
    }

    pub(super) fn progress(&mut self, progress: ReplicaProgress) {
        let Role::Leads(leader) = &mut self.role else { return };
        if let Err(refusal) = leader.progress(progress, &mut self.effects) {
            // The follower hears of it when it follows anew.
            debug!(partition = %self.name, %refusal, "a follower's progress does not count");
        }
    }
}
