//! JoinGroup: a member takes part in the next generation of a classic group, and waits until that begins.

use std::sync::Arc;

use tidelog_coordination::groups::classic::{
    ClassicCommand, ClassicError, ClassicJoin, ClassicJoined, ClassicReply, ClassicSpeech, FEATURE_LEVEL,
};
use tidelog_coordination::groups::records::ClassicProtocol;
use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::join_group::{JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember};

use super::groups::{Refused, UNEXPECTED};
use super::{Asker, Handle};
use crate::node::Node;

/// From these versions on a member is given an id before it joins, and a leader may be told to leave the parts as they are.
const IDS_FIRST: i16 = 4;
const SKIPS_ASSIGNMENT: i16 = 9;
/// Of the client's name, characters that stand in front of an id.
const PREFIX_CHARS: usize = 100;

impl Handle for JoinGroupRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> JoinGroupResponse {
        let member_id = self.member_id.clone();
        match join(self, node, asker).await {
            Ok(joined) => answer(joined),
            Err(refused) => JoinGroupResponse {
                error_code: refused.error().code(),
                member_id: match refused {
                    Refused::Rules(ClassicError::MemberIdRequired(fresh)) => fresh,
                    _ => member_id,
                },
                protocol_name: None,
                ..Default::default()
            },
        }
    }
}

async fn join(request: JoinGroupRequest, node: &Arc<Node>, asker: &Asker) -> Result<ClassicJoined, Refused> {
    if node.controllers.image().feature_level() < FEATURE_LEVEL {
        // A client that found its coordinator otherwise is to ask for it.
        return Err(Refused::Coordinator(KafkaError::CoordinatorNotAvailable));
    }
    let shard = node.coordinators.groups.of(node, &request.group_id)?;
    let (group, instance_id) = (request.group_id.clone(), request.group_instance_id.clone());
    let decided = {
        let command = GroupCommand::Classic(ClassicCommand::Join(translate(request, asker)));
        let GroupReply::Classic(decided) = shard.ask(node, &command).await? else { return Err(UNEXPECTED) };
        decided
    };
    let (member_id, after) = match (*decided)? {
        ClassicReply::Joined(joined) => return Ok(joined),
        ClassicReply::JoinLater { member_id, after } => (member_id, after),
        _ => return Err(UNEXPECTED),
    };
    // The rules have bounded the names, and nothing else is kept.
    let _parked = asker.parks();
    let member = (member_id.as_str(), instance_id.as_deref());
    tokio::select! {
        biased;
        // Nobody hears this.
        () = asker.client.session.closed.cancelled() => Err(Refused::Coordinator(KafkaError::NotCoordinator)),
        begun = shard.watch(node, |groups| groups.classic_joined(&group, member, after)) => Ok(begun??),
    }
}

fn translate(request: JoinGroupRequest, asker: &Asker) -> ClassicJoin {
    let session = &asker.client.session;
    let client_id = session.client_id.lock().clone();
    let name = request.group_instance_id.as_ref().unwrap_or(&client_id);
    let prefix: String = name.chars().take(PREFIX_CHARS).collect();
    let protocols = request.protocols.into_iter();
    ClassicJoin {
        fresh_id: format!("{prefix}-{}", uuid::Uuid::now_v7()),
        group: request.group_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
        client_id,
        // As Kafka shows it.
        client_host: format!("/{}", session.peer.ip()),
        session_ms: request.session_timeout_ms,
        rebalance_ms: request.rebalance_timeout_ms,
        protocol_type: request.protocol_type,
        protocols: protocols.map(|said| ClassicProtocol { name: said.name, metadata: said.metadata }).collect(),
        speaks: match asker.version {
            SKIPS_ASSIGNMENT.. => ClassicSpeech::SkipsAssignment,
            IDS_FIRST.. => ClassicSpeech::IdFirst,
            _ => ClassicSpeech::First,
        },
    }
}

fn answer(joined: ClassicJoined) -> JoinGroupResponse {
    let members = joined.members.into_iter().map(|member| JoinGroupResponseMember {
        member_id: member.member_id,
        group_instance_id: member.instance_id,
        metadata: member.metadata,
    });
    JoinGroupResponse {
        generation_id: joined.generation,
        protocol_type: Some(joined.protocol_type),
        protocol_name: Some(joined.protocol),
        leader: joined.leader,
        skip_assignment: joined.skips_assignment,
        member_id: joined.member_id,
        members: members.collect(),
        ..Default::default()
    }
}
