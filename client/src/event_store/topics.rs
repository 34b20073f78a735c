//! The topics of a store: how they are called, and what they must be like to keep it. Knows nothing of records.
//!
//! `NAME` holds the events and keeps all of them; `NAME.snapshots` the latest snapshot of each aggregate; `NAME.index` checkpoints of what
//! the writers know, so that they start quickly.

use tidelog_protocol::messages::TopicDescription;

use super::error::StoreError;
use crate::{Admin, ClientError, ErrorCode, NewTopic};

/// The names of a store's topics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Topics {
    pub(super) events: String,
    pub(super) snapshots: String,
    pub(super) index: String,
}

/// A key of a topic's configuration, the values that will do, and why others will not.
struct Need {
    key: &'static str,
    is_met: fn(&str) -> bool,
    sentence: &'static str,
}

const KEEPS_ALL: [Need; 3] = [
    Need {
        key: "cleanup.policy",
        is_met: |value| value == "delete",
        sentence: "compaction would delete all but the latest event of an aggregate; it must be delete",
    },
    Need { key: "retention.ms", is_met: |value| value == "-1", sentence: "old events would be deleted; it must be -1" },
    Need {
        key: "retention.bytes",
        is_met: |value| value == "-1",
        sentence: "old events would be deleted; it must be -1",
    },
];

const KEEPS_LATEST: [Need; 1] = [Need {
    key: "cleanup.policy",
    is_met: |value| value == "compact",
    sentence: "of each aggregate the latest snapshot is to be kept, and only that; it must be compact",
}];

const KEEPS_CHECKPOINTS: [Need; 1] = [Need {
    key: "cleanup.policy",
    is_met: |value| value == "delete",
    sentence: "a checkpoint consists of many records of no key; it must be delete",
}];

impl Topics {
    pub(super) fn of(store: &str) -> Self {
        Self { events: store.into(), snapshots: format!("{store}.snapshots"), index: format!("{store}.index") }
    }

    /// Creates those that are not there yet, with the same partitions each.
    pub(super) async fn create(
        &self,
        admin: &Admin,
        partitions: u32,
        replicas: Option<u16>,
    ) -> Result<(), ClientError> {
        let named = |name: &str| {
            let topic = NewTopic::named(name).partitions(partitions);
            replicas.into_iter().fold(topic, NewTopic::replication_factor)
        };
        let topics = [
            named(&self.events).config("retention.ms", "-1").config("retention.bytes", "-1"),
            named(&self.snapshots).config("cleanup.policy", "compact"),
            named(&self.index)
                .config("retention.ms", "-1")
                .config("retention.bytes", "-1")
                .config("max.message.bytes", "16777216"),
        ];
        for topic in &topics {
            match admin.create_topic(topic).await {
                Err(error) if error.code() == Some(ErrorCode::TopicExists) => {}
                Err(error) => return Err(error),
                Ok(_) => {}
            }
        }
        Ok(())
    }

    /// Refuses topics that would lose something, or that do not go together. Returns how many partitions they have.
    pub(super) async fn check(&self, admin: &Admin) -> Result<u32, StoreError> {
        let described = admin.describe_topics(&[&self.events, &self.snapshots, &self.index]).await?;
        let find = |name: &str| {
            let found = described.iter().find(|topic| topic.name.as_str() == name);
            found.ok_or_else(|| ClientError::UnknownTopic { topic: name.into() })
        };
        let events = find(&self.events)?;
        meets(events, "events", &KEEPS_ALL)?;
        let partitions = events.partitions.len() as u32;
        for (name, what, needs) in [
            (&self.snapshots, "snapshots", &KEEPS_LATEST),
            (&self.index, "checkpoints of the index", &KEEPS_CHECKPOINTS),
        ] {
            let topic = find(name)?;
            meets(topic, what, needs)?;
            if topic.partitions.len() as u32 != partitions {
                let (has, topic) = (topic.partitions.len(), name.clone());
                let reason =
                    format!("it has {has} partitions and {} has {partitions}; it must have as many", self.events);
                return Err(StoreError::UnfitTopic { topic, what, reason });
            }
        }
        Ok(partitions)
    }
}

fn meets(topic: &TopicDescription, what: &'static str, needs: &[Need]) -> Result<(), StoreError> {
    for need in needs {
        let value = topic.configs.iter().find(|config| config.key == need.key);
        let value = value.map_or("not known", |config| config.value.as_str());
        if !(need.is_met)(value) {
            let reason = format!("{} is {value}: {}", need.key, need.sentence);
            return Err(StoreError::UnfitTopic { topic: topic.name.to_string(), what, reason });
        }
    }
    Ok(())
}
