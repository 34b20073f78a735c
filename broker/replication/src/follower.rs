//! The machine of a partition that is followed here: it finds where its log parts from the leader's, has it cut there, then takes
//! what the leader pushes. Knows nothing of files, sockets or the clock; the partition's owner tells it what happened and carries
//! out its [`FollowerEffect`]s, in their order and before the next input.
//!
//! Every leadership begins with the search (rule 1), and what arrives under another leadership is discarded (rule 2). Progress is
//! reported once the search is over: before, the log may hold records that the leader's does not.

use alloc::vec::Vec;

use tidelog_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};

use crate::divergence::{Step, step};
use crate::epoch_history::{EpochEnd, EpochHistory};
use crate::flaws::{Flaw, Flaws};
use crate::follow::{FollowAnswer, FollowOutcome, FollowTerms};
use crate::leader::ReplicaProgress;
use crate::offsets::PartitionOffsets;
use crate::replica_set::ReplicaEnds;

/// Whom a replica follows, and as whom.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Following {
    /// The broker that follows: this one.
    pub replica: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The broker that leads.
    pub leader: BrokerId,
    /// The leadership.
    pub epoch: LeaderEpoch,
}

/// What the machine asks its driver to do.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FollowerEffect {
    /// Ask the leader where `epoch` ended; the answer goes to [`Follower::epoch_end`].
    AskEpochEnd {
        /// The leadership asked.
        leader_epoch: LeaderEpoch,
        /// The epoch in question.
        epoch: LeaderEpoch,
    },
    /// Cut the log at `to`, durably, then tell [`Follower::truncated`].
    Truncate {
        /// The divergence point.
        to: Offset,
        /// How many records below the watermark are lost by it. Never more than 0 but after a loss that the topic's durability
        /// allows or an unclean election: worth a line in the log.
        settled_lost: u64,
    },
    /// Empty the log, durably, go on at `at`, then tell [`Follower::restarted`].
    RestartAt {
        /// Where the leader's log begins.
        at: Offset,
        /// As for a truncation.
        settled_lost: u64,
    },
    /// Open a stream at the leader, in place of an earlier one; the answer goes to [`Follower::follows`], what is pushed to [`Follower::offered`].
    Follow(FollowTerms),
    /// Tell the leader. Only the latest report matters.
    Report(ReplicaProgress),
    /// Everything below is settled and may be read here.
    RaiseWatermark(Offset),
    /// Everything below may be deleted here: it is deleted at the leader.
    RaiseLogStart(Offset),
}

/// What a leader pushed, but for the batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Offer {
    /// The leadership that pushed it.
    pub leader_epoch: LeaderEpoch,
    /// The leader's high watermark then.
    pub high_watermark: Offset,
    /// The leader's log start then.
    pub log_start: Offset,
}

impl Offer {
    /// True where somebody may wait for the flush of a log that ends there. Below the leader's watermark nobody does: whoever is in sync has all
    /// that lies there, flushed where the topic promises that, so this replica is not.
    #[must_use]
    pub fn is_awaited_at(&self, end: Offset) -> bool {
        end >= self.high_watermark
    }
}

/// A batch by its header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchSpan {
    /// Offset of its first record.
    pub base_offset: Offset,
    /// Offset after its last record.
    pub next_offset: Offset,
    /// The leadership that wrote it.
    pub epoch: LeaderEpoch,
}

/// What to do with the batches of an offer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Take {
    /// Append those from this offset on, byte for byte, then tell [`Follower::written`].
    From(Offset),
    /// Empty the log, go on at this offset, then append all of them: the first batch begins before the leader's log start.
    RestartAt(Offset),
    /// Nothing: they are here already, or come from another leadership or before their time.
    Nothing,
}

/// Why an offer cannot be taken although it comes from the leader. Nothing was changed; a new stream was asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BrokenChain {
    /// Something between the log's end and the batch is missing: it was lost on the way.
    Gap {
        /// Where the log ends.
        log_end: Offset,
        /// Where the batch begins.
        base_offset: Offset,
    },
    /// The batch ends before it begins, does not follow the one before it, lies across the log's end, or is of an epoch that cannot
    /// stand there: the leader's log is not what it was.
    Impossible(BatchSpan),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Stage {
    /// Has asked where this epoch ended.
    Searching(LeaderEpoch),
    /// Waits for its stream to open.
    Subscribing,
    /// Takes what is pushed.
    Fetching,
    /// A write or flush failed.
    Poisoned,
}

/// The follower of one partition, through all leaderships until it leads itself.
///
/// # Panics
/// Where the driver breaks the order of use, or [`PartitionOffsets`] would: both are bugs of ours.
#[derive(Debug)]
pub struct Follower {
    following: Following,
    offsets: PartitionOffsets,
    epochs: EpochHistory,
    stage: Stage,
    /// As of the last offer of this leadership.
    leader_watermark: Offset,
    flaws: Flaws,
}

impl Follower {
    /// Follows from here on, with the log as it stands.
    #[must_use]
    pub fn new(
        offsets: PartitionOffsets,
        epochs: EpochHistory,
        following: Following,
        effects: &mut Vec<FollowerEffect>,
    ) -> Self {
        Self::flawed(offsets, epochs, following, (Flaws::NONE, effects))
    }

    /// The same with a planted bug; see [`Flaws`].
    #[must_use]
    pub fn flawed(
        offsets: PartitionOffsets,
        epochs: EpochHistory,
        following: Following,
        (flaws, effects): (Flaws, &mut Vec<FollowerEffect>),
    ) -> Self {
        let (stage, leader_watermark) = (Stage::Subscribing, Offset::ZERO);
        let mut follower = Self { following, offsets, epochs, stage, leader_watermark, flaws };
        follower.begin(effects);
        follower
    }

    /// The partition's offsets as of the last input.
    #[must_use]
    pub const fn offsets(&self) -> PartitionOffsets {
        self.offsets
    }

    /// Which leadership wrote what.
    #[must_use]
    pub const fn epochs(&self) -> &EpochHistory {
        &self.epochs
    }

    /// Whom it follows.
    #[must_use]
    pub const fn following(&self) -> Following {
        self.following
    }

    /// True once its log is known to be a prefix of the leader's and its stream is open.
    #[must_use]
    pub fn is_fetching(&self) -> bool {
        self.stage == Stage::Fetching
    }

    /// Another leadership began. One that is not newer changes nothing.
    pub fn leadership_changed(&mut self, following: Following, effects: &mut Vec<FollowerEffect>) {
        if following.epoch <= self.following.epoch || self.stage == Stage::Poisoned {
            return;
        }
        let same_leader = following.leader == self.following.leader;
        self.following = following;
        if same_leader && self.flaws.has(Flaw::SameLeaderTrusted) {
            return self.subscribe(effects);
        }
        self.begin(effects);
    }

    /// The connection broke, or an answer has not come in time: asks again.
    pub fn interrupted(&mut self, effects: &mut Vec<FollowerEffect>) {
        match self.stage {
            Stage::Searching(epoch) => self.ask(epoch, effects),
            Stage::Subscribing | Stage::Fetching => self.subscribe(effects),
            Stage::Poisoned => {}
        }
    }

    /// The leader of `leader_epoch` says where `asked` ended in its log, which begins at `log_start`.
    pub fn epoch_end(&mut self, answer: EpochEndAnswer, effects: &mut Vec<FollowerEffect>) {
        if self.stage != Stage::Searching(answer.asked) || self.is_foreign(answer.leader_epoch) {
            return;
        }
        self.compare(answer.asked, answer.end, (answer.log_start, effects));
    }

    /// The log was cut and ends here now, at the point asked for or, where that lay inside a batch, before it.
    pub fn truncated(&mut self, end: Offset, effects: &mut Vec<FollowerEffect>) {
        self.offsets.truncated(end);
        self.epochs.truncate_to(end);
        self.subscribe(effects);
    }

    /// The log was emptied and goes on here.
    pub fn restarted(&mut self, at: Offset, effects: &mut Vec<FollowerEffect>) {
        self.offsets.restarted(at);
        self.epochs = EpochHistory::default();
        self.subscribe(effects);
    }

    /// The leader answers what [`FollowerEffect::Follow`] asked. The driver drops answers to a question that was asked again since: the
    /// leader's log may have grown into range.
    pub fn follows(&mut self, answer: FollowAnswer, effects: &mut Vec<FollowerEffect>) {
        if self.stage != Stage::Subscribing || answer.leader_epoch != self.following.epoch {
            return;
        }
        if answer.from != self.offsets.written_end() {
            return;
        }
        match answer.outcome {
            FollowOutcome::Streams => {
                self.stage = Stage::Fetching;
                self.report(effects);
            }
            FollowOutcome::Diverged { end } => match self.epochs.latest() {
                Some(latest) => self.compare(latest, end, (answer.log_start, effects)),
                None => self.restart(answer.log_start, effects),
            },
            FollowOutcome::OutOfRange => self.restart(answer.log_start, effects),
        }
    }

    /// The leader pushed batches; no batches only bring the offsets up to date.
    ///
    /// # Errors
    /// [`BrokenChain`].
    pub fn offered(
        &mut self,
        offer: Offer,
        batches: impl IntoIterator<Item = BatchSpan>,
        effects: &mut Vec<FollowerEffect>,
    ) -> Result<Take, BrokenChain> {
        if self.stage != Stage::Fetching || offer.leader_epoch != self.following.epoch {
            return Ok(Take::Nothing);
        }
        let checked = self.chain(batches);
        match checked {
            Ok(take) => {
                self.leader_watermark = self.leader_watermark.max(offer.high_watermark);
                self.settle(effects);
                self.age(offer.log_start, effects);
                Ok(take)
            }
            Err(broken) => {
                self.subscribe(effects);
                Err(broken)
            }
        }
    }

    /// These batches of the last offer stand in the log now, in this order.
    pub fn written(&mut self, batches: impl IntoIterator<Item = BatchSpan>, effects: &mut Vec<FollowerEffect>) {
        for batch in batches {
            if self.is_empty() && batch.base_offset < self.offsets.log_end() {
                // The log was emptied for a batch that begins before the leader's log start.
                self.offsets.restarted(batch.base_offset);
                self.epochs = EpochHistory::default();
            }
            let end = self.offsets.log_end();
            assert!(batch.base_offset == end, "batches have no gaps: {batch:?} at {end}");
            self.epochs.assign(batch.epoch, batch.base_offset);
            self.offsets.assign(batch.next_offset);
            self.offsets.written(batch.next_offset);
        }
        self.settle(effects);
        self.report(effects);
    }

    /// Everything below `end` is durable here, as the log says now: the word of a flush that ended before a truncation must not
    /// arrive after it.
    pub fn flushed(&mut self, end: Offset, effects: &mut Vec<FollowerEffect>) {
        if self.stage == Stage::Poisoned {
            return;
        }
        self.offsets.flushed(end);
        self.report(effects);
    }

    /// Tells the leader again how far this replica is; for a driver that does so from time to time. Nothing before the search is over.
    pub fn report(&self, effects: &mut Vec<FollowerEffect>) {
        if self.stage == Stage::Fetching {
            let Following { replica, broker_epoch, epoch, .. } = self.following;
            let (written_end, flushed_end) = (self.offsets.written_end(), self.offsets.flushed_end());
            let ends = ReplicaEnds { written_end, flushed_end };
            effects.push(FollowerEffect::Report(ReplicaProgress { replica, broker_epoch, epoch, ends }));
        }
    }

    /// Retention removed everything below `to` here, which is at most the high watermark.
    pub fn log_start_moved(&mut self, to: Offset) {
        self.offsets.raise_log_start(to);
        self.epochs.forget_before(self.offsets.log_start());
    }

    /// A write or flush failed. Nothing is asked, taken or reported from here on.
    pub const fn poisoned(&mut self) {
        self.stage = Stage::Poisoned;
    }

    /// It follows no more. Gives what the next role begins with.
    #[must_use]
    pub fn resigned(self) -> (PartitionOffsets, EpochHistory) {
        (self.offsets, self.epochs)
    }

    fn is_empty(&self) -> bool {
        self.offsets.log_start() == self.offsets.log_end()
    }

    fn is_foreign(&self, leader_epoch: LeaderEpoch) -> bool {
        leader_epoch != self.following.epoch && !self.flaws.has(Flaw::AnswersUnfenced)
    }

    fn begin(&mut self, effects: &mut Vec<FollowerEffect>) {
        self.leader_watermark = Offset::ZERO;
        if self.flaws.has(Flaw::TruncateToWatermark) {
            return self.cut(self.offsets.high_watermark(), effects);
        }
        match self.epochs.latest() {
            // What this leadership wrote came from its leader, whose log only grows while it lasts. A search would find the leader's end as
            // of some moment, and a late answer would cut off what was reported since.
            Some(latest) if latest == self.following.epoch => self.subscribe(effects),
            Some(latest) if !self.is_empty() => self.ask(latest, effects),
            // An empty log parts from nobody's.
            _ => self.subscribe(effects),
        }
    }

    fn ask(&mut self, epoch: LeaderEpoch, effects: &mut Vec<FollowerEffect>) {
        self.stage = Stage::Searching(epoch);
        effects.push(FollowerEffect::AskEpochEnd { leader_epoch: self.following.epoch, epoch });
    }

    fn compare(
        &mut self,
        asked: LeaderEpoch,
        answer: Option<EpochEnd>,
        (log_start, effects): (Offset, &mut Vec<FollowerEffect>),
    ) {
        let log_end = self.offsets.written_end();
        match (step(&self.epochs, log_end, asked, answer), answer) {
            (None, _) => {}
            (Some(Step::Ask(_)), Some(theirs)) if self.flaws.has(Flaw::AskOnce) => {
                self.cut(theirs.end.min(log_end), effects);
            }
            (Some(Step::Ask(older)), _) => self.ask(older, effects),
            (Some(Step::Common(point)), _) => self.cut(point, effects),
            (Some(Step::Nothing), _) => self.restart(log_start, effects),
        }
    }

    fn cut(&mut self, point: Offset, effects: &mut Vec<FollowerEffect>) {
        let to = point.max(self.offsets.log_start());
        if to >= self.offsets.written_end() {
            return self.subscribe(effects);
        }
        self.stage = Stage::Subscribing;
        effects.push(FollowerEffect::Truncate { to, settled_lost: self.offsets.high_watermark().since(to) });
    }

    fn restart(&mut self, at: Offset, effects: &mut Vec<FollowerEffect>) {
        self.stage = Stage::Subscribing;
        // What the leader's retention removed is not lost by this.
        let from = self.offsets.log_start().max(at);
        effects.push(FollowerEffect::RestartAt { at, settled_lost: self.offsets.high_watermark().since(from) });
    }

    fn subscribe(&mut self, effects: &mut Vec<FollowerEffect>) {
        self.stage = Stage::Subscribing;
        let Following { replica, broker_epoch, epoch, .. } = self.following;
        let from = self.offsets.written_end();
        // The leader's second check would mend what a flaw of the search broke.
        let searches = [Flaw::TruncateToWatermark, Flaw::AskOnce, Flaw::AnswersUnfenced, Flaw::SameLeaderTrusted];
        let flawed = searches.into_iter().any(|flaw| self.flaws.has(flaw));
        let last_epoch = self.epochs.latest().filter(|_| !self.is_empty() && !flawed);
        effects.push(FollowerEffect::Follow(FollowTerms {
            replica,
            broker_epoch,
            leader_epoch: epoch,
            from,
            last_epoch,
        }));
    }

    /// Do these batches continue this log?
    fn chain(&self, batches: impl IntoIterator<Item = BatchSpan>) -> Result<Take, BrokenChain> {
        let log_end = self.offsets.log_end();
        let mut take = Take::Nothing;
        let mut newest = self.epochs.latest();
        let mut next: Option<Offset> = None;
        for batch in batches {
            let BatchSpan { base_offset, next_offset, epoch } = batch;
            let follows = next.is_none_or(|next| base_offset == next);
            if next_offset <= base_offset || !follows || epoch > self.following.epoch {
                return Err(BrokenChain::Impossible(batch));
            }
            next = Some(next_offset);
            if next_offset <= log_end {
                continue;
            }
            if take == Take::Nothing {
                take = match base_offset {
                    base if base == log_end => Take::From(log_end),
                    base if base > log_end => return Err(BrokenChain::Gap { log_end, base_offset }),
                    base if self.is_empty() => Take::RestartAt(base),
                    _ => return Err(BrokenChain::Impossible(batch)),
                };
            }
            if Some(epoch) < newest {
                return Err(BrokenChain::Impossible(batch));
            }
            newest = Some(epoch);
        }
        Ok(take)
    }

    fn settle(&mut self, effects: &mut Vec<FollowerEffect>) {
        let settled = self.leader_watermark.min(self.offsets.written_end());
        if settled > self.offsets.high_watermark() {
            self.offsets.raise_watermark(settled);
            effects.push(FollowerEffect::RaiseWatermark(settled));
        }
    }

    fn age(&self, log_start: Offset, effects: &mut Vec<FollowerEffect>) {
        let to = log_start.min(self.offsets.high_watermark());
        if to > self.offsets.log_start() {
            effects.push(FollowerEffect::RaiseLogStart(to));
        }
    }
}

/// A leader's answer to [`FollowerEffect::AskEpochEnd`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EpochEndAnswer {
    /// The leadership that answers.
    pub leader_epoch: LeaderEpoch,
    /// The epoch asked about.
    pub asked: LeaderEpoch,
    /// The largest epoch not above it that the leader's log holds, and where it ends there; `None` where it holds none.
    pub end: Option<EpochEnd>,
    /// First offset of the leader's log.
    pub log_start: Offset,
}
