//! OffsetDelete: what a group without members has committed for single partitions is forgotten.

use std::sync::Arc;

use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteResponse, OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use tidelog_protocol::messages::{DeleteGroupRequest, TopicPartitions};

use super::groups::{UNEXPECTED, ask};
use super::topics::{NO_ID, find, partition_id};
use super::{Asker, Handle};
use crate::node::Node;

impl Handle for OffsetDeleteRequest {
    async fn handle(self, node: &Arc<Node>, _: &Asker) -> OffsetDeleteResponse {
        let image = node.controllers.image();
        let (mut partitions, mut topics) = (Vec::new(), Vec::with_capacity(self.topics.len()));
        for asked in self.topics {
            let topic = find(&image, NO_ID, &asked.name);
            let mut told = Vec::with_capacity(asked.partitions.len());
            for place in asked.partitions {
                let partition_index = place.partition_index;
                let known = topic.as_ref().map_err(|error| *error).and_then(|topic| {
                    let id = partition_id(partition_index)?;
                    topic.partition(id).ok_or(KafkaError::UnknownTopicOrPartition)?;
                    partitions.push(TopicPartitions { topic_id: topic.id, partitions: vec![id] });
                    Ok(())
                });
                let error_code = known.map_or_else(KafkaError::code, |()| 0);
                told.push(OffsetDeleteResponsePartition { partition_index, error_code });
            }
            topics.push(OffsetDeleteResponseTopic { name: asked.name, partitions: told });
        }
        let request = DeleteGroupRequest { group: self.group_id.clone(), partitions: Some(partitions) };
        let error = match ask(node, &self.group_id, GroupCommand::Delete(request)).await {
            Ok(GroupReply::Deleted) => return OffsetDeleteResponse { topics, ..Default::default() },
            Ok(_) => UNEXPECTED.error(),
            Err(refused) => refused.error(),
        };
        OffsetDeleteResponse { error_code: error.code(), ..Default::default() }
    }
}
