//! StampFolder: a broker has drawn another stamp for its data folder. Decided where the controller runs.

use tidelog_coordination::command::Registration;
use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{StampFolderRequest, StampFolderResponse};
use tidelog_protocol::{MetadataIndex, WireError};

use super::faults;
use crate::change::{Change, speaks_for_itself};
use crate::member::Member;
use crate::node::Node;

impl Change for StampFolderRequest {
    fn check_sender(&self, sender: Member) -> Result<(), WireError> {
        speaks_for_itself(sender, self.broker_id)
    }

    fn command(self, _: &Node) -> Command {
        let broker = Registration { broker_id: self.broker_id, epoch: self.broker_epoch };
        Command::StampFolder { broker, stamps: self.stamps }
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<StampFolderResponse, WireError> {
        match decided {
            Reply::Done => Ok(StampFolderResponse {}),
            other => Err(faults::unexpected(&other)),
        }
    }
}
