//! Tells the controller which replicas here are not whole although others count on them, until it has heard of it. Knows nothing of what it
//! makes of that.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_log::Complaint;
use tidelog_protocol::WireError;
use tidelog_protocol::messages::{ReplicaReport, ReportReplicasRequest};
use tokio::time::MissedTickBehavior;
use tracing::{debug, warn};

use crate::change::settle;
use crate::node::Node;

/// How often they are looked for, besides after every change of the metadata: a disk may fail at any time.
const EVERY: Duration = Duration::from_secs(2);

/// Most replicas in one request; the others follow.
const TOGETHER_MAX: usize = 1_000;

/// How long the controller is waited for: it is told again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks and tells until the broker's connections close.
pub(super) async fn tell(node: Arc<Node>) {
    let work = async {
        let mut complaint = Complaint::default();
        let mut applications = node.registry.applications();
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                // The registry lives as long as the node.
                _ = applications.changed() => {}
            }
            applications.mark_unchanged();
            let mut reports = node.registry.not_whole();
            reports.truncate(TOGETHER_MAX);
            if reports.is_empty() {
                continue;
            }
            let replicas = reports.len();
            if let Err(error) = report(&node, reports).await {
                if let Some(untold) = complaint.again(Instant::now()) {
                    warn!(%error, replicas, untold, "the controller cannot be told which replicas here are not whole; it is told again");
                }
                // Not with every change of metadata that comes meanwhile.
                tick.tick().await;
            }
        }
    };
    tokio::select! {
        () = node.connections_close.cancelled() => {}
        () = work => {}
    }
}

async fn report(node: &Arc<Node>, replicas: Vec<ReplicaReport>) -> Result<(), WireError> {
    let member = node.registry.member();
    let request = ReportReplicasRequest { broker_id: member.broker, broker_epoch: member.epoch, replicas };
    let (response, as_of) = settle(node, request.clone(), Instant::now() + PATIENCE).await?;
    let mut refused = 0;
    for (report, outcome) in request.replicas.iter().zip(response.replicas) {
        match outcome.fault {
            Some(fault) => {
                refused += 1;
                debug!(?report, ?fault, "what was said of a replica is out of date");
            }
            None => {
                let (topic, partition, holds) = (report.topic_id, report.partition, report.holds);
                warn!(%topic, %partition, ?holds, "a replica here is not whole: the controller counts on it no more");
            }
        }
    }
    // What was taken shows in the metadata; until then it would be said again.
    if refused < request.replicas.len() {
        node.registry.applied(as_of).await;
    }
    Ok(())
}
