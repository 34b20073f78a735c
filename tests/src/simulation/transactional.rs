//! A producer with transactions and their coordinator, the real machine, on a network that loses, doubles and delays what they say: batches come
//! late, words come when a marker has overtaken them, markers come again when the next transaction is open. Knows nothing of brokers' rules.

use std::collections::VecDeque;
use std::sync::Arc;

use fastrand::Rng;
use tidelog_coordination::transactions::{
    Init, PendingMarkers, TransactionCommand, TransactionLimits, TransactionReply, Transactions,
};
use tidelog_protocol::messages::{
    AbortTransactionRequest, AddToTransactionRequest, DescribeTransactionRequest, EndTransactionRequest,
    ProducerIdentity, TopicPartitions,
};
use tidelog_protocol::{BrokerId, LeaderEpoch, Monotonic, PartitionId, ProducerId, Sequence, Timestamp};
use tidelog_replication::{Outcome, Word};

use super::disk::Value;
use super::node::Process;
use super::producer::{Kind, Request, Signature, leading};
use super::world::World;

/// Batches that may be under way at once.
const IN_FLIGHT_MAX: usize = 5;
/// Copies that the network keeps for later.
const STRAY_MAX: usize = 8;
/// Markers that may come again.
const MARKERS_MAX: usize = 8;
const ID: &str = "tx";

/// What a leader asked the coordinator.
#[derive(Clone, Debug)]
struct Question {
    broker: BrokerId,
    leadership: Option<LeaderEpoch>,
    request: Request,
    word: Word,
    /// What the coordinator said, if it was reached.
    answer: Option<bool>,
}

/// The producer, its coordinator, and what is on the way between all of them.
#[derive(Clone, Debug)]
pub struct TransactionalProducer {
    coordinator: Transactions,
    identity: ProducerIdentity,
    /// It must ask who it is first.
    is_lost: bool,
    next: Sequence,
    /// Of the open transaction, sent and not known to be kept, in order.
    waiting: VecDeque<Request>,
    stray: Vec<Request>,
    questions: Vec<Question>,
    old_markers: Vec<(Word, Outcome)>,
}

impl TransactionalProducer {
    /// One that was just told who it is.
    ///
    /// # Panics
    /// Where the coordinator does not say.
    #[must_use]
    pub fn new(world: &mut World) -> Self {
        let identity = ProducerIdentity { producer_id: ProducerId(100), epoch: tidelog_protocol::ProducerEpoch(0) };
        let mut producer = Self {
            coordinator: Transactions::new(TransactionLimits::default()),
            identity,
            is_lost: true,
            next: Sequence(0),
            waiting: VecDeque::new(),
            stray: Vec::new(),
            questions: Vec::new(),
            old_markers: Vec::new(),
        };
        producer.ask_who(None, world);
        assert!(!producer.is_lost, "a new id is told who it is");
        producer
    }

    /// Does something: it depends on chance what.
    pub fn act(&mut self, world: &mut World, rng: &mut Rng) {
        self.answer(world, |_| rng.u32(..3) > 0);
        self.tell_markers(world, rng);
        if self.is_lost {
            self.ask_who(Some(self.identity.clone()), world);
        }
        if rng.u32(..4) > 0 {
            self.hear(world);
            self.hear_refusals(world);
        }
        match rng.u32(..24) {
            0..3 if self.waiting.is_empty() && self.next > Sequence(0) => self.end(true, world),
            // What is under way comes too late.
            3 => self.end(false, world),
            4 if !self.is_lost => self.operator_aborts(world),
            _ => {}
        }
        if !self.is_lost && self.waiting.len() < IN_FLIGHT_MAX && rng.bool() {
            self.begin(world, rng.u64(1..4));
        }
        let leading: Vec<BrokerId> = leading(world).collect();
        if leading.is_empty() {
            return;
        }
        let to = leading[rng.usize(..leading.len())];
        let mut sent: Vec<Request> = self.waiting.iter().cloned().collect();
        match rng.u32(..6) {
            0 => rng.shuffle(&mut sent),
            1 => sent.truncate(rng.usize(..=sent.len())),
            _ => {}
        }
        for request in sent {
            self.send(world, to, &request);
            if self.stray.len() < STRAY_MAX && rng.u32(..6) == 0 {
                self.stray.push(request);
            }
        }
        while !self.stray.is_empty() && rng.u32(..3) == 0 {
            let late = self.stray.swap_remove(rng.usize(..self.stray.len()));
            self.send(world, to, &late);
        }
    }

    /// Ends what is open, now that nothing is in the way. True once its markers stand, and those of all before.
    pub fn finish(&mut self, world: &mut World, to: BrokerId) -> bool {
        self.answer(world, |_| true);
        for (word, outcome, pending) in self.pending() {
            world.write_marker(to, (word, outcome));
            self.confirm(world, word, pending);
        }
        self.hear(world);
        self.hear_refusals(world);
        if self.is_lost {
            self.ask_who(Some(self.identity.clone()), world);
        }
        for request in self.waiting.clone() {
            self.send(world, to, &request);
        }
        if self.waiting.is_empty() && self.next > Sequence(0) {
            self.end(true, world);
        }
        self.waiting.is_empty() && self.next == Sequence(0) && !self.is_lost && self.pending().is_empty()
    }

    fn begin(&mut self, world: &mut World, records: u64) {
        let ProducerIdentity { producer_id: id, epoch } = self.identity;
        let signature = Signature { id, epoch, first: self.next };
        let values: Arc<[Value]> = world.fresh_values(records).into();
        self.next = Sequence(self.next.0 + records as i32);
        world.checks.numbered(signature, &values);
        self.waiting.push_back(Request { signature, kind: Kind::Transactional, values });
    }

    fn send(&mut self, world: &mut World, broker: BrokerId, request: &Request) {
        let Some(word) = world.produce_with_word(broker, request, None) else { return };
        // Several batches of one transaction ask once.
        let is_asked = |question: &Question| question.broker == broker && question.word == word;
        if !self.questions.iter().any(is_asked) {
            let leadership = world.process(broker).and_then(Process::leads);
            self.questions.push(Question { broker, leadership, request: request.clone(), word, answer: None });
        }
    }

    /// Questions reach the coordinator, and its answers the leader, as far as `arrives` lets them.
    fn answer(&mut self, world: &mut World, mut arrives: impl FnMut(&Question) -> bool) {
        for mut question in std::mem::take(&mut self.questions) {
            if question.answer.is_none() && arrives(&question) {
                question.answer = Some(self.add(world, question.word));
            }
            if question.answer.is_none() || !arrives(&question) {
                self.questions.push(question);
                continue;
            }
            let is_same = world.process(question.broker).and_then(Process::leads) == question.leadership;
            if question.answer == Some(true) && is_same {
                let _ = world.produce_with_word(question.broker, &question.request, Some(question.word));
            }
        }
    }

    fn add(&mut self, world: &World, word: Word) -> bool {
        let Some(topic) = world.control().image().topics().next() else { return false };
        let partitions = vec![TopicPartitions { topic_id: topic.id, partitions: vec![PartitionId(0)] }];
        let identity = ProducerIdentity { producer_id: word.producer, epoch: word.epoch };
        let request = AddToTransactionRequest {
            transactional_id: ID.into(),
            identity,
            partitions,
            groups: Vec::new(),
            only_asks: false,
        };
        self.ask(world, &TransactionCommand::Add(request)).is_some()
    }

    fn tell_markers(&mut self, world: &mut World, rng: &mut Rng) {
        let leading: Vec<BrokerId> = leading(world).collect();
        if leading.is_empty() {
            return;
        }
        for (word, outcome, pending) in self.pending() {
            if rng.bool() {
                world.write_marker(leading[rng.usize(..leading.len())], (word, outcome));
            }
            if self.old_markers.last() != Some(&(word, outcome)) {
                self.old_markers.push((word, outcome));
            }
            self.confirm(world, word, pending);
        }
        let excess = self.old_markers.len().saturating_sub(MARKERS_MAX);
        self.old_markers.drain(..excess);
        if !self.old_markers.is_empty() && rng.u32(..6) == 0 {
            let again = self.old_markers[rng.usize(..self.old_markers.len())];
            world.write_marker(leading[rng.usize(..leading.len())], again);
        }
    }

    fn pending(&self) -> Vec<(Word, Outcome, PendingMarkers)> {
        let of = |pending: PendingMarkers| {
            let ProducerIdentity { producer_id: producer, epoch } = pending.markers.identity;
            let outcome = if pending.markers.commit { Outcome::Committed } else { Outcome::Aborted };
            (Word { producer, epoch }, outcome, pending)
        };
        self.coordinator.pending_markers().into_iter().map(of).collect()
    }

    fn confirm(&mut self, world: &World, word: Word, pending: PendingMarkers) {
        if world.checks.is_confirmed(word) {
            let PendingMarkers { transactional_id, markers: written } = pending;
            let noted = self.ask(world, &TransactionCommand::MarkersWritten { transactional_id, written });
            assert_eq!(noted, Some(TransactionReply::Noted));
        }
    }

    fn end(&mut self, commit: bool, world: &mut World) {
        let request = EndTransactionRequest { transactional_id: ID.into(), identity: self.identity.clone(), commit };
        match self.ask(world, &TransactionCommand::End { request, fresh_id: None }) {
            Some(TransactionReply::Identity(identity)) => {
                self.decided(commit, world);
                self.goes_on_as(identity);
            }
            // Its epoch may be over: aborted by somebody else. Or the one before is being ended still, and nothing of this one is anywhere.
            _ => self.is_lost = true,
        }
    }

    fn operator_aborts(&mut self, world: &mut World) {
        let before = self.coordinator.pending_markers().len();
        let request = AbortTransactionRequest { transactional_id: ID.into() };
        let aborted = self.ask(world, &TransactionCommand::Abort(request)) == Some(TransactionReply::Aborted);
        if aborted && self.coordinator.pending_markers().len() > before {
            self.decided(false, world);
        }
    }

    fn ask_who(&mut self, current: Option<ProducerIdentity>, world: &mut World) {
        let init = |fresh_id| {
            let (transactional_id, current) = (ID.into(), current.clone());
            TransactionCommand::Init(Init { transactional_id, timeout_ms: 0, current, fresh_id })
        };
        let reply = match self.ask(world, &init(None)) {
            Some(TransactionReply::FreshIdNeeded) => self.ask(world, &init(Some(ProducerId(100)))),
            reply => reply,
        };
        match reply {
            Some(TransactionReply::Identity(identity)) => {
                self.is_lost = false;
                self.goes_on_as(identity);
            }
            Some(TransactionReply::AbortedFirst) => self.decided(false, world),
            _ => {}
        }
    }

    fn decided(&self, commit: bool, world: &mut World) {
        let ProducerIdentity { producer_id, epoch } = self.identity;
        let outcome = if commit { Outcome::Committed } else { Outcome::Aborted };
        world.checks.decided((producer_id, epoch), outcome);
    }

    /// What it was to send under another epoch is given up, wherever it is.
    fn goes_on_as(&mut self, identity: ProducerIdentity) {
        if identity != self.identity {
            self.identity = identity;
            self.next = Sequence(0);
            self.stray.extend(self.waiting.drain(..));
        }
    }

    fn hear(&mut self, world: &World) {
        while self.waiting.front().is_some_and(|oldest| world.checks.is_acked(oldest.values[0])) {
            self.waiting.pop_front();
        }
    }

    /// What is under way is refused once its transaction was ended by somebody else, by the leader or by the coordinator that it asks.
    fn hear_refusals(&mut self, world: &World) {
        let describe = DescribeTransactionRequest { transactional_id: ID.into() };
        let described = self.ask(world, &TransactionCommand::Describe(describe));
        let is_over = |described: &TransactionReply| matches!(described, TransactionReply::Described(it) if it.identity != self.identity);
        self.is_lost |= !self.waiting.is_empty() && described.as_ref().is_some_and(is_over);
    }

    /// What the coordinator decides is stored at once. `None` where it refuses.
    fn ask(&mut self, world: &World, command: &TransactionCommand) -> Option<TransactionReply> {
        let now = world.now();
        let decided =
            self.coordinator.handle(command, world.control().image(), Monotonic(now), Timestamp(now as i64)).ok()?;
        decided.records.iter().for_each(|record| self.coordinator.replay(record));
        Some(decided.reply)
    }
}

impl World {
    /// A marker arrives at `broker`.
    pub fn write_marker(&mut self, broker: BrokerId, marker: (Word, Outcome)) {
        let value = self.fresh_values(1)[0];
        if !self.is_paused(broker) {
            self.with_process(broker, |process, disk, cx| process.write_marker(marker, value, disk, cx));
        }
    }
}
