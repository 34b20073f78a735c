//! DescribeCluster: which brokers there are, by this broker's own metadata.

use std::sync::Arc;

use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::describe_cluster::{
    DescribeClusterBroker, DescribeClusterRequest, DescribeClusterResponse,
};

use super::topics::node_id;
use super::{Asker, Handle};
use crate::node::Node;
use crate::operations::addresses::addresses;

/// Asks for brokers; the controllers have no port of their own here.
const BROKERS: i8 = 1;

impl Handle for DescribeClusterRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> DescribeClusterResponse {
        let cluster_id = node.cluster_id.to_string();
        if self.endpoint_type != BROKERS {
            return DescribeClusterResponse {
                error_code: KafkaError::MismatchedEndpointType.code(),
                error_message: Some("this is the port of a broker: ask it for brokers".into()),
                endpoint_type: BROKERS,
                cluster_id,
                ..Default::default()
            };
        }
        let image = node.controllers.image();
        let is_live = |id| id == node.broker_id || image.broker(id).is_some_and(|broker| broker.is_live());
        let brokers = addresses(node, asker.client.session.local, &image).into_iter();
        DescribeClusterResponse {
            endpoint_type: BROKERS,
            cluster_id,
            controller_id: node_id(node.controllers.leader().filter(|id| is_live(*id)).unwrap_or(node.broker_id)),
            brokers: brokers
                .filter(|broker| is_live(broker.broker_id) || self.include_fenced_brokers)
                .map(|broker| DescribeClusterBroker {
                    broker_id: node_id(broker.broker_id),
                    host: broker.host,
                    port: broker.port.into(),
                    rack: broker.rack,
                    is_fenced: !is_live(broker.broker_id),
                })
                .collect(),
            ..Default::default()
        }
    }
}
