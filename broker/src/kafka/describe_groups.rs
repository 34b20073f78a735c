//! DescribeGroups: how classic groups are. One that does not exist, or is of the other kind, is dead, as far as this API says.

use std::sync::Arc;

use tidelog_coordination::groups::classic::{ClassicCommand, ClassicMemberDescription, ClassicReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};

use super::groups::{UNEXPECTED, ask_classic};
use super::{Asker, Handle};
use crate::node::Node;

/// From this version on a group that is not found is an error.
const NOT_FOUND_TOLD: i16 = 6;

impl Handle for DescribeGroupsRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> DescribeGroupsResponse {
        let mut groups = Vec::with_capacity(self.groups.len());
        for group_id in self.groups {
            let described = describe(node, asker, group_id.clone()).await;
            groups.push(DescribedGroup { group_id, ..described });
        }
        DescribeGroupsResponse { groups, ..Default::default() }
    }
}

async fn describe(node: &Arc<Node>, asker: &Asker, group: String) -> DescribedGroup {
    let error = match ask_classic(node, &group, ClassicCommand::Describe { group: group.clone() }).await {
        Ok(ClassicReply::Described(described)) => {
            return DescribedGroup {
                group_state: described.phase.name().into(),
                protocol_type: described.protocol_type,
                protocol_data: described.protocol,
                members: described.members.into_iter().map(member).collect(),
                ..Default::default()
            };
        }
        Ok(_) => UNEXPECTED.error(),
        Err(refused) => refused.error(),
    };
    let is_missing = error == KafkaError::GroupIdNotFound;
    let is_told = !is_missing || asker.version >= NOT_FOUND_TOLD;
    DescribedGroup {
        error_code: if is_told { error.code() } else { 0 },
        error_message: is_missing.then(|| format!("there is no classic group '{}'", group.escape_debug())),
        group_state: if is_missing { "Dead".into() } else { String::new() },
        ..Default::default()
    }
}

fn member(described: ClassicMemberDescription) -> DescribedGroupMember {
    DescribedGroupMember {
        member_id: described.member_id,
        group_instance_id: described.instance_id,
        client_id: described.client_id,
        client_host: described.client_host,
        member_metadata: described.metadata,
        member_assignment: described.assignment,
    }
}
