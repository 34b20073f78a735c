//! BrokerHeartbeat: a broker keeps its lease. Answered where the controller runs.

use std::sync::Arc;

use tidelog_coordination::command::Registration;
use tidelog_coordination::leases::{Heartbeat, Intent};
use tidelog_protocol::messages::{BrokerHeartbeatRequest, BrokerHeartbeatResponse};
use tidelog_protocol::{ErrorCode, WireError};

use super::Handle;
use crate::node::Node;
use crate::session::Session;

impl Handle for BrokerHeartbeatRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<BrokerHeartbeatResponse, WireError> {
        let peer = session.member()?;
        if self.broker_id != peer.broker {
            return Err(WireError::new(ErrorCode::WrongPeer, format!("{peer} speaks for broker {}", self.broker_id)));
        }
        let broker = Registration { broker_id: self.broker_id, epoch: self.broker_epoch };
        let intent = if self.wants_shutdown { Intent::ShutDown } else { Intent::Serve };
        node.controllers.heartbeat(Heartbeat { broker, applied: self.applied, intent, speaks: session.version }).await
    }
}
