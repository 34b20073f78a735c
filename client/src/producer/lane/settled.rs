//! A batch whose fate is known, on its way out of the lane. Pure, as the lane.

use bytes::Bytes;

use super::{Batch, Content};
use crate::producer::SendError;
use crate::producer::delivery::{Fate, Outcome};

/// A batch whose fate is known, to be told outside of the lock.
#[derive(Debug)]
#[must_use = "nobody hears of the outcome until it is told"]
pub(in crate::producer) struct Settled {
    pub(super) batch: Batch,
    pub(super) fate: Fate,
}

impl Settled {
    pub(super) const fn new(batch: Batch, outcome: Outcome) -> Self {
        Self { batch, fate: Fate::Known(outcome) }
    }

    /// Why it was not written, where it was not, or may not have been.
    pub(in crate::producer) const fn failure(&self) -> Option<&SendError> {
        match &self.fate {
            Fate::Known(Err(error)) => Some(error),
            Fate::Known(Ok(_)) | Fate::Split(_) => None,
        }
    }

    /// Gives the memory back, tells those who wait, and returns the bytes that were sent, for another use.
    pub(in crate::producer) fn tell(self) -> Option<Bytes> {
        let Batch { completion, memory, content, .. } = self.batch;
        drop(memory);
        completion.settle(self.fate);
        match content {
            Content::Sealed(bytes) | Content::Failed(bytes) | Content::Oversized(bytes) => Some(bytes),
            Content::Filling(_) | Content::Away => None,
        }
    }
}
