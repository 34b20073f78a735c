//! What became of a transaction that is open somewhere for long: its marker may be lost there, with damage or by an unclean election. What a
//! coordinator knows of it, and what the leader of the partition makes of what all of them say. Knows nothing of how they are asked.
//!
//! A leader knows producer and epoch, not the transactional id, so it asks the coordinators of all ids. It asks about what its log already
//! holds, so whoever coordinates has long stored that it is open: that nobody knows it says that it was forgotten, and will never go on.

use alloc::collections::BTreeSet;

use tidelog_protocol::PartitionId;
use tidelog_protocol::messages::{ProducerIdentity, TransactionFate};

use super::flaws::{TransactionFlaw, TransactionFlaws};
use super::identity::Identity;
use super::transaction::Transaction;

/// What one transactional id says of a transaction; nothing where it is another's.
pub(super) fn of(known: &Transaction, asked: Identity, flaws: TransactionFlaws) -> TransactionFate {
    if flaws.has(TransactionFlaw::FatesUntold) {
        return TransactionFate::Ongoing;
    }
    // One that has left its epoch to the next tells nothing of what is open under it. Its markers are sent until all of them stand.
    let ended = known.ended.filter(|_| !(known.keeps_epoch() && known.identity == asked));
    if let Some(ended) = ended.filter(|ended| ended.identity.producer_id == asked.producer_id) {
        if ended.identity.epoch == asked.epoch {
            return if ended.committed { TransactionFate::Committed } else { TransactionFate::Aborted };
        }
        if asked.epoch < ended.identity.epoch {
            return TransactionFate::Superseded;
        }
    }
    match known.identity.producer_id == asked.producer_id {
        true if asked.epoch < known.identity.epoch => TransactionFate::Superseded,
        true if flaws.has(TransactionFlaw::OngoingTakenForUndone) => TransactionFate::Aborted,
        // One of a later epoch than any that is known here: the coordinator has lost records. It will come to that epoch, and must not meet a fence.
        true => TransactionFate::Ongoing,
        false => TransactionFate::Unknown,
    }
}

/// What the leader of a partition does about a transaction that is open there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FateVerdict {
    /// It goes on, or it is not known yet that it does not.
    Waits,
    /// Its marker is written again.
    Ends {
        /// Commit; otherwise abort.
        commit: bool,
    },
}

/// What coordinators have said of one transaction.
#[derive(Clone, Debug)]
pub struct Inquiry {
    /// Partitions of the internal topic that have not spoken.
    silent: BTreeSet<PartitionId>,
    said: Option<TransactionFate>,
}

impl Inquiry {
    /// Nobody has said anything; there are so many partitions of the internal topic.
    #[must_use]
    pub fn new(partitions: u32) -> Self {
        Self { silent: (0..partitions).map(PartitionId).collect(), said: None }
    }

    /// What those who coordinate `looked` know.
    pub fn hear(&mut self, looked: &[PartitionId], fate: TransactionFate) {
        for partition in looked {
            self.silent.remove(partition);
        }
        if fate != TransactionFate::Unknown {
            self.said = Some(fate);
        }
    }

    /// What is done about it. One that was superseded, or that everybody has forgotten, is undone: what it was is known nowhere.
    #[must_use]
    pub fn verdict(&self) -> FateVerdict {
        match self.said {
            Some(TransactionFate::Committed) => FateVerdict::Ends { commit: true },
            Some(TransactionFate::Aborted | TransactionFate::Superseded) => FateVerdict::Ends { commit: false },
            None | Some(TransactionFate::Unknown) if self.silent.is_empty() => FateVerdict::Ends { commit: false },
            None | Some(TransactionFate::Unknown | TransactionFate::Ongoing) => FateVerdict::Waits,
        }
    }
}

/// Under which name its marker is written: the epoch after the transaction's.
#[must_use]
pub fn marker_of(transaction: &ProducerIdentity) -> ProducerIdentity {
    Identity::from(transaction).bumped().to_wire()
}
