//! One transactional id: who its producer is, and its transaction. Knows nothing of clocks, nor of other ids.
//!
//! Each transaction has an epoch of its own (KIP-890): the record that decides on its end moves the id on to the next, which the markers
//! carry. Whatever the ended one still sends is older than that. Only producers that know nothing of that keep theirs from one to the next (KIP-98),
//! and so do their markers.

use alloc::string::String;

use tidelog_protocol::messages::{TransactionEnder, TransactionMarkers, TransactionState};
use tidelog_protocol::{ProducerId, Timestamp};

use super::flaws::{TransactionFlaw, TransactionFlaws};
use super::identity::Identity;
use super::records::{RecordedEnd, TransactionKey, TransactionRecord, TransactionValue};
use super::touched::Touched;

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Ended {
    /// Who wrote it.
    pub identity: Identity,
    pub committed: bool,
    pub by: TransactionEnder,
}

/// A transactional id.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Transaction {
    /// Who writes the open transaction, or will write the next.
    pub identity: Identity,
    /// Who may still ask who it is now.
    pub previous: Option<Identity>,
    pub timeout_ms: u32,
    pub state: TransactionState,
    pub began_at: Option<Timestamp>,
    pub changed_at: Timestamp,
    /// Nothing exactly while nothing is open.
    pub touched: Touched,
    pub ended: Option<Ended>,
}

impl Transaction {
    /// Whose transactions it knows of.
    pub fn producers(&self) -> impl Iterator<Item = ProducerId> {
        let now = self.identity.producer_id;
        let before = self.ended.map(|ended| ended.identity.producer_id).filter(|before| *before != now);
        core::iter::once(now).chain(before)
    }

    /// Nothing was ever open.
    pub fn new(producer_id: ProducerId, timeout_ms: u32, wall: Timestamp) -> Self {
        Self {
            identity: Identity::first(producer_id),
            previous: None,
            timeout_ms,
            state: TransactionState::Empty,
            began_at: None,
            changed_at: wall,
            touched: Touched::default(),
            ended: None,
        }
    }

    /// Is it being ended?
    pub const fn is_ending(&self) -> bool {
        matches!(self.state, TransactionState::Committing | TransactionState::Aborting)
    }

    /// Did what this producer wrote, or might have written, hold? Only for the present one and the one before.
    pub fn was_committed(&self, identity: Identity) -> bool {
        self.ended.is_some_and(|ended| ended.identity == identity && ended.committed)
    }

    /// The same, with more that it touches.
    pub fn touching(&self, touched: Touched, wall: Timestamp) -> Self {
        Self {
            state: TransactionState::Ongoing,
            began_at: self.began_at.or(Some(wall)),
            changed_at: wall,
            touched,
            ..self.clone()
        }
    }

    /// The same with its end decided on. The fresh id is looked at where the epochs are used up; without one then, nobody can write the next.
    pub fn ending(&self, committed: bool, by: TransactionEnder, fresh: Option<ProducerId>, wall: Timestamp) -> Self {
        let state = match committed {
            _ if self.touched.is_empty() => TransactionState::Empty,
            true => TransactionState::Committing,
            false => TransactionState::Aborting,
        };
        Self {
            identity: self.identity.next(fresh).unwrap_or(self.identity.bumped()),
            // Who was put out by another asks in vain.
            previous: (by != TransactionEnder::Successor).then_some(self.identity),
            state,
            changed_at: wall,
            ended: Some(Ended { identity: self.identity, committed, by }),
            ..self.clone()
        }
    }

    /// The same with its end decided on by its producer, which goes on under the same epoch (KIP-98).
    pub fn ending_in_epoch(&self, committed: bool, wall: Timestamp) -> Self {
        Self {
            state: if committed { TransactionState::Committing } else { TransactionState::Aborting },
            changed_at: wall,
            ended: Some(Ended { identity: self.identity, committed, by: TransactionEnder::Producer }),
            ..self.clone()
        }
    }

    /// Has the one that ended last left its epoch to the next?
    pub fn keeps_epoch(&self) -> bool {
        self.ended.is_some_and(|ended| ended.identity == self.identity)
    }

    /// The same with its markers written.
    pub fn done(&self, wall: Timestamp) -> Self {
        Self {
            state: TransactionState::Empty,
            began_at: None,
            changed_at: wall,
            touched: Touched::default(),
            ..self.clone()
        }
    }

    /// The markers of the transaction that is being ended, for `touched` of it.
    pub fn markers(&self, touched: &Touched, flaws: TransactionFlaws) -> Option<TransactionMarkers> {
        let ended = self.ended.filter(|_| self.is_ending())?;
        let own_epoch = self.keeps_epoch();
        let unbumped = own_epoch || flaws.has(TransactionFlaw::MarkersUnbumped);
        Some(TransactionMarkers {
            identity: if unbumped { ended.identity } else { ended.identity.bumped() }.to_wire(),
            commit: ended.committed,
            partitions: touched.partitions.to_wire(),
            groups: touched.groups_to_wire(),
            own_epoch,
        })
    }

    pub fn to_record(&self, transactional_id: &str) -> TransactionRecord {
        let ended = self.ended.map(|ended| RecordedEnd {
            producer: ended.identity.to_record(),
            committed: ended.committed,
            by: ended.by,
        });
        let value = TransactionValue {
            producer: self.identity.to_record(),
            previous: self.previous.map(Identity::to_record),
            timeout_ms: self.timeout_ms,
            state: self.state,
            began_at: self.began_at,
            changed_at: self.changed_at,
            partitions: self.touched.partitions.to_wire(),
            groups: self.touched.groups_to_wire(),
            ended,
        };
        TransactionRecord {
            key: TransactionKey { transactional_id: String::from(transactional_id) },
            value: Some(value),
        }
    }

    pub fn from_value(value: &TransactionValue) -> Self {
        Self {
            identity: Identity::from(&value.producer),
            previous: value.previous.as_ref().map(Identity::from),
            timeout_ms: value.timeout_ms,
            state: value.state,
            began_at: value.began_at,
            changed_at: value.changed_at,
            touched: Touched::from_wire(&value.partitions, &value.groups),
            ended: value.ended.as_ref().map(|ended| Ended {
                identity: Identity::from(&ended.producer),
                committed: ended.committed,
                by: ended.by,
            }),
        }
    }
}
