//! ReportReplicas: a broker says which of its replicas are not whole. Decided where the controller runs.

use tidelog_coordination::command::{HeldReplica, HeldReplicas, Refusal, Registration};
use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{Fault, ReplicaReport, ReportOutcome, ReportReplicasRequest, ReportReplicasResponse};
use tidelog_protocol::{MetadataIndex, WireError};

use super::faults;
use crate::change::{Change, speaks_for_itself};
use crate::member::Member;
use crate::node::Node;

impl Change for ReportReplicasRequest {
    fn check_sender(&self, sender: Member) -> Result<(), WireError> {
        speaks_for_itself(sender, self.broker_id)
    }

    fn command(self, _: &Node) -> Command {
        let holder = Registration { broker_id: self.broker_id, epoch: self.broker_epoch };
        Command::ReportReplicas(HeldReplicas { holder, replicas: self.replicas.into_iter().map(replica).collect() })
    }

    fn answer(decided: Reply, as_of: MetadataIndex) -> Result<ReportReplicasResponse, WireError> {
        match decided {
            Reply::ReplicasReported { replicas } => {
                Ok(ReportReplicasResponse { as_of, replicas: replicas.into_iter().map(outcome).collect() })
            }
            other => Err(faults::unexpected(&other)),
        }
    }
}

const fn replica(report: ReplicaReport) -> HeldReplica {
    let ReplicaReport { topic_id, partition, partition_epoch, holds } = report;
    HeldReplica { topic_id, partition, partition_epoch, holds }
}

fn outcome(outcome: Result<(), Refusal>) -> ReportOutcome {
    ReportOutcome { fault: outcome.err().map(|refusal| Fault::from(WireError::from(refusal))) }
}
