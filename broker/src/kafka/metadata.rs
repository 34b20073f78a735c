//! Metadata: the image as Kafka's clients need it. Topics that do not exist are made, where client and configuration want that.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::{ClusterImage, TopicImage};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::metadata::{
    MetadataRequest, MetadataRequestTopic, MetadataResponse, MetadataResponseBroker, MetadataResponsePartition,
    MetadataResponseTopic,
};
use tidelog_protocol::messages::CreateTopicRequest;
use tidelog_protocol::{ErrorCode, TopicName};

use super::topics::{NO_ID, code, find, node_id};
use super::{Asker, Handle};
use crate::change::change;
use crate::node::Node;
use crate::operations::addresses::addresses;

/// How long a topic that is missing may take to be made; the client asks again.
const MAKING: Duration = Duration::from_secs(5);

impl Handle for MetadataRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> MetadataResponse {
        let makes = self.allow_auto_topic_creation && node.config.kafka_auto_create_topics.0;
        let wants_all = |topics: &Vec<MetadataRequestTopic>| topics.is_empty() && asker.version == 0;
        let topics = match self.topics.filter(|topics| !wants_all(topics)) {
            None => {
                let image = node.controllers.image();
                image.topics().map(|topic| describe(&image, topic)).collect()
            }
            Some(asked) => {
                let (mut topics, mut told) = (Vec::new(), HashSet::new());
                for topic in asked {
                    // Each once: an answer must not grow with how often something is asked for.
                    if told.insert((topic.topic_id, topic.name.clone())) {
                        topics.push(look(node, topic, makes).await);
                    }
                }
                topics
            }
        };
        let image = node.controllers.image();
        let is_live = |id| id == node.broker_id || image.broker(id).is_some_and(|broker| broker.is_live());
        let now = Instant::now();
        node.departed.note(&image, now);
        let is_named = |id| is_live(id) || node.departed.is_named(id, now);
        let brokers = addresses(node, asker.client.session.local, &image);
        MetadataResponse {
            brokers: (brokers.into_iter().filter(|broker| is_named(broker.broker_id)))
                .map(|broker| MetadataResponseBroker {
                    node_id: node_id(broker.broker_id),
                    host: broker.host,
                    port: broker.port.into(),
                    rack: broker.rack,
                })
                .collect(),
            cluster_id: Some(node.cluster_id.to_string()),
            // Every broker hands on what is for the controller.
            controller_id: node_id(node.controllers.leader().filter(|id| is_live(*id)).unwrap_or(node.broker_id)),
            topics,
            ..Default::default()
        }
    }
}

/// A topic that was asked for; where it is missing it may be made.
async fn look(node: &Arc<Node>, asked: MetadataRequestTopic, makes: bool) -> MetadataResponseTopic {
    let image = node.controllers.image();
    let name = asked.name.clone().unwrap_or_default();
    let missing = match find(&image, asked.topic_id, &name) {
        Ok(topic) => return describe(&image, &topic),
        Err(error) => error,
    };
    let error = if asked.topic_id != NO_ID {
        missing
    } else if TopicName::new(&name).is_err() {
        KafkaError::InvalidTopic
    } else if makes {
        match make(node, &name).await {
            Ok(()) => {
                let image = node.controllers.image();
                if let Some(topic) = image.topic_named(&name) {
                    return describe(&image, topic);
                }
                missing
            }
            Err(error) => error,
        }
    } else {
        missing
    };
    MetadataResponseTopic { error_code: error.code(), name: asked.name, topic_id: asked.topic_id, ..Default::default() }
}

async fn make(node: &Arc<Node>, name: &str) -> Result<(), KafkaError> {
    let request = CreateTopicRequest {
        name: name.into(),
        partitions: None,
        replication_factor: None,
        configs: Vec::new(),
        validate_only: false,
    };
    match change(node, request, Some(Instant::now() + MAKING)).await {
        Err(error) if error.code != ErrorCode::TopicExists => Err(match code(&error) {
            // Clients ask again.
            KafkaError::RequestTimedOut | KafkaError::NotController => KafkaError::LeaderNotAvailable,
            other => other,
        }),
        _ => Ok(()),
    }
}

fn describe(image: &ClusterImage, topic: &TopicImage) -> MetadataResponseTopic {
    let partitions = topic.partitions().map(|(partition, state)| {
        let is_away = |id| !image.broker(id).is_some_and(|broker| broker.is_live());
        let error = if state.leader.is_some() { KafkaError::None } else { KafkaError::LeaderNotAvailable };
        MetadataResponsePartition {
            error_code: error.code(),
            partition_index: partition.0 as i32,
            leader_id: state.leader.map_or(-1, node_id),
            leader_epoch: state.leader_epoch.signed(),
            replica_nodes: state.replicas.iter().copied().map(node_id).collect(),
            isr_nodes: state.in_sync.iter().copied().map(node_id).collect(),
            offline_replicas: state.replicas.iter().copied().filter(|id| is_away(*id)).map(node_id).collect(),
        }
    });
    MetadataResponseTopic {
        name: Some(topic.name.to_string()),
        topic_id: topic.id.0,
        is_internal: topic.internal,
        partitions: partitions.collect(),
        ..Default::default()
    }
}
