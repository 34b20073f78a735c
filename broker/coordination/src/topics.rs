//! Topics: they are created, configured, grow and go. Knows nothing of the brokers but which of them can hold a replica.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{ErrorCode, PartitionId, Timestamp, TopicId, TopicName};

use crate::changes::under_minimum;
use crate::command::{CreateTopic, Refusal, Reply};
use crate::controller::{Decided, INTERNAL_PREFIX, PARTITIONS_PER_REQUEST_MAX};
use crate::counted;
use crate::image::{ClusterImage, TopicImage, entries};
use crate::invalid_config::InvalidConfig;
use crate::placement::{Spread, seed};
use crate::records::{
    FeatureLevel, MetadataRecord, PartitionCreated, PartitionState, TopicConfigured, TopicCreated, TopicDeleted,
};
use crate::topic_config::TopicConfig;
use crate::transactions;

/// A topic shall exist.
pub(crate) fn create(image: &ClusterImage, create: &CreateTopic, now: Timestamp) -> Result<Decided, Refusal> {
    let name =
        TopicName::new(&create.name).map_err(|invalid| Refusal::new(ErrorCode::InvalidName, invalid.to_string()))?;
    check_name_is_free(image, &name, create.internal)?;
    partition_count(create.partitions)?;
    let spread = Spread::over(image);
    let replicas = usize::from(create.replication_factor);
    check_replication(replicas, spread.brokers())?;
    let overrides = TopicConfig::check(&create.configs).map_err(invalid_config)?;
    TopicConfig::resolve(&overrides).fits(replicas).map_err(invalid_config)?;
    assert!(image.topic(create.topic_id).is_none(), "topic ids are fresh: {}", create.topic_id);

    let reply = Reply::TopicCreated { topic_id: create.topic_id, partitions: create.partitions };
    if create.validate_only {
        return Ok((Vec::new(), reply));
    }
    let created = TopicCreated {
        topic_id: create.topic_id,
        name,
        internal: create.internal,
        created_at: now,
        overrides: entries(&overrides),
    };
    let mut records = vec![created.into()];
    if create.internal && create.name == transactions::TOPIC && image.feature_level() < transactions::FEATURE_LEVEL {
        records.insert(0, FeatureLevel { level: transactions::FEATURE_LEVEL }.into());
    }
    records.extend(new_partitions(spread, create.topic_id, 0..create.partitions, replicas));
    Ok((records, reply))
}

/// The configuration of a topic shall change.
pub(crate) fn alter(
    image: &ClusterImage,
    name: &str,
    set: &[ConfigEntry],
    reset: &[String],
) -> Result<Decided, Refusal> {
    let topic = users_topic(image, name)?;
    let set = TopicConfig::check(set).map_err(invalid_config)?;
    let mut overrides = topic.overrides.clone();
    let mut seen = BTreeSet::new();
    for key in reset {
        let key = TopicConfig::key(key).map_err(invalid_config)?.name;
        if set.contains_key(key) || !seen.insert(key) {
            return Err(invalid_config(InvalidConfig::Twice { key }));
        }
        overrides.remove(key);
    }
    overrides.extend(set);
    let config = TopicConfig::resolve(&overrides);
    let replicas = topic.partitions.iter().map(|state| state.target().count()).min();
    config.fits(replicas.unwrap_or_default()).map_err(invalid_config)?;
    let reply = Reply::TopicAltered { configs: entries(&overrides) };
    if overrides == topic.overrides {
        return Ok((Vec::new(), reply));
    }
    let mut records = vec![TopicConfigured { topic_id: topic.id, overrides: entries(&overrides) }.into()];
    // Where fewer in sync are enough from here on, the watermark moves again, and who left before is complete no longer.
    records.extend(under_minimum(image, topic, config.min_in_sync_replicas));
    Ok((records, reply))
}

/// A topic and its data shall go.
pub(crate) fn delete(image: &ClusterImage, name: &str) -> Result<Decided, Refusal> {
    let topic_id = users_topic(image, name)?.id;
    Ok((vec![TopicDeleted { topic_id }.into()], Reply::TopicDeleted { topic_id }))
}

/// A topic shall have more partitions.
pub(crate) fn grow(image: &ClusterImage, name: &str, total: u32) -> Result<Decided, Refusal> {
    let topic = users_topic(image, name)?;
    let held = topic.partitions.len() as u32;
    if total <= held {
        let held = counted(held, "partition");
        let message = format!("topic '{name}' has {held}; it can only grow, ask for more than that in all");
        return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
    }
    partition_count(total - held)?;
    let mut spread = Spread::over(image);
    let replicas = topic.replication_factor();
    check_replication(replicas, spread.brokers())?;
    spread.begin_topic(Some(topic));
    let records = new_partitions(spread, topic.id, held..total, replicas).collect();
    Ok((records, Reply::PartitionsCreated { total }))
}

/// A partition of any topic, also of the broker's own.
pub(crate) fn partition_named<'a>(
    image: &'a ClusterImage,
    name: &str,
    partition: PartitionId,
) -> Result<(&'a Arc<TopicImage>, &'a PartitionState), Refusal> {
    let topic = image.topic_named(name).ok_or_else(|| no_topic(name))?;
    let state = topic.partition(partition).ok_or_else(|| {
        let message = format!("topic '{name}' has no partition {partition}: it has {}", topic.partitions.len());
        Refusal::new(ErrorCode::UnknownPartition, message)
    })?;
    Ok((topic, state))
}

/// A partition, by the identity of its topic.
pub(crate) fn partition_of(
    image: &ClusterImage,
    topic_id: TopicId,
    partition: PartitionId,
) -> Result<(&Arc<TopicImage>, &PartitionState), Refusal> {
    let topic = image.topic(topic_id).ok_or_else(|| {
        Refusal::new(ErrorCode::UnknownTopic, format!("there is no topic of id {topic_id}; it may have been deleted"))
    })?;
    let state = topic.partition(partition).ok_or_else(|| {
        Refusal::new(ErrorCode::UnknownPartition, format!("topic '{}' has no partition {partition}", topic.name))
    })?;
    Ok((topic, state))
}

fn no_topic(name: &str) -> Refusal {
    match TopicName::new(name) {
        Ok(name) => Refusal::new(ErrorCode::UnknownTopic, format!("there is no topic '{name}'")),
        Err(invalid) => Refusal::new(ErrorCode::InvalidName, invalid.to_string()),
    }
}

/// A topic that its users may change.
fn users_topic<'a>(image: &'a ClusterImage, name: &str) -> Result<&'a Arc<TopicImage>, Refusal> {
    match image.topic_named(name) {
        Some(topic) if topic.internal => {
            let message = format!("topic '{name}' belongs to the broker and is not changed by hand");
            Err(Refusal::new(ErrorCode::InternalTopic, message))
        }
        Some(topic) => Ok(topic),
        None => Err(no_topic(name)),
    }
}

fn check_name_is_free(image: &ClusterImage, name: &TopicName, internal: bool) -> Result<(), Refusal> {
    if image.topic_named(name.as_str()).is_some() {
        return Err(Refusal::new(ErrorCode::TopicExists, format!("topic '{name}' exists already")));
    }
    if !internal && name.as_str().starts_with(INTERNAL_PREFIX) {
        let message = format!("'{name}': names that begin with '{INTERNAL_PREFIX}' belong to the broker");
        return Err(Refusal::new(ErrorCode::InternalTopic, message));
    }
    // As in Kafka: metric systems write '.' as '_', and two topics would share their figures.
    let alike = |other: &&Arc<TopicImage>| collide(name.as_str(), other.name.as_str());
    match image.topics().find(alike) {
        Some(other) => {
            let message =
                format!("topic '{name}' differs from '{}' only in '.' and '_'; choose another name", other.name);
            Err(Refusal::new(ErrorCode::InvalidName, message))
        }
        None => Ok(()),
    }
}

fn collide(a: &str, b: &str) -> bool {
    let flat = |byte: u8| if byte == b'.' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| flat(a) == flat(b))
}

/// Partitions `indexes` of a topic, which may exist already.
fn new_partitions<'a>(
    mut spread: Spread<'a>,
    topic_id: TopicId,
    indexes: Range<u32>,
    replicas: usize,
) -> impl Iterator<Item = MetadataRecord> + use<'a> {
    indexes.map(move |index| {
        let state = PartitionState::first(spread.place(replicas, seed(topic_id, index)));
        PartitionCreated { topic_id, partition: PartitionId(index), state }.into()
    })
}

fn partition_count(count: u32) -> Result<(), Refusal> {
    if (1..=PARTITIONS_PER_REQUEST_MAX).contains(&count) {
        return Ok(());
    }
    let message = format!("cannot create {count} partitions at once; possible is 1 to {PARTITIONS_PER_REQUEST_MAX}");
    Err(Refusal::new(ErrorCode::InvalidPartitions, message))
}

fn check_replication(replicas: usize, live: usize) -> Result<(), Refusal> {
    if (1..=live).contains(&replicas) {
        return Ok(());
    }
    let message = match live {
        0 => "no broker is registered yet; try again when one is".to_string(),
        1 => format!("cannot keep {replicas} replicas on 1 live broker; possible is 1"),
        _ => format!("cannot keep {replicas} replicas on {live} live brokers; possible is 1 to {live}"),
    };
    Err(Refusal::new(ErrorCode::InvalidReplication, message))
}

fn invalid_config(invalid: InvalidConfig) -> Refusal {
    Refusal::new(ErrorCode::InvalidConfig, invalid.to_string())
}
