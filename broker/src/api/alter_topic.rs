//! AlterTopic: answers when the partitions here know the new configuration. They keep to it at once; `segment.bytes` holds from
//! their next segment on.

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{AlterTopicRequest, AlterTopicResponse};
use tidelog_protocol::{MetadataIndex, WireError};

use super::faults;
use crate::change::Change;
use crate::node::Node;

impl Change for AlterTopicRequest {
    fn command(self, _: &Node) -> Command {
        Command::AlterTopic { name: self.name, set: self.set, reset: self.reset }
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<AlterTopicResponse, WireError> {
        match decided {
            Reply::TopicAltered { configs } => Ok(AlterTopicResponse { configs }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
