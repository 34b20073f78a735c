//! CreateTopic: answers when this broker serves the topic. A partition that finds no room on the disk yet is served as soon as there is.

use std::sync::Arc;

use tidelog_coordination::command::CreateTopic;
use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{CreateTopicRequest, CreateTopicResponse};
use tidelog_protocol::{TopicId, WireError};

use super::{Handle, faults};
use crate::node::Node;
use crate::session::Session;

impl Handle for CreateTopicRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<CreateTopicResponse, WireError> {
        let command = Command::CreateTopic(CreateTopic {
            topic_id: TopicId(*uuid::Uuid::now_v7().as_bytes()),
            name: self.name,
            partitions: self.partitions.unwrap_or(node.config.default_partitions),
            replication_factor: self.replication_factor.unwrap_or(1),
            configs: self.configs,
            validate_only: self.validate_only,
        });
        let (reply, index) = node.controllers.submit(command).await?;
        node.registry.applied(index).await;
        match reply {
            Reply::TopicCreated { topic_id, partitions } => Ok(CreateTopicResponse { topic_id, partitions }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
