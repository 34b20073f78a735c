//! OffsetFetch: where groups stopped, of either kind, with whatever was noted there.

use std::collections::HashMap;
use std::sync::Arc;

use tidelog_coordination::ClusterImage;
use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchResponse,
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use tidelog_protocol::messages::{CommittedOffset, OffsetFetchRequest as Native};
use tidelog_protocol::{LeaderEpoch, PartitionId, TopicId};

use super::groups::{Refused, UNEXPECTED, ask, by_topic, named};
use super::{Asker, Handle};
use crate::node::Node;

/// From this version on what went wrong with all of it has a place.
const HAS_ERROR: i16 = 2;
/// From this version on several groups are asked for at once.
const SEVERAL: i16 = 8;

impl Handle for OffsetFetchRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> OffsetFetchResponse {
        if asker.version < SEVERAL {
            let group = OffsetFetchRequestGroup { group_id: self.group_id, topics: self.topics, ..Default::default() };
            let found = fetch(node, asker, group, self.require_stable).await;
            let (topics, error_code) = (found.topics, found.error_code);
            return OffsetFetchResponse { topics, error_code, ..Default::default() };
        }
        let mut groups = Vec::with_capacity(self.groups.len());
        for group in self.groups {
            groups.push(fetch(node, asker, group, self.require_stable).await);
        }
        OffsetFetchResponse { groups, ..Default::default() }
    }
}

async fn fetch(
    node: &Arc<Node>,
    asker: &Asker,
    asked: OffsetFetchRequestGroup,
    require_stable: bool,
) -> OffsetFetchResponseGroup {
    let image = node.controllers.image();
    let group_id = asked.group_id.clone();
    match offsets(node, &image, &asked, require_stable).await {
        Ok(found) => {
            let topics = match &asked.topics {
                None => all(&image, found),
                Some(topics) => topics.iter().map(|topic| those_of(&image, topic, &found)).collect(),
            };
            OffsetFetchResponseGroup { group_id, topics, ..Default::default() }
        }
        Err(refused) => {
            let error = refused.error();
            // Clients look for this one at the partitions.
            let at_partitions = error == KafkaError::UnstableOffsetCommit || asker.version < HAS_ERROR;
            let topics = asked.topics.filter(|_| at_partitions).unwrap_or_default();
            OffsetFetchResponseGroup {
                group_id,
                topics: topics.into_iter().map(|topic| failed(topic, error)).collect(),
                error_code: if at_partitions { 0 } else { error.code() },
            }
        }
    }
}

async fn offsets(
    node: &Arc<Node>,
    image: &ClusterImage,
    asked: &OffsetFetchRequestGroup,
    require_stable: bool,
) -> Result<Vec<CommittedOffset>, Refused> {
    let topics = asked.topics.as_ref();
    let partitions =
        topics.map(|topics| named(image, topics.iter().map(|topic| (&*topic.name, &*topic.partition_indexes))));
    let member_id = asked.member_id.clone().filter(|id| !id.is_empty() && asked.member_epoch >= 0);
    let group = asked.group_id.clone();
    let member_epoch = asked.member_epoch;
    let request = Native { group, member_id, member_epoch, partitions, require_stable };
    match ask(node, &asked.group_id, GroupCommand::Fetch(request)).await? {
        GroupReply::Fetched(fetched) => Ok(fetched.offsets),
        _ => Err(UNEXPECTED),
    }
}

fn all(image: &ClusterImage, found: Vec<CommittedOffset>) -> Vec<OffsetFetchResponseTopic> {
    let topics = by_topic(image, found.iter().map(|at| (at.topic_id, shown(at))));
    topics.into_iter().map(|(name, partitions)| OffsetFetchResponseTopic { name, partitions }).collect()
}

fn those_of(
    image: &ClusterImage,
    asked: &OffsetFetchRequestTopic,
    found: &[CommittedOffset],
) -> OffsetFetchResponseTopic {
    let id: Option<TopicId> = image.topic_named(&asked.name).map(|topic| topic.id);
    let of_topic = found.iter().filter(|at| Some(at.topic_id) == id);
    let known: HashMap<PartitionId, &CommittedOffset> = of_topic.map(|at| (at.partition, at)).collect();
    let partition = |index: &i32| {
        let at = u32::try_from(*index).ok().and_then(|index| known.get(&PartitionId(index)));
        // Nothing was committed there.
        at.map_or_else(
            || OffsetFetchResponsePartition { partition_index: *index, ..Default::default() },
            |at| shown(at),
        )
    };
    let partitions = asked.partition_indexes.iter().map(partition).collect();
    OffsetFetchResponseTopic { name: asked.name.clone(), partitions }
}

fn shown(at: &CommittedOffset) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: at.partition.0 as i32,
        committed_offset: at.offset.signed(),
        committed_leader_epoch: at.leader_epoch.map_or(-1, LeaderEpoch::signed),
        metadata: Some(at.metadata.clone()),
        ..Default::default()
    }
}

fn failed(asked: OffsetFetchRequestTopic, error: KafkaError) -> OffsetFetchResponseTopic {
    let partition = |partition_index| OffsetFetchResponsePartition {
        partition_index,
        error_code: error.code(),
        ..Default::default()
    };
    let partitions = asked.partition_indexes.into_iter().map(partition).collect();
    OffsetFetchResponseTopic { name: asked.name, partitions }
}
