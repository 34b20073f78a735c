//! The end of a lane whose transaction is undone. Pure, as the lane.
//!
//! A transaction holds all of its records or none, so that one batch that is not written leaves nothing to do for the others: they would
//! only keep the next transaction waiting. What is in flight is answered yet, and whatever comes of it changes nothing.

use std::collections::VecDeque;

use super::{Batch, Lane, Settled};
use crate::ClientError;
use crate::producer::SendError;

impl Settled {
    /// Given up with its transaction.
    pub(super) const fn abandoned(batch: Batch) -> Self {
        Self::new(batch, Err(SendError::Undone))
    }
}

impl Lane {
    /// Takes no more records, sends nothing more, and gives up all that has no answer to wait for.
    pub(in crate::producer) fn abandon(&mut self) -> Vec<Settled> {
        self.abandoned = true;
        self.close_open();
        let in_flight = std::mem::take(&mut self.in_flight);
        let (back, away): (VecDeque<_>, VecDeque<_>) = in_flight.into_iter().partition(|b| b.content.came_back());
        self.in_flight = away;
        let waiting = std::mem::take(&mut self.waiting);
        back.into_iter().chain(waiting).map(Settled::abandoned).collect()
    }

    /// Records that come now would never leave.
    pub(in crate::producer) const fn is_abandoned(&self) -> bool {
        self.abandoned
    }

    /// No record ever came.
    pub(in crate::producer) const fn is_untouched(&self) -> bool {
        self.next_id == 0
    }

    /// These are settled; where a transaction is undone by it, what is left of the lane is given up behind them. So it is where the leader
    /// misses what it has acknowledged, or has seen a later epoch: under the one there is nothing more can be written.
    pub(super) fn undone_by(&mut self, mut settled: Vec<Settled>) -> Vec<Settled> {
        if self.rules.transaction.is_none() {
            return settled;
        }
        if self.numbering.is_beyond_repair()
            && let Some(batch) = self.waiting.pop_front()
        {
            let error = match &self.last_error {
                Some(ClientError::Broker(refusal)) => SendError::Rejected(refusal.clone()),
                other => SendError::Client(other.clone().unwrap_or(ClientError::Closed)),
            };
            settled.push(Settled::new(batch, Err(error)));
        }
        if settled.iter().any(|settled| settled.failure().is_some()) {
            settled.extend(self.abandon());
        }
        settled
    }
}
