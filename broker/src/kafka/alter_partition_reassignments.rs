//! AlterPartitionReassignments: an operator says which brokers shall hold which partitions, or takes that back. Each partition is answered for
//! itself; the move goes on behind the answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::ClusterImage;
use tidelog_coordination::controller::PARTITIONS_PER_REQUEST_MAX;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, AlterPartitionReassignmentsResponse, ReassignablePartitionResponse,
    ReassignableTopicResponse,
};
use tidelog_protocol::messages::{ReassignRequest, ReplicaAssignment};
use tidelog_protocol::{BrokerId, ErrorCode, WireError};

use super::topics::{Refused, partition_id};
use super::{Asker, Handle};
use crate::change::change;
use crate::node::Node;

impl Handle for AlterPartitionReassignmentsRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> AlterPartitionReassignmentsResponse {
        let deadline = asker.arrived + Duration::from_millis(self.timeout_ms.max(0) as u64);
        let image = node.controllers.image();
        let allow_other_factor = self.allow_replication_factor_change;
        let mut named = HashMap::<_, usize>::new();
        for topic in &self.topics {
            for partition in &topic.partitions {
                *named.entry((topic.name.clone(), partition.partition_index)).or_default() += 1;
            }
        }
        // Which answer belongs to which assignment: a refusal stands in its place at once.
        let (mut answers, mut assignments) = (Vec::new(), Vec::new());
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in self.topics {
            let mut places = Vec::with_capacity(topic.partitions.len());
            for partition in topic.partitions {
                let index = partition.partition_index;
                let times = named.get(&(topic.name.clone(), index)).copied().unwrap_or_default();
                let told = assignment(&topic.name, index, partition.replicas)
                    .and_then(|assignment| check(&image, assignment, times, allow_other_factor));
                answers.push(told.map(|assignment| assignments.push(assignment)));
                places.push(index);
            }
            topics.push((topic.name, places));
        }
        let mut moved = reassign(node, assignments, deadline).await.into_iter();
        let mut answers = answers.into_iter().map(|answer| answer.and_then(|()| moved.next().unwrap_or(Ok(()))));
        let responses = topics.into_iter().map(|(name, places)| {
            let partitions = places.into_iter().zip(&mut answers).map(|(partition_index, answer)| {
                let (error, error_message) = answer.map_or_else(Refused::told, |()| (KafkaError::None, None));
                ReassignablePartitionResponse { partition_index, error_code: error.code(), error_message }
            });
            ReassignableTopicResponse { name, partitions: partitions.collect() }
        });
        AlterPartitionReassignmentsResponse {
            allow_replication_factor_change: allow_other_factor,
            error_message: None,
            responses: responses.collect(),
            ..Default::default()
        }
    }
}

fn assignment(topic: &str, index: i32, replicas: Option<Vec<i32>>) -> Result<ReplicaAssignment, Refused> {
    let no_partition = || format!("topic '{topic}' has no partition {index}");
    let partition = partition_id(index).map_err(|error| Refused::new(error, no_partition()))?;
    let broker = |id: i32| {
        let unknown = || Refused::new(KafkaError::InvalidReplicaAssignment, format!("there is no broker {id}"));
        u32::try_from(id).map(BrokerId).map_err(|_| unknown())
    };
    let replicas = replicas.map(|replicas| replicas.into_iter().map(broker).collect::<Result<Vec<_>, _>>());
    Ok(ReplicaAssignment { topic: topic.into(), partition, replicas: replicas.transpose()? })
}

fn check(
    image: &ClusterImage,
    assignment: ReplicaAssignment,
    times: usize,
    allow_other_factor: bool,
) -> Result<ReplicaAssignment, Refused> {
    if times > 1 {
        let sentence = "the request names this partition more than once";
        return Err(Refused::new(KafkaError::InvalidRequest, sentence));
    }
    let held = image.topic_named(&assignment.topic).and_then(|topic| topic.partition(assignment.partition));
    if let (false, Some(held), Some(replicas)) = (allow_other_factor, held, &assignment.replicas) {
        let (has, shall) = (held.target().count(), replicas.len());
        if has != shall {
            let sentence = format!("it has {has} replicas and would have {shall}, which the request does not allow");
            return Err(Refused::new(KafkaError::InvalidReplicationFactor, sentence));
        }
    }
    Ok(assignment)
}

/// What comes of each. All at once where nothing is wrong with any; else one after the other, so that each is told what is wrong with it alone.
async fn reassign(
    node: &Arc<Node>,
    assignments: Vec<ReplicaAssignment>,
    deadline: Instant,
) -> Vec<Result<(), Refused>> {
    let mut told = Vec::with_capacity(assignments.len());
    for assignments in assignments.chunks(PARTITIONS_PER_REQUEST_MAX as usize) {
        match submit(node, assignments, deadline).await {
            Ok(()) => told.extend(assignments.iter().map(|_| Ok(()))),
            Err(error) if is_about_one(&error) && assignments.len() > 1 => {
                for assignment in assignments {
                    let alone = submit(node, std::slice::from_ref(assignment), deadline).await;
                    told.push(alone.map_err(|error| refused(error, assignment)));
                }
            }
            Err(error) => told.extend(assignments.iter().map(|one| Err(refused(error.clone(), one)))),
        }
    }
    told
}

async fn submit(node: &Arc<Node>, assignments: &[ReplicaAssignment], deadline: Instant) -> Result<(), WireError> {
    let request = ReassignRequest { assignments: assignments.to_vec(), validate_only: false };
    change(node, request, Some(deadline)).await.map(drop)
}

const fn is_about_one(error: &WireError) -> bool {
    use ErrorCode::{InvalidName, InvalidReassignment, UnknownBroker, UnknownPartition, UnknownTopic};
    matches!(error.code, InvalidName | InvalidReassignment | UnknownBroker | UnknownPartition | UnknownTopic)
}

fn refused(error: WireError, assignment: &ReplicaAssignment) -> Refused {
    match error.code {
        ErrorCode::InvalidReassignment if assignment.replicas.is_none() => {
            Refused::new(KafkaError::NoReassignmentInProgress, error.message)
        }
        ErrorCode::UnknownBroker => Refused::new(KafkaError::InvalidReplicaAssignment, error.message),
        _ => Refused::from(error),
    }
}
