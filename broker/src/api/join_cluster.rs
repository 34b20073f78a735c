//! JoinCluster and ChangeVoters: who belongs to the metadata quorum. Its leader decides; every other broker hands on to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::api::Request;
use tidelog_protocol::messages::{ChangeVotersRequest, ChangeVotersResponse, JoinClusterRequest, JoinClusterResponse};
use tidelog_protocol::{ErrorCode, WireError};

use super::Handle;
use crate::change::to_controller;
use crate::member::{Address, Member};
use crate::node::Node;
use crate::quorum::Role;
use crate::session::Session;

/// How long the leader may take.
const PATIENCE: Duration = Duration::from_secs(15);

impl Handle for JoinClusterRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<JoinClusterResponse, WireError> {
        if self.cluster_id != node.cluster_id {
            let sentence = format!(
                "this is cluster {}, not {}: give the broker an empty data folder",
                node.cluster_id, self.cluster_id
            );
            return Err(WireError::new(ErrorCode::WrongPeer, sentence));
        }
        let member = Member { broker: self.broker_id, incarnation: self.incarnation };
        // Who comes as a member, and speaks for itself, asks whether it still is one.
        if session.member().is_ok_and(|sender| sender == member) {
            let membership = node.controllers.quorum().still_in(member).await?;
            return Ok(JoinClusterResponse { membership });
        }
        if let Some(handed_on) = hand_on(node, session, &self).await {
            return handed_on;
        }
        let address = Address { host: self.host, port: self.port };
        let membership = node.controllers.quorum().take_in(member, address, &node.peers).await?;
        Ok(JoinClusterResponse { membership })
    }
}

impl Handle for ChangeVotersRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<ChangeVotersResponse, WireError> {
        if let Some(handed_on) = hand_on(node, session, &self).await {
            return handed_on;
        }
        let membership = node.controllers.quorum().change_voters(self.broker_id, self.change).await?;
        Ok(ChangeVotersResponse { membership })
    }
}

/// Asks the leader where that is another, but not what a broker has handed on already. A joining broker is not a peer yet.
async fn hand_on<R: Request>(
    node: &Arc<Node>,
    session: &Arc<Session>,
    request: &R,
) -> Option<Result<R::Response, WireError>> {
    let leads = matches!(node.controllers.role(), Role::Leader { .. });
    if leads || session.member().is_ok() {
        return None;
    }
    Some(to_controller(node, request.clone(), Instant::now() + PATIENCE).await)
}
