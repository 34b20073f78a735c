//! A producer asks who it is. Knows nothing of what it writes.

use alloc::format;

use tidelog_protocol::messages::{TransactionEnder, TransactionState};
use tidelog_protocol::{ErrorCode, Timestamp};

use super::command::{Init, TransactionDecision, TransactionLimits, TransactionReply};
use super::identity::Identity;
use super::names;
use super::refusals::{being_ended, fenced};
use super::transaction::Transaction;
use crate::command::Refusal;

/// What an Init is decided on.
#[derive(Clone, Copy)]
pub(super) struct Initiation<'a> {
    pub init: &'a Init,
    /// What is known of the id.
    pub known: Option<&'a Transaction>,
    /// How many ids are known in all.
    pub ids: usize,
    pub limits: &'a TransactionLimits,
    pub wall: Timestamp,
}

impl Initiation<'_> {
    pub fn decide(self) -> Result<TransactionDecision, Refusal> {
        names::check(&self.init.transactional_id)?;
        let timeout_ms = self.timeout_ms()?;
        let Some(known) = self.known else { return self.begin(timeout_ms) };
        let current = self.init.current.as_ref().map(Identity::from);
        // A doubled question of who has long known the answer, and written by it, must not end what it writes now.
        let is_asked_again = current.is_some() && current == known.previous;
        if current.is_some_and(|current| current != known.identity) && !is_asked_again {
            return Err(fenced(&self.init.transactional_id, known, current));
        }
        match known.state {
            TransactionState::Committing | TransactionState::Aborting => {
                Err(being_ended(&self.init.transactional_id, known))
            }
            TransactionState::Ongoing if is_asked_again => Err(fenced(&self.init.transactional_id, known, current)),
            TransactionState::Ongoing => {
                let by = if current.is_some() { TransactionEnder::Producer } else { TransactionEnder::Successor };
                let aborted = known.ending(false, by, self.init.fresh_id, self.wall);
                Ok(self.decision(&aborted, TransactionReply::AbortedFirst))
            }
            TransactionState::Empty if is_asked_again => {
                Ok(tell_again(&self.init.transactional_id, known, self.init.fresh_id, self.wall))
            }
            TransactionState::Empty => Ok(self.take_over(known, timeout_ms)),
        }
    }

    fn timeout_ms(self) -> Result<u32, Refusal> {
        let bounds = self.limits.timeout_ms;
        match self.init.timeout_ms {
            0 => Ok(bounds.default),
            asked if asked >= bounds.min && asked <= bounds.max => Ok(asked),
            asked => {
                let rule = format!(
                    "a transaction may stay open for {} to {} ms here, or 0 for {} ms; not for {asked} ms",
                    bounds.min, bounds.max, bounds.default
                );
                Err(Refusal::new(ErrorCode::TransactionTimeout, rule))
            }
        }
    }

    /// Of an id that nobody used, or not for long: whoever was somebody under it begins anew.
    fn begin(self, timeout_ms: u32) -> Result<TransactionDecision, Refusal> {
        if self.ids >= self.limits.ids_max {
            let sentence = format!(
                "there are {} transactional ids here, as many as may be; unused ones are forgotten after {} hours",
                self.ids,
                self.limits.idle_ms / 3_600_000
            );
            return Err(Refusal::new(ErrorCode::TransactionsFull, sentence));
        }
        let Some(fresh) = self.init.fresh_id else { return Ok(TransactionDecision::fresh_id_needed()) };
        let begun = Transaction::new(fresh, timeout_ms, self.wall);
        Ok(self.decision(&begun, TransactionReply::Identity(begun.identity.to_wire())))
    }

    /// Nothing is open: the next epoch is the producer's, and those before are fenced.
    fn take_over(self, known: &Transaction, timeout_ms: u32) -> TransactionDecision {
        let Some(next) = known.identity.next(self.init.fresh_id) else { return TransactionDecision::fresh_id_needed() };
        let taken = Transaction {
            identity: next,
            previous: self.init.current.as_ref().map(Identity::from),
            timeout_ms,
            changed_at: self.wall,
            ..known.clone()
        };
        self.decision(&taken, TransactionReply::Identity(next.to_wire()))
    }

    fn decision(self, to: &Transaction, reply: TransactionReply) -> TransactionDecision {
        TransactionDecision::of(to.to_record(&self.init.transactional_id), reply)
    }
}

/// Who the producer is now, for one that was told already, or would have been: its answer was lost, or its transaction was aborted for it.
pub(super) fn tell_again(
    transactional_id: &str,
    known: &Transaction,
    fresh: Option<tidelog_protocol::ProducerId>,
    wall: Timestamp,
) -> TransactionDecision {
    if known.identity.is_usable() {
        return TransactionDecision::nothing(TransactionReply::Identity(known.identity.to_wire()));
    }
    let Some(fresh) = fresh else { return TransactionDecision::fresh_id_needed() };
    let renewed = Transaction { identity: Identity::first(fresh), changed_at: wall, ..known.clone() };
    TransactionDecision::of(renewed.to_record(transactional_id), TransactionReply::Identity(renewed.identity.to_wire()))
}
