//! Who is in sync: when the leader asks the controller for another set, and what counts until it answers (KIP-497, KIP-903).
//! Knows nothing of how the controller decides.
//!
//! A set is proposed for one partition epoch, and the controller takes it only while that holds. A proposal whose answer was lost, or
//! that was refused and travels a second time, may still be taken later; so whatever was proposed counts for the watermark until the
//! partition epoch has moved on, and nothing else takes it back.
//!
//! The controller takes a set or refuses all of it. Of those that would join, one that it refuses must not keep out the others: who the
//! metadata has fenced or shutting down is not proposed (KIP-841), who was refused is proposed again only once it has reported again, and then
//! alone, each in its turn.

use alloc::vec::Vec;

use tidelog_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, Monotonic, PartitionEpoch};

use super::Leader;
use crate::effects::Effects;
use crate::flaws::Flaw;
use crate::replica_set::Replica;

/// Who holds a partition, as of one partition epoch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Membership {
    /// All brokers that hold a replica, the leader included.
    pub replicas: Vec<BrokerId>,
    /// Those in sync, the leader included.
    pub in_sync: Vec<BrokerId>,
    /// Version of this.
    pub partition_epoch: PartitionEpoch,
}

/// An in-sync set that a leader asks for: taken by the controller only where both epochs still hold.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InSyncProposal {
    /// The leadership that asks.
    pub leader_epoch: LeaderEpoch,
    /// The partition epoch it knows.
    pub partition_epoch: PartitionEpoch,
    /// Who shall be in sync. The set that holds already is asked for to settle what became of an earlier proposal: the controller takes it
    /// like any other, under a new partition epoch.
    pub in_sync: Vec<InSyncMember>,
}

/// A replica that shall be in sync.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InSyncMember {
    /// The broker.
    pub broker: BrokerId,
    /// The registration under which it made its progress; the controller refuses an earlier one, because the broker may have lost
    /// that progress since (KIP-903). `None` for the leader and for those in sync already that have not been heard of.
    pub broker_epoch: Option<BrokerEpoch>,
}

/// Where the leader stands with its proposals.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) enum Alteration {
    /// None is under way.
    #[default]
    Idle,
    /// One is under way.
    Proposed,
    /// The last one came to nothing; the next waits for a tick.
    Failed,
}

impl<T> Leader<T> {
    /// The controller holds this: it accepted a proposal, or decided by itself. What is not newer than what is known changes nothing.
    pub fn membership_changed(&mut self, membership: &Membership, effects: &mut Effects<T>) {
        let Membership { replicas, in_sync, partition_epoch } = membership;
        if *partition_epoch <= self.partition_epoch {
            return;
        }
        assert!(in_sync.contains(&self.leader), "a leader is in sync with itself: {in_sync:?}");
        self.partition_epoch = *partition_epoch;
        self.alteration = Alteration::Idle;
        self.replicas.confirm(replicas, in_sync);
        self.settle(effects);
    }

    /// The proposal for this partition epoch was refused, or no answer came in time. Whom it named goes on counting.
    pub fn alteration_failed(&mut self, partition_epoch: PartitionEpoch) {
        if partition_epoch == self.partition_epoch && self.alteration == Alteration::Proposed {
            self.alteration = Alteration::Failed;
            self.replicas.refuse();
        }
    }

    /// The metadata has these brokers, of all there are, fenced or shutting down: none of them can join now.
    pub fn bar(&mut self, barred: &[BrokerId]) {
        self.replicas.bar(barred);
    }

    /// Time has passed: asks for followers that lag to leave the in-sync set, and for what came to nothing before.
    pub fn tick(&mut self, now: Monotonic, effects: &mut Effects<T>) {
        if self.check_service().is_err() {
            return;
        }
        self.settle(effects);
        self.replicas.observe(self.offsets.written_end(), self.durability, now, self.lag_max_ms);
        if self.alteration == Alteration::Failed {
            self.alteration = Alteration::Idle;
        }
        self.propose(effects);
        if self.flaws.has(Flaw::PausedFollowerForgotten) {
            self.settle(effects);
        }
    }

    /// After progress: asks for followers that have caught up to join.
    pub(super) fn expand(&mut self, effects: &mut Effects<T>) {
        if self.alteration == Alteration::Idle && self.replicas.iter().any(|replica| self.may_join(replica)) {
            self.propose(effects);
        }
    }

    /// A leader whose log is broken gives the lead up: to the others that are in sync; where there are none the set is empty, and the controller
    /// looks for an eligible one (KIP-966). To be asked for again until it leads no more.
    #[must_use]
    pub fn resignation(&self) -> Option<InSyncProposal> {
        let others = self.replicas.iter().filter(|replica| replica.in_sync && replica.broker != self.leader);
        let in_sync: Vec<InSyncMember> =
            others.map(|other| InSyncMember { broker: other.broker, broker_epoch: other.broker_epoch }).collect();
        let (leader_epoch, partition_epoch) = (self.epoch, self.partition_epoch);
        self.poisoned.then_some(InSyncProposal { leader_epoch, partition_epoch, in_sync })
    }

    fn propose(&mut self, effects: &mut Effects<T>) {
        if self.alteration != Alteration::Idle {
            return;
        }
        let joining = self.joining();
        let belongs = |replica: &&Replica| self.stays(replica) || joining.contains(&replica.broker);
        let wanted: Vec<&Replica> = self.replicas.iter().filter(belongs).collect();
        let as_held = wanted.len() == self.replicas.in_sync_count() && wanted.iter().all(|replica| replica.in_sync);
        let unsettled = self.replicas.iter().any(|replica| replica.proposed && !replica.in_sync);
        if as_held && !unsettled {
            return;
        }
        let member = |replica: &&Replica| InSyncMember { broker: replica.broker, broker_epoch: replica.broker_epoch };
        let in_sync: Vec<InSyncMember> = wanted.iter().map(member).collect();
        let brokers: Vec<BrokerId> = in_sync.iter().map(|member| member.broker).collect();
        self.replicas.propose(&brokers);
        self.alteration = Alteration::Proposed;
        let (leader_epoch, partition_epoch) = (self.epoch, self.partition_epoch);
        effects.alter_in_sync = Some(InSyncProposal { leader_epoch, partition_epoch, in_sync });
    }

    fn stays(&self, replica: &Replica) -> bool {
        replica.broker == self.leader || (replica.in_sync && !replica.lagging)
    }

    /// Whom to propose of those that may join: all that were not refused before, or else the one whose last refusal is the longest ago.
    fn joining(&self) -> Vec<BrokerId> {
        let may_join = || self.replicas.iter().filter(|replica| self.may_join(replica));
        let fresh: Vec<BrokerId> =
            may_join().filter(|replica| replica.refused.is_none()).map(|replica| replica.broker).collect();
        if !fresh.is_empty() {
            return fresh;
        }
        may_join().min_by_key(|replica| replica.refused).map(|replica| replica.broker).into_iter().collect()
    }

    fn may_join(&self, replica: &Replica) -> bool {
        !replica.in_sync && !replica.is_barred && replica.is_heard && self.has_caught_up(replica)
    }

    /// Rule 4: it has all that may be settled. The watermark known here may be behind the true one until everything from before this
    /// leadership is on all in-sync replicas, so the epoch's start is needed too. And it keeps up: one that was proposed, refused and then
    /// fell silent holds the watermark where it stands, so reaching that alone would hold it for ever.
    fn has_caught_up(&self, replica: &Replica) -> bool {
        let end = replica.end(self.durability);
        let started = end >= self.epoch_start || self.flaws.has(Flaw::ExpandBelowEpochStart);
        let keeps_up = !replica.lagging || end >= self.offsets.written_end();
        end >= self.offsets.high_watermark() && started && keeps_up
    }
}
