//! ListPartitionReassignments: which partitions move, by this broker's own metadata.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use tidelog_coordination::{PartitionImage, TopicImage};
use tidelog_protocol::kafka::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsResponse, OngoingPartitionReassignment,
    OngoingTopicReassignment,
};
use tidelog_protocol::{BrokerId, PartitionId};

use super::topics::node_id;
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for ListPartitionReassignmentsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> ListPartitionReassignmentsResponse {
        let image = node.controllers.image();
        let topics = match self.topics {
            None => image.topics().filter_map(|topic| moving(topic, |_| true)).collect(),
            Some(asked) => {
                // Each once: an answer must not grow with how often something is asked for.
                let mut indexes: BTreeMap<String, HashSet<i32>> = BTreeMap::new();
                for topic in asked {
                    indexes.entry(topic.name).or_default().extend(topic.partition_indexes);
                }
                let of = |(name, indexes): (&String, &HashSet<i32>)| {
                    moving(image.topic_named(name)?, |index| indexes.contains(&(index.0 as i32)))
                };
                indexes.iter().filter_map(of).collect()
            }
        };
        ListPartitionReassignmentsResponse { topics, error_message: None, ..Default::default() }
    }
}

/// Those of a topic, where there are any.
fn moving(topic: &TopicImage, is_asked: impl Fn(PartitionId) -> bool) -> Option<OngoingTopicReassignment> {
    let moving = topic.partitions().filter(|(index, state)| state.is_moving() && is_asked(*index));
    let partitions: Vec<_> = moving.map(|(index, state)| shown(index, state)).collect();
    (!partitions.is_empty()).then(|| OngoingTopicReassignment { name: topic.name.to_string(), partitions })
}

fn shown(index: PartitionId, state: &PartitionImage) -> OngoingPartitionReassignment {
    let ids = |brokers: &[BrokerId]| brokers.iter().copied().map(node_id).collect();
    OngoingPartitionReassignment {
        partition_index: index.0 as i32,
        replicas: ids(&state.replicas),
        adding_replicas: ids(&state.adding),
        removing_replicas: ids(&state.removing),
    }
}
