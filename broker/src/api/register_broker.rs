//! RegisterBroker: a broker has started. Answered where the controller runs.

use std::sync::Arc;

use tidelog_coordination::command::{Admission, RegisterBroker};
use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{RegisterBrokerRequest, RegisterBrokerResponse};
use tidelog_protocol::{ErrorCode, MetadataIndex, WireError};

use super::{Handle, faults};
use crate::change::{AtController, Change, speaks_for_itself};
use crate::member::Member;
use crate::node::Node;
use crate::session::Session;

impl Change for RegisterBrokerRequest {
    fn check_sender(&self, sender: Member) -> Result<(), WireError> {
        speaks_for_itself(sender, self.broker_id)
    }

    fn command(self, node: &Node) -> Command {
        Command::RegisterBroker(RegisterBroker {
            broker_id: self.broker_id,
            incarnation: self.incarnation,
            host: self.host,
            port: self.port,
            rack: self.rack,
            closed_cleanly: self.closed_cleanly,
            admission: if self.broker_id == node.broker_id { Admission::AtOnce } else { Admission::AfterHeartbeat },
        })
    }

    fn answer(decided: Reply, as_of: MetadataIndex) -> Result<RegisterBrokerResponse, WireError> {
        match decided {
            Reply::BrokerRegistered { epoch } => Ok(RegisterBrokerResponse { broker_epoch: epoch, as_of }),
            other => Err(faults::unexpected(&other)),
        }
    }
}

impl Handle for RegisterBrokerRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<RegisterBrokerResponse, WireError> {
        let peer = session.member()?;
        if self.cluster_id != node.cluster_id || self.broker_id != peer.broker || self.incarnation != peer.incarnation {
            return Err(WireError::new(ErrorCode::WrongPeer, format!("{peer} registers as another broker")));
        }
        Ok(self.decide(node).await?.0)
    }
}
