//! Hello: notes who the client is, and tells it the limits.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tidelog_protocol::api::Api;
use tidelog_protocol::messages::{HelloRequest, HelloResponse, PeerHello, ServedApi};
use tidelog_protocol::{ErrorCode, WireError};

use super::{Input, decode, is_served};
use crate::member::Member;
use crate::node::{Node, SOFTWARE};
use crate::session::{Reply, Session};

/// Longest client id that is kept, in characters.
const CLIENT_ID_CHARS: usize = 200;

pub(super) fn handle(node: &Arc<Node>, session: &Arc<Session>, input: &Input, reply: Reply) {
    let Some((request, reply)) = decode::<HelloRequest>(session, input, reply) else { return };
    if let Some(peer) = &request.peer {
        match check(node, peer) {
            Ok(member) => session.introduce_member(member),
            Err(error) => return reply.fail(error),
        }
    }
    *session.client_id.lock() = request.client_id.chars().take(CLIENT_ID_CHARS).collect();
    session.introduced.store(true, Ordering::Relaxed);
    let served = Api::ALL.iter().filter(|api| is_served(**api));
    let apis = served.map(|api| ServedApi { api: *api as u16, since: api.since().0 }).collect();
    reply.send(&HelloResponse {
        cluster_id: node.cluster_id,
        broker_id: node.broker_id,
        software: SOFTWARE.into(),
        frame_bytes_max: node.config.frame_bytes_max,
        batch_bytes_max: tidelog_coordination::TopicConfig::default().batch_bytes_max,
        requests_in_flight_max: node.config.requests_in_flight_max,
        apis,
        incarnation: node.member.incarnation,
    });
}

/// Is this the broker that the other means, and is the other one that belongs here?
fn check(node: &Node, peer: &PeerHello) -> Result<Member, WireError> {
    let wrong = |sentence: String| Err(WireError::new(ErrorCode::WrongPeer, sentence));
    if peer.cluster_id != node.cluster_id {
        return wrong(format!("this broker belongs to cluster {}, not to {}", node.cluster_id, peer.cluster_id));
    }
    if let Some(expected) = peer.expects.filter(|expected| *expected != node.broker_id) {
        return wrong(format!("this is broker {}, not {expected}", node.broker_id));
    }
    let member = Member { broker: peer.broker_id, incarnation: peer.incarnation };
    if member.broker == node.broker_id {
        return wrong(format!("this is broker {} itself: two brokers cannot have one id", node.broker_id));
    }
    Ok(member)
}
