//! The controller: decides on changes of the metadata. `handle` reads and changes nothing, `replay` alone changes the image, and
//! both see only what they are given. Knows nothing of the log, of Raft or of the clock; the rules stand in modules of their own.

use alloc::vec::Vec;

use tidelog_protocol::{MetadataIndex, Timestamp};

use crate::command::{Command, Decision, Refusal, Reply};
use crate::image::ClusterImage;
use crate::records::{FeatureLevel, MetadataRecord};
use crate::{
    balance, holdings, in_sync, internal_topics, leadership, producer_ids, reassignment, registration, topics,
};

/// The most partitions that one request may create.
pub const PARTITIONS_PER_REQUEST_MAX: u32 = 10_000;

/// What the names of the broker's own topics begin with.
pub const INTERNAL_PREFIX: &str = "__";

/// What a rule gives: records to be stored, and the answer.
pub(crate) type Decided = (Vec<MetadataRecord>, Reply);

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
        let image = &self.image;
        let (mut records, reply) = match command {
            Command::CreateTopic(create) => topics::create(image, create, now),
            Command::DeleteTopic { name } => topics::delete(image, name),
            Command::AlterTopic { name, set, reset } => topics::alter(image, name, set, reset),
            Command::CreatePartitions { name, total } => topics::grow(image, name, *total),
            Command::BeginControllerEpoch { broker_id } => Ok(registration::begin_controller_epoch(image, *broker_id)),
            Command::BeginFeatureLevel { level } => Ok(begin_feature_level(image, *level)),
            Command::RegisterBroker(register) => registration::register(image, register),
            Command::FenceBroker(broker) => registration::fence(image, *broker),
            Command::StampFolder { broker, stamps } => registration::stamp(image, *broker, stamps),
            Command::UnfenceBroker(broker) => registration::unfence(image, *broker),
            Command::ShutDownBroker(broker) => registration::shut_down(image, *broker),
            Command::AlterInSync(alter) => {
                in_sync::alter(image, alter).map(|decided| internal_topics::with_minimum(image, decided))
            }
            Command::ReportReplicas(held) => holdings::report(image, held),
            Command::AllocateProducerIds { broker_id } => producer_ids::allocate(image, *broker_id),
            Command::RemoveBroker { broker_id } => registration::remove(image, *broker_id),
            Command::Reassign { assignments } => reassignment::reassign(image, assignments),
            Command::Drain { broker_id } => reassignment::drain(image, *broker_id),
            Command::Keep { broker_id } => reassignment::keep(image, *broker_id),
            Command::GrowInternalTopics { replicas_max } => Ok(internal_topics::grow(image, *replicas_max)),
            Command::Balance { copies_max } => Ok(balance::balance(image, *copies_max)),
            Command::ElectPreferred { partition: None } => Ok(leadership::prefer_everywhere(image)),
            Command::ElectPreferred { partition: Some((topic, partition)) } => {
                leadership::prefer(image, topic, *partition)
            }
            Command::ElectUnclean { topic, partition, broker_id } => {
                leadership::force(image, topic, *partition, *broker_id)
            }
        }?;
        records.extend(registration::copies_that_count(image, &records));
        let level = records.iter().map(MetadataRecord::version).max();
        let is_said = matches!(records.first(), Some(MetadataRecord::FeatureLevel(_)));
        if let Some(level) = level.filter(|level| *level > image.feature_level() && !is_said) {
            records.insert(0, FeatureLevel { level }.into());
        }
        Ok(Decision { epoch: image.controller_epoch(), records, reply })
    }

    /// Applies a stored record; see [`ClusterImage::apply`].
    pub fn replay(&mut self, index: MetadataIndex, record: &MetadataRecord) {
        self.image.apply(index, record);
    }
}

fn begin_feature_level(image: &ClusterImage, level: u16) -> (Vec<MetadataRecord>, Reply) {
    let is_new = level > image.feature_level();
    (is_new.then(|| FeatureLevel { level }.into()).into_iter().collect(), Reply::FeatureLevelBegun)
}
