//! Names, identities and errors that several of Kafka's APIs share. Knows nothing of what is asked.

use std::sync::Arc;

use tidelog_coordination::{ClusterImage, TopicConfig, TopicImage};
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::codec::Uuid;
use tidelog_protocol::messages::Isolation;
use tidelog_protocol::{BrokerId, LeaderEpoch, PartitionId, TopicId, TopicName, WireError};

use crate::node::Node;
use crate::partition::Handle;

/// Nobody, and no topic.
pub(super) const NO_ID: Uuid = [0; 16];

/// A topic, by its identity or by its name.
pub(super) fn find(image: &ClusterImage, id: Uuid, name: &str) -> Result<Arc<TopicImage>, KafkaError> {
    if id == NO_ID {
        image.topic_named(name).cloned().ok_or(KafkaError::UnknownTopicOrPartition)
    } else {
        image.topic(TopicId(id)).cloned().ok_or(KafkaError::UnknownTopicId)
    }
}

/// Why nothing was done.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refused {
    pub(super) error: KafkaError,
    /// The same, for people.
    pub(super) sentence: Option<String>,
}

impl Refused {
    pub(super) fn new(error: KafkaError, sentence: impl Into<String>) -> Self {
        Self { error, sentence: Some(sentence.into()) }
    }

    /// Both, as answers have them.
    pub(super) fn told(self) -> (KafkaError, Option<String>) {
        (self.error, self.sentence)
    }
}

impl From<WireError> for Refused {
    fn from(error: WireError) -> Self {
        Self { error: code(&error), sentence: Some(error.message) }
    }
}

/// Why there is no topic of this name.
pub(super) fn missing(name: &str) -> Refused {
    match TopicName::new(name) {
        Ok(name) => Refused::new(KafkaError::UnknownTopicOrPartition, format!("there is no topic '{name}'")),
        Err(invalid) => Refused::new(KafkaError::InvalidTopic, invalid.to_string()),
    }
}

/// The index of a partition; a negative one does not exist.
pub(super) fn partition_id(index: i32) -> Result<PartitionId, KafkaError> {
    u32::try_from(index).map(PartitionId).map_err(|_| KafkaError::UnknownTopicOrPartition)
}

/// A partition that this broker holds.
pub(super) fn partition(
    node: &Node,
    topic: &Result<Arc<TopicImage>, KafkaError>,
    index: i32,
) -> Result<(Handle, TopicConfig), KafkaError> {
    let topic = topic.as_ref().map_err(|error| *error)?;
    node.registry.find(topic.id, partition_id(index)?).map_err(|error| code(&error))
}

/// How Kafka says it.
pub(super) fn code(error: &WireError) -> KafkaError {
    error.code.into()
}

/// The number of a broker, as Kafka has it.
pub(super) const fn node_id(broker: BrokerId) -> i32 {
    broker.0 as i32
}

/// The leadership that a client says it knows; a negative one means none.
pub(super) fn known_epoch(epoch: i32) -> Option<LeaderEpoch> {
    LeaderEpoch::from_signed(epoch)
}

/// Which records a reader sees.
pub(super) const fn isolation(level: i8) -> Isolation {
    match level {
        1 => Isolation::ReadCommitted,
        _ => Isolation::ReadUncommitted,
    }
}
