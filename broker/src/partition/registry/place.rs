//! What is wanted of a partition here, and what became of that.

use std::sync::Arc;

use tidelog_coordination::TopicImage;
use tidelog_protocol::WireError;
use tidelog_protocol::messages::ReplicaHolding;

use crate::partition::assignment::{Assignment, Part};
use crate::partition::handle::Handle;

#[derive(Clone, Debug)]
pub(super) enum Slot {
    Open(Handle),
    /// Why not, and what there is of it.
    Failed(WireError, ReplicaHolding),
    /// Why not yet: nothing is broken, so it is tried again.
    NotYet(WireError),
    /// No replica is here.
    Elsewhere,
}

impl Slot {
    pub(super) const fn is_failed(&self) -> bool {
        matches!(self, Self::Failed(..) | Self::NotYet(_))
    }
}

/// A partition: what is wanted of it here, and what became of that.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) assignment: Option<Assignment>,
    pub(super) slot: Slot,
}

impl Place {
    /// What there is of a replica that the controller may have lead, and that is not whole.
    pub(super) fn lacks(&self) -> Option<ReplicaHolding> {
        let assignment = self.assignment.as_ref().filter(|assignment| assignment.counts)?;
        let unreadable = match &self.slot {
            Slot::Failed(_, holding) => return Some(*holding),
            // It comes back by itself: only a lead is worth giving away, and only where somebody takes it at once.
            Slot::NotYet(_) => match &assignment.part {
                Part::Lead { membership, .. } => membership.in_sync.len() > 1,
                Part::Follow(_) | Part::Wait { .. } => false,
            },
            Slot::Open(handle) => {
                let tail = handle.tail();
                let tail = tail.borrow();
                // As leader it gives the lead up itself.
                tail.is_broken && !(tail.leads && tail.leader_epoch == assignment.epoch())
            }
            Slot::Elsewhere => false,
        };
        unreadable.then_some(ReplicaHolding::Unreadable)
    }
}

#[derive(Clone, Debug)]
pub(super) struct Topic {
    pub(super) image: Arc<TopicImage>,
    pub(super) places: Vec<Place>,
}

impl Topic {
    pub(super) fn has_waiting(&self) -> bool {
        self.places.iter().any(|place| matches!(place.slot, Slot::NotYet(_)))
    }
}
