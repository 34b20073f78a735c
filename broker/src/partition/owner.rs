//! The owner of one partition: a step function over commands, the only place where the partition's state changes. It drives the
//! pure leader machine and the log, publishes the tail, then answers. Knows nothing of threads: whoever runs it is alone.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use smallvec::SmallVec;
use tidelog_coordination::TopicConfig;
use tidelog_log::{AppendError, Group, Log, SpaceGuard};
use tidelog_protocol::messages::Acks;
use tidelog_protocol::records::ValidBatches;
use tidelog_protocol::{ErrorCode, LeaderEpoch, Offset, Timestamp, WireError};
use tidelog_replication::{
    AckFailure, AppendedRange, Effects, EpochHistory, Leader, Leadership, PartitionOffsets, Released,
};
use tokio::sync::watch;
use tracing::{error, warn};

use super::command::{Acked, Append, Command, Ticket};
use super::refusals;
use super::tail::Tail;
use crate::budget::Lent;
use crate::metrics::{Metrics, TopicMetrics};

/// Appends are written together up to this many batches' worth of frames; more only delays the first.
const WRITE_TOGETHER_MAX: usize = 256;

/// Who waits for an append, and until when.
struct Waiter {
    deadline: Option<Instant>,
    ticket: Ticket<Acked>,
}

/// What an owner is made of.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) log: Log,
    pub(super) leadership: Leadership,
    pub(super) config: TopicConfig,
    pub(super) tail: watch::Sender<Tail>,
    pub(super) space: Arc<SpaceGuard>,
    pub(super) topic_metrics: TopicMetrics,
    pub(super) metrics: Arc<Metrics>,
}

/// The owner.
pub(super) struct Owner {
    name: String,
    /// `None` once closed or deleted.
    log: Option<Log>,
    leader: Leader<Waiter>,
    leadership: Leadership,
    config: TopicConfig,
    effects: Effects<Waiter>,
    /// No deadline of those that wait is before this one.
    earliest_deadline: Option<Instant>,
    /// Admitted, given offsets, not yet written.
    unwritten: Vec<ValidBatches>,
    unwritten_memory: Vec<Lent>,
    unwritten_records: u64,
    unwritten_bytes: u64,
    tail: watch::Sender<Tail>,
    ended: Option<WireError>,
    failure: String,
    /// Base of the active segment, and when it was first seen to hold records.
    active_since: Option<(Offset, Timestamp)>,
    space: Arc<SpaceGuard>,
    topic_metrics: TopicMetrics,
    metrics: Arc<Metrics>,
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Owner").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Owner {
    pub(super) fn new(parts: Parts, offsets: PartitionOffsets, epochs: EpochHistory) -> Self {
        let leader = Leader::new(offsets, epochs, &parts.leadership);
        let mut owner = Self {
            name: parts.name,
            log: Some(parts.log),
            leader,
            leadership: parts.leadership,
            config: parts.config,
            effects: Effects::new(),
            earliest_deadline: None,
            unwritten: Vec::new(),
            unwritten_memory: Vec::new(),
            unwritten_records: 0,
            unwritten_bytes: 0,
            tail: parts.tail,
            ended: None,
            failure: String::new(),
            active_since: None,
            space: parts.space,
            topic_metrics: parts.topic_metrics,
            metrics: parts.metrics,
        };
        owner.publish();
        owner
    }

    /// What is published of an owner that has not run yet.
    pub(super) fn first_tail(epoch: LeaderEpoch) -> Tail {
        Tail {
            log_start: Offset::ZERO,
            last_stable: Offset::ZERO,
            high_watermark: Offset::ZERO,
            log_end: Offset::ZERO,
            leader_epoch: epoch,
            ended: None,
        }
    }

    /// Does everything that waits. Appends in a row become one write; the tail is published before anybody is answered, so that
    /// whoever hears of an ack can read what was acknowledged.
    ///
    /// `now` is no earlier than when the last of the commands came.
    pub(super) fn step(&mut self, commands: &mut VecDeque<Command>, now: Instant) {
        for command in commands.drain(..) {
            match command {
                Command::Append(append) => {
                    self.admit(append, now);
                    if self.unwritten.len() >= WRITE_TOGETHER_MAX {
                        self.write();
                    }
                }
                other => {
                    self.write();
                    self.act(other, now);
                }
            }
        }
        self.write();
        self.settle();
    }

    /// When somebody who waits may have waited long enough: the owner wants to be told [`Command::Expire`] then.
    pub(super) fn earliest_deadline(&self) -> Option<Instant> {
        self.earliest_deadline
    }

    fn act(&mut self, command: Command, now: Instant) {
        match command {
            Command::Append(append) => self.admit(append, now),
            Command::Expire => self.expire(now),
            Command::Flushed(end) => self.leader.flushed(end, &mut self.effects),
            Command::Poisoned(why) => self.poison(&why),
            Command::DeleteRecords { before, ticket } => ticket(self.delete_records(before)),
            Command::Reconfigure { config, leader_epoch } => self.reconfigure(config, leader_epoch),
            Command::LogStartMoved(to) => self.leader.log_start_moved(to),
            Command::RollIfDue { now } => self.roll_if_due(now),
            Command::Close { ticket } => ticket(self.close()),
            Command::Delete { ticket } => ticket(self.delete()),
        }
    }

    fn admit(&mut self, append: Append, now: Instant) {
        if let Err(refusal) = self.admissible(&append, now) {
            self.metrics.produce_refused.inc();
            (append.ticket)(Err(refusal));
            return;
        }
        let base_offset = self.leader.offsets().log_end();
        let records = append.batches.records();
        let bytes = append.batches.payload().len();
        let range = AppendedRange { base_offset, next_offset: base_offset.plus(records), bytes: 0 };
        if append.terms.acks != Acks::None
            && let Some(deadline) = append.deadline
        {
            let earliest = self.earliest_deadline.get_or_insert(deadline);
            *earliest = deadline.min(*earliest);
        }
        let waiter = Waiter { deadline: append.deadline, ticket: append.ticket };
        self.leader.appended(range, append.terms.acks, waiter);
        self.unwritten.push(append.batches);
        self.unwritten_memory.extend(append.lent);
        self.unwritten_records += records;
        self.unwritten_bytes += bytes as u64;
    }

    fn admissible(&self, append: &Append, now: Instant) -> Result<(), WireError> {
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
        self.leader.admit(&append.terms)?;
        Ok(())
    }

    /// Writes what was admitted, all of it or none.
    fn write(&mut self) {
        if self.unwritten.is_empty() {
            return;
        }
        match self.append_all() {
            Ok(()) => {
                self.topic_metrics.records_in.inc_by(self.unwritten_records);
                self.topic_metrics.bytes_in.inc_by(self.unwritten_bytes);
            }
            Err(error) if error.is_transient() => {
                self.failure = error.to_string();
                self.leader.append_abandoned(AckFailure::StorageFull, &mut self.effects);
            }
            Err(error) => self.poison(&error.to_string()),
        }
        self.unwritten.clear();
        self.unwritten_memory.clear();
        self.unwritten_records = 0;
        self.unwritten_bytes = 0;
    }

    /// One write per segment that the batches fall into.
    fn append_all(&mut self) -> Result<(), AppendError> {
        let Some(log) = &mut self.log else { return Ok(()) };
        let groups: SmallVec<[Group<'_>; 8]> =
            self.unwritten.iter().map(|batches| Group::new(batches.payload(), batches.headers())).collect();
        let mut written = 0;
        while written < groups.len() {
            let appended = log.append(&groups[written..], self.leader.epoch())?;
            written += appended.groups;
            self.leader.written(appended.next_offset, &mut self.effects);
        }
        Ok(())
    }

    /// Publishes, answers, and asks for the flush that somebody waits for.
    fn settle(&mut self) {
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
            (failed.ticket.ticket)(Err(refusals::of_ack(failed.cause, &self.failure)));
        }
        self.effects.clear();
        if let Some(log) = &self.log
            && self.leader.flush_wanted().is_some()
        {
            log.request_flush();
        }
    }

    fn publish(&mut self) {
        let offsets = self.leader.offsets();
        let (log_start, last_stable) = (offsets.log_start(), offsets.last_stable());
        let (high_watermark, log_end) = (offsets.high_watermark(), offsets.log_end());
        let leader_epoch = self.leader.epoch();
        let ended = &self.ended;
        self.tail.send_if_modified(|tail| {
            // Readers sleep until they can read more; a log end beyond the watermark is no news to them.
            let news = tail.high_watermark != high_watermark
                || tail.last_stable != last_stable
                || tail.log_start != log_start
                || tail.leader_epoch != leader_epoch
                || tail.ended.is_some() != ended.is_some();
            tail.log_end = log_end;
            if news {
                *tail = Tail { log_start, last_stable, high_watermark, log_end, leader_epoch, ended: ended.clone() };
            }
            news
        });
    }

    fn poison(&mut self, why: &str) {
        if self.leader.is_poisoned() {
            return;
        }
        error!(partition = %self.name, why, "the partition is out of service: a write or flush failed, and a flush that fails is never tried again; restart the broker once the disk is well");
        self.failure = why.into();
        self.leader.poisoned(&mut self.effects);
        self.ended = Some(refusals::poisoned(why));
        self.metrics.partitions_poisoned.inc();
    }

    /// Nobody waits beyond a deadline: not the client, and not the memory that would hold its ticket.
    fn expire(&mut self, now: Instant) {
        let mut earliest: Option<Instant> = None;
        let due = |waiter: &Waiter| {
            let Some(deadline) = waiter.deadline else { return false };
            if deadline > now {
                earliest = Some(earliest.map_or(deadline, |earliest| earliest.min(deadline)));
            }
            deadline <= now
        };
        self.leader.expire(due, &mut self.effects);
        self.earliest_deadline = earliest;
    }

    fn delete_records(&mut self, before: Option<Offset>) -> Result<Offset, WireError> {
        if let Some(ended) = &self.ended {
            return Err(ended.clone());
        }
        Ok(self.leader.delete_before(before)?)
    }

    fn reconfigure(&mut self, config: TopicConfig, leader_epoch: LeaderEpoch) {
        if self.ended.is_some() {
            return;
        }
        if leader_epoch != self.leader.epoch() {
            // One broker leads everything; a new epoch comes with a restart, which opens the partition anew.
            warn!(partition = %self.name, %leader_epoch, "leadership changed under a running owner");
        }
        let (durability, min_in_sync) = (config.durability, self.leadership.min_in_sync);
        if let Some(log) = &self.log {
            // Before the first ack under the new one, and after everything that was appended under the old.
            log.set_durability(durability);
            log.set_segment_bytes(config.segment_bytes);
        }
        self.leader.promises_changed(durability, min_in_sync, &mut self.effects);
        self.config = config;
    }

    /// Retention deletes whole segments: without this a quiet topic would keep its records for ever.
    fn roll_if_due(&mut self, now: Timestamp) {
        let Some(log) = &mut self.log else { return };
        let segment_ms = i64::try_from(self.config.segment_ms).unwrap_or(i64::MAX);
        let active = log.reader().segments().last().filter(|active| active.bytes > 0).map(|active| active.base);
        let since = match (active, self.active_since) {
            (Some(base), Some((known, since))) if base == known => since,
            (Some(base), _) => self.active_since.insert((base, now)).1,
            (None, _) => return,
        };
        let due = now.0.saturating_sub(since.0) >= segment_ms;
        if self.ended.is_none()
            && due
            && let Err(error) = log.roll()
            && !error.is_transient()
        {
            self.poison(&error.to_string());
        }
    }

    fn close(&mut self) -> Result<(), WireError> {
        let Some(log) = self.log.take() else { return Ok(()) };
        let closed = log.close();
        if closed.is_ok() && !self.leader.is_poisoned() {
            // What is durable now is promised; without this, acks that the last flush earned would fail.
            let end = self.leader.offsets().log_end();
            self.leader.flushed(end, &mut self.effects);
        }
        self.end_with(refusals::closed());
        closed.map_err(|error| WireError::new(ErrorCode::StorageFailed, error.to_string()))
    }

    fn delete(&mut self) -> Result<(), WireError> {
        if let Some(log) = self.log.take() {
            log.discard();
        }
        self.end_with(refusals::deleted());
        Ok(())
    }

    fn end_with(&mut self, error: WireError) {
        self.ended.get_or_insert(error);
        self.failure = "the partition was closed".into();
        // Tickets that the last flush did not release will never be released.
        if !self.leader.is_poisoned() {
            let mut effects = Effects::new();
            self.leader.poisoned(&mut effects);
            self.effects.failed.append(&mut effects.failed);
        }
    }
}
