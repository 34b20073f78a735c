//! Where clients are told to find the brokers. Unless an address is configured, a client is told the one that it dialled, so that a first run
//! behind a port forward works.

use std::net::SocketAddr;

use tidelog_coordination::ClusterImage;
use tidelog_protocol::messages::BrokerAddress;

use crate::node::Node;

/// The brokers, as a client that dialled `dialled` reaches them.
pub(crate) fn addresses(node: &Node, dialled: SocketAddr, image: &ClusterImage) -> Vec<BrokerAddress> {
    image
        .brokers()
        .map(|broker| {
            let (host, port) = if broker.broker_id == node.broker_id && node.config.advertise.0.is_none() {
                (dialled.ip().to_string(), dialled.port())
            } else {
                (broker.host.clone(), broker.port)
            };
            BrokerAddress { broker_id: broker.broker_id, host, port, rack: broker.rack.clone() }
        })
        .collect()
}
