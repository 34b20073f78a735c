//! CreatePartitions: answers when the new partitions can be produced to.

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use tidelog_protocol::{MetadataIndex, WireError};

use super::{create_topic, faults};
use crate::change::Change;
use crate::node::Node;

impl Change for CreatePartitionsRequest {
    fn command(self, _: &Node) -> Command {
        Command::CreatePartitions { name: self.name, total: self.total }
    }

    fn check(&self, node: &Node) -> Result<(), WireError> {
        let image = node.controllers.image();
        let Some(topic) = image.topic_named(&self.name) else { return Ok(()) };
        let (there, replicas) = (topic.partitions.len() as u32, topic.replication_factor() as u16);
        create_topic::room_for(node, self.total.saturating_sub(there), replicas)
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<CreatePartitionsResponse, WireError> {
        match decided {
            Reply::PartitionsCreated { total } => Ok(CreatePartitionsResponse { total }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
