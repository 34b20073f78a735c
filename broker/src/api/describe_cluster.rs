//! DescribeCluster: answered where the controller runs, which alone knows the leases; by this broker's own metadata where no controller
//! can be reached.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::description;
use tidelog_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use tidelog_protocol::{BrokerId, ErrorCode, MetadataIndex, WireError};

use super::HandleInTime;
use crate::change::{AtController, settle};
use crate::node::Node;
use crate::session::Session;

/// How long a controller is looked for: an election takes about a second, and somebody wants to know now.
const PATIENCE: Duration = Duration::from_secs(2);

impl HandleInTime for DescribeClusterRequest {
    async fn handle(
        self,
        node: &Arc<Node>,
        _: &Arc<Session>,
        deadline: Option<Instant>,
    ) -> Result<DescribeClusterResponse, WireError> {
        let patience = Instant::now() + PATIENCE;
        match settle(node, self, deadline.map_or(patience, |deadline| deadline.min(patience))).await {
            Ok((described, _)) => Ok(described),
            Err(error) if error.code == ErrorCode::Internal => Err(error),
            // There is none, or it does not answer: what is known here is better than nothing.
            Err(_) => Ok(describe(node, None, |_| None)),
        }
    }
}

impl AtController for DescribeClusterRequest {
    async fn decide(self, node: &Arc<Node>) -> Result<(DescribeClusterResponse, MetadataIndex), WireError> {
        node.controllers.take_office().await?;
        if !node.controllers.quorum().confirm().await {
            let sentence = "the broker that ran the controller has lost the majority of the metadata quorum";
            return Err(WireError::new(ErrorCode::NoQuorum, sentence));
        }
        let described = describe(node, Some(node.broker_id), |broker| node.controllers.lease_left_ms(broker));
        let as_of = described.as_of;
        Ok((described, as_of))
    }
}

fn describe(
    node: &Node,
    controller: Option<BrokerId>,
    lease_left_ms: impl Fn(BrokerId) -> Option<u64>,
) -> DescribeClusterResponse {
    let image = node.controllers.image();
    let members = node.controllers.quorum().members();
    DescribeClusterResponse {
        cluster_id: node.cluster_id,
        controller,
        controller_epoch: image.controller_epoch(),
        voters: members.iter().filter(|known| known.is_voter).map(|known| known.member.broker).collect(),
        as_of: image.as_of(),
        feature_level: image.feature_level(),
        brokers: description::brokers(&image, lease_left_ms),
        partitions: description::partition_counts(&image),
        next_voters: node.controllers.quorum().next_voters().unwrap_or_default(),
    }
}
