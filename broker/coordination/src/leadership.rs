//! Elections that somebody asks for: back to the preferred replicas, or of a replica that may have lost records. Knows nothing of
//! elections that follow from brokers going away.

use alloc::format;
use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use tidelog_protocol::{BrokerId, ErrorCode, PartitionId};

use crate::changes::everywhere;
use crate::command::{Refusal, Reply};
use crate::controller::Decided;
use crate::election::{Liveness, Seating};
use crate::image::ClusterImage;
use crate::records::{MetadataRecord, PartitionChanged};
use crate::registration::known;
use crate::topics::partition_named;

/// Wherever the preferred replica is in sync and can lead, it leads.
pub(crate) fn prefer_everywhere(image: &ClusterImage) -> Decided {
    let led = |held: &crate::records::PartitionState| held.leader.is_some() && held.leader != held.preferred();
    let records = everywhere(image, Liveness::of(image), led, |_, seating| seating.prefer());
    let count = records.len() as u32;
    (records, Reply::Elected { count })
}

/// The preferred replica of one partition shall lead it.
pub(crate) fn prefer(image: &ClusterImage, topic: &str, partition: PartitionId) -> Result<Decided, Refusal> {
    let (topic, held) = partition_named(image, topic, partition)?;
    let Some(preferred) = held.preferred().filter(|preferred| held.leader != Some(*preferred)) else {
        return Ok((Vec::new(), Reply::Elected { count: 0 }));
    };
    let live = Liveness::of(image);
    let why = match (held.in_sync.contains(&preferred), live.is_live(preferred)) {
        (true, true) if held.unreadable == Some(preferred) => {
            "cannot read its replica: put it right, and start it again"
        }
        (true, true) => {
            let seating = Seating::new(held, topic.config.min_in_sync_replicas, live).prefer();
            let change = |state| PartitionChanged { topic_id: topic.id, partition, state }.into();
            let records: Vec<MetadataRecord> = seating.finish().map(change).into_iter().collect();
            return Ok((records, Reply::Elected { count: 1 }));
        }
        (_, false) => "does not serve: start it first",
        (false, true) => "is not in sync: wait until it has caught up",
    };
    let message = format!("broker {preferred}, preferred for '{}'-{partition}, {why}", topic.name);
    Err(Refusal::new(ErrorCode::InvalidElection, message))
}

/// An operator gives up what only others hold: `broker` leads with what it has. The state keeps that it happened.
pub(crate) fn force(
    image: &ClusterImage,
    topic: &str,
    partition: PartitionId,
    broker: BrokerId,
) -> Result<Decided, Refusal> {
    let (topic, held) = partition_named(image, topic, partition)?;
    known(image, broker)?;
    let live = Liveness::of(image);
    let why: String = match held.leader {
        Some(leader) => format!("broker {leader} leads it; an unclean election is for a partition without a leader"),
        None if !held.replicas.contains(&broker) => {
            let holders: Vec<_> = held.replicas.iter().map(|broker| format!("{broker}")).collect();
            format!("broker {broker} holds no replica of it; those that do are: {}", holders.join(", "))
        }
        None if !live.is_live(broker) => format!("broker {broker} does not serve: start it first, or name another"),
        None => {
            let seating = Seating::new(held, topic.config.min_in_sync_replicas, live).force(broker);
            let change = |state| PartitionChanged { topic_id: topic.id, partition, state }.into();
            let records: Vec<MetadataRecord> = seating.finish().map_or_else(Vec::new, |state| vec![change(state)]);
            return Ok((records, Reply::Elected { count: 1 }));
        }
    };
    let message = format!("'{}'-{partition} cannot be given to broker {broker}: {why}", topic.name);
    Err(Refusal::new(ErrorCode::InvalidElection, message))
}
