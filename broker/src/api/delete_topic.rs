//! DeleteTopic: answers when nothing of the topic is served here any more.

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{DeleteTopicRequest, DeleteTopicResponse};
use tidelog_protocol::{MetadataIndex, WireError};

use super::faults;
use crate::change::Change;
use crate::node::Node;

impl Change for DeleteTopicRequest {
    fn command(self, _: &Node) -> Command {
        Command::DeleteTopic { name: self.name }
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<DeleteTopicResponse, WireError> {
        match decided {
            Reply::TopicDeleted { topic_id } => Ok(DeleteTopicResponse { topic_id }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
