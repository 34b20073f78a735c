//! RegisterBroker: a broker has started. Answered where the controller runs.

use std::sync::Arc;

use tidelog_coordination::command::{Admission, RegisterBroker};
use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{RegisterBrokerRequest, RegisterBrokerResponse};
use tidelog_protocol::{ErrorCode, MetadataIndex, WireError};

use tracing::warn;

use super::{Handle, faults};
use crate::change::{AtController, speaks_for_itself};
use crate::member::{Address, Member};
use crate::node::Node;
use crate::session::Session;

impl AtController for RegisterBrokerRequest {
    fn may_be_sent_by(&self, sender: Member) -> Result<(), WireError> {
        speaks_for_itself(sender, self.broker_id)
    }

    async fn decide(self, node: &Arc<Node>) -> Result<(RegisterBrokerResponse, MetadataIndex), WireError> {
        let is_own = self.broker_id == node.broker_id;
        if !is_own {
            node.controllers.take_office().await?;
            let member = Member { broker: self.broker_id, incarnation: self.incarnation };
            let address = Address { host: self.host.clone(), port: self.port };
            let quorum = node.controllers.quorum();
            quorum.check_only_life(member, &address, &node.peers).await?;
            // One that was removed is told so, and does not come back by being started.
            if self.older_than.is_some() {
                quorum.still_in_as_a_copy(member).await?;
            } else {
                let _ = quorum.still_in(member).await?;
            }
        }
        let register = Command::RegisterBroker(RegisterBroker {
            broker_id: self.broker_id,
            incarnation: self.incarnation,
            host: self.host,
            port: self.port,
            rack: self.rack,
            closed_cleanly: self.closed_cleanly,
            stamps: self.stamps,
            older_than: self.older_than,
            admission: if is_own { Admission::AtOnce } else { Admission::AfterHeartbeat },
        });
        match node.controllers.submit(register).await? {
            (Reply::BrokerRegistered { epoch }, as_of) => {
                Ok((RegisterBrokerResponse { broker_epoch: epoch, as_of, older_than: None }, as_of))
            }
            (Reply::FolderIsOlder { than }, as_of) => {
                warn!(broker = %self.broker_id, "a broker has come back with an older copy of its data folder: it is in sync with nothing until it has caught up");
                Ok((RegisterBrokerResponse { broker_epoch: than, as_of, older_than: Some(than) }, as_of))
            }
            (other, _) => Err(faults::unexpected(&other)),
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
