//! CreateTopics: each answered when this broker serves it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tidelog_coordination::TopicImage;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::create_topics::{
    CreatableTopic, CreatableTopicConfigs, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use tidelog_protocol::messages::{ConfigEntry, CreateTopicRequest};

use super::configs::{of_topic, settable};
use super::topics::code;
use super::{Asker, Handle};
use crate::change::change;
use crate::node::Node;

impl Handle for CreateTopicsRequest {
    async fn handle(self, node: &Arc<Node>, asker: &Asker) -> CreateTopicsResponse {
        let deadline = asker.arrived + Duration::from_millis(self.timeout_ms.max(0) as u64);
        let mut named = HashMap::<_, usize>::new();
        for topic in &self.topics {
            *named.entry(topic.name.clone()).or_default() += 1;
        }
        let mut topics = Vec::with_capacity(self.topics.len());
        for topic in self.topics {
            let name = topic.name.clone();
            let made = match named.get(&name) {
                Some(2..) => refused(KafkaError::InvalidRequest, "the request names this topic more than once"),
                _ => create(node, topic, self.validate_only, deadline).await,
            };
            topics.push(CreatableTopicResult { name, ..made.unwrap_or_else(|refusal| *refusal) });
        }
        CreateTopicsResponse { topics, ..Default::default() }
    }
}

type Made = Result<CreatableTopicResult, Box<CreatableTopicResult>>;

fn refused(error: KafkaError, sentence: &str) -> Made {
    Err(Box::new(CreatableTopicResult {
        error_code: error.code(),
        error_message: Some(sentence.into()),
        ..Default::default()
    }))
}

async fn create(node: &Arc<Node>, topic: CreatableTopic, validate_only: bool, deadline: Instant) -> Made {
    if !topic.assignments.is_empty() {
        let sentence = "the controller chooses the brokers of a new topic; reassign its partitions afterwards";
        return refused(KafkaError::InvalidReplicaAssignment, sentence);
    }
    // Of both -1 means that the broker is to say.
    if topic.num_partitions < 1 && topic.num_partitions != -1 {
        return refused(KafkaError::InvalidPartitions, "a topic has one partition at least");
    }
    if topic.replication_factor < 1 && topic.replication_factor != -1 {
        return refused(KafkaError::InvalidReplicationFactor, "a partition has one replica at least");
    }
    let configs =
        topic.configs.into_iter().filter_map(|entry| Some(ConfigEntry { key: entry.name, value: entry.value? }));
    let configs = match settable(configs.collect()) {
        Ok(configs) => configs,
        Err(sentence) => return refused(KafkaError::InvalidConfig, &sentence),
    };
    let request = CreateTopicRequest {
        name: topic.name,
        partitions: u32::try_from(topic.num_partitions).ok(),
        replication_factor: u16::try_from(topic.replication_factor).ok(),
        configs,
        validate_only,
    };
    match change(node, request, Some(deadline)).await {
        Err(error) => refused(code(&error), &error.message),
        Ok(made) => {
            let image = node.controllers.image();
            Ok(match image.topic(made.topic_id) {
                Some(topic) if !validate_only => describe(topic),
                _ => CreatableTopicResult { num_partitions: made.partitions as i32, ..Default::default() },
            })
        }
    }
}

fn describe(topic: &TopicImage) -> CreatableTopicResult {
    let configs = of_topic(topic).into_iter().map(|setting| CreatableTopicConfigs {
        name: setting.name.into(),
        value: Some(setting.value),
        read_only: setting.read_only,
        config_source: setting.source,
        is_sensitive: false,
    });
    CreatableTopicResult {
        topic_id: topic.id.0,
        num_partitions: topic.partitions.len() as i32,
        replication_factor: topic.replication_factor() as i16,
        configs: Some(configs.collect()),
        ..Default::default()
    }
}
