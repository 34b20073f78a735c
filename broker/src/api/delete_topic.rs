//! DeleteTopic: answers when nothing of the topic is served any more.

use std::sync::Arc;

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::WireError;
use tidelog_protocol::messages::{DeleteTopicRequest, DeleteTopicResponse};

use super::{Handle, faults};
use crate::node::Node;
use crate::session::Session;

impl Handle for DeleteTopicRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DeleteTopicResponse, WireError> {
        let (reply, index) = node.controllers.submit(Command::DeleteTopic { name: self.name }).await?;
        node.registry.applied(index).await;
        match reply {
            Reply::TopicDeleted { topic_id } => Ok(DeleteTopicResponse { topic_id }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
