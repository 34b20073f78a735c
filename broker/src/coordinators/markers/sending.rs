//! A batch of markers leaves for a broker, or stays here where this is the one. Knows nothing of what is tried again.

use std::sync::Arc;
use std::time::Duration;

use tidelog_coordination::transactions::Transactions;
use tidelog_protocol::Offset;
use tidelog_protocol::messages::WriteMarkersRequest;
use tracing::debug;

use super::dispatch::{Batch, Outcome};
use super::order::Number;
use super::writing::write;
use crate::coordinators::membership::dialled;
use crate::coordinators::shard::Shard;
use crate::node::Node;
use crate::peer::Lane;

/// How long an answer is waited for. The other side answers sooner, with what it has by then.
const PATIENCE: Duration = Duration::from_secs(3);

/// Sends it once what it rests on, the log of this shard up to `end`, is stored: a marker is for ever.
pub(super) async fn send(
    node: Arc<Node>,
    shard: Arc<Shard<Transactions>>,
    batch: Batch,
    (end, number): (Offset, Number),
) -> (Batch, Outcome) {
    if shard.settled(end).await.is_err() {
        return (batch, Outcome::Failed);
    }
    let markers = batch.markers.iter().map(|(_, markers)| markers.clone()).collect();
    let Number { number, given_up_below } = number;
    let (coordinator_epoch, place) = (shard.epoch(), shard.place());
    let request = WriteMarkersRequest { coordinator_epoch, markers, shard: place, number, given_up_below };
    if batch.broker == node.broker_id {
        return (batch, Outcome::Answered(write(&node, &request).await.outcomes));
    }
    let Some((member, address)) = dialled(&node.controllers.image(), batch.broker) else {
        return (batch, Outcome::Failed);
    };
    let link = node.peers.link(member, &address, Lane::Requests);
    let outcome = match link.request(request, Vec::new(), PATIENCE).await {
        Ok((response, _)) => Outcome::Answered(response.outcomes),
        Err(error) => {
            debug!(%member, %error, "it was not told how transactions ended; it will be");
            Outcome::Failed
        }
    };
    (batch, outcome)
}
