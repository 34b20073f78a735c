//! ListGroups: the groups of every shard here.

use std::sync::Arc;

use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::WireError;
use tidelog_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use super::Handle;
use crate::node::Node;
use crate::session::Session;

impl Handle for ListGroupsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<ListGroupsResponse, WireError> {
        let mut groups = Vec::new();
        for shard in node.coordinators.groups.all() {
            if let GroupReply::Listed(listed) = shard.ask(node, &GroupCommand::List).await? {
                groups.extend(listed.groups);
            }
        }
        groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        Ok(ListGroupsResponse { groups })
    }
}
