//! A leader changes who is in sync with it: a compare-and-set on the partition epoch (KIP-497, KIP-903). Knows nothing of why a
//! leader takes a replica in or leaves it out; that it has caught up is the leader's word.

use alloc::collections::BTreeSet;
use alloc::format;
use alloc::vec::Vec;

use tidelog_protocol::{BrokerId, ErrorCode, PartitionEpoch};

use crate::command::{AlterInSync, AlterPartition, Refusal, Registration, Reply};
use crate::controller::Decided;
use crate::election::{Departure, Liveness, Seating};
use crate::image::{ClusterImage, TopicImage};
use crate::records::{MetadataRecord, PartitionChanged, PartitionState};
use crate::registration::registered;
use crate::topics::partition_of;

/// Decides on each partition by itself: what one is refused does not stop the others.
pub(crate) fn alter(image: &ClusterImage, asked: &AlterInSync) -> Result<Decided, Refusal> {
    if registered(image, asked.leader)?.fenced {
        let message =
            format!("broker {} is fenced: it leads nothing until it is heard of again", asked.leader.broker_id);
        return Err(Refusal::new(ErrorCode::FencedBroker, message));
    }
    let mut records = Vec::new();
    let mut partitions = Vec::with_capacity(asked.partitions.len());
    let mut seen = BTreeSet::new();
    for change in &asked.partitions {
        let outcome = if seen.insert((change.topic_id, change.partition)) {
            alter_one(image, asked.leader.broker_id, change)
        } else {
            Err(Refusal::new(ErrorCode::Malformed, "a partition stands twice in the request; ask once for each"))
        };
        partitions.push(outcome.map(|(record, state)| {
            records.extend(record);
            state
        }));
    }
    Ok((records, Reply::InSyncAltered { partitions }))
}

fn alter_one(
    image: &ClusterImage,
    leader: BrokerId,
    change: &AlterPartition,
) -> Result<(Option<MetadataRecord>, PartitionState), Refusal> {
    let AlterPartition { topic_id, partition, .. } = *change;
    let (topic, held) = partition_of(image, topic_id, partition)?;
    check_leadership(topic, held, leader, change)?;
    let asked: BTreeSet<BrokerId> = change.in_sync.iter().map(|replica| replica.broker_id).collect();
    if asked == held.in_sync.iter().copied().collect() {
        if change.partition_epoch != held.partition_epoch {
            // The answer to an earlier request was lost, and what it asked for holds: say so again.
            return Ok((None, held.clone()));
        }
        // The leader wants to know that what it asked for before will not be taken any more.
        let state = PartitionState { partition_epoch: PartitionEpoch(held.partition_epoch.0 + 1), ..held.clone() };
        return Ok((Some(PartitionChanged { topic_id, partition, state: state.clone() }.into()), state));
    }
    if change.partition_epoch != held.partition_epoch {
        let message = format!(
            "'{}'-{partition} is at partition epoch {}, not {}: decide again on its present state",
            topic.name, held.partition_epoch, change.partition_epoch
        );
        return Err(Refusal::new(ErrorCode::PartitionChanged, message));
    }
    if !asked.contains(&leader) && asked.iter().all(|broker| held.in_sync.contains(broker)) {
        return resign(image, topic, held, (leader, change));
    }
    if asked.len() < change.in_sync.len() || !asked.contains(&leader) {
        let message =
            "an in-sync set holds its leader, and each replica once; without the leader it is in sync already";
        return Err(Refusal::new(ErrorCode::Malformed, message));
    }
    for replica in change.in_sync.iter().filter(|replica| replica.broker_id != leader) {
        check_member(image, held, *replica).map_err(|why| {
            let broker = replica.broker_id;
            let message = format!("broker {broker} cannot be in sync with '{}'-{partition}: {why}", topic.name);
            Refusal::new(ErrorCode::IneligibleReplica, message)
        })?;
    }
    let seating = Seating::new(held, topic.config.min_in_sync_replicas, Liveness::of(image));
    let state = seating.in_sync(asked.into_iter().collect()).elect().finish();
    let record = state.clone().map(|state| PartitionChanged { topic_id, partition, state }.into());
    Ok((record, state.unwrap_or_else(|| held.clone())))
}

/// The leader leaves: its log is broken, and nobody knows what of it would be read back. Who else is in sync leads, or else who is eligible;
/// that the leader knows of neither says nothing.
fn resign(
    image: &ClusterImage,
    topic: &TopicImage,
    held: &PartitionState,
    (leader, change): (BrokerId, &AlterPartition),
) -> Result<(Option<MetadataRecord>, PartitionState), Refusal> {
    let AlterPartition { topic_id, partition, .. } = *change;
    if held.in_sync == [leader] && held.eligible.is_empty() {
        let message = format!("no replica of '{}'-{partition} but that of broker {leader} is complete", topic.name);
        return Err(Refusal::new(ErrorCode::IneligibleReplica, message));
    }
    let seating = Seating::new(held, topic.config.min_in_sync_replicas, Liveness::of(image));
    let state = seating.leave(leader, Departure::TailLost).elect().finish();
    let record = state.clone().map(|state| PartitionChanged { topic_id, partition, state }.into());
    Ok((record, state.unwrap_or_else(|| held.clone())))
}

fn check_leadership(
    topic: &TopicImage,
    held: &PartitionState,
    leader: BrokerId,
    change: &AlterPartition,
) -> Result<(), Refusal> {
    let partition = change.partition;
    if held.leader != Some(leader) {
        let message = format!("broker {leader} does not lead '{}'-{partition}", topic.name);
        return Err(Refusal::new(ErrorCode::NotLeader, message));
    }
    let code = match change.leader_epoch.cmp(&held.leader_epoch) {
        core::cmp::Ordering::Equal => return Ok(()),
        core::cmp::Ordering::Less => ErrorCode::FencedEpoch,
        core::cmp::Ordering::Greater => ErrorCode::UnknownEpoch,
    };
    let message = format!(
        "'{}'-{partition} is led under epoch {}, not {}: wait for the metadata that says so",
        topic.name, held.leader_epoch, change.leader_epoch
    );
    Err(Refusal::new(code, message))
}

fn check_member(image: &ClusterImage, held: &PartitionState, replica: Registration) -> Result<(), &'static str> {
    let broker = image.broker(replica.broker_id).ok_or("there is no such broker")?;
    if !held.replicas.contains(&broker.broker_id) {
        return Err("it holds no replica");
    }
    if broker.fenced {
        return Err("it is fenced; leave it out until it is heard of again");
    }
    if broker.leaving {
        return Err("it is shutting down; leave it out");
    }
    // What caught up was an earlier life of it, which may have held more (KIP-903).
    if !held.in_sync.contains(&broker.broker_id) && broker.epoch != replica.epoch {
        return Err("it has registered anew since; let it catch up again");
    }
    Ok(())
}
