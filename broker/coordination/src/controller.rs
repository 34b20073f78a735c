//! The controller: decides on changes of the metadata. `handle` reads and changes nothing, `replay` alone changes the image, and
//! both see only what they are given. Knows nothing of the log, of Raft or of the clock.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;

use tidelog_protocol::messages::ConfigEntry;
use tidelog_protocol::{BrokerEpoch, BrokerId, ErrorCode, MetadataIndex, PartitionId, Timestamp, TopicId, TopicName};

use crate::command::{Command, CreateTopic, Decision, Refusal, RegisterBroker, Reply};
use crate::image::{ClusterImage, TopicImage, entries};
use crate::placement::place;
use crate::records::{
    BrokerRegistered, FeatureLevel, MetadataRecord, PartitionChanged, PartitionCreated, PartitionState,
    TopicConfigured, TopicCreated, TopicDeleted,
};
use crate::topic_config::{InvalidConfig, TopicConfig};

/// The most partitions that one request may create.
pub const PARTITIONS_PER_REQUEST_MAX: u32 = 10_000;

/// What the names of the broker's own topics begin with.
pub const INTERNAL_PREFIX: &str = "__";

/// The state machine of the cluster's metadata.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Controller {
    image: ClusterImage,
}

impl Controller {
    /// Goes on from `image`.
    #[must_use]
    pub const fn new(image: ClusterImage) -> Self {
        Self { image }
    }

    /// The metadata as of the last record replayed.
    #[must_use]
    pub const fn image(&self) -> &ClusterImage {
        &self.image
    }

    /// Decides on `command`, which arrived at `now`. Decide on the next one only after these records were replayed, or dropped.
    ///
    /// # Errors
    /// [`Refusal`] with a code of the wire's table.
    pub fn handle(&self, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
        match command {
            Command::CreateTopic(create) => self.create_topic(create, now),
            Command::DeleteTopic { name } => {
                let topic_id = self.users_topic(name)?.id;
                Ok(Decision {
                    records: vec![TopicDeleted { topic_id }.into()],
                    reply: Reply::TopicDeleted { topic_id },
                })
            }
            Command::AlterTopic { name, set, reset } => self.alter_topic(name, set, reset),
            Command::CreatePartitions { name, total } => self.create_partitions(name, *total),
            Command::RegisterBroker(register) => self.register_broker(register),
        }
    }

    /// Applies a stored record; see [`ClusterImage::apply`].
    pub fn replay(&mut self, index: MetadataIndex, record: &MetadataRecord) {
        self.image.apply(index, record);
    }

    fn create_topic(&self, create: &CreateTopic, now: Timestamp) -> Result<Decision, Refusal> {
        let name = TopicName::new(&create.name)
            .map_err(|invalid| Refusal::new(ErrorCode::InvalidName, invalid.to_string()))?;
        self.check_name_is_free(&name)?;
        partition_count(create.partitions)?;
        let brokers = self.live_brokers();
        let replicas = usize::from(create.replication_factor);
        check_replication(replicas, brokers.len())?;
        let overrides = TopicConfig::check(&create.configs).map_err(invalid_config)?;
        TopicConfig::resolve(&overrides).fits(replicas).map_err(invalid_config)?;
        assert!(self.image.topic(create.topic_id).is_none(), "topic ids are fresh: {}", create.topic_id);

        let reply = Reply::TopicCreated { topic_id: create.topic_id, partitions: create.partitions };
        if create.validate_only {
            return Ok(Decision { records: Vec::new(), reply });
        }
        let created = TopicCreated {
            topic_id: create.topic_id,
            name,
            internal: false,
            created_at: now,
            overrides: entries(&overrides),
        };
        let mut records = vec![created.into()];
        records.extend(new_partitions(create.topic_id, 0..create.partitions, &brokers, replicas));
        Ok(Decision { records, reply })
    }

    fn alter_topic(
        &self,
        name: &str,
        set: &[ConfigEntry],
        reset: &[alloc::string::String],
    ) -> Result<Decision, Refusal> {
        let topic = self.users_topic(name)?;
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
        TopicConfig::resolve(&overrides).fits(topic.replication_factor()).map_err(invalid_config)?;
        let reply = Reply::TopicAltered { configs: entries(&overrides) };
        let records = if overrides == topic.overrides {
            Vec::new()
        } else {
            vec![TopicConfigured { topic_id: topic.id, overrides: entries(&overrides) }.into()]
        };
        Ok(Decision { records, reply })
    }

    fn create_partitions(&self, name: &str, total: u32) -> Result<Decision, Refusal> {
        let topic = self.users_topic(name)?;
        let held = topic.partitions.len() as u32;
        if total <= held {
            let message =
                format!("topic '{name}' has {held} partitions; it can only grow, ask for more than that in all");
            return Err(Refusal::new(ErrorCode::InvalidPartitions, message));
        }
        partition_count(total - held)?;
        let brokers = self.live_brokers();
        check_replication(topic.replication_factor(), brokers.len())?;
        let records = new_partitions(topic.id, held..total, &brokers, topic.replication_factor()).collect();
        Ok(Decision { records, reply: Reply::PartitionsCreated { total } })
    }

    /// Every start of a broker begins a new leadership of the partitions it leads. After a crash its log may have lost a tail
    /// that was not flushed; under the old epoch other records could take the same offsets, and neither consumers nor followers
    /// could tell (KIP-101, KIP-320).
    fn register_broker(&self, register: &RegisterBroker) -> Result<Decision, Refusal> {
        let broker_id = register.broker_id;
        let epoch = BrokerEpoch(self.image.last_broker_epoch().0 + 1);
        let anew = |topic: &Arc<TopicImage>| self.led_by(broker_id, topic);
        let led: Vec<MetadataRecord> = self.image.topics().flat_map(anew).collect();
        if let Some(known) = self.image.broker(broker_id)
            && known.incarnation != register.incarnation
            && !led.is_empty()
        {
            let message = format!(
                "broker {broker_id} leads {} partitions from the data folder {}, and this one is {}: start it on its own folder",
                led.len(),
                known.incarnation,
                register.incarnation
            );
            return Err(Refusal::new(ErrorCode::StorageFailed, message));
        }
        let mut records = Vec::with_capacity(led.len() + 2);
        if self.image.feature_level() == 0 {
            records.push(FeatureLevel { level: FeatureLevel::NEWEST }.into());
        }
        let RegisterBroker { incarnation, host, port, rack, .. } = register.clone();
        records.push(BrokerRegistered { broker_id, epoch, incarnation, host, port, rack }.into());
        records.extend(led);
        Ok(Decision { records, reply: Reply::BrokerRegistered { epoch } })
    }

    fn led_by(&self, broker: BrokerId, topic: &Arc<TopicImage>) -> Vec<MetadataRecord> {
        let led = topic.partitions().filter(|(_, state)| state.leader == Some(broker));
        let anew = |(partition, state): (PartitionId, &PartitionState)| {
            PartitionChanged { topic_id: topic.id, partition, state: state.led_anew() }.into()
        };
        led.map(anew).collect()
    }

    /// A topic that its users may change.
    fn users_topic(&self, name: &str) -> Result<&Arc<TopicImage>, Refusal> {
        match self.image.topic_named(name) {
            Some(topic) if topic.internal => {
                let message = format!("topic '{name}' belongs to the broker and is not changed by hand");
                Err(Refusal::new(ErrorCode::InternalTopic, message))
            }
            Some(topic) => Ok(topic),
            None => match TopicName::new(name) {
                Ok(name) => Err(Refusal::new(ErrorCode::UnknownTopic, format!("there is no topic '{name}'"))),
                Err(invalid) => Err(Refusal::new(ErrorCode::InvalidName, invalid.to_string())),
            },
        }
    }

    fn check_name_is_free(&self, name: &TopicName) -> Result<(), Refusal> {
        if self.image.topic_named(name.as_str()).is_some() {
            return Err(Refusal::new(ErrorCode::TopicExists, format!("topic '{name}' exists already")));
        }
        if name.as_str().starts_with(INTERNAL_PREFIX) {
            let message = format!("'{name}': names that begin with '{INTERNAL_PREFIX}' belong to the broker");
            return Err(Refusal::new(ErrorCode::InternalTopic, message));
        }
        // As in Kafka: metric systems write '.' as '_', and two topics would share their figures.
        let alike = |other: &&Arc<TopicImage>| collide(name.as_str(), other.name.as_str());
        match self.image.topics().find(alike) {
            Some(other) => {
                let message =
                    format!("topic '{name}' differs from '{}' only in '.' and '_'; choose another name", other.name);
                Err(Refusal::new(ErrorCode::InvalidName, message))
            }
            None => Ok(()),
        }
    }

    fn live_brokers(&self) -> Vec<BrokerId> {
        self.image.brokers().map(|broker| broker.broker_id).collect()
    }
}

fn collide(a: &str, b: &str) -> bool {
    let flat = |byte: u8| if byte == b'.' { b'_' } else { byte };
    a.len() == b.len() && a.bytes().zip(b.bytes()).all(|(a, b)| flat(a) == flat(b))
}

fn new_partitions(
    topic_id: TopicId,
    indexes: Range<u32>,
    brokers: &[BrokerId],
    replicas: usize,
) -> impl Iterator<Item = MetadataRecord> {
    // The id is random, so topics begin at different brokers, and a topic that grows goes on where it stopped.
    let seed = topic_id.0.iter().fold(0u64, |seed, byte| seed.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    indexes.map(move |index| {
        let state = PartitionState::first(place(brokers, index, replicas, seed));
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
        _ => format!("cannot keep {replicas} replicas on {live} live brokers; possible is 1 to {live}"),
    };
    Err(Refusal::new(ErrorCode::InvalidReplication, message))
}

fn invalid_config(invalid: InvalidConfig) -> Refusal {
    Refusal::new(ErrorCode::InvalidConfig, invalid.to_string())
}
