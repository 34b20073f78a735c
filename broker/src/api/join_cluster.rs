//! JoinCluster and ChangeVoters: who belongs to the metadata quorum. Its leader decides; every other broker hands on to it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::messages::{ChangeVotersRequest, ChangeVotersResponse, JoinClusterRequest, JoinClusterResponse};
use tidelog_protocol::{ErrorCode, WireError};

use super::HandleInTime;
use crate::change::{AtLeader, at_leader};
use crate::member::{Address, Member};
use crate::node::Node;
use crate::session::Session;

/// How long the leader may take where nobody sets a limit.
const PATIENCE: Duration = Duration::from_secs(15);

impl HandleInTime for JoinClusterRequest {
    async fn handle(
        self,
        node: &Arc<Node>,
        session: &Arc<Session>,
        deadline: Option<Instant>,
    ) -> Result<JoinClusterResponse, WireError> {
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
            let quorum = node.controllers.quorum();
            let address = Address { host: self.host, port: self.port };
            // Whoever leads or not: to be elected, it may have to reach this member where it is now.
            let only = quorum.check_only_life(member, &address, &node.peers).await;
            let membership = match only {
                // It would lead, and so tell itself; another process does.
                Err(error) if quorum.leader() == Some(member) => return Err(error),
                only => {
                    let membership = quorum.still_in(member).await?;
                    only?;
                    membership
                }
            };
            return Ok(JoinClusterResponse { membership });
        }
        decide(self, node, session, deadline).await
    }
}

impl HandleInTime for ChangeVotersRequest {
    async fn handle(
        self,
        node: &Arc<Node>,
        session: &Arc<Session>,
        deadline: Option<Instant>,
    ) -> Result<ChangeVotersResponse, WireError> {
        decide(self, node, session, deadline).await
    }
}

impl AtLeader for JoinClusterRequest {
    async fn decide(self, node: &Arc<Node>) -> Result<JoinClusterResponse, WireError> {
        let member = Member { broker: self.broker_id, incarnation: self.incarnation };
        let address = Address { host: self.host, port: self.port };
        let membership = node.controllers.quorum().take_in(member, address, &node.peers).await?;
        Ok(JoinClusterResponse { membership })
    }
}

impl AtLeader for ChangeVotersRequest {
    async fn decide(self, node: &Arc<Node>) -> Result<ChangeVotersResponse, WireError> {
        let membership = node.controllers.quorum().change_voters(self.broker_id, self.change).await?;
        Ok(ChangeVotersResponse { membership })
    }
}

/// At the leader, wherever it is, but what a broker has handed on already is not handed on again. A joining broker is not a peer yet.
async fn decide<R: AtLeader>(
    request: R,
    node: &Arc<Node>,
    session: &Arc<Session>,
    deadline: Option<Instant>,
) -> Result<R::Response, WireError> {
    if session.member().is_ok() {
        return request.decide(node).await;
    }
    at_leader(node, request, deadline.unwrap_or_else(|| Instant::now() + PATIENCE)).await
}
