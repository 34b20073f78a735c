//! An idempotent producer on a network that loses, doubles and delays what it sends: it numbers its batches, sends again in their order what it
//! heard nothing of, and begins another epoch now and then. Knows nothing of brokers' rules.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;
use tidelog_protocol::records::{Attributes, BatchHeader};
use tidelog_protocol::{BrokerId, LeaderEpoch, Offset, ProducerEpoch, ProducerId, Sequence, Timestamp};
use tidelog_replication::{Outcome, Word};

use super::disk::Value;
use super::node::Process;
use super::world::World;

/// Batches that may be under way at once.
const IN_FLIGHT_MAX: usize = 5;
/// Copies that the network keeps for later.
const STRAY_MAX: usize = 8;

/// Who numbered a batch, and how.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Signature {
    /// The producer.
    pub id: ProducerId,
    /// Its epoch.
    pub epoch: ProducerEpoch,
    /// The number of the first record.
    pub first: Sequence,
}

/// What a batch is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Records outside any transaction.
    Plain,
    /// Records of a transaction.
    Transactional,
    /// How a transaction ended.
    Marker(Outcome),
}

/// A batch that a producer wants written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Request {
    /// Whose it is.
    pub signature: Signature,
    /// What it is.
    pub kind: Kind,
    /// Its records.
    pub values: Arc<[Value]>,
}

impl Request {
    /// Its header, before a leader stamped it.
    #[must_use]
    pub fn header(&self) -> BatchHeader {
        header((Some(self.signature), self.kind, self.values.len()), Offset::ZERO, None)
    }
}

/// The header of a batch of so many records, by whomever it is.
#[must_use]
pub fn header(
    (signature, kind, records): (Option<Signature>, Kind, usize),
    base_offset: Offset,
    leader_epoch: Option<LeaderEpoch>,
) -> BatchHeader {
    let nobody = Signature { id: ProducerId::NONE, epoch: ProducerEpoch::NONE, first: Sequence::NONE };
    let Signature { id, epoch, first } = signature.unwrap_or(nobody);
    let attributes = match kind {
        Kind::Plain => Attributes::default(),
        Kind::Transactional => Attributes::default().transactional(),
        Kind::Marker(_) => Attributes::default().transactional().control(),
    };
    BatchHeader {
        base_offset,
        batch_length: 0,
        leader_epoch,
        crc: 0,
        attributes,
        last_offset_delta: records as u32 - 1,
        base_timestamp: Timestamp(1),
        max_timestamp: Timestamp(1),
        producer_id: id,
        producer_epoch: epoch,
        base_sequence: first,
        record_count: records as u32,
    }
}

/// The producer.
#[derive(Clone, Debug)]
pub struct NumberingProducer {
    id: ProducerId,
    epoch: ProducerEpoch,
    next: Sequence,
    /// Sent and not known to be kept, in order.
    waiting: VecDeque<Request>,
    /// On their way for longer than the producer waits; some of an epoch that is over.
    stray: Vec<Request>,
}

impl NumberingProducer {
    /// One that nobody has heard of.
    #[must_use]
    pub const fn new(id: i64) -> Self {
        let (id, epoch, next) = (ProducerId(id), ProducerEpoch(0), Sequence(0));
        Self { id, epoch, next, waiting: VecDeque::new(), stray: Vec::new() }
    }

    /// Does something: it depends on chance what.
    pub fn act(&mut self, world: &mut World, rng: &mut Rng) {
        if rng.u32(..4) > 0 {
            self.hear(world);
        }
        if rng.u32(..100) == 0 {
            // What it was to send is given up, wherever it is: a later copy must not come behind what the new epoch wrote.
            self.epoch = ProducerEpoch(self.epoch.0 + 1);
            self.next = Sequence(0);
            self.stray.extend(self.waiting.drain(..));
        }
        if self.waiting.len() < IN_FLIGHT_MAX && rng.bool() {
            self.begin(world, rng.u64(1..4));
        }
        let leading: Vec<BrokerId> = leading(world).collect();
        if leading.is_empty() {
            return;
        }
        let to = leading[rng.usize(..leading.len())];
        let mut sent: Vec<Request> = self.waiting.iter().cloned().collect();
        match rng.u32(..6) {
            // Overtaken on the way, or lost.
            0 => rng.shuffle(&mut sent),
            1 => sent.truncate(rng.usize(..=sent.len())),
            2 => sent.reverse(),
            _ => {}
        }
        for request in sent {
            world.produce_numbered(to, &request);
            if self.stray.len() < STRAY_MAX && rng.u32(..8) == 0 {
                self.stray.push(request);
            }
        }
        while !self.stray.is_empty() && rng.u32(..3) == 0 {
            let late = self.stray.swap_remove(rng.usize(..self.stray.len()));
            world.produce_numbered(to, &late);
        }
    }

    /// Sends what it still waits for, now that nothing is in the way. True once all of it is kept.
    pub fn finish(&mut self, world: &mut World, to: BrokerId) -> bool {
        self.hear(world);
        for request in &self.waiting {
            world.produce_numbered(to, request);
        }
        self.waiting.is_empty()
    }

    /// What it waits for, for those who ask why.
    #[must_use]
    pub const fn waiting(&self) -> &VecDeque<Request> {
        &self.waiting
    }

    fn begin(&mut self, world: &mut World, records: u64) {
        let signature = Signature { id: self.id, epoch: self.epoch, first: self.next };
        let values: Arc<[Value]> = world.fresh_values(records).into();
        self.next = Sequence(self.next.0 + records as i32);
        world.checks.numbered(signature, &values);
        self.waiting.push_back(Request { signature, kind: Kind::Plain, values });
    }

    /// Hears of what was acknowledged.
    fn hear(&mut self, world: &World) {
        while self.waiting.front().is_some_and(|oldest| world.checks.is_acked(oldest.values[0])) {
            self.waiting.pop_front();
        }
    }
}

/// All who believe to lead, the controller's view aside.
pub(super) fn leading(world: &World) -> impl Iterator<Item = BrokerId> {
    let leads = |broker: &BrokerId| world.process(*broker).is_some_and(|process| Process::leads(process).is_some());
    world.brokers().into_iter().filter(leads)
}

impl World {
    /// Values that no record had before.
    pub fn fresh_values(&mut self, records: u64) -> Vec<Value> {
        let values = (0..records).map(|at| Value(self.next_value + at)).collect();
        self.next_value += records;
        values
    }

    /// A batch of an idempotent producer arrives at `broker`.
    pub fn produce_numbered(&mut self, broker: BrokerId, request: &Request) {
        let _ = self.produce_with_word(broker, request, None);
    }

    /// The same with what the coordinator of its transaction said. Gives what that is to be asked.
    pub fn produce_with_word(&mut self, broker: BrokerId, request: &Request, word: Option<Word>) -> Option<Word> {
        if self.is_paused(broker) {
            return None;
        }
        self.with_process(broker, |process, disk, cx| process.produce_numbered((request, word), disk, cx)).flatten()
    }
}
