//! DeleteGroups: groups without members are forgotten, of either kind.

use std::sync::Arc;

use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::delete_groups::{DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse};
use tidelog_protocol::messages::DeleteGroupRequest;

use super::groups::{UNEXPECTED, ask};
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for DeleteGroupsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> DeleteGroupsResponse {
        let mut results = Vec::with_capacity(self.groups_names.len());
        for group_id in self.groups_names {
            let request = DeleteGroupRequest { group: group_id.clone(), partitions: None };
            let error = match ask(node, &group_id, GroupCommand::Delete(request)).await {
                Ok(GroupReply::Deleted) => KafkaError::None,
                Ok(_) => UNEXPECTED.error(),
                Err(refused) => refused.error(),
            };
            results.push(DeletableGroupResult { group_id, error_code: error.code() });
        }
        DeleteGroupsResponse { results, ..Default::default() }
    }
}
