//! How far a member has come, as part of a transaction (KIP-447): offered to the group's coordinator, which takes it in for good once the
//! transaction is committed. Knows nothing of how that ends.
//!
//! An offer is of certain stays of partitions with the member. One that was lost and came again is another stay, in which others may have gone
//! on meanwhile: what was offered of the one before is not the member's to commit any more, whatever its epoch is by now.

use std::fmt;
use std::sync::Arc;

use tidelog_protocol::messages::{CommitTransaction, CommittedOffset, OffsetCommitRequest};

use super::GroupError;
use super::commits::{Commits, GroupOffset};
use super::record::GroupRecord;
use super::shared::Shared;
use super::work::Run;
use crate::TopicPartition;

/// How far a member has come in some of its partitions.
pub(crate) struct Offer {
    shared: Arc<Shared>,
    stays: Vec<Stay>,
}

struct Stay {
    run: Run,
    at: TopicPartition,
    offset: CommittedOffset,
}

impl fmt::Debug for Offer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Offer({}, {} partitions)", self.shared.group, self.stays.len())
    }
}

impl Commits {
    /// What the program says, of the stays that there are now.
    pub(crate) fn offer(&self, offsets: &[GroupOffset]) -> Result<Offer, GroupError> {
        let (mut stays, mut foreign) = (Vec::with_capacity(offsets.len()), Vec::new());
        let work = self.shared.work.lock();
        for GroupOffset { at, offset, metadata } in offsets {
            let Some(((topic_id, partition), run)) = work.stay(at) else {
                foreign.push(at.clone());
                continue;
            };
            let (offset, metadata) = (*offset, metadata.clone());
            let offset = CommittedOffset { topic_id, partition, offset, leader_epoch: None, metadata };
            stays.push(Stay { run, at: at.clone(), offset });
        }
        drop(work);
        if !foreign.is_empty() {
            return Err(GroupError::NotOwned { partitions: foreign });
        }
        Ok(Offer { shared: Arc::clone(&self.shared), stays })
    }

    /// Everything up to these records, which were handed out in the order that they stand in.
    pub(crate) fn offer_of(&self, records: &[GroupRecord]) -> Offer {
        let mut stays: Vec<Stay> = Vec::new();
        for record in records {
            let ((topic_id, partition), run) = record.stay();
            let next = record.offset.plus(1);
            match stays.iter_mut().find(|stay| (stay.offset.topic_id, stay.offset.partition) == (topic_id, partition)) {
                Some(stay) => (stay.run, stay.offset.offset) = (run, next),
                None => {
                    let (leader_epoch, metadata) = (None, String::new());
                    let offset = CommittedOffset { topic_id, partition, offset: next, leader_epoch, metadata };
                    stays.push(Stay { run, at: record.source().clone(), offset });
                }
            }
        }
        Offer { shared: Arc::clone(&self.shared), stays }
    }
}

impl Offer {
    /// Has the coordinator take it in, all or nothing, to hold once `transaction` is committed.
    pub(crate) async fn commit(&self, transaction: &CommitTransaction) -> Result<(), GroupError> {
        let _turn = self.shared.committing.lock().await;
        let asked = self.shared.ask(|me| {
            // Anew with each try, after the epoch was looked at: whoever lost a partition forgot it before it was given another epoch.
            self.lost().is_empty().then(|| OffsetCommitRequest {
                group: self.shared.group.to_string(),
                member_id: Some(me.member_id.to_string()),
                member_epoch: me.epoch,
                offsets: self.stays.iter().map(|stay| stay.offset.clone()).collect(),
                transaction: Some(transaction.clone()),
            })
        });
        match asked.await {
            Ok(_) => Ok(()),
            Err(unanswered) => Err(unanswered.into_offer_error(self)),
        }
    }

    /// The partitions of it that are not the member's any more, or are again.
    pub(super) fn lost(&self) -> Vec<TopicPartition> {
        let work = self.shared.work.lock();
        let is_lost = |stay: &&Stay| !work.is_stay((stay.offset.topic_id, stay.offset.partition), stay.run);
        self.stays.iter().filter(is_lost).map(|stay| stay.at.clone()).collect()
    }

    /// All its partitions, with what was offered.
    pub(super) fn places(&self) -> Vec<(TopicPartition, crate::Offset)> {
        self.stays.iter().map(|stay| (stay.at.clone(), stay.offset.offset)).collect()
    }

    /// Its transaction is committed.
    pub(crate) fn holds(&self) {
        let mut work = self.shared.work.lock();
        for Stay { run, offset, .. } in &self.stays {
            let place = (offset.topic_id, offset.partition);
            if work.is_stay(place, *run) {
                work.committed(place, offset.offset);
            }
        }
    }
}
