//! How one member is moved to its target without two members ever owning one partition: first it lets go, then it gets what is free.
//! Knows nothing of how targets are made (KIP-848).
//!
//! Each time a member is given something, its epoch grows. So within one epoch what a member owns only shrinks, and a heartbeat of
//! that epoch, however late it comes, proves that the member has let go of what it does not name.

use tidelog_protocol::messages::PAUSING;

use super::flaws::{GroupFlaw, GroupFlaws};
use super::partition_set::{PartitionSet, TopicPartition};
use super::records::CurrentValue;

/// What a member owns. Invariant: `owned` and `letting_go` share nothing.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Current {
    /// Its epoch; −2 while it pauses.
    pub epoch: i32,
    /// The one before: who still has it missed an answer. While the member pauses: the last one that it had.
    pub previous_epoch: i32,
    /// What it may work on.
    pub owned: PartitionSet,
    /// What it was told to let go of and may still work on.
    pub letting_go: PartitionSet,
}

/// Where a member is to be moved.
#[derive(Clone, Copy, Debug)]
pub struct Destination<'a> {
    /// The epoch of the target.
    pub epoch: i32,
    /// What it is to own.
    pub target: &'a PartitionSet,
}

impl Current {
    /// Of one that owns nothing yet.
    pub const NONE: Self =
        Self { epoch: 0, previous_epoch: 0, owned: PartitionSet::EMPTY, letting_go: PartitionSet::EMPTY };

    /// As the record says.
    #[must_use]
    pub fn from_record(value: &CurrentValue) -> Self {
        Self {
            epoch: value.epoch,
            previous_epoch: value.previous_epoch,
            owned: PartitionSet::from_wire(&value.owned),
            letting_go: PartitionSet::from_wire(&value.letting_go),
        }
    }

    /// As the record says it.
    #[must_use]
    pub fn to_record(&self) -> CurrentValue {
        CurrentValue {
            epoch: self.epoch,
            previous_epoch: self.previous_epoch,
            owned: self.owned.to_wire(),
            letting_go: self.letting_go.to_wire(),
        }
    }

    /// Has it gone, and means to come back?
    #[must_use]
    pub const fn is_paused(&self) -> bool {
        self.epoch == PAUSING
    }

    /// Is it at its target?
    #[must_use]
    pub fn has_arrived(&self, destination: Destination<'_>) -> bool {
        self.epoch >= destination.epoch && self.letting_go.is_empty() && self.owned == *destination.target
    }

    /// May it work on this one, be it only to finish?
    #[must_use]
    pub fn works_on(&self, partition: &TopicPartition) -> bool {
        self.owned.contains(partition) || self.letting_go.contains(partition)
    }

    /// It goes and means to come back: it works on nothing any more, and its target waits.
    #[must_use]
    pub fn paused(&self) -> Self {
        let last = if self.is_paused() { self.previous_epoch } else { self.epoch };
        Self { epoch: PAUSING, previous_epoch: last, ..Self::default() }
    }

    /// It begins, or begins again after a pause, in an epoch that it never had.
    #[must_use]
    pub fn begun(&self, destination: Destination<'_>, is_free: impl Fn(&TopicPartition) -> bool) -> Self {
        let last = if self.is_paused() { self.previous_epoch } else { 0 };
        let owned = destination.target.iter().copied().filter(is_free).collect();
        let epoch = destination.epoch.max(last.saturating_add(1));
        Self { epoch, previous_epoch: 0, owned, letting_go: PartitionSet::default() }
    }

    /// It joins again though nobody knows that it ever went: all is as it was, but for the epoch.
    #[must_use]
    pub fn begun_again(&self) -> Self {
        Self { epoch: self.epoch.saturating_add(1), previous_epoch: self.epoch, ..self.clone() }
    }

    /// The next step. `still_owned` is what it says it owns in its current epoch; `is_free` is asked about partitions that it does
    /// not own.
    #[must_use]
    pub fn moved(
        &self,
        destination: Destination<'_>,
        still_owned: Option<&PartitionSet>,
        is_free: impl Fn(&TopicPartition) -> bool,
        flaws: GroupFlaws,
    ) -> Self {
        let mut next = self.clone();
        if !next.letting_go.is_empty() {
            if !still_owned.is_some_and(|owned| owned.is_apart_from(&next.letting_go)) {
                return next;
            }
            next.letting_go = PartitionSet::default();
        }
        let surplus = next.owned.without(destination.target);
        if !surplus.is_empty() {
            let surplus = if flaws.has(GroupFlaw::EverythingRevoked) { next.owned.clone() } else { surplus };
            next.owned = next.owned.without(&surplus);
            next.letting_go = surplus;
            return next;
        }
        let given: PartitionSet = destination.target.without(&next.owned).iter().copied().filter(is_free).collect();
        if !given.is_empty() || next.epoch < destination.epoch {
            next.previous_epoch = next.epoch;
            next.epoch = destination.epoch.max(next.epoch.saturating_add(1));
            next.owned.take_in(&given);
        }
        next
    }
}
