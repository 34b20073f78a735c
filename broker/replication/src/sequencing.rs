//! What batches of idempotent producers mean in the light of what the log knows of them: new, known already, out of order, of an epoch that is
//! over, or of somebody unknown; and whether a transaction may begin with them. Pure; knows nothing of how it is answered (see [`crate::refusal`]).
//!
//! The batches of a request count one after the other and stand or fall together. Those that were admitted before and are not written yet
//! count like those in the log.

use alloc::vec::Vec;

use tidelog_protocol::records::BatchHeader;
use tidelog_protocol::{Offset, ProducerEpoch, ProducerId, Sequence};

use crate::flaws::{Flaw, Flaws};
use crate::producers::{PRODUCERS_MAX, Producers};
use crate::sequence::{is_ahead, plus};
use crate::standing::{Span, Standing, Step, advance};

/// What becomes of batches that may be appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum Admission {
    /// They are new: append them.
    Append,
    /// They stand in the log already, and are answered as they were the first time.
    Duplicate {
        /// Offset of the first record.
        base_offset: Offset,
        /// Offset after the last record.
        next_offset: Offset,
    },
    /// They begin a transaction here: the coordinator is asked whether this partition is part of it, and they are judged again with its
    /// [`Word`].
    AskCoordinator {
        /// The producer.
        producer: ProducerId,
        /// The transaction's epoch.
        epoch: ProducerEpoch,
    },
}

/// A coordinator's word: this partition is part of the transaction that the producer writes under the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Word {
    /// The producer.
    pub producer: ProducerId,
    /// The transaction's epoch.
    pub epoch: ProducerEpoch,
}

/// Which epoch a marker carries.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MarkerEpoch {
    /// The one after the transaction's (KIP-890): what an earlier one has open ends, and the transaction's own is fenced.
    Next,
    /// The transaction's own, under which its producer writes the next one too (KIP-98). Whoever sends such a marker makes sure that none comes
    /// late: it could not be told from that of the next.
    Own,
}

/// What becomes of a marker.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[must_use]
pub enum MarkerAdmission {
    /// It is news: append it.
    Append,
    /// It stands already, or what it fences is fenced by something later: that is settled once everything below is.
    Stands {
        /// Offset after it.
        next_offset: Offset,
    },
}

/// Why batches are not appended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SequenceFault {
    /// What comes before is missing. Where it is the oldest that the producer has not heard of, it was never written.
    Gap {
        /// The producer.
        producer: ProducerId,
        /// Sequence of the first record.
        found: Sequence,
        /// The one that would have been next.
        expected: Sequence,
    },
    /// A later epoch has written here.
    Fenced {
        /// The producer.
        producer: ProducerId,
        /// The epoch of the batch.
        epoch: ProducerEpoch,
        /// The epoch that holds.
        current: ProducerEpoch,
    },
    /// Nothing is known of the producer, and it does not begin at 0, or may have begun here before.
    Unknown {
        /// The producer.
        producer: ProducerId,
        /// It has certainly never written here.
        never_wrote: bool,
    },
    /// Written longer ago than is remembered, or only in part.
    Forgotten {
        /// The producer.
        producer: ProducerId,
        /// Sequence of the first record.
        found: Sequence,
    },
    /// The transaction has ended, or a later one of the producer began.
    TransactionOver {
        /// The producer.
        producer: ProducerId,
        /// The epoch of the batch.
        epoch: ProducerEpoch,
        /// The epoch that holds.
        current: ProducerEpoch,
    },
    /// The batch is no part of the transaction that its producer has open here.
    TransactionOpen {
        /// The producer.
        producer: ProducerId,
    },
    /// The batch is part of no transaction, and its producer writes within them.
    OutsideTransaction {
        /// The producer.
        producer: ProducerId,
    },
    /// The records of a transaction's batch stand in the log as part of none.
    StandsOutside {
        /// The producer.
        producer: ProducerId,
        /// Sequence of the first record.
        found: Sequence,
    },
    /// Some batches of the request stand in the log, and some do not.
    Mixed,
    /// The log knows as many producers as it may, and all of them wrote a short while ago.
    TooMany {
        /// When there is room for another at the earliest.
        room_in_ms: u64,
    },
}

/// A batch that was admitted and is not written yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unwritten {
    producer: ProducerId,
    step: Step,
}

/// Those of one leader, in the order of their offsets.
#[derive(Debug, Default)]
pub(crate) struct UnwrittenBatches(Vec<Unwritten>);

impl UnwrittenBatches {
    /// These batches get their offsets from `base` on.
    pub(crate) fn admitted(&mut self, headers: &[BatchHeader], mut base: Offset) {
        for header in headers {
            if header.producer_id >= ProducerId(0) {
                self.0.push(Unwritten { producer: header.producer_id, step: Step::of(header, base) });
            }
            base = base.plus(u64::from(header.last_offset_delta) + 1);
        }
    }

    /// The log holds everything below `end`, and its knowledge of producers includes it.
    pub(crate) fn written(&mut self, end: Offset) {
        if self.0.last().is_some_and(|last| last.step.offset() < end) {
            self.0.clear();
        } else {
            self.0.retain(|batch| batch.step.offset() >= end);
        }
    }

    /// Nothing of it will be written.
    pub(crate) fn abandoned(&mut self) {
        self.0.clear();
    }
}

/// In whose light batches are judged.
pub(crate) struct Sequencing<'a> {
    pub(crate) producers: &'a Producers,
    pub(crate) unwritten: &'a UnwrittenBatches,
    /// Where this leadership began.
    pub(crate) epoch_start: Offset,
    /// What a coordinator said.
    pub(crate) word: Option<Word>,
    pub(crate) flaws: Flaws,
}

enum Verdict {
    New,
    /// New, where the coordinator says so.
    BeginsTransaction,
    Known {
        base_offset: Offset,
        next_offset: Offset,
    },
}

impl Sequencing<'_> {
    /// What becomes of the batches of one request.
    pub(crate) fn judge(&self, headers: &[BatchHeader]) -> Result<Admission, SequenceFault> {
        let mut news = 0;
        let mut known: Option<(Offset, Offset)> = None;
        let mut begins: Option<Word> = None;
        // What the batches before in this request make of their producers.
        let mut earlier: Vec<Unwritten> = Vec::new();
        for header in headers {
            if header.producer_id < ProducerId(0) {
                news += 1;
                continue;
            }
            let mut standing = self.standing(header.producer_id);
            for batch in earlier.iter().filter(|batch| batch.producer == header.producer_id) {
                advance(&mut standing, batch.step, 0, self.flaws);
            }
            let verdict = self.one(header, standing.as_ref())?;
            if matches!(verdict, Verdict::BeginsTransaction) {
                begins = begins.or(Some(Word { producer: header.producer_id, epoch: header.producer_epoch }));
            }
            match verdict {
                Verdict::New | Verdict::BeginsTransaction => {
                    news += 1;
                    // Above everything that has an offset already.
                    let base_offset = Offset(Offset::MAX.0 - headers.len() as u64 + news as u64);
                    let (producer, step) = (header.producer_id, Step::of(header, base_offset));
                    earlier.push(Unwritten { producer, step });
                }
                Verdict::Known { base_offset, next_offset } => {
                    known = Some((known.map_or(base_offset, |(first, _)| first), next_offset));
                }
            }
        }
        match known {
            None => Ok(match begins {
                Some(Word { producer, epoch }) => Admission::AskCoordinator { producer, epoch },
                None => Admission::Append,
            }),
            Some((base_offset, next_offset)) if news == 0 => Ok(Admission::Duplicate { base_offset, next_offset }),
            Some(_) => Err(SequenceFault::Mixed),
        }
    }

    /// What becomes of a marker of this epoch. One of an epoch that is known stood before, and whatever is open by now belongs to a later
    /// transaction; unless it is the one that the transaction itself has.
    pub(crate) fn marker(
        &self,
        Word { producer, epoch }: Word,
        carries: MarkerEpoch,
    ) -> Result<MarkerAdmission, SequenceFault> {
        match self.standing(producer) {
            Some(known) if carries == MarkerEpoch::Own && epoch == known.epoch && known.open().is_some() => {
                Ok(MarkerAdmission::Append)
            }
            Some(known) if epoch <= known.epoch && !self.flaws.has(Flaw::MarkerEndsLaterTransaction) => {
                Ok(MarkerAdmission::Stands { next_offset: known.heard_at().plus(1) })
            }
            None => self.room_within(2 * PRODUCERS_MAX).map(|()| MarkerAdmission::Append),
            _ => Ok(MarkerAdmission::Append),
        }
    }

    /// Is there room for another producer?
    fn room_within(&self, count_max: usize) -> Result<(), SequenceFault> {
        let count = self.producers.len() + self.unwritten.0.len();
        if count < count_max {
            return Ok(());
        }
        Err(SequenceFault::TooMany { room_in_ms: self.producers.fewer_in_ms(count - count_max + 1) })
    }

    fn standing(&self, producer: ProducerId) -> Option<Standing> {
        let inherited =
            |standing: &&Standing| !self.flaws.has(Flaw::ProducersForgotten) || standing.heard_at() >= self.epoch_start;
        let mut standing = self.producers.standing(producer).filter(inherited).copied();
        for batch in self.unwritten.0.iter().filter(|batch| batch.producer == producer) {
            advance(&mut standing, batch.step, 0, self.flaws);
        }
        standing
    }

    fn one(&self, header: &BatchHeader, standing: Option<&Standing>) -> Result<Verdict, SequenceFault> {
        let (producer, epoch, found) = (header.producer_id, header.producer_epoch, header.base_sequence);
        let is_transactional = header.attributes.is_transactional();
        let Some(known) = standing else {
            if found != Sequence(0) {
                return Err(SequenceFault::Unknown { producer, never_wrote: self.producers.never_wrote(producer) });
            }
            // Nobody who writes within transactions is forgotten before its end is, and what a later epoch begins with is no other's.
            let is_first = epoch == ProducerEpoch(0) && !is_transactional;
            if is_first && self.producers.may_have_begun(producer) {
                return Err(SequenceFault::Unknown { producer, never_wrote: false });
            }
            self.room_within(PRODUCERS_MAX)?;
            return Ok(self.new_batch(header, None));
        };
        if epoch < known.epoch {
            if self.flaws.has(Flaw::FencedProducerAccepted) {
                return Ok(Verdict::New);
            }
            let current = known.epoch;
            return Err(match is_transactional {
                true => SequenceFault::TransactionOver { producer, epoch, current },
                false => SequenceFault::Fenced { producer, epoch, current },
            });
        }
        let expected = if epoch > known.epoch { Sequence(0) } else { known.expected() };
        let skips = epoch == known.epoch && is_ahead(expected, found);
        if found == expected || (skips && self.flaws.has(Flaw::ProducerGapAccepted)) {
            return if is_transactional || !known.is_transactional() {
                Ok(self.new_batch(header, Some(known)))
            } else if known.open().is_some() {
                Err(SequenceFault::TransactionOpen { producer })
            } else {
                Err(SequenceFault::OutsideTransaction { producer })
            };
        }
        if epoch == known.epoch {
            // Newest first. A part of a batch counts as well: what was refused as too large comes again in parts.
            let records = header.last_offset_delta;
            let holds = |span: &Span| {
                let range = (span.offset_of(found)?, span.offset_of(plus(found, records))?);
                Some((range, known.is_within(span)))
            };
            if let Some(((base_offset, last), is_within)) = known.spans().iter().rev().find_map(holds) {
                // An acknowledgement would promise that they are read with the transaction, or without one.
                return match (is_transactional, is_within) {
                    (true, false) => Err(SequenceFault::StandsOutside { producer, found }),
                    (false, true) => Err(SequenceFault::TransactionOpen { producer }),
                    _ => Ok(Verdict::Known { base_offset, next_offset: last.plus(1) }),
                };
            }
            if known.last().is_some() && !is_ahead(expected, found) {
                return Err(SequenceFault::Forgotten { producer, found });
            }
        }
        Err(SequenceFault::Gap { producer, found, expected })
    }

    /// One whose number comes next. A transaction of an earlier epoch that is open still has lost its marker with records that were settled, or
    /// the coordinator would not give its word.
    fn new_batch(&self, header: &BatchHeader, known: Option<&Standing>) -> Verdict {
        let (producer, epoch) = (header.producer_id, header.producer_epoch);
        let is_open = known.is_some_and(|known| known.epoch == epoch && known.open().is_some());
        let has_word = self.word == Some(Word { producer, epoch }) || self.flaws.has(Flaw::MembershipUnasked);
        if header.attributes.is_transactional() && !is_open && !has_word {
            return Verdict::BeginsTransaction;
        }
        Verdict::New
    }
}
