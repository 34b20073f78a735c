//! SyncGroup: the leader of a generation says who does what, and every member waits for its part.

use std::sync::Arc;

use tidelog_coordination::groups::classic::{ClassicCaller, ClassicCommand, ClassicPart, ClassicReply, ClassicSync};
use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::sync_group::{SyncGroupRequest, SyncGroupResponse};

use super::groups::{Refused, UNEXPECTED};
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for SyncGroupRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> SyncGroupResponse {
        match sync(self, node, asker).await {
            Ok(part) => SyncGroupResponse {
                protocol_type: Some(part.protocol_type),
                protocol_name: Some(part.protocol),
                assignment: part.assignment,
                ..Default::default()
            },
            Err(refused) => SyncGroupResponse { error_code: refused.error().code(), ..Default::default() },
        }
    }
}

async fn sync(request: SyncGroupRequest, node: &Arc<Node>, asker: &Asker) -> Result<ClassicPart, Refused> {
    let shard = node.coordinators.groups.of(node, &request.group_id)?;
    let caller = ClassicCaller {
        group: request.group_id,
        generation: request.generation_id,
        member_id: request.member_id,
        instance_id: request.group_instance_id,
    };
    let sync = ClassicSync {
        caller: caller.clone(),
        protocol_type: request.protocol_type,
        protocol: request.protocol_name,
        parts: request.assignments.into_iter().map(|part| (part.member_id, part.assignment)).collect(),
    };
    let decided = {
        let command = GroupCommand::Classic(ClassicCommand::Sync(sync));
        let GroupReply::Classic(decided) = shard.ask(node, &command).await? else { return Err(UNEXPECTED) };
        decided
    };
    match (*decided)? {
        ClassicReply::Synced(part) => return Ok(part),
        ClassicReply::SyncLater => {}
        _ => return Err(UNEXPECTED),
    }
    // The rules know the caller by its names, and nothing else is kept.
    let _parked = asker.parks();
    tokio::select! {
        biased;
        // Nobody hears this.
        () = asker.client.session.closed.cancelled() => Err(Refused::Coordinator(KafkaError::NotCoordinator)),
        told = shard.watch(node, |groups| groups.classic_synced(&caller)) => Ok(told??),
    }
}
