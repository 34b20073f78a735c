//! The calls of transactional producers that their coordinator decides, and those of operators who look at them. Each is handed to the shard of
//! the transactional id as it came.

use std::sync::Arc;

use tidelog_coordination::transactions::{Init, TransactionCommand, TransactionReply};
use tidelog_protocol::messages::{
    AbortTransactionRequest, AbortTransactionResponse, AddToTransactionRequest, AddToTransactionResponse,
    DescribeTransactionRequest, DescribeTransactionResponse, EndTransactionRequest, EndTransactionResponse,
    InitProducerIdRequest, InitProducerIdResponse, ListTransactionsRequest, ListTransactionsResponse, ProducerIdentity,
};
use tidelog_protocol::{ErrorCode, ProducerId, WireError};

use super::Handle;
use crate::coordinators::asking::ask;
use crate::node::Node;
use crate::session::Session;

/// Who the producer under a transactional id is.
///
/// # Errors
/// What the rules say.
pub(super) async fn init(
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
async fn identify(
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

fn unexpected() -> WireError {
    WireError::new(ErrorCode::Internal, "the coordinator decided something else than it was asked")
}

impl Handle for AddToTransactionRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<AddToTransactionResponse, WireError> {
        let id = self.transactional_id.clone();
        match ask(node, &id, &TransactionCommand::Add(self)).await? {
            TransactionReply::Added => Ok(AddToTransactionResponse {}),
            _ => Err(unexpected()),
        }
    }
}

impl Handle for EndTransactionRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<EndTransactionResponse, WireError> {
        let end = |fresh_id| TransactionCommand::End { request: self.clone(), fresh_id };
        Ok(EndTransactionResponse { identity: identify(node, &self.transactional_id, end).await? })
    }
}

impl Handle for AbortTransactionRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<AbortTransactionResponse, WireError> {
        let id = self.transactional_id.clone();
        match ask(node, &id, &TransactionCommand::Abort(self)).await? {
            TransactionReply::Aborted => Ok(AbortTransactionResponse {}),
            _ => Err(unexpected()),
        }
    }
}

impl Handle for DescribeTransactionRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DescribeTransactionResponse, WireError> {
        let id = self.transactional_id.clone();
        match ask(node, &id, &TransactionCommand::Describe(self)).await? {
            TransactionReply::Described(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }
}

impl Handle for ListTransactionsRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<ListTransactionsResponse, WireError> {
        let command = TransactionCommand::List(self);
        let (replies, unread) = node.coordinators.transactions.ask_each(node, &command, session.version).await?;
        let listed = replies.into_iter().filter_map(|reply| match reply {
            TransactionReply::Listed(listed) => Some(listed.transactions),
            _ => None,
        });
        let mut transactions: Vec<_> = listed.flatten().collect();
        transactions.sort_unstable_by(|a, b| a.transactional_id.cmp(&b.transactional_id));
        Ok(ListTransactionsResponse { transactions, unread })
    }
}
