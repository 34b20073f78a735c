//! LeaveGroup: members of a classic group go.

use std::sync::Arc;

use tidelog_coordination::groups::classic::{ClassicCommand, ClassicIdentity, ClassicReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberIdentity, MemberResponse};

use super::groups::{UNEXPECTED, ask_classic, classic_code};
use super::{Asker, Handle};
use crate::node::Node;

/// From this version on several members can go at once.
const SEVERAL: i16 = 3;

impl Handle for LeaveGroupRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> LeaveGroupResponse {
        let leaving = if asker.version < SEVERAL {
            vec![MemberIdentity { member_id: self.member_id, ..Default::default() }]
        } else {
            self.members
        };
        let identities = leaving.iter().map(|member| ClassicIdentity {
            member_id: member.member_id.clone(),
            instance_id: member.group_instance_id.clone(),
        });
        let (group, members) = (self.group_id.clone(), identities.collect());
        let left = match ask_classic(node, &group, ClassicCommand::Leave { group: self.group_id, members }).await {
            Ok(ClassicReply::Left(left)) => left,
            Ok(_) => return failed(UNEXPECTED.error()),
            Err(refused) => return failed(refused.error()),
        };
        let errors = left.iter().map(|left| left.as_ref().err().map_or(KafkaError::None, classic_code));
        if asker.version < SEVERAL {
            return failed(errors.into_iter().next().unwrap_or(KafkaError::None));
        }
        let members = leaving.into_iter().zip(errors).map(|(member, error)| MemberResponse {
            member_id: member.member_id,
            group_instance_id: member.group_instance_id,
            error_code: error.code(),
        });
        LeaveGroupResponse { members: members.collect(), ..Default::default() }
    }
}

/// What came of all of it.
fn failed(error: KafkaError) -> LeaveGroupResponse {
    LeaveGroupResponse { error_code: error.code(), ..Default::default() }
}
