//! Carries the in-sync sets that leaders here propose to the controller, many partitions at once, and its refusals back. What it accepts
//! comes back with the metadata. Knows nothing of why a set is proposed.

use std::future::Future;
use std::sync::Arc;

use tidelog_coordination::command::{AlterInSync, AlterPartition, Registration};
use tidelog_coordination::records::PartitionState;
use tidelog_coordination::{Command, Reply};
use tidelog_protocol::{BrokerEpoch, ErrorCode, WireError};
use tidelog_replication::InSyncMember;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::node::Node;
use crate::partition::{self, Proposed};
use crate::quorum::Controllers;

/// Most proposals in one request.
const TOGETHER_MAX: usize = 1_000;

/// Whoever decides who is in sync.
pub(crate) trait InSyncAuthority: Send + Sync {
    /// Asks for other sets. The answers are in the order of the question.
    fn alter(
        &self,
        asked: AlterInSync,
    ) -> impl Future<Output = Result<Vec<Result<PartitionState, WireError>>, WireError>> + Send;
}

impl InSyncAuthority for Controllers {
    async fn alter(&self, asked: AlterInSync) -> Result<Vec<Result<PartitionState, WireError>>, WireError> {
        let (reply, _) = self.submit(Command::AlterInSync(asked)).await?;
        let Reply::InSyncAltered { partitions } = reply else {
            return Err(WireError::new(ErrorCode::Internal, "the controller answered out of turn"));
        };
        Ok(partitions.into_iter().map(|outcome| outcome.map_err(WireError::from)).collect())
    }
}

/// Carries proposals until nobody proposes any more.
pub(super) async fn carry(node: Arc<Node>, mut proposed: mpsc::UnboundedReceiver<Proposed>) {
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            () = node.connections_close.cancelled() => return,
            count = proposed.recv_many(&mut batch, TOGETHER_MAX) => if count == 0 { return },
        }
        propose(&node, &node.controllers, std::mem::take(&mut batch)).await;
    }
}

async fn propose(node: &Node, authority: &impl InSyncAuthority, batch: Vec<Proposed>) {
    let member = node.registry.member();
    let leader = Registration { broker_id: member.broker, epoch: member.epoch };
    let partitions = batch.iter().map(alteration).collect();
    let outcomes = authority.alter(AlterInSync { leader, partitions }).await;
    match outcomes {
        Ok(outcomes) => {
            for (proposed, outcome) in batch.iter().zip(outcomes) {
                let settled = match outcome {
                    // It comes with the metadata.
                    Ok(state) => state.partition_epoch > proposed.proposal.partition_epoch,
                    Err(refusal) => {
                        debug!(?proposed, %refusal, "another in-sync set was refused");
                        false
                    }
                };
                if !settled {
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

fn alteration(proposed: &Proposed) -> AlterPartition {
    let Proposed { replica, proposal } = proposed;
    let member = |member: &InSyncMember| Registration {
        broker_id: member.broker,
        // Looked at only for those that join, and those were heard of.
        epoch: member.broker_epoch.unwrap_or(BrokerEpoch(0)),
    };
    AlterPartition {
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
