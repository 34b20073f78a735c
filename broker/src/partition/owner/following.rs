//! The owner of a partition that is followed here: carries out what the follower machine asks for. Knows nothing of leading, nor of how
//! questions reach the leader.

use std::collections::VecDeque;
use std::time::Instant;

use bytes::Bytes;
use smallvec::SmallVec;
use tidelog_log::{AppendError, Group, Log};
use tidelog_protocol::messages::ProducersSnapshot;
use tidelog_protocol::records::BatchHeader;
use tidelog_protocol::{Durability, Monotonic, Offset};
use tidelog_replication::{BatchSpan, FollowAnswer, FollowOutcome, Follower, FollowerEffect, ReplicaProgress, Take};
use tracing::{info, warn};

use super::{Owner, Role};
use crate::partition::command::Replicated;
use crate::partition::continuation::Continuation;
use crate::partition::upstream::{Attempt, Question};

/// A question that nothing came of for so long, in milliseconds, is asked again: a net below the connection's own deadlines.
const SILENCE_MS_MAX: u64 = 10_000;
/// What is copied and nobody waits for is flushed in pieces of about so many bytes: each flush has a price of its own, and a large one keeps the
/// disk from those that are waited for.
const UNAWAITED_FLUSH_BYTES: u64 = 1 << 20;

/// How the search for, and the stream from, the leader stand.
#[derive(Default)]
pub(super) struct Pursuit {
    /// The last question.
    attempt: Attempt,
    /// As last reported.
    reported: Option<ReplicaProgress>,
    /// To be deleted here, because it is at the leader.
    deletable: Option<Offset>,
    /// Under way already.
    deleting: Option<Offset>,
    /// Bytes that were written since a flush was asked for.
    unflushed_bytes: u64,
    /// The last question when time last passed, and since when it has been the last.
    waiting: Option<(Attempt, Monotonic)>,
}

impl Pursuit {
    /// What was asked or promised under way counts no more.
    pub(super) fn end(&mut self) {
        *self = Self { attempt: self.attempt.next(), ..Self::default() };
    }

    pub(super) fn take_deletable(&mut self) -> Option<Offset> {
        let to = self.deletable.take()?;
        self.deleting = Some(to);
        Some(to)
    }

    pub(super) const fn deleted(&mut self) {
        self.deleting = None;
    }

    fn may_delete(&mut self, to: Offset) {
        if self.deleting < Some(to) {
            self.deletable = Some(to);
        }
    }
}

impl Owner {
    /// An answer to the question `attempt`, unless another was asked since.
    pub(super) fn pursue(&mut self, attempt: Attempt, input: impl FnOnce(&mut Follower, &mut Vec<FollowerEffect>)) {
        if attempt == self.pursuit.attempt {
            self.drive(input);
        }
    }

    /// Gives the follower an input and does what it asks for. Nothing while this replica does not follow.
    pub(super) fn drive(&mut self, input: impl FnOnce(&mut Follower, &mut Vec<FollowerEffect>)) {
        if self.ended.is_some() {
            return;
        }
        let Role::Follows(follower) = &mut self.role else { return };
        let mut effects = Vec::new();
        input(follower, &mut effects);
        self.carry_out(effects);
    }

    /// Time has passed.
    pub(super) fn pursuit_tick(&mut self, now: Monotonic) {
        let Role::Follows(follower) = &self.role else { return };
        let asked = self.pursuit.attempt;
        if follower.is_fetching() {
            // Its last word may have come while the leader had no lease.
            self.pursuit.waiting = None;
            self.pursuit.reported = None;
            return self.drive(|follower, out| follower.report(out));
        }
        match self.pursuit.waiting {
            Some((attempt, since)) if attempt == asked => {
                if now.ms_since(since) > SILENCE_MS_MAX {
                    self.drive(|follower, out| follower.interrupted(out));
                }
            }
            _ => self.pursuit.waiting = Some((asked, now)),
        }
    }

    pub(super) fn replicated(&mut self, replicated: Replicated) {
        let Replicated { attempt, offer, payload, headers, taken } = replicated;
        if attempt == self.pursuit.attempt {
            self.take(offer, payload, headers);
        }
        taken();
    }

    fn take(&mut self, offer: tidelog_replication::Offer, payload: Bytes, headers: SmallVec<[BatchHeader; 4]>) {
        let Role::Follows(follower) = &mut self.role else { return };
        if self.ended.is_some() {
            return;
        }
        let end = self.log.as_ref().map_or(Offset::ZERO, Log::end);
        let Continuation { payload, headers } = Continuation { payload, headers }.continuing(end);
        let mut effects = Vec::new();
        let from = match follower.offered(offer, headers.iter().map(span), &mut effects) {
            Ok(Take::Nothing) => return self.carry_out(effects),
            Ok(Take::From(from)) => Ok(from),
            Ok(Take::RestartAt(at)) => self.restart_within_batch(at).map(|()| at),
            Err(broken) => {
                warn!(partition = %self.name, ?broken, "what the leader pushed does not continue the log here: it is asked anew");
                self.carry_out(effects);
                // Not at once: what is broken there may stay so.
                return self.ask(Question::Pause);
            }
        };
        let appended = from.and_then(|from| self.append_exact(from, &payload, &headers));
        self.carry_out(effects);
        self.ask_for_flush(offer);
        match appended {
            Ok(()) => {}
            Err(error) => self.not_taken(&error),
        }
    }

    /// Appends the batches that begin at `from` or later, byte for byte.
    fn append_exact(&mut self, from: Offset, payload: &[u8], headers: &[BatchHeader]) -> Result<(), AppendError> {
        let (Some(log), Role::Follows(follower)) = (&mut self.log, &mut self.role) else { return Ok(()) };
        let mut groups: SmallVec<[Group<'_>; 8]> = SmallVec::new();
        let mut spans: SmallVec<[BatchSpan; 8]> = SmallVec::new();
        let (mut position, mut records) = (0, 0);
        for header in headers {
            let end = position + header.total_bytes();
            if header.base_offset >= from {
                groups.push(Group::new(&payload[position..end], std::slice::from_ref(header)));
                spans.push(span(header));
                records += u64::from(header.record_count);
            }
            position = end;
        }
        let mut effects = Vec::new();
        let mut taken = 0;
        let mut outcome = Ok(());
        while taken < groups.len() {
            match log.append_exact(&groups[taken..]) {
                Ok(appended) => {
                    follower.written(spans[taken..taken + appended.groups].iter().copied(), &mut effects);
                    taken += appended.groups;
                }
                Err(error) => {
                    outcome = Err(error);
                    break;
                }
            }
        }
        if taken > 0 {
            self.pursuit.unflushed_bytes += payload.len() as u64;
        }
        if outcome.is_ok() {
            self.topic_metrics.records_in.inc_by(records);
            self.topic_metrics.bytes_in.inc_by(payload.len() as u64);
        }
        self.carry_out(effects);
        outcome
    }

    fn ask_for_flush(&mut self, offer: tidelog_replication::Offer) {
        let unflushed = &mut self.pursuit.unflushed_bytes;
        let Some(log) = self.log.as_ref().filter(|_| self.config.durability == Durability::Flushed && *unflushed > 0)
        else {
            return;
        };
        if offer.is_awaited_at(log.end()) {
            *unflushed = 0;
            log.request_flush();
        } else if *unflushed >= UNAWAITED_FLUSH_BYTES {
            *unflushed = 0;
            log.request_unawaited_flush();
        }
    }

    /// The disk took nothing. A full one is waited for.
    fn not_taken(&mut self, error: &AppendError) {
        if error.is_transient() {
            if let Some(untold) = self.pauses.again(Instant::now()) {
                warn!(partition = %self.name, %error, untold, "following pauses");
            }
            self.ask(Question::Pause);
        } else {
            self.poison(&error.to_string());
        }
    }

    fn ask(&mut self, question: Question) {
        let Role::Follows(follower) = &self.role else { return };
        let leader = follower.following().leader;
        self.pursuit.attempt = self.pursuit.attempt.next();
        // A leader that is asked anew knows nothing of what was reported before.
        self.pursuit.reported = None;
        self.upstream.ask(self.replica, leader, self.pursuit.attempt, question);
    }

    /// Does what the follower asked for, in that order.
    pub(super) fn carry_out(&mut self, effects: Vec<FollowerEffect>) {
        let mut queue = VecDeque::from(effects);
        while let Some(effect) = queue.pop_front() {
            let mut more = Vec::new();
            let done = match effect {
                FollowerEffect::AskEpochEnd { leader_epoch, epoch } => {
                    self.ask(Question::EpochEnd { leader_epoch, epoch });
                    Ok(())
                }
                FollowerEffect::Follow(terms) => {
                    let complete = |log: &Log| log.with_producers(|producers| producers.is_complete());
                    let wants_producers = !self.log.as_ref().is_some_and(complete);
                    self.ask(Question::Follow { terms, wants_producers });
                    Ok(())
                }
                FollowerEffect::Report(progress) => {
                    self.report(progress);
                    Ok(())
                }
                FollowerEffect::Truncate { to, settled_lost } => self.truncate(to, settled_lost, &mut more),
                FollowerEffect::RestartAt { at, settled_lost } => self.restart(at, settled_lost, &mut more),
                // Published with the tail.
                FollowerEffect::RaiseWatermark(_) => Ok(()),
                FollowerEffect::RaiseLogStart(to) => {
                    self.pursuit.may_delete(to);
                    Ok(())
                }
            };
            if let Err(error) = done {
                return self.not_taken(&error);
            }
            queue.extend(more);
        }
    }

    fn truncate(&mut self, to: Offset, settled_lost: u64, more: &mut Vec<FollowerEffect>) -> Result<(), AppendError> {
        let (Some(log), Role::Follows(follower)) = (&mut self.log, &mut self.role) else { return Ok(()) };
        let before = log.end();
        let end = log.truncate_to(to)?;
        let (epoch, cut) = (follower.following().epoch, before.since(end));
        if settled_lost > 0 {
            warn!(partition = %self.name, %epoch, records = cut, settled_lost, %end, "cut where the log parts from its leader's: records that had been settled are lost with it");
        } else {
            info!(partition = %self.name, %epoch, records = cut, %end, "cut where the log parts from its leader's");
        }
        follower.truncated(end, more);
        follower.flushed(log.reader().flushed_end(), more);
        Ok(())
    }

    fn restart(&mut self, at: Offset, settled_lost: u64, more: &mut Vec<FollowerEffect>) -> Result<(), AppendError> {
        let (Some(log), Role::Follows(follower)) = (&mut self.log, &mut self.role) else { return Ok(()) };
        let (log_start, log_end) = (log.reader().log_start(), log.end());
        log.restart_at(at)?;
        if settled_lost > 0 {
            warn!(partition = %self.name, %log_start, %log_end, settled_lost, %at, "emptied: the leader's log begins elsewhere, and records that had been settled are lost");
        } else if log_start < log_end {
            warn!(partition = %self.name, %log_start, %log_end, %at, "emptied: nothing that is here is in the leader's log, which begins elsewhere or holds less");
        } else {
            info!(partition = %self.name, %log_start, %log_end, %at, "the leader's log begins elsewhere");
        }
        follower.restarted(at, more);
        Ok(())
    }

    /// The log is empty and its first batch begins before the leader's log start: what the leader said of producers still holds.
    fn restart_within_batch(&mut self, at: Offset) -> Result<(), AppendError> {
        let told = self.log.as_ref().map(|log| log.with_producers(|producers| producers.snapshot()));
        self.restart(at, 0, &mut Vec::new())?;
        if let (Some(log), Some(told)) = (&self.log, told) {
            log.adopt_producers(&told);
        }
        Ok(())
    }

    /// The leader has said what it knows of producers.
    pub(super) fn adopt_producers(
        &mut self,
        attempt: Attempt,
        answer: &FollowAnswer,
        producers: Option<&ProducersSnapshot>,
    ) {
        let (Some(log), Some(producers)) = (&self.log, producers) else { return };
        if attempt != self.pursuit.attempt || answer.outcome != FollowOutcome::Streams {
            return;
        }
        if log.adopt_producers(producers) {
            info!(partition = %self.name, producers = producers.producers.len(), "knows the producers of what lies before its log, from its leader");
        } else {
            warn!(partition = %self.name, "what the leader says of producers makes no sense; nothing is known here of those before the log");
        }
    }

    fn report(&mut self, progress: ReplicaProgress) {
        let Role::Follows(follower) = &self.role else { return };
        let news = self.pursuit.reported.is_none_or(|known| {
            let counts = |progress: ReplicaProgress| (progress.epoch, progress.ends.end(self.config.durability));
            counts(known) != counts(progress)
        });
        if news {
            self.pursuit.reported = Some(progress);
            self.upstream.report(self.replica, follower.following().leader, progress);
        }
    }
}

fn span(header: &BatchHeader) -> BatchSpan {
    BatchSpan {
        base_offset: header.base_offset,
        next_offset: header.next_offset(),
        // Never taken without one: the log refuses it too.
        epoch: header.leader_epoch.unwrap_or_default(),
    }
}
