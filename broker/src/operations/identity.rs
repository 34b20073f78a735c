//! Who a producer is, whoever asks. For a producer without transactions every broker answers by itself: its id is its own, and an epoch only
//! has to be one that it has not used on a partition. With a transactional id its coordinator decides.

use std::sync::Arc;

use tidelog_coordination::transactions::{Init, TransactionCommand, TransactionReply};
use tidelog_protocol::messages::{InitProducerIdRequest, InitProducerIdResponse, ProducerIdentity};
use tidelog_protocol::{ErrorCode, ProducerEpoch, ProducerId, WireError};

use crate::coordinators::asking::ask;
use crate::node::Node;

/// A new producer, or the next epoch of one.
///
/// # Errors
/// What the rules say.
pub(crate) async fn next_identity(
    request: InitProducerIdRequest,
    node: &Arc<Node>,
) -> Result<InitProducerIdResponse, WireError> {
    if request.transactional_id.is_some() {
        return of_transactional(request, node).await;
    }
    let (producer_id, epoch) = match request.current {
        Some(current) if current.producer_id < ProducerId(0) || current.epoch < ProducerEpoch(0) => {
            let sentence = format!("producer {} has no epoch {}", current.producer_id, current.epoch);
            return Err(WireError::new(ErrorCode::Malformed, sentence));
        }
        Some(ProducerIdentity { producer_id, epoch }) if epoch < ProducerEpoch(i16::MAX) => {
            (producer_id, ProducerEpoch(epoch.0 + 1))
        }
        _ => (node.producer_ids.next(node).await?, ProducerEpoch(0)),
    };
    Ok(InitProducerIdResponse { producer_id, epoch })
}

/// Who the producer under a transactional id is.
///
/// # Errors
/// What the rules say.
async fn of_transactional(
    request: InitProducerIdRequest,
    node: &Arc<Node>,
) -> Result<InitProducerIdResponse, WireError> {
    let InitProducerIdRequest { transactional_id, transaction_timeout_ms: timeout_ms, current } = request;
    let transactional_id = transactional_id.unwrap_or_default();
    let init = |fresh_id| {
        let (transactional_id, current) = (transactional_id.clone(), current.clone());
        TransactionCommand::Init(Init { transactional_id, timeout_ms, current, fresh_id })
    };
    let ProducerIdentity { producer_id, epoch } = identify(node, &transactional_id, init).await?;
    Ok(InitProducerIdResponse { producer_id, epoch })
}

/// Asks what is answered with an identity, again with a fresh id where one is needed.
///
/// # Errors
/// What the rules say.
pub(crate) async fn identify(
    node: &Arc<Node>,
    transactional_id: &str,
    command: impl Fn(Option<ProducerId>) -> TransactionCommand,
) -> Result<ProducerIdentity, WireError> {
    let mut fresh = None;
    loop {
        match ask(node, transactional_id, &command(fresh)).await? {
            TransactionReply::Identity(identity) => return Ok(identity),
            TransactionReply::FreshIdNeeded if fresh.is_none() => fresh = Some(node.producer_ids.next(node).await?),
            _ => return Err(unexpected()),
        }
    }
}

/// A bug of ours.
pub(crate) fn unexpected() -> WireError {
    WireError::new(ErrorCode::Internal, "the coordinator decided something else than it was asked")
}
