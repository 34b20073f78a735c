//! ElectLeaders: the preferred leaders, of some partitions or wherever they can lead, or of single partitions one that may have lost records.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::ClusterImage;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PREFERRED, PartitionResult, ReplicaElectionResult, UNCLEAN,
};
use tidelog_protocol::messages::{ElectLeaderRequest, NamedPartition};
use tidelog_protocol::{BrokerId, ErrorCode, PartitionId, TopicId};

use super::groups::by_topic;
use super::topics::{NO_ID, Refused, find, missing, partition_id};
use super::{Asker, Handle};
use crate::change::change;
use crate::node::Node;

impl Handle for ElectLeadersRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> ElectLeadersResponse {
        let deadline = asker.arrived + Duration::from_millis(self.timeout_ms.max(0) as u64);
        let is_unclean = self.election_type == UNCLEAN;
        let topics = match self.topic_partitions {
            None if self.election_type == PREFERRED => return elect_everywhere(node, deadline).await,
            Some(topics) if is_unclean || self.election_type == PREFERRED => topics,
            // What is lost by an unclean election is for a person to know: the partitions are to be named.
            _ => {
                let error_code = KafkaError::InvalidRequest.code();
                return ElectLeadersResponse { error_code, ..Default::default() };
            }
        };
        let mut replica_election_results = Vec::with_capacity(topics.len());
        for asked in topics {
            let mut partition_result = Vec::with_capacity(asked.partitions.len());
            for index in asked.partitions {
                let elected = match is_unclean {
                    true => elect_unclean(node, &asked.topic, index, deadline).await,
                    false => elect_preferred(node, &asked.topic, index, deadline).await,
                };
                partition_result.push(result(index, elected));
            }
            replica_election_results.push(ReplicaElectionResult { topic: asked.topic, partition_result });
        }
        ElectLeadersResponse { replica_election_results, ..Default::default() }
    }
}

fn result(partition_id: i32, elected: Result<(), Refused>) -> PartitionResult {
    let (error, error_message) = elected.map_or_else(Refused::told, |()| (KafkaError::None, None));
    PartitionResult { partition_id, error_code: error.code(), error_message }
}

async fn elect_preferred(node: &Arc<Node>, topic: &str, index: i32, deadline: Instant) -> Result<(), Refused> {
    let partition = named(topic, index)?;
    let request = ElectLeaderRequest { partition: Some(partition), unclean: None };
    match elect(node, request, KafkaError::PreferredLeaderNotAvailable, deadline).await? {
        0 => Err(Refused::new(KafkaError::ElectionNotNeeded, "the preferred replica leads it already")),
        _ => Ok(()),
    }
}

/// Of those that hold the partition the first that lives leads it.
async fn elect_unclean(node: &Arc<Node>, topic: &str, index: i32, deadline: Instant) -> Result<(), Refused> {
    let partition = named(topic, index)?;
    let image = node.controllers.image();
    let held = find(&image, NO_ID, topic).map_err(|_| missing(topic))?;
    let state = held.partition(partition.partition).ok_or_else(|| no_partition(topic, index))?;
    if let Some(leader) = state.leader {
        let sentence = format!("broker {leader} leads it: nothing needs to be lost");
        return Err(Refused::new(KafkaError::ElectionNotNeeded, sentence));
    }
    let can_lead =
        |id: &&BrokerId| state.unreadable != Some(**id) && image.broker(**id).is_some_and(|broker| broker.is_live());
    let Some(heir) = state.replicas.iter().find(can_lead) else {
        let sentence = "none of the brokers that hold it serves: start one of them first";
        return Err(Refused::new(KafkaError::EligibleLeadersNotAvailable, sentence));
    };
    let request = ElectLeaderRequest { partition: Some(partition), unclean: Some(*heir) };
    elect(node, request, KafkaError::EligibleLeadersNotAvailable, deadline).await.map(drop)
}

/// How many were elected.
async fn elect(
    node: &Arc<Node>,
    request: ElectLeaderRequest,
    invalid: KafkaError,
    deadline: Instant,
) -> Result<u32, Refused> {
    let elected = change(node, request, Some(deadline)).await.map_err(|error| match error.code {
        ErrorCode::InvalidElection => Refused::new(invalid, error.message),
        _ => Refused::from(error),
    });
    Ok(elected?.elected)
}

/// Only those are told of that another replica than the preferred one led, or none.
async fn elect_everywhere(node: &Arc<Node>, deadline: Instant) -> ElectLeadersResponse {
    let before = node.controllers.image();
    let others = others_lead(&before);
    let elected = change(node, ElectLeaderRequest { partition: None, unclean: None }, Some(deadline)).await;
    let (error, refused) = match elected {
        Ok(_) => (KafkaError::None, None),
        Err(error) => {
            let refused = Refused::from(error);
            (refused.error, Some(refused))
        }
    };
    let after = node.controllers.image();
    let told = others.into_iter().map(|(topic_id, index)| {
        let elected = match &refused {
            Some(refused) => Err(refused.clone()),
            None if is_preferred_led(&after, topic_id, index) => Ok(()),
            None => {
                let sentence = "its preferred replica does not serve, or is not in sync";
                Err(Refused::new(KafkaError::PreferredLeaderNotAvailable, sentence))
            }
        };
        (topic_id, result(index.0 as i32, elected))
    });
    let results = by_topic(&before, told).into_iter();
    ElectLeadersResponse {
        error_code: error.code(),
        replica_election_results: results
            .map(|(topic, partition_result)| ReplicaElectionResult { topic, partition_result })
            .collect(),
        ..Default::default()
    }
}

fn others_lead(image: &ClusterImage) -> Vec<(TopicId, PartitionId)> {
    let of = |topic: &tidelog_coordination::TopicImage| {
        let others =
            topic.partitions().filter(|(_, state)| state.leader.is_none() || state.leader != state.preferred());
        others.map(|(index, _)| (topic.id, index)).collect::<Vec<_>>()
    };
    image.topics().flat_map(|topic| of(topic)).collect()
}

fn is_preferred_led(image: &ClusterImage, topic_id: TopicId, index: PartitionId) -> bool {
    let state = image.topic(topic_id).and_then(|topic| topic.partition(index));
    state.is_some_and(|state| state.leader.is_some() && state.leader == state.preferred())
}

fn named(topic: &str, index: i32) -> Result<NamedPartition, Refused> {
    let partition = partition_id(index).map_err(|_| no_partition(topic, index))?;
    Ok(NamedPartition { topic: topic.into(), partition })
}

fn no_partition(topic: &str, index: i32) -> Refused {
    Refused::new(KafkaError::UnknownTopicOrPartition, format!("topic '{topic}' has no partition {index}"))
}
