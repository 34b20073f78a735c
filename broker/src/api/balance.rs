//! Balance: replicas and preferred leaders are spread evenly.

use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{BalanceRequest, BalanceResponse};
use tidelog_protocol::{MetadataIndex, WireError};

use super::faults;
use crate::change::Change;
use crate::node::Node;

impl Change for BalanceRequest {
    fn command(self, _: &Node) -> Command {
        Command::Balance { copies_max: self.copies_max }
    }

    fn only_plans(&self) -> bool {
        self.validate_only
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<BalanceResponse, WireError> {
        match decided {
            Reply::Balanced { copying, reordered, copies } => Ok(BalanceResponse { copying, reordered, copies }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
