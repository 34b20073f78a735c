//! The numbers of a lane's records: sequences under the producer's id and an epoch, from 0, one after the other in the order of leaving
//! (KIP-98). Pure, as the lane.
//!
//! The leader takes a batch only where the one before it stands in its log, so what was never written keeps out all that was numbered behind it.
//! And a batch that keeps its number may be sent again and again: it is written once. The numbers begin anew, under the next epoch, where that
//! chain is broken: a batch was given up, or the leader knows nothing of this producer, or less than it should (KIP-360). Batches that left
//! before are then numbered and sent anew, which writes nothing twice as
//!
//! - every try of them was answered, and not one was written; or
//! - one before them was never written, hence neither were they; or
//! - the leader has shown that the first of them does not stand in its log: it expects a number before it, or it has certainly never heard of the
//!   producer; and what comes before it was acknowledged, hence is not on its way any more. Copies that are still under way change nothing: they carry the number of a leadership and of an epoch that are over once the
//!   new ones are in the log, and before that their sequence keeps them out, as it is not 0.
//!
//! Of any other batch it is unknown whether it stands in the log; it is told so, and those behind it go on. An epoch concerns its
//! partition alone, since a producer without transactions is fenced by nobody else.
//!
//! In a transaction the identity is given, at the latest with the first leader; the numbers begin at 0 with it, and there is no other to go on under: where the chain is broken
//! the transaction is undone. It may have more records in a partition than there are numbers; then they go round, as the leader knows.

use std::collections::VecDeque;

use tidelog_protocol::records::{Producer, with_producer};
use tidelog_protocol::{ErrorCode, ProducerEpoch, ProducerId, Sequence};

use super::{Batch, Content};

/// No batch has so many records; the numbers begin anew before they would run out.
const RECORDS_MAX: i32 = 1 << 23;

/// What a batch says of its producer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Stamp {
    /// Nothing yet: it never left, or will under another number.
    Unset,
    /// Nothing.
    Plain,
    /// It was numbered.
    Sequenced {
        /// The number of its first record.
        first: i32,
        records: u32,
    },
}

/// A producer, and which epoch of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::producer) struct Who {
    pub(in crate::producer) id: ProducerId,
    pub(in crate::producer) epoch: ProducerEpoch,
}

/// Whose transaction it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::producer) enum Belonging {
    /// This producer's.
    To(Who),
    /// That is told with the leader.
    ToBeTold,
}

/// What a lane needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::producer) enum Wants {
    /// To be somebody.
    Identity,
    /// To be the same, under another epoch.
    NextEpoch(Who),
}

/// On which terms batches leave from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::producer) struct LinkTerms {
    /// The leader's broker can tell what comes twice.
    pub(in crate::producer) tells_twice: bool,
    /// What was wanted, where it could be had.
    pub(in crate::producer) identity: Option<Who>,
}

/// Is it the number that the leader did not take?
pub(super) const fn is_about_numbers(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::OutOfOrderSequence
            | ErrorCode::UnknownProducer
            | ErrorCode::ProducerNeverWrote
            | ErrorCode::ProducerFenced
    )
}

/// Where the numbers stand.
#[derive(Debug)]
pub(super) struct Numbering {
    idempotent: bool,
    of_transaction: bool,
    identity: Option<Who>,
    next: i32,
    /// The chain is broken, or about to be used up: another epoch is needed.
    broken: bool,
    /// A batch of this number was given up, and never written.
    gap: Option<i32>,
    /// A batch was given up that may be written, or still be on its way: that one is missing now proves nothing of those behind it.
    loose: bool,
    tells_twice: bool,
}

impl Numbering {
    pub(super) const fn new(idempotent: bool) -> Self {
        let (identity, of_transaction) = (None, false);
        let (next, broken, gap, loose, tells_twice) = (0, false, None, false, false);
        Self { idempotent, of_transaction, identity, next, broken, gap, loose, tells_twice }
    }

    /// Those of a transaction.
    pub(super) const fn of_transaction(belonging: Belonging) -> Self {
        let mut numbering = Self::new(false);
        numbering.of_transaction = true;
        if let Belonging::To(who) = belonging {
            numbering.identity = Some(who);
        }
        numbering
    }

    /// The transaction cannot go on.
    pub(super) const fn is_beyond_repair(&self) -> bool {
        self.of_transaction && self.broken
    }

    /// Would the leader have noticed that this batch was written before?
    pub(super) const fn tells_twice(&self, batch: &Batch) -> bool {
        self.tells_twice && matches!(batch.stamp, Stamp::Sequenced { .. })
    }

    /// Nothing more can be numbered before the numbers begin anew.
    pub(super) const fn is_used_up(&self) -> bool {
        !self.of_transaction && self.identity.is_some() && (self.broken || self.next > i32::MAX - RECORDS_MAX)
    }

    pub(super) fn wants(&self) -> Option<Wants> {
        match self.identity {
            None if self.of_transaction => Some(Wants::Identity),
            _ if !self.idempotent => None,
            None => Some(Wants::Identity),
            Some(identity) => self.is_used_up().then_some(Wants::NextEpoch(identity)),
        }
    }

    pub(super) const fn link(&mut self, terms: LinkTerms) {
        self.tells_twice = terms.tells_twice;
        if terms.identity.is_some() {
            self.identity = terms.identity;
            (self.next, self.broken, self.gap, self.loose) = (0, false, None, false);
        }
    }

    /// The batch leaves next.
    pub(super) fn stamp(&mut self, batch: &mut Batch) {
        if batch.stamp != Stamp::Unset {
            return;
        }
        let Some(Who { id, epoch }) = self.identity else {
            batch.stamp = Stamp::Plain;
            return;
        };
        let first = self.next;
        let producer = Producer { id, epoch, base_sequence: Sequence(first) };
        let records = match &mut batch.content {
            Content::Filling(builder) => {
                builder.set_producer(producer);
                builder.count()
            }
            Content::Sealed(bytes) => match with_producer(bytes, producer) {
                Ok(stamped) => {
                    *bytes = stamped;
                    super::fit::records_of(bytes)
                }
                // Never: it is a batch that was built here. The broker would say so, too.
                Err(_) => 0,
            },
            Content::Away | Content::Failed(_) | Content::Oversized(_) => 0,
        };
        batch.stamp = Stamp::Sequenced { first, records };
        self.next = self.next.wrapping_add(records as i32) & i32::MAX;
    }

    /// A batch is given up. Where it was never written and nothing was numbered behind it, its numbers are free again.
    pub(super) fn dropped(&mut self, batch: &Batch) {
        let Stamp::Sequenced { first, records } = batch.stamp else { return };
        if self.of_transaction {
            return;
        }
        if batch.maybe_written {
            (self.broken, self.loose) = (true, true);
        } else if first + records as i32 == self.next && !self.broken {
            self.next = first;
        } else {
            self.broken = true;
            self.gap = Some(self.gap.map_or(first, |gap| gap.min(first)));
        }
    }

    /// All that left has come back, in its order: what did the leader say of the first?
    pub(super) fn judge(&mut self, waiting: &mut VecDeque<Batch>) {
        let first = waiting.iter().find_map(|batch| match batch.stamp {
            Stamp::Sequenced { first, .. } => Some((first, batch.refused)),
            Stamp::Unset | Stamp::Plain => None,
        });
        // What was said of the others, and of this one before, may not hold any more.
        waiting.iter_mut().for_each(|batch| batch.refused = None);
        let Some((number, Some(code))) = first else { return };
        self.broken = true;
        if matches!(code, ErrorCode::OutOfOrderSequence | ErrorCode::ProducerNeverWrote) && !self.loose {
            self.gap = Some(self.gap.map_or(number, |gap| gap.min(number)));
        }
    }

    /// Where the chain is broken: takes the numbers away from all that wait. Gives those that may stand in the log.
    pub(super) fn begin_anew(&mut self, waiting: &mut VecDeque<Batch>) -> Vec<Batch> {
        if !self.is_used_up() {
            return Vec::new();
        }
        // It stays broken until there is another epoch.
        self.broken = true;
        let mut unknown = Vec::new();
        let mut kept = VecDeque::with_capacity(waiting.len());
        let mut never_written = false;
        for mut batch in waiting.drain(..) {
            if let Stamp::Sequenced { first, .. } = batch.stamp {
                never_written |= !batch.maybe_written || self.gap.is_some_and(|gap| gap <= first);
                if !never_written {
                    unknown.push(batch);
                    continue;
                }
                batch.maybe_written = false;
                batch.stamp = Stamp::Unset;
            }
            batch.refused = None;
            kept.push_back(batch);
        }
        *waiting = kept;
        unknown
    }
}
