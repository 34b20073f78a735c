//! AllocateProducerIds: producer ids for another broker to give out. Decided where the controller runs.

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{AllocateProducerIdsRequest, AllocateProducerIdsResponse};
use tidelog_protocol::{MetadataIndex, WireError};

use super::faults;
use crate::change::{Change, speaks_for_itself};
use crate::member::Member;
use crate::node::Node;

impl Change for AllocateProducerIdsRequest {
    fn check_sender(&self, sender: Member) -> Result<(), WireError> {
        speaks_for_itself(sender, self.broker_id)
    }

    fn command(self, _: &Node) -> Command {
        Command::AllocateProducerIds { broker_id: self.broker_id }
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<AllocateProducerIdsResponse, WireError> {
        match decided {
            Reply::ProducerIds { first, count } => Ok(AllocateProducerIdsResponse { first, count }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
