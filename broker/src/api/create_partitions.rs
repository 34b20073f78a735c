//! CreatePartitions: answers when the new partitions can be produced to here.

use std::sync::Arc;

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::WireError;
use tidelog_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};

use super::{Handle, faults};
use crate::node::Node;
use crate::session::Session;

impl Handle for CreatePartitionsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<CreatePartitionsResponse, WireError> {
        let command = Command::CreatePartitions { name: self.name, total: self.total };
        let (reply, index) = node.controllers.submit(command).await?;
        node.registry.applied(index).await;
        match reply {
            Reply::PartitionsCreated { total } => Ok(CreatePartitionsResponse { total }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
