//! What batches of idempotent producers mean in the light of what the log knows of them: new, known already, out of order, of an epoch that is
//! over, or of somebody unknown. Pure; knows nothing of how it is answered (see [`crate::refusal`]).
//!
//! The batches of a request count one after the other and stand or fall together. Those that were admitted before and are not written yet
//! count like those in the log.

use alloc::vec::Vec;

use tidelog_protocol::records::BatchHeader;
use tidelog_protocol::{Offset, ProducerEpoch, ProducerId, Sequence};

use crate::flaws::{Flaw, Flaws};
use crate::producers::{PRODUCERS_MAX, Producers, Span, Standing, advance};
use crate::sequence::{is_ahead, plus};

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
    /// Nothing is known of the producer, and it does not begin at 0.
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
    /// Some batches of the request stand in the log, and some do not.
    Mixed,
    /// The log knows as many producers as it may, and all of them wrote a short while ago.
    TooMany,
}

/// A batch that was admitted and is not written yet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Unwritten {
    producer: ProducerId,
    epoch: ProducerEpoch,
    span: Span,
}

/// Those of one leader, in the order of their offsets.
#[derive(Debug, Default)]
pub(crate) struct UnwrittenBatches(Vec<Unwritten>);

impl UnwrittenBatches {
    /// These batches get their offsets from `base` on.
    pub(crate) fn admitted(&mut self, headers: &[BatchHeader], mut base: Offset) {
        for header in headers {
            if header.producer_id >= ProducerId(0) {
                let (producer, epoch) = (header.producer_id, header.producer_epoch);
                self.0.push(Unwritten { producer, epoch, span: Span::of(header, base) });
            }
            base = base.plus(u64::from(header.last_offset_delta) + 1);
        }
    }

    /// The log holds everything below `end`, and its knowledge of producers includes it.
    pub(crate) fn written(&mut self, end: Offset) {
        if self.0.last().is_some_and(|last| last.span.base_offset < end) {
            self.0.clear();
        } else {
            self.0.retain(|batch| batch.span.base_offset >= end);
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
    pub(crate) flaws: Flaws,
}

enum Verdict {
    New,
    Known { base_offset: Offset, next_offset: Offset },
}

impl Sequencing<'_> {
    /// What becomes of the batches of one request.
    pub(crate) fn judge(&self, headers: &[BatchHeader]) -> Result<Admission, SequenceFault> {
        let mut news = 0;
        let mut known: Option<(Offset, Offset)> = None;
        // What the batches before in this request make of their producers.
        let mut earlier: Vec<Unwritten> = Vec::new();
        for header in headers {
            if header.producer_id < ProducerId(0) {
                news += 1;
                continue;
            }
            let mut standing = self.standing(header.producer_id);
            for batch in earlier.iter().filter(|batch| batch.producer == header.producer_id) {
                advance(&mut standing, batch.epoch, batch.span, 0);
            }
            match self.one(header, standing.as_ref())? {
                Verdict::New => {
                    news += 1;
                    let (producer, epoch) = (header.producer_id, header.producer_epoch);
                    // Above everything that has an offset already.
                    let base_offset = Offset(Offset::MAX.0 - headers.len() as u64 + news as u64);
                    earlier.push(Unwritten { producer, epoch, span: Span::of(header, base_offset) });
                }
                Verdict::Known { base_offset, next_offset } => {
                    known = Some((known.map_or(base_offset, |(first, _)| first), next_offset));
                }
            }
        }
        match known {
            None => Ok(Admission::Append),
            Some((base_offset, next_offset)) if news == 0 => Ok(Admission::Duplicate { base_offset, next_offset }),
            Some(_) => Err(SequenceFault::Mixed),
        }
    }

    fn standing(&self, producer: ProducerId) -> Option<Standing> {
        let inherited = |standing: &&Standing| {
            !self.flaws.has(Flaw::ProducersForgotten) || standing.last().base_offset >= self.epoch_start
        };
        let mut standing = self.producers.standing(producer).filter(inherited).copied();
        for batch in self.unwritten.0.iter().filter(|batch| batch.producer == producer) {
            advance(&mut standing, batch.epoch, batch.span, 0);
        }
        standing
    }

    fn one(&self, header: &BatchHeader, standing: Option<&Standing>) -> Result<Verdict, SequenceFault> {
        let (producer, epoch, found) = (header.producer_id, header.producer_epoch, header.base_sequence);
        let Some(known) = standing else {
            return if found != Sequence(0) {
                Err(SequenceFault::Unknown { producer, never_wrote: self.producers.never_wrote(producer) })
            } else if self.producers.len() + self.unwritten.0.len() >= PRODUCERS_MAX {
                Err(SequenceFault::TooMany)
            } else {
                Ok(Verdict::New)
            };
        };
        if epoch < known.epoch {
            if self.flaws.has(Flaw::FencedProducerAccepted) {
                return Ok(Verdict::New);
            }
            return Err(SequenceFault::Fenced { producer, epoch, current: known.epoch });
        }
        let expected = if epoch > known.epoch { Sequence(0) } else { known.expected() };
        if found == expected {
            return Ok(Verdict::New);
        }
        if epoch == known.epoch {
            // Newest first. A part of a batch counts as well: what was refused as too large comes again in parts.
            let records = header.last_offset_delta;
            let holds = |span: &Span| Some((span.offset_of(found)?, span.offset_of(plus(found, records))?));
            if let Some((base_offset, last)) = known.spans().iter().rev().find_map(holds) {
                return Ok(Verdict::Known { base_offset, next_offset: last.plus(1) });
            }
            if !is_ahead(expected, found) {
                return Err(SequenceFault::Forgotten { producer, found });
            }
        }
        Err(SequenceFault::Gap { producer, found, expected })
    }
}
