//! CreatePartitions: answers when the new partitions can be produced to.

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use tidelog_protocol::{MetadataIndex, WireError};

use super::faults;
use crate::change::Change;
use crate::node::Node;

impl Change for CreatePartitionsRequest {
    fn command(self, _: &Node) -> Command {
        Command::CreatePartitions { name: self.name, total: self.total }
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<CreatePartitionsResponse, WireError> {
        match decided {
            Reply::PartitionsCreated { total } => Ok(CreatePartitionsResponse { total }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
