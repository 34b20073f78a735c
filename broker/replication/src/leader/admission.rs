//! May a producer append? The leader's answers; nothing is changed by them. Knows nothing of what an append does.

use tidelog_protocol::messages::Acks;
use tidelog_protocol::records::BatchHeader;

use super::{Leader, ProduceTerms};
use crate::producers::Producers;
use crate::refusal::Refusal;
use crate::sequencing::{Admission, MarkerAdmission, MarkerEpoch, SequenceFault, Sequencing, Word};

impl<T> Leader<T> {
    /// May a producer append on these terms? Changes nothing.
    ///
    /// # Errors
    /// [`Refusal::Poisoned`], [`Refusal::LeaseEnded`], [`Refusal::FencedEpoch`], [`Refusal::UnknownEpoch`],
    /// [`Refusal::NotEnoughReplicas`], [`Refusal::OffsetMismatch`], in this order.
    pub fn admit(&self, terms: &ProduceTerms) -> Result<(), Refusal> {
        self.check_terms(terms)?;
        self.check_log_end(terms)
    }

    /// May a producer append these batches on these terms, or has it done so before? `producers` is what the log knows of its producers as
    /// of what is written. Changes nothing. What is a duplicate does not ask for a log end.
    ///
    /// # Errors
    /// [`Refusal::Sequence`] before [`Refusal::OffsetMismatch`], else as [`Leader::admit`].
    pub fn admit_batches(
        &self,
        terms: &ProduceTerms,
        headers: &[BatchHeader],
        producers: &Producers,
    ) -> Result<Admission, Refusal> {
        self.admit_with_word(terms, headers, (producers, None))
    }

    /// The same with what a coordinator said of a transaction. It is judged anew, since a marker may have come before its word.
    ///
    /// # Errors
    /// As [`Leader::admit_batches`].
    pub fn admit_with_word(
        &self,
        terms: &ProduceTerms,
        headers: &[BatchHeader],
        (producers, word): (&Producers, Option<Word>),
    ) -> Result<Admission, Refusal> {
        self.check_terms(terms)?;
        let admission =
            self.sequencing(producers, word).judge(headers).map_err(|fault| self.sequence_refusal(fault))?;
        if admission == Admission::Append {
            self.check_log_end(terms)?;
        }
        Ok(admission)
    }

    /// Is a marker to be written that ends what epochs of this producer before its epoch have open, or that one itself? Changes nothing.
    ///
    /// # Errors
    /// [`Refusal::Poisoned`], [`Refusal::LeaseEnded`], [`Refusal::NotEnoughReplicas`]; [`Refusal::Sequence`] where too many producers are known.
    pub fn admit_marker(
        &self,
        word: Word,
        carries: MarkerEpoch,
        producers: &Producers,
    ) -> Result<MarkerAdmission, Refusal> {
        self.check_terms(&ProduceTerms { leader_epoch: None, acks: Acks::All, expected_log_end: None })?;
        self.sequencing(producers, None).marker(word, carries).map_err(|fault| self.sequence_refusal(fault))
    }

    const fn sequencing<'a>(&'a self, producers: &'a Producers, word: Option<Word>) -> Sequencing<'a> {
        let (unwritten, epoch_start, flaws) = (&self.unwritten, self.epoch_start, self.flaws);
        Sequencing { producers, unwritten, epoch_start, word, flaws }
    }

    const fn sequence_refusal(&self, fault: SequenceFault) -> Refusal {
        Refusal::Sequence { fault, log_start: self.offsets.log_start(), log_end: self.offsets.log_end() }
    }

    fn check_terms(&self, terms: &ProduceTerms) -> Result<(), Refusal> {
        self.check_service()?;
        if let Some(epoch) = terms.leader_epoch {
            self.fence(epoch)?;
        }
        let in_sync = self.replicas.in_sync_count();
        if terms.acks == Acks::All && in_sync < usize::from(self.min_in_sync) {
            return Err(Refusal::NotEnoughReplicas { in_sync, min_in_sync: self.min_in_sync });
        }
        Ok(())
    }

    const fn check_log_end(&self, terms: &ProduceTerms) -> Result<(), Refusal> {
        match terms.expected_log_end {
            Some(expected) if expected.0 != self.offsets.log_end().0 => Err(Refusal::OffsetMismatch {
                expected,
                log_start: self.offsets.log_start(),
                log_end: self.offsets.log_end(),
            }),
            _ => Ok(()),
        }
    }
}
