//! One change to many partitions: from a rule about one to the records of all that it concerns. Knows nothing of the rule.

use alloc::vec::Vec;

use crate::election::{Liveness, Seating};
use crate::image::{ClusterImage, TopicImage};
use crate::records::{MetadataRecord, PartitionChanged, PartitionState};

/// Applies `rule` to every partition of the cluster that `concerned` picks; one record for each that changes.
pub(crate) fn everywhere<'a>(
    image: &'a ClusterImage,
    live: Liveness<'a>,
    concerned: impl Fn(&PartitionState) -> bool,
    rule: impl Fn(&TopicImage, Seating<'a>) -> Seating<'a>,
) -> Vec<MetadataRecord> {
    let mut records = Vec::new();
    for topic in image.topics() {
        for (partition, held) in topic.partitions().filter(|(_, held)| concerned(held)) {
            let seating = Seating::new(held, topic.config.min_in_sync_replicas, live);
            if let Some(state) = rule(topic, seating).finish() {
                records.push(PartitionChanged { topic_id: topic.id, partition, state }.into());
            }
        }
    }
    records
}

/// Looks at every partition of `topic` again under another minimum of replicas in sync.
pub(crate) fn under_minimum(image: &ClusterImage, topic: &TopicImage, min_in_sync: u16) -> Vec<MetadataRecord> {
    let again = |(partition, held)| {
        let state = Seating::new(held, min_in_sync, Liveness::of(image)).finish()?;
        Some(PartitionChanged { topic_id: topic.id, partition, state }.into())
    };
    topic.partitions().filter_map(again).collect()
}
