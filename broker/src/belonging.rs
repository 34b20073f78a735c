//! Whether this broker still belongs to its cluster: where it holds no lease for some seconds, it asks. Another life of its data folder may
//! have taken its place, or an operator removed it, and nobody would tell. Knows nothing of what is done about it.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::ErrorCode;
use tidelog_protocol::messages::JoinClusterRequest;

use crate::joining::JoinError;
use crate::member::Address;
use crate::node::Node;
use crate::peer::{PeerError, dial_once};

/// Longer than any change of leaders takes.
const SILENCE: Duration = Duration::from_secs(3);
/// Pause before it is asked again.
const PAUSE: Duration = Duration::from_secs(5);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(2);

/// Waits until the cluster says that this broker is no part of it any more.
pub(crate) async fn lost(node: &Arc<Node>, contact: Option<&Address>, own: &Address) -> JoinError {
    loop {
        node.lease.missed_for(SILENCE).await;
        if let Some(refusal) = ask(node, contact, own).await {
            return refusal;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Asks everyone who may lead in the name of the member that this broker believes itself to be.
async fn ask(node: &Arc<Node>, contact: Option<&Address>, own: &Address) -> Option<JoinError> {
    let quorum = node.controllers.quorum();
    let member = quorum.member();
    let members = quorum.members();
    // Who has not been taken in yet asks elsewhere.
    if !members.iter().any(|known| known.member == member) {
        return None;
    }
    let request = JoinClusterRequest {
        cluster_id: node.cluster_id,
        broker_id: member.broker,
        incarnation: member.incarnation,
        host: own.host.clone(),
        port: own.port,
    };
    let others = members.iter().filter(|known| known.member.broker != member.broker);
    let known = others.map(|known| quorum.address_of(known));
    for address in known.chain(contact.cloned()) {
        let asked = dial_once(&address, Some(node.peers.identity()), &request, PATIENCE).await;
        if let Err(PeerError::Refused(error)) = asked
            && matches!(error.code, ErrorCode::BrokerIdTaken | ErrorCode::UnknownBroker)
        {
            return Some(JoinError::Refused { contact: address, error });
        }
    }
    None
}
