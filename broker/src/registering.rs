//! How the cluster comes to know of a start of this broker, also where that has to wait for a majority. Knows nothing of how it became part
//! of the cluster.

use std::sync::Arc;
use std::time::Duration;

use tidelog_protocol::{ErrorCode, WireError};
use tracing::{error, info, warn};

use crate::member::Address;
use crate::node::Node;
use crate::{joining, lease};

/// How long a start waits for a majority of the quorum before it serves what it has.
const QUORUM_PATIENCE: Duration = Duration::from_secs(5);
/// How long a start waits for the cluster to count on the broker.
const LEASE_PATIENCE: Duration = Duration::from_secs(10);

/// Whether the cluster knows of this start.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Registered {
    Yes,
    /// A majority of the quorum is missing. What is here can be read; nothing is acknowledged.
    NotYet,
}

/// Registers this start of the broker.
///
/// # Errors
/// What the controller says.
pub(crate) async fn register(node: &Arc<Node>, address: &Address) -> Result<Registered, WireError> {
    let image = node.controllers.image();
    let known = image.broker(node.broker_id).filter(|known| known.incarnation == node.member.incarnation);
    let Some(known) = known.map(|known| known.epoch) else {
        let epoch = joining::register(node, address).await?;
        node.registry.registered(epoch);
        return Ok(Registered::Yes);
    };
    let (epoch, registered) = match tokio::time::timeout(QUORUM_PATIENCE, joining::register(node, address)).await {
        Ok(Ok(epoch)) => (epoch, Registered::Yes),
        // What is there can be read, and nothing else must be said about this broker than is known already.
        Ok(Err(error)) if error.code == ErrorCode::StorageFull && !node.is_one_of_several() => {
            warn!("the disk is full: this start is not registered, the last one holds on");
            (known, Registered::Yes)
        }
        Ok(Err(error)) if error.code == ErrorCode::StorageFull => {
            warn!(%error, "this start cannot be registered: what is settled here can be read, and nothing is taken until it is");
            (known, Registered::NotYet)
        }
        Ok(Err(error)) => return Err(error),
        Err(_) => {
            warn!(
                "no majority of the metadata quorum: what is settled here can be read, and nothing is taken until there is one"
            );
            (known, Registered::NotYet)
        }
    };
    node.registry.registered(epoch);
    Ok(registered)
}

/// Registers a start that found no majority, once there is one, and serves like any other from then on.
pub(crate) async fn register_late(node: Arc<Node>, address: Address) {
    let ends = node.connections_close.clone();
    let registered = ends.run_until_cancelled(async {
        loop {
            match joining::register(&node, &address).await {
                Ok(epoch) => return epoch,
                Err(error) => {
                    error!(%error, "this broker cannot register; it tries again");
                    tokio::time::sleep(QUORUM_PATIENCE).await;
                }
            }
        }
    });
    let Some(epoch) = registered.await else { return };
    node.registry.registered(epoch);
    let applying = node.clone();
    let applied = tokio::task::spawn_blocking(move || applying.registry.apply(&applying.controllers.image())).await;
    if applied.is_err() {
        error!("the partitions here could not be brought in step with the metadata; restart the broker");
    }
    info!(%epoch, "registered: a majority of the metadata quorum is there");
    lease::keep(node).await;
}

/// Waits until the cluster counts on this broker, but not for long: what is here can be read without.
pub(crate) async fn served(node: &Arc<Node>) {
    if !node.is_one_of_several() {
        return;
    }
    let mut standing = node.lease.standing();
    // The sender lives as long as the node.
    if tokio::time::timeout(LEASE_PATIENCE, standing.wait_for(|standing| standing.holds)).await.is_err() {
        warn!("this broker has no lease yet: it leads nothing until the controller answers");
    }
}
