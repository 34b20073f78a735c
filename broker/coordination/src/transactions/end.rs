//! A transaction is ended: by its producer, or by an operator. Knows nothing of how the markers are written.

use alloc::format;

use tidelog_protocol::messages::{EndTransactionRequest, TransactionEnder, TransactionState};
use tidelog_protocol::{ErrorCode, ProducerId, Timestamp};

use super::command::{TransactionDecision, TransactionReply};
use super::flaws::{TransactionFlaw, TransactionFlaws};
use super::identity::Identity;
use super::init::tell_again;
use super::refusals::{being_ended, check_present, is_over};
use super::transaction::Transaction;
use crate::command::Refusal;

/// By its producer.
pub(super) fn end(
    known: &Transaction,
    request: &EndTransactionRequest,
    fresh: Option<ProducerId>,
    wall: Timestamp,
    flaws: TransactionFlaws,
) -> Result<TransactionDecision, Refusal> {
    let id = &request.transactional_id;
    let asks = Identity::from(&request.identity);
    let unfenced = flaws.has(TransactionFlaw::EndUnfenced);
    if Some(asks) == known.previous && !unfenced {
        // Asked again, or too late: it has ended, and is not ended otherwise.
        return if known.was_committed(asks) == request.commit {
            Ok(tell_again(id, known, fresh, wall))
        } else {
            Err(is_over(id, known, asks))
        };
    }
    if !unfenced {
        check_present(id, known, asks)?;
    }
    if known.is_ending() {
        return Err(being_ended(id, known));
    }
    // One that touched nothing takes an epoch too: its end, if it comes late, must not meet the next.
    let ended = known.ending(request.commit, TransactionEnder::Producer, fresh, wall);
    if !ended.identity.is_usable() {
        return Ok(TransactionDecision::fresh_id_needed());
    }
    Ok(TransactionDecision::of(ended.to_record(id), TransactionReply::Identity(ended.identity.to_wire())))
}

/// By its producer, which goes on under the same epoch.
pub(super) fn end_in_epoch(
    known: &Transaction,
    request: &EndTransactionRequest,
    wall: Timestamp,
) -> Result<TransactionDecision, Refusal> {
    let (id, asks) = (&request.transactional_id, Identity::from(&request.identity));
    check_present(id, known, asks)?;
    let told = TransactionReply::Identity(asks.to_wire());
    match known.state {
        TransactionState::Ongoing => {
            Ok(TransactionDecision::of(known.ending_in_epoch(request.commit, wall).to_record(id), told))
        }
        // It touched nothing, or is asked again.
        TransactionState::Empty => Ok(TransactionDecision::nothing(told)),
        TransactionState::Committing | TransactionState::Aborting => {
            let was_it = known.keeps_epoch() && known.was_committed(asks) == request.commit;
            if was_it { Ok(TransactionDecision::nothing(told)) } else { Err(being_ended(id, known)) }
        }
    }
}

/// By an operator.
pub(super) fn abort(id: &str, known: &Transaction, wall: Timestamp) -> Result<TransactionDecision, Refusal> {
    let was_it = known.ended.is_some_and(|ended| ended.by == TransactionEnder::Operator);
    match known.state {
        TransactionState::Ongoing => {
            let aborted = known.ending(false, TransactionEnder::Operator, None, wall);
            Ok(TransactionDecision::of(aborted.to_record(id), TransactionReply::Aborted))
        }
        TransactionState::Aborting => Ok(TransactionDecision::nothing(TransactionReply::Aborted)),
        // Asked again.
        TransactionState::Empty if was_it => Ok(TransactionDecision::nothing(TransactionReply::Aborted)),
        TransactionState::Empty => {
            let sentence = format!("no transaction is open under '{id}'");
            Err(Refusal::new(ErrorCode::InvalidTransactionState, sentence))
        }
        TransactionState::Committing => {
            let sentence = format!("the transaction under '{id}' is committed already; its markers are being written");
            Err(Refusal::new(ErrorCode::InvalidTransactionState, sentence))
        }
    }
}
