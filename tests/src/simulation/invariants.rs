//! Named invariants, checked while a schedule runs and at its end. Knows nothing of the machines: it sees disks, acknowledgements and
//! watermarks.

use std::collections::{BTreeMap, BTreeSet};

use tidelog_protocol::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence};
use tidelog_replication::{Outcome, Word};

use super::disk::{Disk, Value};
use super::producer::Signature;

/// Something that must hold of every schedule.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Invariant {
    /// What is settled at an offset never changes.
    OneValuePerOffset,
    /// Every value acknowledged with acks=all stays.
    NoAckedRecordLost,
    /// Whoever leads holds all that was ever settled.
    LeaderIsComplete,
    /// No replica cuts off what is settled.
    NothingSettledIsCut,
    /// Replicas hold the same bytes below the watermark.
    ReplicasByteIdentical,
    /// A replica's watermark never goes back while its process lives.
    MonotonicHighWatermark,
    /// Epochs grow along every log, and one broker writes under each.
    MonotonicEpochs,
    /// What was acknowledged under `flushed` survives a power loss of all brokers at once.
    AckedIsDurable,
    /// Offsets have no gaps.
    ContiguousOffsets,
    /// What an idempotent producer sent stands once, however often it was sent.
    EachRecordOnce,
    /// What an idempotent producer sent stands in the order of its epochs and numbers.
    ProducerOrder,
    /// An idempotent producer gets through in the end with whatever it sends, without a gap and without giving anything up.
    ProducersGoOn,
    /// Whoever reads what is committed sees nothing of a transaction whose end is not settled.
    NothingReadAboveStableOffset,
    /// Of a transaction that was committed everything is read, of one that was undone nothing, whatever its coordinator decided on.
    TransactionAllOrNothing,
    /// Every transaction ends, and then no reader waits for it.
    NoHangingTransaction,
    /// Once everything is whole again, the partition is led, all replicas are in sync, and a produce is acknowledged.
    EventuallyAvailable,
}

/// A breach, with the evidence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Violation {
    /// Of what.
    pub invariant: Invariant,
    /// The evidence.
    pub evidence: String,
}

/// A life of a broker's process.
pub type Life = (BrokerId, u32);

/// What is known to be settled and acknowledged.
#[derive(Clone, Debug, Default)]
pub struct Invariants {
    settled: Vec<(Value, LeaderEpoch)>,
    /// The leadership under which each of them was first called settled.
    settled_under: Vec<LeaderEpoch>,
    acked: BTreeMap<Offset, Value>,
    acked_values: BTreeSet<Value>,
    /// Who numbered a value, and how.
    numbered: BTreeMap<Value, Signature>,
    /// What each producer's newest settled record is numbered.
    newest: BTreeMap<ProducerId, Signature>,
    /// How transactions ended, as their coordinator decided.
    decided: BTreeMap<(ProducerId, ProducerEpoch), Outcome>,
    /// The markers in any log, by their values.
    markers: BTreeMap<Value, (ProducerId, ProducerEpoch)>,
    /// Those that are settled.
    ended: BTreeSet<(ProducerId, ProducerEpoch)>,
    /// Those that a leader said to stand.
    confirmed: BTreeSet<(ProducerId, ProducerEpoch)>,
    writers: BTreeMap<LeaderEpoch, Life>,
    violations: Vec<Violation>,
    /// What came of the schedule, to show that it was not void.
    pub events: Events,
}

/// Counts of what happened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Events {
    /// Values acknowledged with acks=all.
    pub acked: u64,
    /// Produce requests that were refused or whose ticket failed.
    pub failed: u64,
    /// Batches of idempotent producers that were recognised as written before.
    pub duplicates: u64,
    /// Transactions that their coordinator decided to commit.
    pub committed: u64,
    /// And to undo.
    pub undone: u64,
    /// Batches of transactions that were shown to whoever reads what is committed.
    pub shown: u64,
    /// And that were kept from them.
    pub hidden: u64,
    /// Markers that stood when they came.
    pub markers_again: u64,
    /// Leaderships begun.
    pub leaderships: u64,
    /// Searches that ended in a cut.
    pub cuts: u64,
    /// Records cut.
    pub records_cut: u64,
    /// In-sync sets proposed that had a replica more.
    pub expansions: u64,
    /// In-sync sets proposed that had a replica less.
    pub shrinks: u64,
    /// Proposals that the controller refused.
    pub refused_proposals: u64,
    /// Processes that died.
    pub crashes: u64,
    /// Losses of power that took records.
    pub tails_lost: u64,
    /// Disks that were replaced.
    pub wipes: u64,
    /// Disks that were set back to an older copy, which held less.
    pub set_back: u64,
    /// Flushes that failed.
    pub failed_flushes: u64,
    /// Leases that ended under a leader.
    pub leases_ended: u64,
    /// Messages refused because of another epoch.
    pub fenced: u64,
    /// Messages that never arrived.
    pub lost_messages: u64,
    /// Times that a broker stood still.
    pub pauses: u64,
    /// Elections from the eligible.
    pub eligible_elected: u64,
}

macro_rules! add_up {
    ($($field:ident)*) => {
        impl std::ops::AddAssign for Events {
            fn add_assign(&mut self, other: Self) {
                $(self.$field += other.$field;)*
            }
        }
    };
}
add_up!(acked failed duplicates committed undone shown hidden markers_again leaderships cuts records_cut expansions shrinks refused_proposals crashes tails_lost wipes set_back failed_flushes
    leases_ended fenced lost_messages pauses eligible_elected);

impl Invariants {
    /// The breaches so far.
    #[must_use]
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// A breach.
    pub fn broken(&mut self, invariant: Invariant, evidence: String) {
        self.violations.push(Violation { invariant, evidence });
    }

    /// Offset after the last settled record.
    #[must_use]
    pub fn settled_end(&self) -> Offset {
        Offset(self.settled.len() as u64)
    }

    /// The watermark of a replica moved from `from` to `to` under a leadership.
    pub fn watermark_moved(&mut self, life: Life, (from, to): (Offset, Offset), (under, disk): (LeaderEpoch, &Disk)) {
        if to < from {
            let evidence = format!("the watermark of {life:?} went from {from} back to {to}");
            self.broken(Invariant::MonotonicHighWatermark, evidence);
        }
        for offset in from.0..to.0 {
            let Some(found) = disk.at(Offset(offset)) else {
                let evidence = format!("{life:?} calls offset {offset} settled and does not hold it");
                return self.broken(Invariant::ContiguousOffsets, evidence);
            };
            match self.settled.get(offset as usize) {
                None => {
                    self.check_producer(Offset(offset), found.0);
                    self.settled.push(found);
                    self.settled_under.push(under);
                }
                Some(known) if *known != found => {
                    let evidence = format!("offset {offset} is {known:?}, and {found:?} for {life:?}");
                    return self.broken(Invariant::OneValuePerOffset, evidence);
                }
                Some(_) => {}
            }
        }
    }

    /// A coordinator decided how a transaction ends.
    pub fn decided(&mut self, transaction: (ProducerId, ProducerEpoch), outcome: Outcome) {
        match outcome {
            Outcome::Committed => self.events.committed += 1,
            Outcome::Aborted => self.events.undone += 1,
        }
        self.decided.insert(transaction, outcome);
    }

    /// A leader wrote a marker.
    pub fn marker_written(&mut self, word: Word, value: Value) {
        self.markers.insert(value, (word.producer, word.epoch));
    }

    /// A leader says that a marker stands.
    pub fn marker_stands(&mut self, marker: Option<Word>) {
        self.confirmed.extend(marker.map(|word| (word.producer, word.epoch)));
    }

    /// Did one?
    #[must_use]
    pub fn is_confirmed(&self, word: Word) -> bool {
        self.confirmed.contains(&(word.producer, word.epoch))
    }

    /// Whoever reads what is committed has come across a batch of a transaction.
    pub fn shown(&mut self, life: Life, (signature, base): (Signature, Offset), is_hidden: bool) {
        if is_hidden {
            self.events.hidden += 1
        } else {
            self.events.shown += 1
        }
        let Signature { id, epoch, .. } = signature;
        let later = (id, ProducerEpoch(epoch.0 + 1))..=(id, ProducerEpoch(i16::MAX));
        let outcome = self.decided.get(&(id, epoch)).copied();
        if self.ended.range(later).next().is_none() || outcome.is_none() {
            let evidence = format!("{life:?} shows {signature:?} at {base}, whose end is not settled: {outcome:?}");
            self.broken(Invariant::NothingReadAboveStableOffset, evidence);
        } else if outcome != Some(if is_hidden { Outcome::Aborted } else { Outcome::Committed }) {
            let evidence = format!("{life:?}: {signature:?} at {base} was {outcome:?}, and hidden: {is_hidden}");
            self.broken(Invariant::TransactionAllOrNothing, evidence);
        }
    }

    /// An idempotent producer gives values their numbers.
    pub fn numbered(&mut self, signature: Signature, values: &[Value]) {
        for (value, number) in values.iter().zip(signature.first.0..) {
            self.numbered.insert(*value, Signature { first: Sequence(number), ..signature });
        }
    }

    /// Was it acknowledged?
    #[must_use]
    pub fn is_acked(&self, value: Value) -> bool {
        self.acked_values.contains(&value)
    }

    /// A record is settled behind all others.
    fn check_producer(&mut self, offset: Offset, value: Value) {
        self.ended.extend(self.markers.get(&value).copied());
        let Some(signature) = self.numbered.get(&value).copied() else { return };
        let newest = self.newest.entry(signature.id).or_insert(signature);
        let before = std::mem::replace(newest, (*newest).max(signature));
        if let Some(first) = self.settled.iter().position(|(settled, _)| *settled == value) {
            let evidence = format!("{value:?} of {signature:?} stands at {first} and at {offset}");
            self.broken(Invariant::EachRecordOnce, evidence);
        } else if signature < before {
            let evidence = format!("{signature:?} stands at {offset}, behind {before:?}");
            self.broken(Invariant::ProducerOrder, evidence);
        }
    }

    /// What stood at and after `end` is lost by a fault that the topic's durability does not cover.
    pub fn loss_admitted(&mut self, end: Offset) {
        self.settled.truncate(end.0 as usize);
        self.settled_under.truncate(end.0 as usize);
        self.acked.retain(|offset, _| *offset < end);
    }

    /// A leader told a producer that its values, from `base` on, are kept.
    pub fn acked(&mut self, base: Offset, values: &[Value]) {
        self.events.acked += values.len() as u64;
        for (index, value) in values.iter().enumerate() {
            self.acked.insert(base.plus(index as u64), *value);
            self.acked_values.insert(*value);
        }
    }

    /// A broker begins to lead: it holds all that was settled under earlier leaderships. It may be late, and a later one have begun.
    pub fn leads(&mut self, life: Life, epoch: LeaderEpoch, disk: &Disk) {
        self.events.leaderships += 1;
        let lacks =
            |&at: &usize| self.settled_under[at] < epoch && disk.at(Offset(at as u64)) != Some(self.settled[at]);
        if let Some(at) = (0..self.settled.len()).find(lacks) {
            let (known, found) = (self.settled[at], disk.at(Offset(at as u64)));
            let evidence =
                format!("{life:?} leads epoch {epoch} with {found:?} at offset {at}, where {known:?} is settled");
            self.broken(Invariant::LeaderIsComplete, evidence);
        }
    }

    /// A leader wrote under its epoch.
    pub fn wrote(&mut self, life: Life, epoch: LeaderEpoch) {
        let writer = *self.writers.entry(epoch).or_insert(life);
        if writer != life {
            let evidence = format!("{writer:?} and {life:?} both wrote under epoch {epoch}");
            self.broken(Invariant::MonotonicEpochs, evidence);
        }
    }

    /// A replica cut its log, and with it records that it knew to be settled.
    pub fn settled_cut(&mut self, life: Life, records: u64) {
        let evidence = format!("{life:?} cut {records} settled records");
        self.broken(Invariant::NothingSettledIsCut, evidence);
    }

    /// All that was acknowledged stands on this disk, whose broker leads at the end.
    pub fn check_acked(&mut self, invariant: Invariant, broker: BrokerId, disk: &Disk) {
        let lost = self.acked.iter().find(|(offset, value)| disk.at(**offset).map(|found| found.0) != Some(**value));
        if let Some((offset, value)) = lost {
            let evidence =
                format!("{value:?} was acknowledged at {offset}, broker {broker} holds {:?} there", disk.at(*offset));
            self.broken(invariant, evidence);
        }
    }

    /// The disks of all replicas at the end.
    pub fn check_replicas<'a>(&mut self, disks: impl Iterator<Item = (BrokerId, &'a Disk)>) {
        for (broker, disk) in disks {
            let mut before: Option<(Offset, LeaderEpoch)> = None;
            for batch in disk.batches() {
                let (next, epoch) = before.unwrap_or((Offset::ZERO, LeaderEpoch(0)));
                if batch.base != next {
                    let evidence = format!("broker {broker}: {batch:?} follows offset {next}");
                    self.broken(Invariant::ContiguousOffsets, evidence);
                }
                if batch.epoch < epoch {
                    let evidence = format!("broker {broker}: {batch:?} follows epoch {epoch}");
                    self.broken(Invariant::MonotonicEpochs, evidence);
                }
                before = Some((batch.next(), batch.epoch));
            }
            let differs = (0..self.settled.len()).find(|&at| disk.at(Offset(at as u64)) != Some(self.settled[at]));
            if let Some(at) = differs {
                let (known, found) = (self.settled[at], disk.at(Offset(at as u64)));
                let evidence = format!("broker {broker} holds {found:?} at offset {at}, where {known:?} is settled");
                self.broken(Invariant::ReplicasByteIdentical, evidence);
            }
        }
    }
}
