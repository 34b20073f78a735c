//! The owner of one partition: a step function over commands, the only place where the partition's state changes. It drives the
//! pure leader or follower machine and the log, publishes the tail, then answers. Knows nothing of threads: whoever runs it is alone.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use tidelog_coordination::TopicConfig;
use tidelog_log::{Complaint, Log, SpaceGuard};
use tidelog_protocol::{Durability, ErrorCode, LeaderEpoch, Monotonic, Offset, Timestamp, WireError};
use tidelog_replication::{Effects, EpochHistory, Follower, Leader, Leadership, PartitionOffsets};
use tokio::sync::watch;
use tracing::{error, info};

use super::assignment::{Assignment, Part};
use super::command::Command;
use super::proposal::Proposals;
use super::refusals;
use super::replica_cursor::Followers;
use super::tail::Tail;
use super::upstream::{Replica, Upstream};
use crate::metrics::{Metrics, TopicMetrics};
use aging::Aging;
use following::Pursuit;
use leading::{Appends, Waiter};
use transactions::Words;

mod aging;
mod following;
mod leading;
mod rolling;
mod transactions;

/// What an owner is made of.
pub(super) struct Parts {
    pub(super) name: String,
    pub(super) replica: Replica,
    pub(super) log: Log,
    pub(super) assignment: Assignment,
    pub(super) lag_max_ms: u64,
    /// Whether the broker holds a lease.
    pub(super) leased: bool,
    pub(super) tail: watch::Sender<Tail>,
    pub(super) followers: Followers,
    pub(super) upstream: Arc<dyn Upstream>,
    pub(super) proposals: Arc<Proposals>,
    pub(super) space: Arc<SpaceGuard>,
    pub(super) producer_id_expiration_ms: u64,
    pub(super) queue_bytes_max: u64,
    pub(super) topic_metrics: TopicMetrics,
    pub(super) metrics: Arc<Metrics>,
}

/// What the replica does now.
enum Role {
    Leads(Box<Leader<Waiter>>),
    Follows(Box<Follower>),
    /// Nobody leads.
    Waits {
        offsets: PartitionOffsets,
        epochs: EpochHistory,
        leader_epoch: LeaderEpoch,
    },
}

/// The owner.
pub(super) struct Owner {
    name: String,
    replica: Replica,
    /// `None` once closed or deleted.
    log: Option<Log>,
    role: Role,
    config: TopicConfig,
    lag_max_ms: u64,
    /// Another replica may lead.
    has_heirs: bool,
    /// False between the end of the broker's lease and the next.
    leased: bool,
    effects: Effects<Waiter>,
    appends: Appends,
    words: Words,
    queue_bytes_max: u64,
    pursuit: Pursuit,
    tail: watch::Sender<Tail>,
    followers: Followers,
    upstream: Arc<dyn Upstream>,
    proposals: Arc<Proposals>,
    /// Why nothing is done any more: closed, deleted, or the disk failed.
    ended: Option<WireError>,
    /// Its disk failed.
    is_broken: bool,
    failure: String,
    /// Base of the active segment, and when it was first seen to hold records.
    active_since: Option<(Offset, Timestamp)>,
    aging: Aging,
    space: Arc<SpaceGuard>,
    /// When it last asked others to lead.
    resigned: Option<Monotonic>,
    /// That following pauses.
    pauses: Complaint,
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
        // Nobody else could lead it meanwhile.
        let leased = parts.leased || parts.assignment.is_alone();
        let Assignment { config, part, has_heirs, .. } = parts.assignment;
        let leader_epoch = LeaderEpoch(0);
        let mut owner = Self {
            name: parts.name,
            replica: parts.replica,
            log: Some(parts.log),
            role: Role::Waits { offsets, epochs, leader_epoch },
            config,
            lag_max_ms: parts.lag_max_ms,
            has_heirs,
            leased,
            effects: Effects::new(),
            appends: Appends::default(),
            words: Words::default(),
            queue_bytes_max: parts.queue_bytes_max,
            pursuit: Pursuit::default(),
            tail: parts.tail,
            followers: parts.followers,
            upstream: parts.upstream,
            proposals: parts.proposals,
            ended: None,
            is_broken: false,
            failure: String::new(),
            active_since: None,
            aging: Aging::new(parts.producer_id_expiration_ms, Instant::now()),
            space: parts.space,
            resigned: None,
            pauses: Complaint::default(),
            topic_metrics: parts.topic_metrics,
            metrics: parts.metrics,
        };
        owner.play(part);
        owner.settle();
        owner
    }

    /// What is published of an owner that has not run yet.
    pub(super) fn first_tail(epoch: LeaderEpoch) -> Tail {
        Tail {
            log_start: Offset::ZERO,
            last_stable: Offset::ZERO,
            high_watermark: Offset::ZERO,
            log_end: Offset::ZERO,
            common_end: Offset::ZERO,
            leader_epoch: epoch,
            led_from: Offset::ZERO,
            leads: false,
            has_peers: false,
            is_broken: false,
            ended: None,
            closed: None,
        }
    }

    /// Does everything that waits. Appends in a row become one write; the tail is published before anybody is answered, so that
    /// whoever hears of an ack can read what was acknowledged.
    ///
    /// `now` is no earlier than when the last of the commands came.
    pub(super) fn step(&mut self, commands: &mut VecDeque<Command>, now: Instant) {
        self.age(now);
        for command in commands.drain(..) {
            match command {
                Command::Append(append) => self.append(append, now),
                Command::WriteMarker { marker, ticket } => self.write_marker(&marker, ticket, now),
                Command::Word { word, result } => self.word_given(word, &result, now),
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
        self.appends.earliest_deadline().into_iter().chain(self.words.earliest_deadline()).min()
    }

    /// Records that were deleted at the leader, to be deleted here below the offset; [`Command::LogStartMoved`] says that it is done.
    pub(super) fn take_deletable(&mut self) -> Option<Offset> {
        self.pursuit.take_deletable()
    }

    fn act(&mut self, command: Command, now: Instant) {
        match command {
            Command::Append(append) => self.append(append, now),
            Command::WriteMarker { marker, ticket } => self.write_marker(&marker, ticket, now),
            Command::Word { word, result } => self.word_given(word, &result, now),
            Command::Expire => self.expire(now),
            Command::Flushed(_) => self.flushed(),
            Command::Poisoned(why) => self.poison(&why),
            Command::DeleteRecords { before, ticket } => ticket(self.delete_records(before)),
            Command::Assign(assignment) => self.assign(*assignment),
            Command::Tick(tick) => self.tick(&tick),
            Command::LeaseEnded => self.lease_ended(),
            Command::LeaseRenewed => self.lease_renewed(),
            Command::AlterationFailed(partition_epoch) => self.alteration_failed(partition_epoch),
            Command::EpochEnd { leader_epoch, epoch, ticket } => ticket(self.epoch_end(leader_epoch, epoch)),
            Command::Follow { terms, wants_producers, ticket } => ticket(self.follow(&terms, wants_producers)),
            Command::Progress(progress) => self.progress(progress),
            Command::EpochEndAnswered { attempt, answer } => {
                self.pursue(attempt, |follower, out| follower.epoch_end(answer, out));
            }
            Command::FollowAnswered { attempt, answer, producers } => {
                self.adopt_producers(attempt, &answer, producers.as_deref());
                self.pursue(attempt, |follower, out| follower.follows(answer, out));
            }
            Command::Interrupted { attempt } => self.pursue(attempt, |follower, out| follower.interrupted(out)),
            Command::Replicated(replicated) => self.replicated(replicated),
            Command::LogStartMoved(to) => self.log_start_moved(to),
            Command::RollIfDue { now } => self.roll_if_due(now),
            Command::Roll { ticket } => ticket(self.roll()),
            Command::RollIfEmptied { ticket } => {
                self.roll_if_emptied();
                ticket(Ok(()));
            }
            Command::Close { ticket } => ticket(self.close()),
            Command::Delete { ticket } => ticket(self.delete()),
        }
    }

    /// The metadata wants something else of this replica, or the same under another configuration.
    fn assign(&mut self, assignment: Assignment) {
        if let Some(ended) = &mut self.ended {
            // It stays out of service; but who asks here is told that another leads, and must not take the old leader's disk for the end of all.
            if ended.code == ErrorCode::OutOfService && !matches!(assignment.part, Part::Lead { .. }) {
                *ended = refusals::not_leader();
            }
            self.learn_heirs(&assignment);
            return;
        }
        if assignment.is_alone() {
            self.lease_renewed();
        }
        let Assignment { config, part, has_heirs, .. } = assignment;
        self.has_heirs = has_heirs;
        if let Some(log) = &self.log {
            // Before the first ack under the new one, and after everything that was appended under the old.
            log.set_durability(config.durability);
            log.set_segment_bytes(config.segment_bytes);
        }
        let before = std::mem::replace(&mut self.config, config);
        match (&mut self.role, part) {
            (Role::Leads(leader), Part::Lead { epoch, membership, .. }) if leader.epoch() == epoch => {
                // Both changed at once may have come one after the other, in either order: between them the stricter minimum holds.
                let stricter = before.min_in_sync_replicas.max(config.min_in_sync_replicas);
                leader.promises_changed(before.durability, stricter, &mut self.effects);
                leader.membership_changed(&membership, &mut self.effects);
                leader.promises_changed(config.durability, config.min_in_sync_replicas, &mut self.effects);
            }
            (Role::Follows(follower), Part::Follow(following))
                if follower.following().broker_epoch == following.broker_epoch =>
            {
                let known = follower.following();
                if following.epoch > known.epoch {
                    if known.leader != following.leader {
                        self.upstream.leave(self.replica);
                    }
                    self.drive(|follower, out| follower.leadership_changed(following, out));
                }
            }
            (_, part) => self.play(part),
        }
    }

    /// Ends the role there is and begins another.
    fn play(&mut self, part: Part) {
        let (offsets, epochs) = self.resign();
        match part {
            Part::Lead { leader, epoch, membership } => {
                let leadership = Leadership {
                    leader,
                    epoch,
                    membership,
                    lag_max_ms: self.lag_max_ms,
                    min_in_sync: self.config.min_in_sync_replicas,
                    durability: self.config.durability,
                };
                let mut leader = Leader::new(offsets, epochs, &leadership);
                if !self.leased {
                    leader.lease_ended(&mut self.effects);
                }
                self.role = Role::Leads(Box::new(leader));
            }
            Part::Follow(following) => {
                let mut effects = Vec::new();
                let follower = Follower::new(offsets, epochs, following, &mut effects);
                self.role = Role::Follows(Box::new(follower));
                self.carry_out(effects);
            }
            Part::Wait { epoch } => self.role = Role::Waits { offsets, epochs, leader_epoch: epoch },
        }
    }

    fn resign(&mut self) -> (PartitionOffsets, EpochHistory) {
        self.fail_words(&refusals::not_leader());
        let leader_epoch = self.leader_epoch();
        let (offsets, epochs) = (PartitionOffsets::default(), EpochHistory::default());
        match std::mem::replace(&mut self.role, Role::Waits { offsets, epochs, leader_epoch }) {
            Role::Leads(leader) => {
                info!(partition = %self.name, epoch = %leader_epoch, "leads no more under this epoch");
                leader.resigned(&mut self.effects)
            }
            Role::Follows(follower) => {
                self.pursuit.end();
                self.upstream.leave(self.replica);
                follower.resigned()
            }
            Role::Waits { offsets, epochs, .. } => (offsets, epochs),
        }
    }

    fn offsets(&self) -> PartitionOffsets {
        match &self.role {
            Role::Leads(leader) => leader.offsets(),
            Role::Follows(follower) => follower.offsets(),
            Role::Waits { offsets, .. } => *offsets,
        }
    }

    fn leader_epoch(&self) -> LeaderEpoch {
        match &self.role {
            Role::Leads(leader) => leader.epoch(),
            Role::Follows(follower) => follower.following().epoch,
            Role::Waits { leader_epoch, .. } => *leader_epoch,
        }
    }

    /// Why records are not served from here, if they are not.
    fn not_served(&self) -> Option<WireError> {
        let by_role = || match &self.role {
            Role::Leads(_) => None,
            Role::Follows(_) => Some(refusals::not_leader()),
            Role::Waits { .. } => Some(refusals::offline()),
        };
        self.ended.clone().or_else(by_role)
    }

    /// A flush is over. What counts is what the log says now: a truncation may have come after it.
    fn flushed(&mut self) {
        let Some(log) = &self.log else { return };
        let end = log.reader().flushed_end();
        match &mut self.role {
            Role::Leads(leader) => leader.flushed(end, &mut self.effects),
            Role::Follows(_) => self.drive(|follower, out| follower.flushed(end, out)),
            Role::Waits { offsets, .. } => offsets.flushed(end),
        }
    }

    fn log_start_moved(&mut self, to: Offset) {
        // A truncation may have come in between.
        let to = to.min(self.offsets().high_watermark());
        self.pursuit.deleted();
        match &mut self.role {
            Role::Leads(leader) => leader.log_start_moved(to),
            Role::Follows(follower) => follower.log_start_moved(to),
            Role::Waits { offsets, epochs, .. } => {
                offsets.raise_log_start(to);
                epochs.forget_before(offsets.log_start());
            }
        }
    }

    fn publish(&mut self) {
        let offsets = self.offsets();
        let unstable =
            |log: &Log| log.with_producers(|known| known.first_unstable(offsets.log_start(), offsets.high_watermark()));
        let offsets = offsets.held_back(self.log.as_ref().and_then(unstable));
        let (log_start, last_stable) = (offsets.log_start(), offsets.last_stable());
        let (high_watermark, log_end) = (offsets.high_watermark(), offsets.log_end());
        let leader_epoch = self.leader_epoch();
        let (leads, led_from) = match &self.role {
            Role::Leads(leader) => (true, leader.epoch_start()),
            Role::Follows(_) | Role::Waits { .. } => (false, Offset::ZERO),
        };
        let has_peers = match &self.role {
            Role::Leads(leader) => leader.replicas().count() > 1,
            Role::Follows(_) => true,
            Role::Waits { .. } => false,
        };
        let common_end = match &self.role {
            Role::Leads(leader) => leader.replicas().end_of_all(Durability::Flushed).min(high_watermark),
            Role::Follows(_) => high_watermark,
            Role::Waits { .. } => Offset::ZERO,
        };
        // Who is cut off does not know how far behind it is.
        let follows = matches!(self.role, Role::Follows(_)) && self.leased;
        let served = self.ended.is_none() && (leads || follows);
        let not_served = if served { None } else { self.not_served() };
        self.tail.send_if_modified(|tail| {
            // Readers sleep until they can read more; a log end beyond the watermark is no news to them.
            let news = tail.high_watermark != high_watermark
                || tail.last_stable != last_stable
                || tail.log_start != log_start
                || tail.leader_epoch != leader_epoch
                || tail.leads != leads
                || tail.has_peers != has_peers
                || tail.is_broken != self.is_broken
                || tail.ended != not_served
                || tail.closed != self.ended;
            (tail.log_end, tail.common_end) = (log_end, common_end);
            if news {
                *tail = Tail {
                    log_start,
                    last_stable,
                    high_watermark,
                    log_end,
                    common_end,
                    leader_epoch,
                    led_from,
                    leads,
                    has_peers,
                    is_broken: self.is_broken,
                    ended: not_served,
                    closed: self.ended.clone(),
                };
            }
            news
        });
    }

    fn poison(&mut self, why: &str) {
        if self.ended.is_some() {
            return;
        }
        error!(partition = %self.name, why, "the partition is out of service: a write or flush failed, and a flush that fails is never tried again; restart the broker once the disk is well");
        self.failure = why.into();
        self.is_broken = true;
        self.stop();
        let taken_over = match self.role {
            Role::Leads(_) => self.has_heirs,
            Role::Follows(_) => true,
            Role::Waits { .. } => false,
        };
        self.ended = Some(if taken_over { refusals::broken_here(why) } else { refusals::poisoned(why) });
        self.metrics.partitions_poisoned.inc();
    }

    /// Nothing is promised, asked or taken any more.
    fn stop(&mut self) {
        let why = self.ended.clone().unwrap_or_else(|| refusals::poisoned(&self.failure));
        self.fail_words(&why);
        match &mut self.role {
            Role::Leads(leader) if leader.is_poisoned() => {}
            Role::Leads(leader) => leader.poisoned(&mut self.effects),
            Role::Follows(follower) => {
                follower.poisoned();
                self.pursuit.end();
                self.upstream.leave(self.replica);
            }
            Role::Waits { .. } => {}
        }
    }

    /// Retention deletes whole segments: without this a quiet topic would keep its records for ever.
    fn close(&mut self) -> Result<(), WireError> {
        let Some(log) = self.log.take() else { return Ok(()) };
        let closed = log.close();
        if let (Role::Leads(leader), Ok(()), None) = (&mut self.role, &closed, &self.ended) {
            // What is durable now is promised; without this, acks that the last flush earned would fail.
            let end = leader.offsets().log_end();
            leader.flushed(end, &mut self.effects);
        }
        self.end_with(refusals::closed());
        closed.map_err(|error| refusals::storage_failed(&error))
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
        self.stop();
    }
}
