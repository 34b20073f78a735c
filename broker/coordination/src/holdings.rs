//! A broker says that it does not hold a replica whole that the cluster counts on: then nobody counts on it any more, and where it is all
//! there is nobody leads, so that an empty log is never taken for the partition. Knows nothing of how the broker found out.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use tidelog_protocol::messages::ReplicaHolding;
use tidelog_protocol::{BrokerId, ErrorCode};

use crate::command::{HeldReplica, HeldReplicas, Refusal, Reply};
use crate::controller::Decided;
use crate::election::{Departure, Liveness, Seating};
use crate::image::ClusterImage;
use crate::records::{MetadataRecord, PartitionChanged};
use crate::registration::registered;
use crate::topics::partition_of;

/// Decides on each replica by itself. A fenced broker may report too: the sooner, the better.
pub(crate) fn report(image: &ClusterImage, asked: &HeldReplicas) -> Result<Decided, Refusal> {
    registered(image, asked.holder)?;
    let mut records = Vec::new();
    let mut seen = BTreeSet::new();
    let mut report = |held: &HeldReplica| {
        if !seen.insert((held.topic_id, held.partition)) {
            let message = "a partition stands twice in the request; report each once";
            return Err(Refusal::new(ErrorCode::Malformed, message));
        }
        records.extend(report_one(image, asked.holder.broker_id, held)?);
        Ok(())
    };
    let replicas = asked.replicas.iter().map(&mut report).collect();
    Ok((records, Reply::ReplicasReported { replicas }))
}

fn report_one(image: &ClusterImage, holder: BrokerId, report: &HeldReplica) -> Result<Option<MetadataRecord>, Refusal> {
    let HeldReplica { topic_id, partition, partition_epoch, holds } = *report;
    let (topic, held) = partition_of(image, topic_id, partition)?;
    // It may have been left out since, and be whole again: an old report must not cost the partition its leader.
    if partition_epoch != held.partition_epoch {
        let message = format!(
            "'{}'-{partition} is at partition epoch {}, not {partition_epoch}: report what holds in its present state",
            topic.name, held.partition_epoch
        );
        return Err(Refusal::new(ErrorCode::PartitionChanged, message));
    }
    let departure = match holds {
        ReplicaHolding::Nothing | ReplicaHolding::Unreadable => Departure::Unreadable,
        // Lost everywhere, where nobody else has it.
        ReplicaHolding::Short if held.in_sync == [holder] && held.eligible.is_empty() => return Ok(None),
        ReplicaHolding::Short => Departure::TailLost,
    };
    let seating = Seating::new(held, topic.config.min_in_sync_replicas, Liveness::of(image));
    let state = seating.leave(holder, departure).elect().finish();
    Ok(state.map(|state| PartitionChanged { topic_id, partition, state }.into()))
}
