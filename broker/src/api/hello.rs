//! Hello: notes who the client is, and tells it the limits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_protocol::ProtocolVersion;
use tidelog_protocol::api::Api;
use tidelog_protocol::messages::{HelloRequest, HelloResponse, ServedApi};

use super::{Input, decode};
use crate::node::{Node, SOFTWARE};
use crate::session::{Reply, Session};

/// Longest client id that is kept, in characters.
const CLIENT_ID_CHARS: usize = 200;

pub(super) fn handle(node: &Arc<Node>, session: &Arc<Session>, input: &Input, reply: Reply) {
    let Some((request, reply)) = decode::<HelloRequest>(session, input, reply) else { return };
    *session.client_id.lock() = request.client_id.chars().take(CLIENT_ID_CHARS).collect();
    session.introduced.store(true, Ordering::Relaxed);
    let apis = Api::ALL.iter().map(|api| ServedApi { api: *api as u16, since: ProtocolVersion::OLDEST.0 }).collect();
    reply.send(&HelloResponse {
        cluster_id: node.cluster_id,
        broker_id: node.broker_id,
        software: SOFTWARE.into(),
        frame_bytes_max: node.config.frame_bytes_max,
        batch_bytes_max: tidelog_coordination::TopicConfig::default().batch_bytes_max,
        requests_in_flight_max: node.config.requests_in_flight_max,
        apis,
    });
}
