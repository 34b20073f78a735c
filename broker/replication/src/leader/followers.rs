//! What followers ask and report, as the leader answers it. Knows nothing of how the in-sync set changes.

use tidelog_protocol::LeaderEpoch;

use super::{Leader, ReplicaProgress};
use crate::effects::Effects;
use crate::flaws::Flaw;
use crate::follow::{FollowAnswer, FollowOutcome, FollowTerms};
use crate::follower::EpochEndAnswer;
use crate::refusal::Refusal;
use crate::replica_set::ReplicaEnds;

impl<T> Leader<T> {
    /// A follower of this leadership asks where `asked` ended here.
    ///
    /// # Errors
    /// [`Refusal::FencedEpoch`], [`Refusal::UnknownEpoch`].
    pub fn epoch_end(&self, leader_epoch: LeaderEpoch, asked: LeaderEpoch) -> Result<EpochEndAnswer, Refusal> {
        self.fence_follower(leader_epoch)?;
        let end = self.epochs.end_of(asked, self.offsets.written_end());
        Ok(EpochEndAnswer { leader_epoch: self.epoch, asked, end, log_start: self.offsets.log_start() })
    }

    /// A follower asks for a stream. What it reported before counts no more.
    ///
    /// # Errors
    /// [`Refusal::FencedEpoch`], [`Refusal::UnknownEpoch`], [`Refusal::NotAReplica`], [`Refusal::NotFollowing`], [`Refusal::Poisoned`].
    pub fn follow(&mut self, terms: &FollowTerms) -> Result<FollowAnswer, Refusal> {
        if self.poisoned {
            return Err(Refusal::Poisoned);
        }
        self.fence_follower(terms.leader_epoch)?;
        let FollowTerms { replica, broker_epoch, from, .. } = *terms;
        if replica == self.leader || self.replicas.find(replica).is_none() {
            return Err(Refusal::NotAReplica { replica });
        }
        if !self.replicas.begin(replica, broker_epoch) {
            return Err(Refusal::NotFollowing { replica, broker_epoch });
        }
        let (log_start, written_end) = (self.offsets.log_start(), self.offsets.written_end());
        let parts = terms.last_epoch.and_then(|last| {
            let end = self.epochs.end_of(last, written_end);
            let is_prefix = end.is_some_and(|end| end.epoch == last && from <= end.end);
            (!is_prefix).then_some(FollowOutcome::Diverged { end })
        });
        let outcome = if from < log_start {
            // Its records are older than all here: they part from nothing.
            FollowOutcome::OutOfRange
        } else if let Some(diverged) = parts {
            diverged
        } else if from > written_end {
            FollowOutcome::OutOfRange
        } else {
            FollowOutcome::Streams
        };
        Ok(FollowAnswer { leader_epoch: self.epoch, from, log_start, outcome })
    }

    /// A follower is this far. What it reported before in this leadership is replaced, even by less.
    ///
    /// # Errors
    /// [`Refusal::FencedEpoch`], [`Refusal::UnknownEpoch`], [`Refusal::NotAReplica`], [`Refusal::NotFollowing`],
    /// [`Refusal::ImpossibleProgress`], [`Refusal::Poisoned`], [`Refusal::LeaseEnded`].
    pub fn progress(&mut self, progress: ReplicaProgress, effects: &mut Effects<T>) -> Result<(), Refusal> {
        self.check_service()?;
        if !self.flaws.has(Flaw::ProgressUnfenced) {
            self.fence(progress.epoch)?;
        }
        let ReplicaProgress { replica, broker_epoch, ends: ReplicaEnds { written_end, flushed_end }, .. } = progress;
        if written_end > self.offsets.written_end() || flushed_end > written_end {
            let log_end = self.offsets.log_end();
            return Err(Refusal::ImpossibleProgress { replica, written_end, flushed_end, log_end });
        }
        let known = self.replicas.find(replica).filter(|_| replica != self.leader);
        let Some(known) = known else { return Err(Refusal::NotAReplica { replica }) };
        if known.broker_epoch != Some(broker_epoch) && !self.flaws.has(Flaw::BrokerEpochIgnored) {
            return Err(Refusal::NotFollowing { replica, broker_epoch });
        }
        assert!(self.replicas.record(replica, progress.ends), "it was just found");
        self.settle(effects);
        self.expand(effects);
        Ok(())
    }

    fn fence_follower(&self, epoch: LeaderEpoch) -> Result<(), Refusal> {
        // A follower that believes answers of an earlier leadership was once given them.
        if self.flaws.has(Flaw::AnswersUnfenced) && epoch > self.epoch {
            return Ok(());
        }
        self.fence(epoch)
    }
}
