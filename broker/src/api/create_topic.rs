//! CreateTopic: answers when this broker serves the topic. A partition that finds no room on the disk yet is served as soon as there is.

use tidelog_coordination::command::CreateTopic;
use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{CreateTopicRequest, CreateTopicResponse};
use tidelog_protocol::{MetadataIndex, TopicId, WireError};

use super::faults;
use crate::change::Change;
use crate::node::Node;

impl Change for CreateTopicRequest {
    fn command(self, node: &Node) -> Command {
        Command::CreateTopic(CreateTopic {
            topic_id: TopicId(*uuid::Uuid::now_v7().as_bytes()),
            name: self.name,
            partitions: self.partitions.unwrap_or(node.config.default_partitions),
            replication_factor: self.replication_factor.unwrap_or(1),
            configs: self.configs,
            validate_only: self.validate_only,
        })
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<CreateTopicResponse, WireError> {
        match decided {
            Reply::TopicCreated { topic_id, partitions } => Ok(CreateTopicResponse { topic_id, partitions }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
