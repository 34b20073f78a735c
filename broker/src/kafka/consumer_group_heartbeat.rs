//! ConsumerGroupHeartbeat (KIP-848): a member of a native group by Kafka's words. The rules are the native ones, word for word.

use std::sync::Arc;

use tidelog_coordination::groups::assignor::Assignor;
use tidelog_coordination::groups::pattern::Pattern;
use tidelog_coordination::groups::{GroupCommand, GroupReply, check_group};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatAssignment, ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse,
    ConsumerGroupHeartbeatTopicPartitions,
};
use tidelog_protocol::messages::{
    GroupHeartbeatRequest, GroupHeartbeatResponse, JOINING, Subscription, TopicPartitions,
};
use tidelog_protocol::{ErrorCode, PartitionId, TopicId, WireError};

use super::groups::{coordinator_code, indexes};
use super::{Asker, Handle};
use crate::node::Node;

/// From this version on a member gives itself its id.
const NAMES_ITSELF: i16 = 1;

impl Handle for ConsumerGroupHeartbeatRequest {
    async fn handle(mut self, node: &Arc<Node>, asker: &Asker) -> ConsumerGroupHeartbeatResponse {
        if self.member_id.is_empty() && self.member_epoch == JOINING && asker.version < NAMES_ITSELF {
            self.member_id = uuid::Uuid::now_v7().to_string();
        }
        let member_id = self.member_id.clone();
        match beat(node, asker, self).await {
            Ok(told) => ConsumerGroupHeartbeatResponse {
                member_id: Some(member_id),
                member_epoch: told.member_epoch,
                heartbeat_interval_ms: i32::try_from(told.heartbeat_interval_ms).unwrap_or(i32::MAX),
                assignment: told.assignment.map(|owned| ConsumerGroupHeartbeatAssignment {
                    topic_partitions: owned.into_iter().map(to_kafka).collect(),
                }),
                ..Default::default()
            },
            Err((error, message)) => ConsumerGroupHeartbeatResponse {
                error_code: error.code(),
                error_message: Some(message),
                ..Default::default()
            },
        }
    }
}

type Refused = (KafkaError, String);

async fn beat(
    node: &Arc<Node>,
    asker: &Asker,
    request: ConsumerGroupHeartbeatRequest,
) -> Result<GroupHeartbeatResponse, Refused> {
    let client_name = asker.client.session.client_id.lock().clone();
    let native = translate(request, client_name)?;
    let shard = node.coordinators.groups.of(node, &native.group).map_err(refused)?;
    match shard.ask(node, &GroupCommand::Heartbeat(native)).await.map_err(refused)? {
        GroupReply::Heartbeat(told) => Ok(told),
        _ => Err((KafkaError::UnknownServerError, "the coordinator decided something else than it was asked".into())),
    }
}

/// What clients make nothing of is said in codes that they know.
fn refused(error: WireError) -> Refused {
    let told = match error.code {
        // Its members speak the classic protocol.
        ErrorCode::GroupNotEmpty => KafkaError::GroupIdNotFound,
        ErrorCode::InvalidGroup | ErrorCode::Malformed => KafkaError::InvalidRequest,
        _ => coordinator_code(&error),
    };
    (told, error.message)
}

fn translate(request: ConsumerGroupHeartbeatRequest, client_name: String) -> Result<GroupHeartbeatRequest, Refused> {
    if let Some(name) = request.server_assignor.as_deref()
        && Assignor::named(name).is_none()
    {
        let known = Assignor::ALL.map(Assignor::name).join(" and ");
        let message = format!("there is no assignor '{}': there are {known}", name.escape_debug());
        return Err((KafkaError::UnsupportedAssignor, message));
    }
    // Empty: none any more.
    let pattern = request.subscribed_topic_regex.as_deref();
    if let Some(pattern) = pattern.filter(|pattern| !pattern.is_empty()) {
        Pattern::new(pattern).map_err(|message| (KafkaError::InvalidRegularExpression, message))?;
    }
    let owned = request.topic_partitions.map(|owned| owned.into_iter().map(to_native).collect::<Result<_, _>>());
    // Consumers read by names or by an expression, and name both where they change from one to the other.
    let changes = request.subscribed_topic_names.is_some() || pattern.is_some();
    let subscription = changes.then(|| Subscription {
        topics: request.subscribed_topic_names.unwrap_or_default(),
        pattern: request.subscribed_topic_regex.filter(|pattern| !pattern.is_empty()),
    });
    Ok(GroupHeartbeatRequest {
        group: request.group_id,
        member_id: request.member_id,
        member_epoch: request.member_epoch,
        instance_id: request.instance_id,
        rack: request.rack_id.filter(|rack| !rack.is_empty()),
        client_name: Some(client_name).filter(|name| check_group(name).is_ok()),
        session_timeout_ms: 0,
        rebalance_timeout_ms: u32::try_from(request.rebalance_timeout_ms).unwrap_or(0),
        subscription,
        assignor: request.server_assignor,
        owned: owned.transpose()?,
        busy_ms: None,
    })
}

fn to_native(said: ConsumerGroupHeartbeatTopicPartitions) -> Result<TopicPartitions, Refused> {
    let index = |index: i32| u32::try_from(index).map(PartitionId);
    let partitions = said.partitions.into_iter().map(index).collect::<Result<_, _>>();
    let partitions =
        partitions.map_err(|_| (KafkaError::InvalidRequest, "no partition has an index below 0".into()))?;
    Ok(TopicPartitions { topic_id: TopicId(said.topic_id), partitions })
}

fn to_kafka(owned: TopicPartitions) -> ConsumerGroupHeartbeatTopicPartitions {
    ConsumerGroupHeartbeatTopicPartitions { topic_id: owned.topic_id.0, partitions: indexes(&owned.partitions) }
}
