//! Metadata: the image as a client needs it.

use std::collections::BTreeSet;
use std::sync::Arc;

use tidelog_coordination::TopicImage;
use tidelog_protocol::WireError;
use tidelog_protocol::messages::{MetadataRequest, MetadataResponse, PartitionMetadata, TopicMetadata};

use super::Handle;
use crate::node::Node;
use crate::operations::addresses::addresses;
use crate::session::Session;

impl Handle for MetadataRequest {
    async fn handle(self, node: &Arc<Node>, session: &Arc<Session>) -> Result<MetadataResponse, WireError> {
        let image = node.controllers.image();
        let mut unknown = Vec::new();
        let topics = match self.topics {
            None => image.topics().map(|topic| describe(topic)).collect(),
            Some(names) => {
                let mut found = Vec::new();
                // Each name once: an answer must not grow with how often it is asked for.
                for name in BTreeSet::from_iter(names) {
                    match image.topic_named(name.as_str()) {
                        Some(topic) => found.push(describe(topic)),
                        None => unknown.push(name),
                    }
                }
                found
            }
        };
        let brokers = addresses(node, session.local, &image);
        Ok(MetadataResponse {
            cluster_id: node.cluster_id,
            controller: node.controllers.leader(),
            as_of: image.as_of(),
            brokers,
            topics,
            unknown,
        })
    }
}

fn describe(topic: &TopicImage) -> TopicMetadata {
    let partitions = topic
        .partitions()
        .map(|(partition, state)| PartitionMetadata {
            partition,
            leader: state.leader,
            leader_epoch: state.leader_epoch,
            replicas: state.replicas.clone(),
            in_sync: state.in_sync.clone(),
        })
        .collect();
    TopicMetadata {
        topic_id: topic.id,
        name: topic.name.clone(),
        internal: topic.internal,
        batch_bytes_max: topic.config.batch_bytes_max,
        partitions,
    }
}
