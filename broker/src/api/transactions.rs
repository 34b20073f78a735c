//! The calls of transactional producers that their coordinator decides, and those of operators who look at them. Each is handed to the shard of
//! the transactional id as it came.

use std::sync::Arc;

use tidelog_coordination::transactions::{TransactionCommand, TransactionReply};
use tidelog_protocol::WireError;
use tidelog_protocol::messages::{
    AbortTransactionRequest, AbortTransactionResponse, AddToTransactionRequest, AddToTransactionResponse,
    DescribeTransactionRequest, DescribeTransactionResponse, EndTransactionRequest, EndTransactionResponse,
    ListTransactionsRequest, ListTransactionsResponse,
};

use super::Handle;
use crate::coordinators::asking::ask;
use crate::node::Node;
use crate::operations::identity::{identify, unexpected};
use crate::session::Session;

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
