//! A producer under one epoch, and which comes after it. Knows nothing of transactions.

use tidelog_protocol::messages::ProducerIdentity;
use tidelog_protocol::{ProducerEpoch, ProducerId};

use super::records::RecordedProducer;

/// Markers may carry this epoch, and nothing else: a transaction under it could not be ended.
const EPOCH_LAST: ProducerEpoch = ProducerEpoch(i16::MAX);

/// A producer under one epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Identity {
    pub producer_id: ProducerId,
    pub epoch: ProducerEpoch,
}

impl Identity {
    /// A new producer.
    pub const fn first(producer_id: ProducerId) -> Self {
        Self { producer_id, epoch: ProducerEpoch(0) }
    }

    /// The epoch after, which always exists for one that wrote a transaction.
    #[must_use]
    pub const fn bumped(self) -> Self {
        Self { producer_id: self.producer_id, epoch: ProducerEpoch(self.epoch.0.saturating_add(1)) }
    }

    /// Who can write transactions after this one. `None` where its epochs are used up and there is no fresh id.
    pub fn next(self, fresh: Option<ProducerId>) -> Option<Self> {
        let bumped = self.bumped();
        if bumped.is_usable() { Some(bumped) } else { fresh.map(Self::first) }
    }

    /// The same producer with its epochs used up: whoever has one of them is fenced.
    #[must_use]
    pub const fn last(self) -> Self {
        Self { producer_id: self.producer_id, epoch: EPOCH_LAST }
    }

    /// Can it write a transaction?
    pub fn is_usable(self) -> bool {
        self.epoch < EPOCH_LAST
    }

    pub const fn to_wire(self) -> ProducerIdentity {
        ProducerIdentity { producer_id: self.producer_id, epoch: self.epoch }
    }

    pub const fn to_record(self) -> RecordedProducer {
        RecordedProducer { producer_id: self.producer_id, epoch: self.epoch }
    }
}

impl From<&ProducerIdentity> for Identity {
    fn from(wire: &ProducerIdentity) -> Self {
        Self { producer_id: wire.producer_id, epoch: wire.epoch }
    }
}

impl From<&RecordedProducer> for Identity {
    fn from(recorded: &RecordedProducer) -> Self {
        Self { producer_id: recorded.producer_id, epoch: recorded.epoch }
    }
}

impl core::fmt::Display for Identity {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "producer {} in epoch {}", self.producer_id, self.epoch)
    }
}
