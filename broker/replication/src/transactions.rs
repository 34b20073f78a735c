//! Where the transactions of one log stand: which are open, which ended a moment ago, which were undone. Knows nothing of producers' sequences,
//! nor of who decides how a transaction ends.
//!
//! Undone ones are remembered up to [`ABORTED_MAX`]; of those before, the log itself tells: the next marker of a batch's producer says what
//! became of the batch.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::vec::Vec;
use core::ops::Range;

use tidelog_protocol::messages::{AbortedTransaction, UnsettledTransaction};
use tidelog_protocol::{Offset, ProducerId};

/// So many undone transactions are remembered, the latest.
pub const ABORTED_MAX: usize = 10_000;

/// How a transaction ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It holds.
    Committed,
    /// It was undone.
    Aborted,
}

/// The transactions of a log.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Transactions {
    /// By their first offsets.
    open: BTreeSet<(Offset, ProducerId)>,
    /// Those whose marker is not known to be settled, by its offset: as many as markers under way.
    ended: BTreeMap<(Offset, ProducerId), Offset>,
    /// By their markers.
    aborted: VecDeque<AbortedTransaction>,
    /// All of those are remembered whose marker is at or above.
    aborted_from: Offset,
}

impl Transactions {
    /// A transaction began.
    pub(crate) fn begun(&mut self, producer: ProducerId, first: Offset) {
        self.open.insert((first, producer));
    }

    /// It is open no more, and nobody is told how it ended.
    pub(crate) fn forgotten(&mut self, producer: ProducerId, first: Offset) {
        self.open.remove(&(first, producer));
    }

    /// It ended at `marker`.
    pub(crate) fn ended(&mut self, producer: ProducerId, first: Offset, (marker, outcome): (Offset, Outcome)) {
        self.open.remove(&(first, producer));
        self.ended.insert((marker, producer), first);
        if outcome == Outcome::Aborted {
            self.aborted.push_back(AbortedTransaction {
                producer_id: producer,
                first_offset: first,
                marker_offset: marker,
            });
            if self.aborted.len() > ABORTED_MAX {
                self.drop_oldest();
            }
        }
    }

    /// Everything below `settled` is on all in-sync replicas, and everything below `log_start` is gone.
    pub(crate) fn settle(&mut self, log_start: Offset, settled: Offset) {
        while self.ended.first_key_value().is_some_and(|(&(marker, _), _)| marker < settled) {
            self.ended.pop_first();
        }
        while self.aborted.front().is_some_and(|oldest| oldest.marker_offset < log_start) {
            self.drop_oldest();
        }
    }

    /// First offset of the oldest transaction that is open, or whose marker is not settled.
    pub(crate) fn first_unstable(&self) -> Option<Offset> {
        let open = self.open.first().map(|&(first, _)| first);
        let ended = self.ended.values().copied().min();
        open.into_iter().chain(ended).min()
    }

    /// The same, but for markers that are in the log: a bug to plant.
    pub(crate) fn first_open(&self) -> Option<Offset> {
        self.open.first().map(|&(first, _)| first)
    }

    /// How many are open.
    pub(crate) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The undone transactions that reach into `range`; `None` where some of them may have been forgotten.
    pub(crate) fn aborted_within(&self, range: &Range<Offset>) -> Option<Vec<AbortedTransaction>> {
        if range.start < self.aborted_from {
            return None;
        }
        let first = self.aborted.partition_point(|aborted| aborted.marker_offset < range.start);
        let reaching = self.aborted.range(first..).filter(|aborted| aborted.first_offset < range.end);
        Some(reaching.cloned().collect())
    }

    /// Markers below may have been missed.
    pub(crate) fn unsure_below(&mut self, offset: Offset) {
        self.aborted_from = self.aborted_from.max(offset);
    }

    /// To be stored or sent.
    pub(crate) fn snapshot(&self) -> (Vec<UnsettledTransaction>, Vec<AbortedTransaction>, Offset) {
        let ended = |(&(marker_offset, producer_id), &first_offset)| UnsettledTransaction {
            producer_id,
            first_offset,
            marker_offset,
        };
        (self.ended.iter().map(ended).collect(), self.aborted.iter().cloned().collect(), self.aborted_from)
    }

    /// What a snapshot up to `end` says, but for those that are open; `None` where it cannot be one.
    pub(crate) fn restored(
        ended: &[UnsettledTransaction],
        (aborted, aborted_from): (&[AbortedTransaction], Offset),
        end: Offset,
    ) -> Option<Self> {
        let rises = aborted.is_sorted_by(|earlier, later| earlier.marker_offset <= later.marker_offset);
        let fits = |first: Offset, marker: Offset| first <= marker && marker < end;
        let fit = aborted.iter().all(|aborted| fits(aborted.first_offset, aborted.marker_offset))
            && ended.iter().all(|ended| fits(ended.first_offset, ended.marker_offset));
        if !rises || !fit || aborted.len() > ABORTED_MAX {
            return None;
        }
        let ended = ended.iter().map(|ended| ((ended.marker_offset, ended.producer_id), ended.first_offset));
        let (ended, aborted) = (ended.collect(), aborted.iter().cloned().collect());
        Some(Self { open: BTreeSet::new(), ended, aborted, aborted_from })
    }

    /// Those that were open as of `end`, and have ended since as far as is known here: whose, and their first offset.
    pub(crate) fn open_across(&self, end: Offset) -> impl Iterator<Item = (ProducerId, Offset)> {
        let ended = self.ended.iter().map(|(&(marker, producer), &first)| (producer, first, marker));
        let aborted = self.aborted.iter();
        let aborted = aborted.map(|aborted| (aborted.producer_id, aborted.first_offset, aborted.marker_offset));
        let across = ended.chain(aborted).filter(move |&(_, first, marker)| first < end && end <= marker);
        across.map(|(producer, first, _)| (producer, first))
    }

    fn drop_oldest(&mut self) {
        if let Some(dropped) = self.aborted.pop_front() {
            self.aborted_from = self.aborted_from.max(dropped.marker_offset.plus(1));
        }
    }
}
