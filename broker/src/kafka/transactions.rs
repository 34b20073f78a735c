//! What the APIs of transactions share: who the producer is, and how Kafka says what their coordinators refuse. Knows nothing of what is asked.

use tidelog_coordination::transactions::{TransactionCommand, TransactionReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::messages::{ProducerIdentity, TransactionState};
use tidelog_protocol::{ErrorCode, ProducerEpoch, ProducerId, WireError};

use super::groups::coordinator_code;
use crate::coordinators::asking;
use crate::node::Node;

/// From this version of their requests on producers know what it is to be fenced; before, only that their epoch is not the present one.
const KNOWS_FENCES: i16 = 2;

/// A producer under one epoch.
pub(super) const fn identity(producer_id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { producer_id: ProducerId(producer_id), epoch: ProducerEpoch(epoch) }
}

/// Asks whoever coordinates the transactional id, if that is this broker.
pub(super) async fn ask(
    node: &Node,
    transactional_id: &str,
    command: TransactionCommand,
    version: i16,
) -> Result<TransactionReply, KafkaError> {
    let asked = asking::ask(node, transactional_id, &command).await;
    asked.map_err(|error| transaction_code(&error, if version < KNOWS_FENCES { OVER } else { FENCED }))
}

/// Another serves under the transactional id.
pub(super) const FENCED: KafkaError = KafkaError::ProducerFenced;
/// The same where clients expect it so.
pub(super) const OVER: KafkaError = KafkaError::InvalidProducerEpoch;

/// How Kafka says what coordinators of transactions refuse. A producer whose transaction was ended by others, for its timeout or by an operator, has
/// an epoch that is over: to Kafka's clients that is what `fenced` says.
pub(super) fn transaction_code(error: &WireError, fenced: KafkaError) -> KafkaError {
    match error.code {
        ErrorCode::TransactionFenced | ErrorCode::InvalidTransactionState => fenced,
        _ => coordinator_code(error),
    }
}

/// How Kafka says what is refused of what a transaction writes: batches and offsets.
pub(super) fn written_code(error: &WireError) -> Option<KafkaError> {
    match error.code {
        ErrorCode::TransactionFenced | ErrorCode::InvalidTransactionState => Some(OVER),
        // It has not said that it would write here.
        ErrorCode::UnknownTransaction => Some(KafkaError::InvalidTxnState),
        _ => None,
    }
}

/// As Kafka names it.
pub(super) const fn state_name(state: TransactionState) -> &'static str {
    match state {
        TransactionState::Empty => "Empty",
        TransactionState::Ongoing => "Ongoing",
        TransactionState::Committing => "PrepareCommit",
        TransactionState::Aborting => "PrepareAbort",
    }
}
