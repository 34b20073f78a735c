//! FindCoordinator: who leads the partition that keeps the state of a key. The topic is created when somebody first asks, where
//! the disk has room for it.

use std::sync::Arc;

use tidelog_coordination::Command;
use tidelog_coordination::command::CreateTopic;
use tidelog_coordination::groups::classic::FEATURE_LEVEL;
use tidelog_protocol::messages::{ConfigEntry, FindCoordinatorRequest, FindCoordinatorResponse};
use tidelog_protocol::{ErrorCode, MetadataIndex, TopicId, WireError};

use super::Handle;
use super::create_topic::{MINIMUM, REPLICAS, default_replication_factor, room_for};
use crate::change::AtController;
use crate::coordinators::topic;
use crate::node::Node;
use crate::operations::coordinator::{find_coordinator, located};
use crate::session::Session;

impl Handle for FindCoordinatorRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<FindCoordinatorResponse, WireError> {
        find_coordinator(node, self).await
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
        // By the same rule as any other: one that takes the last of the disk would keep everybody from writing.
        if node.controllers.image().topic_named(&create.name).is_none() {
            room_for(node, create.partitions, create.replication_factor)?;
        }
        match node.controllers.submit(Command::CreateTopic(create)).await {
            Ok(_) => {}
            Err(error) if error.code == ErrorCode::TopicExists => {}
            Err(error) => return Err(error),
        }
        if self.classic {
            node.controllers.submit(Command::BeginFeatureLevel { level: FEATURE_LEVEL }).await?;
        }
        let image = node.controllers.image();
        Ok((located(&image, &self)?, image.as_of()))
    }
}
