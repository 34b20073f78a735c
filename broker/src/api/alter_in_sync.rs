//! AlterInSync: a leader changes who is in sync with it. Decided where the controller runs.

use tidelog_coordination::command::{AlterInSync, AlterPartition, Refusal, Registration};
use tidelog_coordination::records::PartitionState;
use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{
    AlterInSyncRequest, AlterInSyncResponse, Fault, InSyncChange, InSyncOutcome, InSyncReplica, InSyncState,
};
use tidelog_protocol::{MetadataIndex, WireError};

use super::faults;
use crate::change::{Change, speaks_for_itself};
use crate::member::Member;
use crate::node::Node;

impl Change for AlterInSyncRequest {
    fn check_sender(&self, sender: Member) -> Result<(), WireError> {
        speaks_for_itself(sender, self.broker_id)
    }

    fn command(self, _: &Node) -> Command {
        let leader = Registration { broker_id: self.broker_id, epoch: self.broker_epoch };
        Command::AlterInSync(AlterInSync { leader, partitions: self.partitions.into_iter().map(change).collect() })
    }

    fn answer(decided: Reply, as_of: MetadataIndex) -> Result<AlterInSyncResponse, WireError> {
        match decided {
            Reply::InSyncAltered { partitions } => {
                Ok(AlterInSyncResponse { as_of, partitions: partitions.into_iter().map(outcome).collect() })
            }
            other => Err(faults::unexpected(&other)),
        }
    }
}

fn change(change: InSyncChange) -> AlterPartition {
    let InSyncChange { topic_id, partition, leader_epoch, partition_epoch, in_sync } = change;
    let replica = |replica: InSyncReplica| Registration { broker_id: replica.broker_id, epoch: replica.broker_epoch };
    AlterPartition {
        topic_id,
        partition,
        leader_epoch,
        partition_epoch,
        in_sync: in_sync.into_iter().map(replica).collect(),
    }
}

fn outcome(outcome: Result<PartitionState, Refusal>) -> InSyncOutcome {
    match outcome {
        Ok(PartitionState { leader, leader_epoch, partition_epoch, in_sync, .. }) => {
            InSyncOutcome { state: Some(InSyncState { leader, leader_epoch, partition_epoch, in_sync }), fault: None }
        }
        Err(refusal) => InSyncOutcome { state: None, fault: Some(Fault::from(WireError::from(refusal))) },
    }
}
