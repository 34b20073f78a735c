//! One replica's log on a disk that forgets what was not flushed. Knows nothing of roles, brokers or time.

use std::sync::Arc;

use tidelog_protocol::{BrokerEpoch, FolderStamp, LeaderEpoch, Offset};
use tidelog_replication::{BatchSpan, EpochHistory, Flaws, PartitionOffsets, Producers};

use super::producer::{self, Kind, Signature};

/// What a record holds; unique in a run.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Value(pub u64);

/// A batch as it stands in a log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Batch {
    /// Offset of its first record.
    pub base: Offset,
    /// The leadership that wrote it.
    pub epoch: LeaderEpoch,
    /// Who numbered it, if anybody did.
    pub signature: Option<Signature>,
    /// What it is.
    pub kind: Kind,
    /// Its records.
    pub values: Arc<[Value]>,
}

impl Batch {
    /// Offset after its last record.
    #[must_use]
    pub fn next(&self) -> Offset {
        self.base.plus(self.values.len() as u64)
    }

    /// Its header.
    #[must_use]
    pub fn span(&self) -> BatchSpan {
        BatchSpan { base_offset: self.base, next_offset: self.next(), epoch: self.epoch }
    }
}

/// A log and what its folder remembers besides.
#[derive(Clone, Debug)]
pub struct Disk {
    batches: Vec<Batch>,
    /// What the batches say of their producers.
    pub producers: Producers,
    /// The bug planted in what is known of them.
    flaws: Flaws,
    flushed_end: Offset,
    /// A flush failed: from here on nothing becomes durable any more, whatever later flushes say.
    broken_from: Option<Offset>,
    /// Grows with every cut, so that a flush that began before it is told apart.
    generation: u32,
    /// The high watermark as last noted.
    pub watermark: Offset,
    /// Which life of the folder.
    pub incarnation: u8,
    /// The registration under which it was closed cleanly.
    pub closed_cleanly: Option<BrokerEpoch>,
    /// What the folder is known by, the newest last.
    pub stamps: Vec<FolderStamp>,
}

impl Default for Disk {
    fn default() -> Self {
        Self {
            batches: Vec::new(),
            producers: Producers::new(Offset::ZERO),
            flaws: Flaws::NONE,
            flushed_end: Offset::ZERO,
            broken_from: None,
            generation: 0,
            watermark: Offset::ZERO,
            incarnation: 0,
            closed_cleanly: None,
            stamps: Vec::new(),
        }
    }
}

impl Disk {
    /// Empty, with a bug in what is known of producers, or not.
    #[must_use]
    pub fn flawed(flaws: Flaws) -> Self {
        Self { producers: Producers::new(Offset::ZERO).flawed(flaws), flaws, ..Self::default() }
    }

    /// Offset after the last record.
    #[must_use]
    pub fn end(&self) -> Offset {
        self.batches.last().map_or(Offset::ZERO, Batch::next)
    }

    /// First offset that a loss of power may take.
    #[must_use]
    pub const fn flushed_end(&self) -> Offset {
        self.flushed_end
    }

    /// Tells flushes from before a cut from those after it.
    #[must_use]
    pub const fn generation(&self) -> u32 {
        self.generation
    }

    /// All batches, in order.
    #[must_use]
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// The batches that hold records at or after `from`.
    #[must_use]
    pub fn from(&self, from: Offset) -> &[Batch] {
        let first = self.batches.partition_point(|batch| batch.next() <= from);
        &self.batches[first..]
    }

    /// What stands at `offset`, and under which epoch it was written.
    #[must_use]
    pub fn at(&self, offset: Offset) -> Option<(Value, LeaderEpoch)> {
        let batch = self.from(offset).first()?;
        let index = offset.0.checked_sub(batch.base.0)?;
        Some((*batch.values.get(index as usize)?, batch.epoch))
    }

    /// # Panics
    /// Where the batch leaves a gap: our bug.
    pub fn append(&mut self, batch: Batch) {
        assert!(batch.base == self.end() || self.batches.is_empty(), "a log has no gaps: {batch:?} at {}", self.end());
        self.note(&batch);
        self.batches.push(batch);
    }

    fn note(&mut self, batch: &Batch) {
        let by = (batch.signature, batch.kind, batch.values.len());
        let header = producer::header(by, batch.base, Some(batch.epoch));
        match batch.kind {
            Kind::Marker(outcome) => self.producers.note_marker(&header, outcome),
            Kind::Plain | Kind::Transactional => self.producers.note(&header),
        }
    }

    /// What is known of producers is what the batches say that are there.
    fn read_producers(&mut self) {
        self.producers = Producers::new(Offset::ZERO).flawed(self.flaws);
        for batch in self.batches.clone() {
            self.note(&batch);
        }
    }

    /// Cuts durably at `offset`, whole batches. Gives the new end.
    pub fn truncate_to(&mut self, offset: Offset) -> Offset {
        self.batches.retain(|batch| batch.next() <= offset);
        self.read_producers();
        self.generation += 1;
        self.flushed_end = self.end();
        self.end()
    }

    /// A flush that began when the log ended at `end` is over. Gives what the log takes for durable now.
    pub fn flush(&mut self, end: Offset, generation: u32) -> Offset {
        if generation == self.generation {
            self.flushed_end = self.flushed_end.max(end.min(self.end()));
        }
        self.flushed_end
    }

    /// A flush failed. The pages it was about are marked clean and never written.
    pub fn flush_failed(&mut self) {
        self.broken_from.get_or_insert(self.flushed_end);
    }

    /// The power fails. Of the batches that were not flushed the first `kept(how many)` are there by luck. Gives how many records are gone.
    pub fn lose_power(&mut self, kept: impl FnOnce(usize) -> usize) -> u64 {
        let end = self.end();
        let durable = self.broken_from.take().map_or(self.flushed_end, |from| from.min(self.flushed_end));
        let safe = self.batches.partition_point(|batch| batch.next() <= durable);
        let kept = kept(self.batches.len() - safe);
        self.batches.truncate(safe + kept);
        self.flushed_end = self.end().min(self.flushed_end);
        end.since(self.end())
    }

    /// The cluster heard `stamp` last: those before it are forgotten.
    pub fn heard(&mut self, stamp: FolderStamp) {
        let at = self.stamps.iter().position(|known| *known == stamp);
        self.stamps.drain(..at.unwrap_or(0));
    }

    /// Another, empty disk takes its place.
    pub fn wipe(&mut self) {
        *self = Self { incarnation: self.incarnation + 1, ..Self::flawed(self.flaws) };
    }

    /// What a start finds. Recovery flushes what it keeps.
    pub fn recover(&mut self) -> (PartitionOffsets, EpochHistory) {
        self.read_producers();
        self.generation += 1;
        self.broken_from = None;
        self.flushed_end = self.end();
        let offsets = PartitionOffsets::recovered(Offset::ZERO, self.watermark, self.end(), self.end());
        (offsets, EpochHistory::recovered(self.batches.iter().map(|batch| (batch.epoch, batch.base))))
    }
}
