//! Forward: does what another broker was asked for, if the controller runs here.

use std::sync::Arc;

use tidelog_protocol::api::Api;
use tidelog_protocol::messages::{
    AllocateProducerIdsRequest, AlterInSyncRequest, AlterTopicRequest, BalanceRequest, CreatePartitionsRequest,
    CreateTopicRequest, DeleteTopicRequest, DescribeClusterRequest, DrainBrokerRequest, ElectLeaderRequest,
    FindCoordinatorRequest, ForwardRequest, ForwardResponse, ReassignRequest, RegisterBrokerRequest,
    RemoveBrokerRequest, ReportReplicasRequest, StampFolderRequest,
};
use tidelog_protocol::{ErrorCode, Message, ProtocolVersion, WireError};

use super::Handle;
use crate::change::AtController;
use crate::member::Member;
use crate::node::Node;
use crate::session::Session;

impl Handle for ForwardRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<ForwardResponse, WireError> {
        let sender = session.member()?;
        match Api::from_u16(self.api) {
            Some(Api::CreateTopic) => forwarded::<CreateTopicRequest>(node, sender, &self).await,
            Some(Api::DeleteTopic) => forwarded::<DeleteTopicRequest>(node, sender, &self).await,
            Some(Api::AlterTopic) => forwarded::<AlterTopicRequest>(node, sender, &self).await,
            Some(Api::CreatePartitions) => forwarded::<CreatePartitionsRequest>(node, sender, &self).await,
            Some(Api::AlterInSync) => forwarded::<AlterInSyncRequest>(node, sender, &self).await,
            Some(Api::ReportReplicas) => forwarded::<ReportReplicasRequest>(node, sender, &self).await,
            Some(Api::StampFolder) => forwarded::<StampFolderRequest>(node, sender, &self).await,
            Some(Api::AllocateProducerIds) => forwarded::<AllocateProducerIdsRequest>(node, sender, &self).await,
            Some(Api::RegisterBroker) => forwarded::<RegisterBrokerRequest>(node, sender, &self).await,
            Some(Api::DescribeCluster) => forwarded::<DescribeClusterRequest>(node, sender, &self).await,
            Some(Api::Reassign) => forwarded::<ReassignRequest>(node, sender, &self).await,
            Some(Api::DrainBroker) => forwarded::<DrainBrokerRequest>(node, sender, &self).await,
            Some(Api::Balance) => forwarded::<BalanceRequest>(node, sender, &self).await,
            Some(Api::ElectLeader) => forwarded::<ElectLeaderRequest>(node, sender, &self).await,
            Some(Api::RemoveBroker) => forwarded::<RemoveBrokerRequest>(node, sender, &self).await,
            Some(Api::FindCoordinator) => forwarded::<FindCoordinatorRequest>(node, sender, &self).await,
            _ => {
                let sentence = format!("requests of API {} are not handed on; upgrade the older broker", self.api);
                Err(WireError::new(ErrorCode::Unsupported, sentence))
            }
        }
    }
}

async fn forwarded<R: AtController>(
    node: &Arc<Node>,
    sender: Member,
    forward: &ForwardRequest,
) -> Result<ForwardResponse, WireError> {
    let version = ProtocolVersion::CURRENT;
    let request = R::from_body(&forward.body, version)
        .map_err(|error| WireError::new(ErrorCode::Malformed, format!("{} does not parse: {error}", R::NAME)))?;
    request.may_be_sent_by(sender)?;
    let (response, as_of) = request.decide(node).await?;
    Ok(ForwardResponse { as_of, body: response.to_body(version).freeze() })
}
