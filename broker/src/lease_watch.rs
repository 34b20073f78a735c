//! What the broker that runs the controller does about silent brokers: whoever's lease has ended is fenced, and whoever refuses
//! connections while it should be heard of does not wait for that. Gives the lead back to preferred replicas, too, and whoever begins to
//! serve replicas of the broker's own topics. Knows nothing of how leases are counted.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::command::Registration;
use tidelog_coordination::{ClusterImage, Command, Reply, description, internal_topics};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use crate::node::Node;
use crate::quorum::Role;

/// How often it is looked who was not heard of.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a broker may take to refuse a connection.
const DIAL_PATIENCE: Duration = Duration::from_millis(300);

/// Looks after the leases whenever this broker runs the controller, until its connections close.
pub(crate) async fn run(node: Arc<Node>) {
    let ends = node.connections_close.clone();
    ends.run_until_cancelled(watch(&node)).await;
}

async fn watch(node: &Arc<Node>) {
    let mut roles = node.controllers.roles();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let prefer_every = Duration::from_millis(node.config.preferred_leader_interval_ms);
    let mut preferred_at = Instant::now();
    // Those that were there when the broker's own topics last grew: what an operator takes from one of them does not come back by itself.
    let mut grown_over: Vec<Registration> = Vec::new();
    loop {
        let here = matches!(*roles.borrow_and_update(), Role::Leader { broker, .. } if broker == node.broker_id);
        if !here {
            preferred_at = Instant::now();
            grown_over.clear();
            if roles.changed().await.is_err() {
                return;
            }
            continue;
        }
        look.tick().await;
        // It must not keep what it takes from others: see `lease`.
        let here = node.stalls.current().is_none().then_some(node.broker_id);
        let silent = node.controllers.look_at_leases(here).await;
        for broker in &silent.ended {
            fence(node, *broker, "its lease has ended").await;
        }
        let suspects = silent.suspects.into_iter().filter(|suspect| !silent.ended.contains(suspect));
        for broker in refusing(node, suspects).await {
            fence(node, broker, "it was not heard of and refuses connections").await;
        }
        if preferred_at.elapsed() >= prefer_every {
            preferred_at = Instant::now();
            prefer(node).await;
        }
        let serving = serving(&node.controllers.image());
        let is_new = |broker: &Registration| !grown_over.contains(broker);
        if !serving.iter().any(is_new) || grow(node).await {
            grown_over = serving;
        }
    }
}

/// The brokers that can be given replicas.
fn serving(image: &ClusterImage) -> Vec<Registration> {
    let takers = image.brokers().filter(|broker| broker.takes_replicas());
    takers.map(|broker| Registration { broker_id: broker.broker_id, epoch: broker.epoch }).collect()
}

/// False where that has to be tried again.
async fn grow(node: &Arc<Node>) -> bool {
    if !internal_topics::are_growing(&node.controllers.image()) {
        return true;
    }
    let replicas_max = match node.config.default_replication_factor {
        0 => internal_topics::REPLICAS as u16,
        configured => configured,
    };
    match node.controllers.submit(Command::GrowInternalTopics { replicas_max }).await {
        Ok((Reply::Reassigned { copying, .. }, _)) if copying > 0 => {
            info!(
                copying,
                "the cluster has grown, and partitions of the broker's own topics with it: they get more replicas"
            );
            true
        }
        Ok(_) => true,
        Err(error) => {
            debug!(%error, "the broker's own topics could not be given more replicas; it is tried again");
            false
        }
    }
}

async fn fence(node: &Arc<Node>, broker: Registration, why: &str) {
    warn!(broker = %broker.broker_id, why, "a broker is fenced: what it led goes to others");
    if let Err(error) = node.controllers.fence(broker).await {
        debug!(%error, "a broker could not be fenced; it is tried again");
    }
}

/// Those at whose address nobody listens: their process is gone. Leases bound what a broker that cannot be reached may do; a refusal is
/// an answer of the machine it ran on.
async fn refusing(node: &Arc<Node>, suspects: impl Iterator<Item = Registration>) -> Vec<Registration> {
    let image = node.controllers.image();
    let mut dials = JoinSet::new();
    for suspect in suspects {
        let Some(broker) = image.broker(suspect.broker_id) else { continue };
        let (host, port) = (broker.host.clone(), broker.port);
        dials.spawn(async move {
            let dialled = tokio::time::timeout(DIAL_PATIENCE, TcpStream::connect((host.as_str(), port))).await;
            let refused = matches!(dialled, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused);
            refused.then_some(suspect)
        });
    }
    dials.join_all().await.into_iter().flatten().collect()
}

async fn prefer(node: &Arc<Node>) {
    if description::partition_counts(&node.controllers.image()).not_preferred == 0 {
        return;
    }
    match node.controllers.submit(Command::ElectPreferred { partition: None }).await {
        Ok((Reply::Elected { count }, _)) if count > 0 => info!(count, "preferred replicas lead again"),
        Ok(_) => {}
        Err(error) => debug!(%error, "preferred replicas could not be elected; it is tried again"),
    }
}
