//! FindCoordinator: who leads the partition that keeps the state of a key. The topic is created when somebody first asks.

use std::sync::Arc;

use tidelog_coordination::command::CreateTopic;
use tidelog_coordination::{ClusterImage, Command};
use tidelog_protocol::messages::{ConfigEntry, Coordinated, FindCoordinatorRequest, FindCoordinatorResponse};
use tidelog_protocol::{ErrorCode, MetadataIndex, TopicId, WireError};

use super::Handle;
use super::create_topic::{MINIMUM, REPLICAS, default_replication_factor};
use crate::change::{AtController, change};
use crate::coordinators::topic;
use crate::node::Node;
use crate::session::Session;

/// Longest key.
const KEY_BYTES_MAX: usize = 255;

impl Handle for FindCoordinatorRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<FindCoordinatorResponse, WireError> {
        if self.key.is_empty() || self.key.len() > KEY_BYTES_MAX {
            let code = match self.kind {
                Coordinated::Group => ErrorCode::InvalidGroup,
                Coordinated::Transaction => ErrorCode::InvalidTransactionalId,
            };
            let sentence = format!("the name of a group or of a transactional producer has 1 to {KEY_BYTES_MAX} bytes");
            return Err(WireError::new(code, sentence));
        }
        if node.controllers.image().topic_named(topic::name(self.kind)).is_none() {
            return change(node, self, None).await;
        }
        located(&node.controllers.image(), &self)
    }
}

impl AtController for FindCoordinatorRequest {
    async fn decide(self, node: &Arc<Node>) -> Result<(FindCoordinatorResponse, MetadataIndex), WireError> {
        let replication_factor = default_replication_factor(node);
        let mut configs = topic::settings();
        if usize::from(replication_factor) >= REPLICAS {
            configs.push(ConfigEntry { key: MINIMUM.0.into(), value: MINIMUM.1.into() });
        }
        let create = CreateTopic {
            topic_id: TopicId(*uuid::Uuid::now_v7().as_bytes()),
            name: topic::name(self.kind).into(),
            partitions: topic::PARTITIONS,
            replication_factor,
            configs,
            validate_only: false,
            internal: true,
        };
        match node.controllers.submit(Command::CreateTopic(create)).await {
            Ok(_) => {}
            Err(error) if error.code == ErrorCode::TopicExists => {}
            Err(error) => return Err(error),
        }
        let image = node.controllers.image();
        Ok((located(&image, &self)?, image.as_of()))
    }
}

fn located(image: &ClusterImage, asked: &FindCoordinatorRequest) -> Result<FindCoordinatorResponse, WireError> {
    let nobody = || {
        let sentence = format!("nobody leads the partition of {} that keeps this; try again", topic::name(asked.kind));
        WireError { retry_after_ms: 100, ..WireError::new(ErrorCode::CoordinatorLoading, sentence) }
    };
    let topic = image.topic_named(topic::name(asked.kind)).ok_or_else(nobody)?;
    let state = topic.partition(topic::partition_of(&asked.key, topic.partitions.len())).ok_or_else(nobody)?;
    let leader = state.leader.and_then(|leader| image.broker(leader)).ok_or_else(nobody)?;
    Ok(FindCoordinatorResponse { broker_id: leader.broker_id, host: leader.host.clone(), port: leader.port })
}
