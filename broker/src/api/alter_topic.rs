//! AlterTopic: answers when the partitions here know the new configuration. They keep to it at once; `segment.bytes` holds from
//! their next segment on.

use std::sync::Arc;

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::WireError;
use tidelog_protocol::messages::{AlterTopicRequest, AlterTopicResponse};

use super::{Handle, faults};
use crate::node::Node;
use crate::session::Session;

impl Handle for AlterTopicRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<AlterTopicResponse, WireError> {
        let command = Command::AlterTopic { name: self.name, set: self.set, reset: self.reset };
        let (reply, index) = node.controllers.submit(command).await?;
        node.registry.applied(index).await;
        match reply {
            Reply::TopicAltered { configs } => Ok(AlterTopicResponse { configs }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
