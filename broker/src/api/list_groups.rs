//! ListGroups: the groups of every shard here.

use std::sync::Arc;

use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::WireError;
use tidelog_protocol::messages::{ListGroupsRequest, ListGroupsResponse};

use super::Handle;
use crate::node::Node;
use crate::session::Session;

impl Handle for ListGroupsRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<ListGroupsResponse, WireError> {
        let (replies, unread) = node.coordinators.groups.ask_each(node, &GroupCommand::List, session.version).await?;
        let listed = replies.into_iter().filter_map(|reply| match reply {
            GroupReply::Listed(listed) => Some(listed.groups),
            _ => None,
        });
        let mut groups: Vec<_> = listed.flatten().collect();
        groups.sort_unstable_by(|a, b| a.group.cmp(&b.group));
        Ok(ListGroupsResponse { groups, unread })
    }
}
