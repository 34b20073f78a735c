//! The machine of a partition that is led here: it admits appends, moves the high watermark and says which tickets are due.
//! Knows nothing of files, sockets or the clock; the partition's owner tells it what happened and carries out its [`Effects`].
//!
//! Order of use per append: [`Leader::admit`], assign offsets from [`PartitionOffsets::log_end`], [`Leader::appended`], write,
//! [`Leader::written`] (or [`Leader::append_abandoned`]), later [`Leader::flushed`]. Many appends may share one write.

use tidelog_protocol::messages::{Acks, ProduceRequest};
use tidelog_protocol::records::BatchHeader;
use tidelog_protocol::{BrokerEpoch, BrokerId, Durability, LeaderEpoch, Offset, PartitionEpoch};

use crate::effects::{AckFailure, Effects, Failed, Released};
use crate::epoch_history::EpochHistory;
use crate::flaws::{Flaw, Flaws};
use crate::offsets::PartitionOffsets;
use crate::pending_acks::PendingAcks;
use crate::refusal::Refusal;
use crate::replica_set::{ReplicaEnds, ReplicaSet};
use crate::sequencing::UnwrittenBatches;

mod admission;
mod followers;
mod in_sync;

pub use in_sync::{InSyncMember, InSyncProposal, Membership};

/// Who leads, since when, with whom, and what the topic promises.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Leadership {
    /// The broker that leads: this one.
    pub leader: BrokerId,
    /// The leadership.
    pub epoch: LeaderEpoch,
    /// With whom.
    pub membership: Membership,
    /// A follower that has not had everything for longer than this leaves the in-sync set.
    pub lag_max_ms: u64,
    /// The topic's `min.insync.replicas`.
    pub min_in_sync: u16,
    /// The topic's durability.
    pub durability: Durability,
}

/// On which terms a producer wants to append.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProduceTerms {
    /// The leadership it knows; `None` is not checked.
    pub leader_epoch: Option<LeaderEpoch>,
    /// When it wants its answer.
    pub acks: Acks,
    /// Append only where this is the log end; `None` is not checked.
    pub expected_log_end: Option<Offset>,
}

impl From<&ProduceRequest> for ProduceTerms {
    fn from(request: &ProduceRequest) -> Self {
        let ProduceRequest { leader_epoch, acks, expected_log_end, .. } = *request;
        Self { leader_epoch, acks, expected_log_end }
    }
}

/// The offsets that one append was given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppendedRange {
    /// Offset of its first record; the log end before it.
    pub base_offset: Offset,
    /// Offset after its last record.
    pub next_offset: Offset,
    /// Bytes that its ticket keeps alive, for [`Leader::pending_bytes`].
    pub bytes: usize,
}

/// How far a follower says it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReplicaProgress {
    /// The follower.
    pub replica: BrokerId,
    /// Its registration.
    pub broker_epoch: BrokerEpoch,
    /// The leadership it follows.
    pub epoch: LeaderEpoch,
    /// How far it is.
    pub ends: ReplicaEnds,
}

#[derive(Debug)]
struct Waiting<T> {
    base_offset: Offset,
    ticket: T,
}

/// The leader of one partition during one leadership.
///
/// # Panics
/// Where the driver breaks the order of use, or [`PartitionOffsets`] would: both are bugs of ours.
#[derive(Debug)]
pub struct Leader<T> {
    leader: BrokerId,
    epoch: LeaderEpoch,
    epoch_start: Offset,
    min_in_sync: u16,
    durability: Durability,
    offsets: PartitionOffsets,
    replicas: ReplicaSet,
    /// acks=Leader and None; released at the written end.
    at_leader: PendingAcks<Waiting<T>>,
    /// acks=All; released at the watermark.
    at_watermark: PendingAcks<Waiting<T>>,
    /// Below here records were appended under durability `flushed`: their tickets wait for the flush even where the topic has
    /// changed to `written` since and the watermark ran ahead.
    flushed_promise_end: Offset,
    epochs: EpochHistory,
    unwritten: UnwrittenBatches,
    partition_epoch: PartitionEpoch,
    lag_max_ms: u64,
    alteration: in_sync::Alteration,
    /// While the broker holds no lease it acknowledges nothing: somebody else may lead already (rule 8).
    leased: bool,
    poisoned: bool,
    flaws: Flaws,
}

impl<T> Leader<T> {
    /// Leads from here on. Where the leader is the whole in-sync set the watermark moves at once: read [`Self::offsets`] after.
    #[must_use]
    pub fn new(offsets: PartitionOffsets, epochs: EpochHistory, leadership: &Leadership) -> Self {
        Self::flawed(offsets, epochs, leadership, Flaws::NONE)
    }

    /// The same with a planted bug; see [`Flaws`].
    #[must_use]
    pub fn flawed(offsets: PartitionOffsets, epochs: EpochHistory, leadership: &Leadership, flaws: Flaws) -> Self {
        let Membership { replicas, in_sync, partition_epoch } = &leadership.membership;
        assert!(in_sync.contains(&leadership.leader), "a leader is in sync with itself: {leadership:?}");
        assert!(epochs.latest() <= Some(leadership.epoch), "a leadership finds nothing newer: {epochs:?}");
        assert!(
            offsets.log_end() == offsets.written_end(),
            "a leadership begins with nothing half written: {offsets:?}"
        );
        let mut leader = Self {
            leader: leadership.leader,
            epoch: leadership.epoch,
            epoch_start: offsets.log_end(),
            min_in_sync: leadership.min_in_sync,
            durability: leadership.durability,
            offsets,
            replicas: ReplicaSet::new(replicas, in_sync),
            at_leader: PendingAcks::new(),
            at_watermark: PendingAcks::new(),
            flushed_promise_end: Offset::ZERO,
            epochs,
            unwritten: UnwrittenBatches::default(),
            partition_epoch: *partition_epoch,
            lag_max_ms: leadership.lag_max_ms,
            alteration: in_sync::Alteration::default(),
            leased: true,
            poisoned: false,
            flaws,
        };
        leader.settle(&mut Effects::new());
        leader
    }

    /// The partition's offsets as of the last input.
    #[must_use]
    pub const fn offsets(&self) -> PartitionOffsets {
        self.offsets
    }

    /// The leadership.
    #[must_use]
    pub const fn epoch(&self) -> LeaderEpoch {
        self.epoch
    }

    /// Where this leadership's records begin; a replica may join the in-sync set at or past it only.
    #[must_use]
    pub const fn epoch_start(&self) -> Offset {
        self.epoch_start
    }

    /// What the watermark counts now.
    #[must_use]
    pub const fn durability(&self) -> Durability {
        self.durability
    }

    /// The replicas as this leader knows them.
    #[must_use]
    pub const fn replicas(&self) -> &ReplicaSet {
        &self.replicas
    }

    /// Which leadership wrote what.
    #[must_use]
    pub const fn epochs(&self) -> &EpochHistory {
        &self.epochs
    }

    /// True after [`Self::poisoned`].
    #[must_use]
    pub const fn is_poisoned(&self) -> bool {
        self.poisoned
    }

    /// How many tickets wait.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.at_leader.len() + self.at_watermark.len()
    }

    /// How many bytes they keep alive.
    #[must_use]
    pub const fn pending_bytes(&self) -> usize {
        self.at_leader.bytes() + self.at_watermark.bytes()
    }

    /// How far a flush here would have to reach for the watermark or a ticket to move on; `None` where no flush is waited for.
    #[must_use]
    pub fn flush_wanted(&self) -> Option<Offset> {
        let offsets = self.offsets;
        let wanted = match self.durability {
            Durability::Flushed => offsets.written_end(),
            // Nobody left to keep the old promise to: no flush for its sake.
            Durability::Written if self.at_watermark.is_empty() => Offset::ZERO,
            Durability::Written => self.flushed_promise_end.min(offsets.written_end()),
        };
        (wanted > offsets.flushed_end() && !self.poisoned).then_some(wanted)
    }

    /// Is `epoch`, which somebody believes in, the one that holds?
    ///
    /// # Errors
    /// [`Refusal::FencedEpoch`], [`Refusal::UnknownEpoch`].
    pub const fn fence(&self, epoch: LeaderEpoch) -> Result<(), Refusal> {
        if epoch.0 < self.epoch.0 {
            return Err(Refusal::FencedEpoch { requested: epoch, current: self.epoch });
        }
        if epoch.0 > self.epoch.0 {
            return Err(Refusal::UnknownEpoch { requested: epoch, current: self.epoch });
        }
        Ok(())
    }

    /// An admitted append was given its offsets and is about to be written. With acks=None the ticket hears of the write
    /// too, as it may fail.
    pub fn appended(&mut self, range: AppendedRange, acks: Acks, ticket: T) {
        assert!(!self.poisoned, "nothing is appended to a poisoned log");
        assert!(range.base_offset == self.offsets.log_end(), "offsets have no gaps: {range:?} at {:?}", self.offsets);
        self.offsets.assign(range.next_offset);
        let waiting = Waiting { base_offset: range.base_offset, ticket };
        match acks {
            Acks::None | Acks::Leader => self.at_leader.park(range.next_offset, range.bytes, waiting),
            Acks::All => self.at_watermark.park(range.next_offset, range.bytes, waiting),
        }
    }

    /// These batches were admitted and are the next to be [`Leader::appended`]: their producers' next ones go on from them.
    pub fn sequenced(&mut self, headers: &[BatchHeader]) {
        self.unwritten.admitted(headers, self.offsets.log_end());
    }

    /// Batches that stand in the log already were sent again: whoever waits is answered when the promise holds for them, which may be at once.
    pub fn duplicated(&mut self, range: AppendedRange, acks: Acks, ticket: T, effects: &mut Effects<T>) {
        let waiting = Waiting { base_offset: range.base_offset, ticket };
        match acks {
            Acks::None | Acks::Leader => self.at_leader.park_among(range.next_offset, range.bytes, waiting),
            Acks::All => self.at_watermark.park_among(range.next_offset, range.bytes, waiting),
        }
        self.settle(effects);
    }

    /// The log here holds everything below `end`.
    pub fn written(&mut self, end: Offset, effects: &mut Effects<T>) {
        if self.poisoned {
            return;
        }
        if end > self.epoch_start && self.epochs.latest() != Some(self.epoch) {
            // Not before: an append that was abandoned leaves no trace.
            self.epochs.assign(self.epoch, self.epoch_start);
        }
        self.offsets.written(end);
        self.unwritten.written(end);
        self.settle(effects);
    }

    /// The write failed and left no trace (a full disk): what was not written fails, its offsets are free again.
    pub fn append_abandoned(&mut self, cause: AckFailure, effects: &mut Effects<T>) {
        self.offsets.unassign();
        self.unwritten.abandoned();
        let end = self.offsets.written_end();
        self.flushed_promise_end = self.flushed_promise_end.min(end);
        effects.failed.extend(self.at_leader.drain_above(end).map(failed(cause)));
        effects.failed.extend(self.at_watermark.drain_above(end).map(failed(cause)));
    }

    /// Everything below `end` is durable here. Ignored once poisoned: a flush that succeeds after one that failed proves nothing.
    pub fn flushed(&mut self, end: Offset, effects: &mut Effects<T>) {
        if self.poisoned {
            return;
        }
        self.offsets.flushed(end);
        self.settle(effects);
    }

    /// The topic's configuration changed. From `flushed` to `written` the watermark may jump ahead, but tickets of records
    /// appended before keep the promise they were appended under, so the driver looks at [`Self::flush_wanted`] after.
    pub fn promises_changed(&mut self, durability: Durability, min_in_sync: u16, effects: &mut Effects<T>) {
        if self.durability == Durability::Flushed && durability == Durability::Written {
            self.flushed_promise_end = self.offsets.log_end();
        }
        self.durability = durability;
        self.min_in_sync = min_in_sync;
        self.settle(effects);
    }

    /// Deletes records on request: everything below `before`, or below the high watermark where there is none. Gives the log
    /// start that holds now; an offset already gone changes nothing.
    ///
    /// # Errors
    /// [`Refusal::AboveWatermark`], [`Refusal::Poisoned`], [`Refusal::LeaseEnded`].
    pub fn delete_before(&mut self, before: Option<Offset>) -> Result<Offset, Refusal> {
        self.check_service()?;
        let high_watermark = self.offsets.high_watermark();
        let requested = before.unwrap_or(high_watermark);
        if requested > high_watermark {
            return Err(Refusal::AboveWatermark { requested, log_start: self.offsets.log_start(), high_watermark });
        }
        self.log_start_moved(requested);
        Ok(self.offsets.log_start())
    }

    /// Retention removed everything below `to`, which is at most the high watermark.
    pub fn log_start_moved(&mut self, to: Offset) {
        self.offsets.raise_log_start(to);
        self.epochs.forget_before(self.offsets.log_start());
    }

    /// The broker's lease ended: another broker may lead already. Every ticket fails, and nothing is acknowledged until
    /// [`Self::lease_renewed`]; what is settled can be read all the same.
    pub fn lease_ended(&mut self, effects: &mut Effects<T>) {
        self.leased = false;
        self.fail_all(AckFailure::LeadershipEnded, effects);
    }

    /// The broker holds a lease again, and this leadership still stands.
    pub fn lease_renewed(&mut self, effects: &mut Effects<T>) {
        self.leased = true;
        self.settle(effects);
    }

    /// A write or flush failed. Every ticket fails, nothing is ever acknowledged from here again, whatever a later flush says.
    pub fn poisoned(&mut self, effects: &mut Effects<T>) {
        if self.flaws.has(Flaw::FailedFlushRetried) {
            return;
        }
        self.poisoned = true;
        self.fail_all(AckFailure::StorageFailed, effects);
    }

    /// The tickets that `due` picks are waited for no longer: they fail, whatever becomes of their records. Looks at every ticket.
    pub fn expire(&mut self, mut due: impl FnMut(&T) -> bool, effects: &mut Effects<T>) {
        for queue in [&mut self.at_leader, &mut self.at_watermark] {
            let taken = queue.take_where(|waiting| due(&waiting.ticket));
            effects.failed.extend(taken.into_iter().map(failed(AckFailure::DeadlinePassed)));
        }
    }

    /// The leadership is over: every ticket fails and the machine is gone. Gives what the next role begins with. What was admitted
    /// and not written never will be.
    #[must_use]
    pub fn resigned(mut self, effects: &mut Effects<T>) -> (PartitionOffsets, EpochHistory) {
        self.fail_all(AckFailure::LeadershipEnded, effects);
        self.offsets.unassign();
        (self.offsets, self.epochs)
    }

    const fn check_service(&self) -> Result<(), Refusal> {
        if self.poisoned {
            return Err(Refusal::Poisoned);
        }
        if !self.leased {
            return Err(Refusal::LeaseEnded);
        }
        Ok(())
    }

    fn fail_all(&mut self, cause: AckFailure, effects: &mut Effects<T>) {
        effects.failed.extend(self.at_leader.drain_all().map(failed(cause)));
        effects.failed.extend(self.at_watermark.drain_all().map(failed(cause)));
    }

    /// Moves the watermark as far as the in-sync replicas allow, then takes out the tickets that are due.
    fn settle(&mut self, effects: &mut Effects<T>) {
        if self.poisoned || !self.leased {
            return;
        }
        let here = ReplicaEnds { written_end: self.offsets.written_end(), flushed_end: self.offsets.flushed_end() };
        assert!(self.replicas.record(self.leader, here), "the leader holds a replica");
        // Below min.insync.replicas the watermark stands still, whatever acks a producer asked for (KIP-966).
        let enough = self.replicas.in_sync_count() >= usize::from(self.min_in_sync);
        let enough = enough || self.flaws.has(Flaw::MinInSyncIgnored);
        let common = self.common_end(self.durability);
        if enough && common > self.offsets.high_watermark() {
            self.offsets.raise_watermark(common);
            effects.high_watermark = Some(common);
        }
        while let Some(due) = self.at_leader.release_next(self.offsets.written_end()) {
            effects.released.push(self.released(due));
        }
        let promised = self.promised_end();
        while let Some(due) = self.at_watermark.release_next(promised) {
            effects.released.push(self.released(due));
        }
    }

    /// Up to where acks=all is kept: the watermark, held back while records appended under `flushed` are not all flushed.
    fn promised_end(&self) -> Offset {
        let watermark = self.offsets.high_watermark();
        let flushed = self.common_end(Durability::Flushed);
        if flushed < self.flushed_promise_end { watermark.min(flushed) } else { watermark }
    }

    /// What all that count have in common. The maximal in-sync set counts (KIP-497): while a change is pending, the controller may
    /// hold either set, and elect from it.
    fn common_end(&self, durability: Durability) -> Offset {
        let flaws = self.flaws;
        let durability = if flaws.has(Flaw::AckBeforeFlush) { Durability::Written } else { durability };
        if flaws.has(Flaw::PendingExpansionForgotten) {
            return self.replicas.common_end_of(durability, |replica| replica.in_sync);
        }
        if flaws.has(Flaw::PausedFollowerForgotten) {
            return self.replicas.common_end_of(durability, |replica| replica.in_sync && !replica.lagging);
        }
        self.replicas.common_end(durability)
    }

    fn released(&self, (next_offset, waiting): (Offset, Waiting<T>)) -> Released<T> {
        Released {
            ticket: waiting.ticket,
            base_offset: waiting.base_offset,
            next_offset,
            leader_epoch: self.epoch,
            log_start: self.offsets.log_start(),
            replicas_written: self.replicas.reached(next_offset, Durability::Written),
            replicas_flushed: self.replicas.reached(next_offset, Durability::Flushed),
        }
    }
}

fn failed<T>(cause: AckFailure) -> impl Fn((Offset, Waiting<T>)) -> Failed<T> {
    move |(next_offset, Waiting { base_offset, ticket })| Failed { ticket, base_offset, next_offset, cause }
}
