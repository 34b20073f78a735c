//! Offsets within a transaction (KIP-447): noted while it is open, and counting or gone with its end. Knows nothing of what else it writes.
//!
//! Of a producer in a group: its transaction's coordinator is asked to take the group in → offsets are noted, pending → the marker of the end,
//! which carries the next epoch, makes them count or drops them, and leaves a fence, which is looked at after that answer came.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use tidelog_protocol::messages::ProducerIdentity;
use tidelog_protocol::{ErrorCode, ProducerEpoch, ProducerId};

use super::fences::Fences;
use super::flaws::{GroupFlaw, GroupFlaws};
use super::group::Group;
use super::names::check_group;
use super::partition_set::TopicPartition;
use super::records::{FenceKey, FenceValue, GroupRecord, OffsetKey, OffsetValue, PendingOffsetKey, PendingOffsetValue};
use crate::command::Refusal;
use crate::image::ClusterImage;

/// A producer that notes offsets in a group.
pub(super) struct Noting<'a> {
    pub group: &'a str,
    pub known: Option<&'a Group>,
    pub identity: &'a ProducerIdentity,
    pub flaws: GroupFlaws,
}

impl Noting<'_> {
    /// Is the transaction of its epoch over here, or the one before still open?
    pub fn check_epoch(&self, fences: &Fences) -> Result<(), Refusal> {
        let ProducerIdentity { producer_id, epoch } = *self.identity;
        if producer_id < ProducerId(0) || epoch < ProducerEpoch(0) {
            return Err(Refusal::new(ErrorCode::Malformed, format!("no producer {producer_id} has epoch {epoch}")));
        }
        let open = || self.known.into_iter().flat_map(|known| known.pending.epochs(producer_id));
        let fence = fences.epoch(self.group, producer_id).filter(|_| !self.flaws.has(GroupFlaw::LateOffsetsTaken));
        if fence.is_some_and(|fence| epoch < fence) || open().any(|open| epoch < open) {
            let sentence = format!(
                "the transaction of producer {producer_id} in epoch {epoch} has ended in group '{}': nothing was noted",
                self.group
            );
            return Err(Refusal::new(ErrorCode::InvalidTransactionState, sentence));
        }
        if open().any(|open| open < epoch) {
            let sentence =
                format!("the transaction before is being ended in group '{}': nothing was noted", self.group);
            return Err(Refusal::new(ErrorCode::ConcurrentTransactions, sentence));
        }
        Ok(())
    }

    /// Has this transaction noted something before? Then its coordinator knows of it.
    pub fn is_known(&self) -> bool {
        let ProducerIdentity { producer_id, epoch } = *self.identity;
        self.known.is_some_and(|known| known.pending.epochs(producer_id).any(|open| open == epoch))
    }

    /// All that one transaction has noted ends in one batch of records.
    pub fn check_room(&self, offsets: &[(TopicPartition, OffsetValue)], bytes_max: usize) -> Result<(), Refusal> {
        let bytes = |value: &str| 64 + self.group.len() + value.len();
        let replaced: BTreeSet<&TopicPartition> = offsets.iter().map(|(partition, _)| partition).collect();
        let noted = self.known.into_iter().flat_map(|known| known.pending.of(self.identity.producer_id));
        let kept =
            noted.filter(|(partition, _)| !replaced.contains(partition)).map(|(_, value)| bytes(&value.metadata));
        let all: usize = kept.chain(offsets.iter().map(|(_, value)| bytes(&value.metadata))).sum();
        if all <= bytes_max {
            return Ok(());
        }
        let sentence = format!(
            "the offsets that the transaction commits in group '{}' would take {all} bytes with their metadata, {bytes_max} may be",
            self.group
        );
        Err(Refusal::new(ErrorCode::TooLarge, sentence))
    }

    /// What is stored of one offset.
    pub fn record(&self, (topic_id, partition): TopicPartition, value: OffsetValue) -> GroupRecord {
        let ProducerIdentity { producer_id, epoch } = *self.identity;
        let key = PendingOffsetKey { group: self.group.to_owned(), producer_id, topic_id, partition };
        GroupRecord::PendingOffset(key, Some(PendingOffsetValue::new(epoch, value)))
    }
}

/// Nobody else may move, or go on from, what an open transaction is about to move.
pub(super) fn check_unclaimed<'a>(
    group: &str,
    known: Option<&Group>,
    mut partitions: impl Iterator<Item = &'a TopicPartition>,
    but_by: Option<ProducerId>,
) -> Result<(), Refusal> {
    let Some(known) = known.filter(|known| !known.pending.is_empty()) else { return Ok(()) };
    match partitions.find(|partition| known.pending.is_noted_by_another(partition, but_by)) {
        Some(partition) => Err(unstable(group, partition)),
        None => Ok(()),
    }
}

/// It is known once the transaction has ended.
pub(super) fn unstable(group: &str, (topic_id, partition): &TopicPartition) -> Refusal {
    let sentence = format!(
        "a transaction that commits an offset of group '{group}' for partition {partition} of topic {topic_id} is open: ask again once it has ended"
    );
    Refusal::new(ErrorCode::UnstableOffset, sentence)
}

/// The end of a transaction, as a group hears of it.
pub(super) struct End<'a> {
    pub group: &'a str,
    pub known: Option<&'a Group>,
    /// Under the epoch of its marker.
    pub identity: &'a ProducerIdentity,
    pub commit: bool,
    /// That is the transaction's own.
    pub own_epoch: bool,
    pub image: &'a ClusterImage,
    pub flaws: GroupFlaws,
}

impl End<'_> {
    /// What an earlier epoch has noted counts from now on, or is gone. Where this epoch or a later one is known it stands already.
    pub fn decide(&self, fences: &Fences) -> Result<Vec<GroupRecord>, Refusal> {
        check_group(self.group)?;
        let ProducerIdentity { producer_id, epoch } = *self.identity;
        let unfenced = self.flaws.has(GroupFlaw::EndUnfenced);
        let is_over = |fence| if self.own_epoch { fence > epoch } else { fence >= epoch };
        if fences.epoch(self.group, producer_id).is_some_and(is_over) && !unfenced {
            return Ok(Vec::new());
        }
        let noted = self.known.into_iter().flat_map(|known| known.pending.of(producer_id));
        let is_its = |noted| noted < epoch || (self.own_epoch && noted == epoch);
        let ended = noted.filter(|(_, value)| is_its(value.epoch) || unfenced);
        let mut records = Vec::new();
        for ((topic_id, partition), value) in ended {
            let group = String::from(self.group);
            // Of a topic that is deleted meanwhile nothing is kept.
            if self.commit && self.image.topic(*topic_id).is_some() {
                let key = OffsetKey { group: group.clone(), topic_id: *topic_id, partition: *partition };
                records.push(GroupRecord::Offset(key, Some(value.committed())));
            }
            let key = PendingOffsetKey { group, producer_id, topic_id: *topic_id, partition: *partition };
            records.push(GroupRecord::PendingOffset(key, None));
        }
        // One of the same epoch, too: it counts how many have ended, see `Fences::ends`.
        let key = FenceKey { group: self.group.to_owned(), producer_id };
        records.push(GroupRecord::Fence(key, Some(FenceValue { epoch })));
        Ok(records)
    }
}
