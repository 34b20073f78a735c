//! The broker's own topics grow with the cluster: one that was made while there were fewer brokers gets more replicas as others come, and asks
//! for a second one in sync once three are. Never for fewer. Knows nothing of what these topics hold, nor of the copying.
//!
//! Only until it asks for that: from then on its replicas are as an operator orders, who may want fewer again.

use alloc::string::ToString;
use alloc::sync::Arc;
use alloc::vec::Vec;

use tidelog_protocol::{BrokerId, MetadataIndex};

use crate::changes::under_minimum;
use crate::command::Reply;
use crate::controller::Decided;
use crate::election::{Liveness, Seating};
use crate::image::{ClusterImage, TopicImage, entries};
use crate::placement::{Spread, seed};
use crate::records::{PartitionChanged, PartitionState, TopicConfigured};

/// So many replicas such a topic is to have, where there are as many brokers: one can be lost while another is away on purpose.
pub const REPLICAS: usize = 3;

/// So many of them acks=all needs then.
const MINIMUM: u16 = 2;

/// Is there one that another broker would be given replicas of?
#[must_use]
pub fn are_growing(image: &ClusterImage) -> bool {
    growing(image).next().is_some()
}

fn growing(image: &ClusterImage) -> impl Iterator<Item = &Arc<TopicImage>> {
    image.topics().filter(|topic| topic.internal && topic.config.min_in_sync_replicas < MINIMUM)
}

/// Gives such topics more replicas, up to [`REPLICAS`] and `replicas_max`, as far as there are brokers. What is being moved
/// goes on moving.
pub(crate) fn grow(image: &ClusterImage, replicas_max: u16) -> Decided {
    let wanted = REPLICAS.min(replicas_max.into());
    let mut spread = Spread::over(image);
    let mut records = Vec::new();
    for topic in growing(image) {
        spread.begin_topic(Some(topic));
        for (partition, held) in topic.partitions() {
            let mut target: Vec<BrokerId> = held.target().collect();
            let before = target.len();
            while target.len() < wanted {
                let Some(broker) = spread.add(&target, seed(topic.id, partition.0)) else { break };
                target.push(broker);
            }
            let seating = Seating::new(held, topic.config.min_in_sync_replicas, Liveness::of(image));
            if target.len() > before
                && let Some(state) = seating.reassign(&target).finish()
            {
                // Nothing goes and the order stays, so what was before is known without being told; and nobody orders this, so it must not begin
                // a feature level that brokers of an earlier release do not know.
                let state = PartitionState { before: held.before.clone(), ..state };
                records.push(PartitionChanged { topic_id: topic.id, partition, state }.into());
            }
        }
    }
    let copying = records.len() as u32;
    with_minimum(image, (records, Reply::Reassigned { copying, done: 0 }))
}

/// A decision, and with it the minimum of each such topic of which it leaves enough replicas in sync everywhere.
pub(crate) fn with_minimum(image: &ClusterImage, (mut records, reply): Decided) -> Decided {
    if !are_growing(image) {
        return (records, reply);
    }
    let mut after = image.clone();
    let index = MetadataIndex(image.as_of().0 + 1);
    records.iter().for_each(|record| after.apply(index, record));
    for topic in growing(&after).filter(|topic| are_enough_in_sync(topic)) {
        let mut overrides = topic.overrides.clone();
        let _ = overrides.insert("min.insync.replicas".to_string(), MINIMUM.to_string());
        records.push(TopicConfigured { topic_id: topic.id, overrides: entries(&overrides) }.into());
        records.extend(under_minimum(&after, topic, MINIMUM));
    }
    (records, reply)
}

fn are_enough_in_sync(topic: &TopicImage) -> bool {
    let is_enough = |state: &PartitionState| !state.is_moving() && state.in_sync.len() >= REPLICAS;
    !topic.partitions.is_empty() && topic.partitions.iter().all(is_enough)
}
