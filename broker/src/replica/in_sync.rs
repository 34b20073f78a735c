//! Carries the in-sync sets that leaders here propose to the controller, many partitions at once, and its refusals back. What it accepts
//! comes back with the metadata. Knows nothing of why a set is proposed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_protocol::BrokerEpoch;
use tidelog_protocol::messages::{AlterInSyncRequest, InSyncChange, InSyncReplica};
use tidelog_replication::InSyncMember;
use tracing::{debug, warn};

use crate::change::settle;
use crate::node::Node;
use crate::partition::{self, Proposals, Proposed};

/// Most proposals in one request.
const TOGETHER_MAX: usize = 1_000;

/// How long the controller is waited for: the leader then asks again.
const PATIENCE: Duration = Duration::from_secs(5);

/// Carries proposals until the broker's connections close, also where the controller has not answered one.
pub(super) async fn carry(node: Arc<Node>, proposals: Arc<Proposals>) {
    let ends = node.connections_close.clone();
    let carrying = async {
        loop {
            propose(&node, proposals.take(TOGETHER_MAX).await).await;
        }
    };
    let _: Option<std::convert::Infallible> = ends.run_until_cancelled(carrying).await;
}

async fn propose(node: &Arc<Node>, batch: Vec<Proposed>) {
    let member = node.registry.member();
    let partitions = batch.iter().map(change).collect();
    let request = AlterInSyncRequest { broker_id: member.broker, broker_epoch: member.epoch, partitions };
    match settle(node, request, Instant::now() + PATIENCE).await {
        Ok((answer, _)) => {
            for (proposed, outcome) in batch.iter().zip(answer.partitions) {
                // What was taken comes with the metadata.
                let taken =
                    outcome.state.is_some_and(|state| state.partition_epoch > proposed.proposal.partition_epoch);
                if !taken {
                    debug!(?proposed, fault = ?outcome.fault, "another in-sync set was refused");
                    failed(node, proposed);
                }
            }
        }
        Err(error) => {
            warn!(%error, partitions = batch.len(), "the controller cannot be asked for other in-sync sets; they are asked for again");
            batch.iter().for_each(|proposed| failed(node, proposed));
        }
    }
}

fn change(proposed: &Proposed) -> InSyncChange {
    let Proposed { replica, proposal } = proposed;
    let member = |member: &InSyncMember| InSyncReplica {
        broker_id: member.broker,
        // Looked at only for those that join, and those were heard of.
        broker_epoch: member.broker_epoch.unwrap_or(BrokerEpoch(0)),
    };
    InSyncChange {
        topic_id: replica.topic_id,
        partition: replica.partition,
        leader_epoch: proposal.leader_epoch,
        partition_epoch: proposal.partition_epoch,
        in_sync: proposal.in_sync.iter().map(member).collect(),
    }
}

fn failed(node: &Node, proposed: &Proposed) {
    let Proposed { replica, proposal } = proposed;
    // A partition that is gone needs no answer.
    let Ok((handle, _)) = node.registry.find(replica.topic_id, replica.partition) else { return };
    handle.submit(partition::Command::AlterationFailed(proposal.partition_epoch));
}
