//! DrainBroker: a broker is emptied, or that is taken back.

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{DrainBrokerRequest, DrainBrokerResponse};
use tidelog_protocol::{MetadataIndex, WireError};

use super::faults;
use crate::change::Change;
use crate::node::Node;

impl Change for DrainBrokerRequest {
    fn command(self, _: &Node) -> Command {
        let broker_id = self.broker_id;
        if self.cancel { Command::Keep { broker_id } } else { Command::Drain { broker_id } }
    }

    fn only_plans(&self) -> bool {
        self.validate_only
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<DrainBrokerResponse, WireError> {
        match decided {
            Reply::Reassigned { copying, done } => Ok(DrainBrokerResponse { copying, done }),
            Reply::Done => Ok(DrainBrokerResponse { copying: 0, done: 0 }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
