//! A transaction touches partitions and groups. Knows nothing of what is written there.

use alloc::format;

use tidelog_protocol::messages::AddToTransactionRequest;
use tidelog_protocol::{ErrorCode, Timestamp};

use super::command::{TransactionDecision, TransactionLimits, TransactionReply};
use super::identity::Identity;
use super::refusals::{being_ended, check_present};
use super::touched::Touched;
use super::transaction::Transaction;
use crate::command::Refusal;
use crate::counted;
use crate::groups::names::check_group;
use crate::groups::partition_set::PartitionSet;
use crate::image::ClusterImage;

pub(super) fn add(
    known: &Transaction,
    request: &AddToTransactionRequest,
    limits: &TransactionLimits,
    image: &ClusterImage,
    wall: Timestamp,
) -> Result<TransactionDecision, Refusal> {
    let id = &request.transactional_id;
    check_present(id, known, Identity::from(&request.identity))?;
    if known.is_ending() {
        return Err(being_ended(id, known));
    }
    let added = Touched::from_wire(&request.partitions, &request.groups).without(&known.touched);
    if added.is_empty() {
        return Ok(TransactionDecision::nothing(TransactionReply::Added));
    }
    if request.only_asks {
        let sentence =
            format!("the transaction that is open under '{id}', if any, was not told of what is written here");
        return Err(Refusal::new(ErrorCode::UnknownTransaction, sentence));
    }
    check_partitions(&added.partitions, image)?;
    added.groups.iter().try_for_each(|group| check_group(group))?;
    let mut touched = known.touched.clone();
    touched.take_in(&added);
    check_size(&touched, limits)?;
    Ok(TransactionDecision::of(known.touching(touched, wall).to_record(id), TransactionReply::Added))
}

/// Those of deleted topics are dropped when the transaction ends, so that only what exists may be taken in.
fn check_partitions(partitions: &PartitionSet, image: &ClusterImage) -> Result<(), Refusal> {
    for (topic_id, partition) in partitions.iter() {
        let Some(topic) = image.topic(*topic_id) else {
            return Err(Refusal::new(ErrorCode::UnknownTopic, format!("there is no topic of id {topic_id}")));
        };
        let name = &topic.name;
        if topic.internal {
            let sentence = format!("topic '{name}' belongs to the broker: no transaction writes to it");
            return Err(Refusal::new(ErrorCode::InternalTopic, sentence));
        }
        if topic.partition(*partition).is_none() {
            let partitions = counted(topic.partitions.len(), "partition");
            let sentence = format!("topic '{name}' has {partitions}, none of index {partition}");
            return Err(Refusal::new(ErrorCode::UnknownPartition, sentence));
        }
    }
    Ok(())
}

fn check_size(touched: &Touched, limits: &TransactionLimits) -> Result<(), Refusal> {
    let (partitions, groups) = (touched.partitions.len(), touched.groups.len());
    if partitions <= limits.partitions_max && groups <= limits.groups_max {
        return Ok(());
    }
    let (partitions, groups) = (counted(partitions, "partition"), counted(groups, "group"));
    let sentence = format!(
        "the transaction would touch {partitions} and {groups}; {} and {} may be",
        limits.partitions_max, limits.groups_max
    );
    Err(Refusal::new(ErrorCode::TooLarge, sentence))
}
