//! The marker that ends a transaction in a partition, as a coordinator wants it written. Knows nothing of coordinators.

use tidelog_protocol::LeaderEpoch;
use tidelog_protocol::messages::ProducerIdentity;
use tidelog_protocol::records::{ControlRecord, ValidBatches};
use tidelog_replication::{MarkerEpoch, Word};

use crate::clock;

/// How a transaction ended, for one partition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marker {
    /// The producer: what an earlier epoch has open ends.
    pub identity: ProducerIdentity,
    /// Whether that of the identity does, too.
    pub carries: MarkerEpoch,
    /// Commit; otherwise abort.
    pub commit: bool,
    /// Leadership under which the coordinator decided.
    pub coordinator_epoch: LeaderEpoch,
}

impl Marker {
    /// Of whom, and under which epoch.
    pub(super) const fn word(&self) -> Word {
        Word { producer: self.identity.producer_id, epoch: self.identity.epoch }
    }

    /// As it is written.
    pub(super) fn batches(&self) -> ValidBatches {
        let coordinator_epoch = self.coordinator_epoch.signed();
        let record = match self.commit {
            true => ControlRecord::Commit { coordinator_epoch },
            false => ControlRecord::Abort { coordinator_epoch },
        };
        ValidBatches::marker(record, (self.identity.producer_id, self.identity.epoch), clock::now())
    }
}
