//! Reassign: an operator says which brokers shall hold which partitions.

use tidelog_coordination::command::Assignment;
use tidelog_coordination::controller::PARTITIONS_PER_REQUEST_MAX;
use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{ReassignRequest, ReassignResponse, ReplicaAssignment};
use tidelog_protocol::{ErrorCode, MetadataIndex, WireError};

use super::faults;
use crate::change::Change;
use crate::node::Node;

impl Change for ReassignRequest {
    fn command(self, _: &Node) -> Command {
        let assignment = |ReplicaAssignment { topic, partition, replicas }| Assignment { topic, partition, replicas };
        Command::Reassign { assignments: self.assignments.into_iter().map(assignment).collect() }
    }

    fn only_plans(&self) -> bool {
        self.validate_only
    }

    fn check(&self, _: &Node) -> Result<(), WireError> {
        let count = self.assignments.len();
        if (1..=PARTITIONS_PER_REQUEST_MAX as usize).contains(&count) {
            return Ok(());
        }
        let sentence =
            format!("cannot reassign {count} partitions at once; possible is 1 to {PARTITIONS_PER_REQUEST_MAX}");
        Err(WireError::new(ErrorCode::InvalidReassignment, sentence))
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<ReassignResponse, WireError> {
        match decided {
            Reply::Reassigned { copying, done } => Ok(ReassignResponse { copying, done }),
            other => Err(faults::unexpected(&other)),
        }
    }
}
