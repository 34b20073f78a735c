//! The calls of groups that their coordinator decides. Each is handed to the shard of the group as it came.

use std::sync::Arc;

use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::messages::{
    AddToTransactionRequest, CommitTransaction, DeleteGroupRequest, DeleteGroupResponse, DescribeGroupRequest,
    DescribeGroupResponse, GroupHeartbeatRequest, GroupHeartbeatResponse, OffsetCommitRequest, OffsetCommitResponse,
    OffsetFetchRequest, OffsetFetchResponse,
};
use tidelog_protocol::{ErrorCode, WireError};

use super::Handle;
use crate::coordinators::take_in;
use crate::node::Node;
use crate::session::Session;

async fn ask(node: &Node, group: &str, command: GroupCommand) -> Result<GroupReply, WireError> {
    node.coordinators.groups.of(node, group)?.ask(node, &command).await
}

fn unexpected() -> WireError {
    WireError::new(ErrorCode::Internal, "the coordinator decided something else than it was asked")
}

impl Handle for GroupHeartbeatRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<GroupHeartbeatResponse, WireError> {
        let group = self.group.clone();
        match ask(node, &group, GroupCommand::Heartbeat(self)).await? {
            GroupReply::Heartbeat(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }
}

impl Handle for OffsetCommitRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<OffsetCommitResponse, WireError> {
        let shard = node.coordinators.groups.of(node, &self.group)?;
        match shard.ask(node, &GroupCommand::Commit(self.clone())).await? {
            GroupReply::Committed => Ok(OffsetCommitResponse {}),
            GroupReply::TakeInFirst => {
                let Some(transaction) = self.transaction.clone() else { return Err(unexpected()) };
                let CommitTransaction { transactional_id, identity } = transaction;
                let groups = vec![self.group.clone()];
                let (partitions, only_asks) = (Vec::new(), false);
                let membership = AddToTransactionRequest { transactional_id, identity, partitions, groups, only_asks };
                take_in(node, membership).await?;
                // The same shard: one that was opened meanwhile may have missed the end, and one that leads no more appends nothing.
                match shard.ask(node, &GroupCommand::CommitTakenIn(self)).await? {
                    GroupReply::Committed => Ok(OffsetCommitResponse {}),
                    _ => Err(unexpected()),
                }
            }
            _ => Err(unexpected()),
        }
    }
}

impl Handle for OffsetFetchRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<OffsetFetchResponse, WireError> {
        let group = self.group.clone();
        match ask(node, &group, GroupCommand::Fetch(self)).await? {
            GroupReply::Fetched(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }
}

impl Handle for DescribeGroupRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DescribeGroupResponse, WireError> {
        let group = self.group.clone();
        match ask(node, &group, GroupCommand::Describe(self)).await? {
            GroupReply::Described(response) => Ok(response),
            _ => Err(unexpected()),
        }
    }
}

impl Handle for DeleteGroupRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DeleteGroupResponse, WireError> {
        let group = self.group.clone();
        match ask(node, &group, GroupCommand::Delete(self)).await? {
            GroupReply::Deleted => Ok(DeleteGroupResponse {}),
            _ => Err(unexpected()),
        }
    }
}
