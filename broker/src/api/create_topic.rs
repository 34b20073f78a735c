//! CreateTopic: answers when this broker serves the topic. Where the disk is below its low-space watermark nothing is created; a partition
//! that finds no room on a disk all the same is served as soon as there is.

use tidelog_coordination::command::CreateTopic;
use tidelog_coordination::{Command, Reply};
use tidelog_protocol::messages::{ConfigEntry, CreateTopicRequest, CreateTopicResponse};
use tidelog_protocol::{ErrorCode, MetadataIndex, TopicId, WireError};
use tracing::warn;

use super::faults;
use crate::change::Change;
use crate::node::Node;

/// Where neither the request nor the configuration says how many: one broker can be lost while another is away on purpose.
pub(super) const REPLICAS: usize = tidelog_coordination::internal_topics::REPLICAS;

/// How many replicas must hold a record where there are at least [`REPLICAS`] and the request does not say: with one, acks=all could mean
/// one disk.
pub(super) const MINIMUM: (&str, &str) = ("min.insync.replicas", "2");

/// What a new partition takes on a disk before anything is written into it, in bytes, and a little more.
const NEW_PARTITION_BYTES: u64 = 128 << 10;

impl Change for CreateTopicRequest {
    fn command(self, node: &Node) -> Command {
        let replication_factor = self.replication_factor.unwrap_or_else(|| default_replication_factor(node));
        let mut configs = self.configs;
        let (key, value) = MINIMUM;
        if usize::from(replication_factor) >= REPLICAS && configs.iter().all(|entry| entry.key != key) {
            configs.push(ConfigEntry { key: key.into(), value: value.into() });
        }
        Command::CreateTopic(CreateTopic {
            topic_id: TopicId(*uuid::Uuid::now_v7().as_bytes()),
            name: self.name,
            partitions: self.partitions.unwrap_or(node.config.default_partitions),
            replication_factor,
            configs,
            validate_only: self.validate_only,
            internal: false,
        })
    }

    fn check(&self, node: &Node) -> Result<(), WireError> {
        let replicas = self.replication_factor.unwrap_or_else(|| default_replication_factor(node));
        room_for(node, self.partitions.unwrap_or(node.config.default_partitions), replicas)
    }

    fn answer(decided: Reply, _: MetadataIndex) -> Result<CreateTopicResponse, WireError> {
        match decided {
            Reply::TopicCreated { topic_id, partitions } => Ok(CreateTopicResponse { topic_id, partitions }),
            other => Err(faults::unexpected(&other)),
        }
    }
}

/// Can this broker open its part of so many more partitions, and take anything into them? Others are taken to be as it is: those that are not say so when they get theirs.
pub(super) fn room_for(node: &Node, partitions: u32, replicas: u16) -> Result<(), WireError> {
    let brokers = node.controllers.image().brokers().filter(|broker| broker.takes_replicas()).count().max(1) as u64;
    let more = (u64::from(partitions) * u64::from(replicas)).div_ceil(brokers);
    let clients = u64::try_from(node.metrics.connections.get()).unwrap_or(0);
    node.files.check(node.registry.len() as u64, more, clients)?;
    let space = node.registry.space();
    if let Err(error) = space.refresh() {
        warn!(%error, "free space could not be measured: the last look counts");
    }
    let needed = more.saturating_mul(NEW_PARTITION_BYTES);
    if space.has_room() && space.spare_bytes() >= needed {
        return Ok(());
    }
    let (broker, free, least) = (node.broker_id, space.free_bytes(), space.low_water_bytes());
    let sentence = format!(
        "the disk of broker {broker} has {free} bytes free, disk_free_min_bytes is {least}, and {more} new partitions there need {needed}: nothing was created; free space there, then ask again"
    );
    Err(WireError::new(ErrorCode::StorageFull, sentence))
}

pub(super) fn default_replication_factor(node: &Node) -> u16 {
    match node.config.default_replication_factor {
        0 => {
            let image = node.controllers.image();
            image.brokers().filter(|broker| broker.takes_replicas()).count().clamp(1, REPLICAS) as u16
        }
        configured => configured,
    }
}
