//! DescribeTopics: configuration from the image, state from the partitions here.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidelog_coordination::{TopicConfig, TopicImage};
use tidelog_protocol::messages::{
    DescribeTopicsRequest, DescribeTopicsResponse, LogHealth, PartitionDescription, TopicDescription,
};
use tidelog_protocol::{Offset, PartitionId, WireError};

use super::Handle;
use crate::compactor;
use crate::node::Node;
use crate::session::Session;

impl Handle for DescribeTopicsRequest {
    async fn handle(self, node: &Arc<Node>, _: &Arc<Session>) -> Result<DescribeTopicsResponse, WireError> {
        let image = node.controllers.image();
        let mut unknown = Vec::new();
        let topics = match self.topics {
            None => image.topics().map(|topic| describe(node, topic)).collect(),
            Some(names) => {
                let mut found = Vec::new();
                // Each name once: an answer must not grow with how often it is asked for.
                for name in BTreeSet::from_iter(names) {
                    match image.topic_named(name.as_str()) {
                        Some(topic) => found.push(describe(node, topic)),
                        None => unknown.push(name),
                    }
                }
                found
            }
        };
        Ok(DescribeTopicsResponse { topics, unknown })
    }
}

fn describe(node: &Node, topic: &TopicImage) -> TopicDescription {
    TopicDescription {
        topic_id: topic.id,
        name: topic.name.clone(),
        internal: topic.internal,
        configs: TopicConfig::describe(&topic.overrides),
        partitions: topic.partitions().map(|(id, _)| describe_partition(node, topic, id)).collect(),
    }
}

fn describe_partition(node: &Node, topic: &TopicImage, partition: PartitionId) -> PartitionDescription {
    let state = &topic.partitions[partition.0 as usize];
    let offline = PartitionDescription {
        partition,
        leader: state.leader,
        leader_epoch: state.leader_epoch,
        log_start: Offset::ZERO,
        high_watermark: Offset::ZERO,
        log_end: Offset::ZERO,
        flushed_end: Offset::ZERO,
        size_bytes: 0,
        segments: 0,
        health: LogHealth::Offline,
        compaction: None,
    };
    let Ok((handle, config)) = node.registry.find(topic.id, partition) else { return offline };
    let tail = handle.tail().borrow().clone();
    let reader = handle.reader();
    // That nobody may read from it for now, as it follows or waits for a leader, says nothing of what is in it.
    let health = if reader.poisoned().is_some() || tail.is_broken {
        LogHealth::Poisoned
    } else if !reader.holes().is_empty() {
        LogHealth::Corrupt
    } else if !node.registry.space().has_room() {
        LogHealth::Full
    } else {
        LogHealth::Healthy
    };
    PartitionDescription {
        leader_epoch: tail.leader_epoch,
        log_start: tail.log_start,
        high_watermark: tail.high_watermark,
        log_end: reader.written_end(),
        flushed_end: reader.flushed_end(),
        size_bytes: reader.size_bytes(),
        segments: reader.segments().len() as u32,
        health,
        compaction: compactor::state(node, &handle, &config),
        ..offline
    }
}
