//! The refusals that several rules share, and when each is due. Knows nothing of what was asked.

use alloc::format;

use tidelog_protocol::ErrorCode;
use tidelog_protocol::messages::TransactionEnder;

use super::identity::Identity;
use super::transaction::Transaction;
use crate::command::Refusal;
use crate::counted;

/// The producer must be the present one.
pub(super) fn check_present(id: &str, known: &Transaction, asks: Identity) -> Result<(), Refusal> {
    if asks == known.identity && asks.is_usable() {
        Ok(())
    } else if Some(asks) == known.previous {
        Err(is_over(id, known, asks))
    } else {
        Err(fenced(id, known, Some(asks)))
    }
}

pub(super) fn unknown(id: &str) -> Refusal {
    let sentence = format!("nothing is known of the transactional id '{}'", id.escape_debug());
    Refusal::new(ErrorCode::UnknownTransaction, sentence)
}

/// Another has its place.
pub(super) fn fenced(id: &str, known: &Transaction, asks: Option<Identity>) -> Refusal {
    let present = known.identity;
    let sentence = match asks {
        Some(asks) => format!("{asks} is not who serves under '{id}': that is {present}"),
        None => format!("{present} serves under '{id}'"),
    };
    Refusal::new(ErrorCode::TransactionFenced, sentence)
}

/// Its markers are being written. Which of them are is not looked at here.
pub(super) fn being_ended(id: &str, known: &Transaction) -> Refusal {
    let (partitions, groups) = (known.touched.partitions.len(), known.touched.groups.len());
    let touched = format!("{} and {}", counted(partitions, "partition"), counted(groups, "group"));
    let sentence = format!(
        "the transaction before is being ended under '{id}': it touched {touched}, not all of which know of its end yet"
    );
    Refusal::new(ErrorCode::ConcurrentTransactions, sentence)
}

/// The epoch of the producer had its transaction, if any, and that has ended.
pub(super) fn is_over(id: &str, known: &Transaction, asks: Identity) -> Refusal {
    let how = match known.ended.filter(|ended| ended.identity == asks) {
        Some(ended) if ended.committed => "is committed",
        Some(ended) => match ended.by {
            TransactionEnder::Producer | TransactionEnder::Successor => "is aborted",
            TransactionEnder::Timeout => "was aborted: it was open for longer than its timeout",
            TransactionEnder::Operator => "was aborted by an operator",
        },
        None => "was empty, and that epoch is over",
    };
    Refusal::new(ErrorCode::InvalidTransactionState, format!("the transaction of {asks} under '{id}' {how}"))
}
