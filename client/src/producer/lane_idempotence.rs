//! An idempotent lane against the rules of a real leader, over a network that loses requests and answers, delivers copies late and out of order,
//! while leaders change, lose what was not acknowledged, and forget who was idle. Each record that is acknowledged stands once, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use tidelog_protocol::messages::Acks;
use tidelog_protocol::records::{BatchBuilder, BatchHeader, Compression, RawBatch, Scratch};
use tidelog_protocol::{
    BrokerId, Durability, ErrorCode, LeaderEpoch, Offset, PartitionEpoch, PartitionId, ProducerEpoch, ProducerId,
    Timestamp, WireError,
};
use tidelog_replication::{
    Admission, AppendedRange, Effects, EpochHistory, Leader, Leadership, Membership, PartitionOffsets, ProduceTerms,
    Producers,
};

use super::delivery::Completion;
use super::lane::{Content, Lane, LinkTerms, NoRoom, Rules, Step, Wants, Who};
use super::memory::Memory;
use super::{Receipt, RecordRef, SendError};
use crate::ClientError;
use crate::address::Address;

const RULES: Rules = Rules {
    max_in_flight: 5,
    linger: Duration::ZERO,
    delivery_timeout: Duration::from_secs(10),
    compression: Compression::None,
    idempotent: true,
    acknowledged: true,
    transaction: None,
};

/// The leader of one partition and its log.
struct Broker {
    epoch: u32,
    leader: Leader<()>,
    effects: Effects<()>,
    log: Vec<(BatchHeader, Bytes)>,
    producers: Producers,
    /// Batches of a request may have this many bytes.
    limit: usize,
}

fn leader(epoch: u32, end: Offset) -> Leader<()> {
    let broker = BrokerId(1);
    let membership = Membership { replicas: vec![broker], in_sync: vec![broker], partition_epoch: PartitionEpoch(0) };
    let leadership = Leadership {
        leader: broker,
        epoch: LeaderEpoch(epoch),
        membership,
        lag_max_ms: 1_000,
        min_in_sync: 1,
        durability: Durability::Written,
    };
    Leader::new(PartitionOffsets::recovered(Offset(0), end, end, end), EpochHistory::default(), &leadership)
}

impl Broker {
    fn new() -> Self {
        let (leader, producers) = (leader(1, Offset(0)), Producers::new(Offset(0)));
        Self { epoch: 1, leader, effects: Effects::new(), log: Vec::new(), producers, limit: usize::MAX }
    }

    fn produce(&mut self, epoch: u32, bytes: &Bytes) -> Result<Offset, WireError> {
        if bytes.len() > self.limit {
            return Err(WireError::new(ErrorCode::TooLarge, "as drawn"));
        }
        let header = *RawBatch::parse(bytes).unwrap().header();
        let terms = ProduceTerms { leader_epoch: Some(LeaderEpoch(epoch)), acks: Acks::All, expected_log_end: None };
        let admission = self.leader.admit_batches(&terms, &[header], &self.producers)?;
        let base_offset = match admission {
            Admission::Duplicate { base_offset, .. } => base_offset,
            Admission::AskCoordinator { .. } => panic!("nothing of this is transactional"),
            Admission::Append => {
                let base_offset = self.leader.offsets().log_end();
                let header = BatchHeader { base_offset, ..header };
                let range = AppendedRange { base_offset, next_offset: header.next_offset(), bytes: 0 };
                self.leader.sequenced(&[header]);
                self.leader.appended(range, Acks::All, ());
                self.producers.note(&header);
                self.leader.written(header.next_offset(), &mut self.effects);
                self.effects.clear();
                self.log.push((header, bytes.clone()));
                base_offset
            }
        };
        Ok(base_offset)
    }

    /// Another leads, whose log lacks up to `lost` batches at the end, but none with an offset below `acked`.
    fn change(&mut self, lost: usize, acked: Offset) {
        for _ in 0..lost {
            if self.log.last().is_some_and(|(header, _)| header.base_offset >= acked) {
                self.log.pop();
            }
        }
        self.epoch += 1;
        let end = self.log.last().map_or(Offset(0), |(header, _)| header.next_offset());
        self.leader = leader(self.epoch, end);
        self.producers = Producers::new(Offset(0));
        self.log.iter().for_each(|(header, _)| self.producers.note(header));
    }

    fn records(&self) -> Vec<u32> {
        let mut scratch = Scratch::new();
        let mut found = Vec::new();
        for (_, bytes) in &self.log {
            for record in RawBatch::parse(bytes).unwrap().records(&mut scratch).unwrap() {
                found.push(u32::from_le_bytes(record.unwrap().value.unwrap().try_into().unwrap()));
            }
        }
        found
    }
}

struct Frame {
    id: u64,
    epoch: u32,
    bytes: Bytes,
}

struct Model {
    lane: Lane,
    memory: Arc<Memory>,
    now: Instant,
    broker: Broker,
    wire: VecDeque<Frame>,
    /// Copies that are still under way though nobody waits for their answers.
    late: Vec<(u32, Bytes)>,
    sent: Vec<(Arc<Completion>, u32)>,
    linked: u32,
    acked: Offset,
    ids: i64,
    renewed: usize,
}

impl Model {
    fn new() -> Self {
        Self {
            lane: Lane::new(RULES),
            memory: Memory::new(1 << 20),
            now: Instant::now(),
            broker: Broker::new(),
            wire: VecDeque::new(),
            late: Vec::new(),
            sent: Vec::new(),
            linked: 0,
            acked: Offset(0),
            ids: 0,
            renewed: 0,
        }
    }

    fn append(&mut self) {
        let value = (self.sent.len() as u32).to_le_bytes();
        let record = RecordRef::new(None, &value);
        let appended = match self.lane.append(Timestamp(0), &record) {
            Ok(appended) => appended,
            Err(NoRoom::Batch { .. }) => {
                let memory = self.memory.try_reserve(100).unwrap();
                self.lane.open(BatchBuilder::new(61 + 3 * 11), memory, self.now);
                self.lane.append(Timestamp(0), &record).unwrap()
            }
            Err(NoRoom::Never(error)) => panic!("{error}"),
        };
        self.sent.push(appended);
        self.drive();
    }

    fn drive(&mut self) {
        while self.lane.begin_drive() {
            loop {
                match self.lane.step(self.now) {
                    Step::Idle => break,
                    Step::Recover => {
                        let (expired, _) = self.lane.expire(self.now, || ClientError::Closed);
                        expired.into_iter().for_each(|settled| drop(settled.tell()));
                        let identity = match self.lane.wants() {
                            None => None,
                            Some(Wants::Identity) => {
                                self.ids += 1;
                                Some(Who { id: ProducerId(self.ids), epoch: ProducerEpoch(0) })
                            }
                            Some(Wants::NextEpoch(who)) => {
                                self.renewed += 1;
                                Some(Who { epoch: ProducerEpoch(who.epoch.0 + 1), ..who })
                            }
                        };
                        self.linked = self.broker.epoch;
                        let limit = self.broker.limit.min(1 << 20);
                        let settled = self.lane.link(limit, LinkTerms { tells_twice: true, identity });
                        settled.into_iter().for_each(|settled| drop(settled.tell()));
                        break;
                    }
                    Step::Send { id, content, .. } => {
                        let bytes = match content {
                            Content::Filling(mut builder) => builder.finish(Compression::None).unwrap(),
                            Content::Sealed(bytes) => bytes,
                            content => panic!("{content:?} cannot be sent"),
                        };
                        self.wire.push_back(Frame { id, epoch: self.linked, bytes });
                    }
                }
            }
        }
    }

    fn answer(&mut self, id: u64, bytes: Bytes, answer: Result<Offset, ClientError>) {
        let receipt = answer.map(|offset| Receipt {
            partition: PartitionId(0),
            offset: Some(offset),
            timestamp: Timestamp(0),
            leader_epoch: None,
            replicas_written: 1,
            replicas_flushed: 1,
            maybe_twice: false,
        });
        if let Some(settled) = self.lane.answered(id, receipt, bytes, self.now) {
            settled.tell();
        }
        self.drive();
    }

    /// The leader judges the oldest frame and is heard.
    fn serve(&mut self) {
        let Some(Frame { id, epoch, bytes }) = self.wire.pop_front() else { return };
        let judged = self.broker.produce(epoch, &bytes);
        if let Ok(base) = judged {
            let records = RawBatch::parse(&bytes).unwrap().header().record_count;
            self.acked = self.acked.max(base.plus(records.into()));
        }
        self.answer(id, bytes, judged.map_err(ClientError::Broker));
    }

    fn refuse(&mut self, code: ErrorCode) {
        if let Some(Frame { id, bytes, .. }) = self.wire.pop_front() {
            self.answer(id, bytes, Err(ClientError::Broker(WireError::new(code, "as drawn"))));
        }
    }

    /// The connection breaks: the leader has judged `judged` of the frames, some of the others arrive later, if ever.
    fn disconnect(&mut self, judged: usize) {
        let lost: Vec<_> = self.wire.drain(..).collect();
        for (at, frame) in lost.iter().enumerate() {
            if at < judged {
                let _ = self.broker.produce(frame.epoch, &frame.bytes);
            } else {
                self.late.push((frame.epoch, frame.bytes.clone()));
            }
        }
        for Frame { id, bytes, .. } in lost {
            let address = Address { host: "model".into(), port: 1 };
            self.answer(id, bytes, Err(ClientError::Disconnected { address, reason: "as drawn".into() }));
        }
    }

    fn arrive_late(&mut self, which: usize) {
        if !self.late.is_empty() {
            let (epoch, bytes) = self.late.swap_remove(which % self.late.len());
            let _ = self.broker.produce(epoch, &bytes);
        }
    }

    fn is_idle(&self) -> bool {
        self.lane.unsettled().is_empty() && self.wire.is_empty()
    }

    fn play(&mut self, event: Event) {
        match event {
            Event::Append => self.append(),
            Event::Serve => self.serve(),
            Event::Overload => self.refuse(ErrorCode::Overloaded),
            Event::Refuse => self.refuse(ErrorCode::InvalidBatch),
            Event::Disconnect { judged } => self.disconnect(judged),
            Event::Late { which } => self.arrive_late(which),
            Event::Change { lost, judged } => {
                let frames = self.wire.len();
                self.disconnect(judged.min(frames));
                self.broker.change(lost, self.acked);
                self.drive();
            }
            Event::Forget { proven } if self.is_idle() => {
                let end = self.broker.producers.end();
                self.broker.producers = if proven { Producers::new(end) } else { Producers::unknown(end) };
                // What forgets takes longer than any copy is under way.
                self.late.clear();
            }
            Event::Forget { .. } => {}
            Event::Wait => {
                self.now += Duration::from_secs(4);
                self.drive();
            }
            Event::Limit { limit } => self.broker.limit = limit,
        }
    }

    fn outcome(&self, record: usize) -> Option<Result<Receipt, SendError>> {
        let (completion, index) = &self.sent[record];
        super::Delivery::new(Arc::clone(completion), *index).now()
    }

    /// Serves until nothing waits, then holds the log against what was told.
    fn finish(mut self) -> Finished {
        self.broker.limit = usize::MAX;
        for _ in 0..10_000 {
            if self.wire.is_empty() {
                break;
            }
            self.serve();
        }
        assert!(self.is_idle(), "everything has a fate");
        // Copies that come when all is over change nothing.
        while !self.late.is_empty() {
            self.arrive_late(0);
        }
        let log = self.broker.records();
        let rising = log.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(rising, "each once, in the order of sending: {log:?}");
        let mut finished = Finished { acked: 0, unknown: 0, refused: 0, renewed: self.renewed };
        for record in 0..self.sent.len() {
            let stands = log.binary_search(&(record as u32)).is_ok();
            match self.outcome(record).unwrap() {
                Ok(receipt) => {
                    assert!(stands && !receipt.maybe_twice, "{record} was acknowledged: {log:?}");
                    finished.acked += 1;
                }
                Err(error) if error.may_be_written() => finished.unknown += 1,
                Err(error) => {
                    assert!(!stands, "{record} was refused ({error}) and stands: {log:?}");
                    finished.refused += 1;
                }
            }
        }
        assert_eq!(self.memory.in_use(), 0);
        finished
    }
}

struct Finished {
    acked: usize,
    unknown: usize,
    refused: usize,
    renewed: usize,
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Append,
    Serve,
    Overload,
    Refuse,
    Disconnect { judged: usize },
    Late { which: usize },
    Change { lost: usize, judged: usize },
    Forget { proven: bool },
    Wait,
    Limit { limit: usize },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        16 => Just(Event::Append),
        10 => Just(Event::Serve),
        1 => Just(Event::Overload),
        1 => Just(Event::Refuse),
        2 => (0..6usize).prop_map(|judged| Event::Disconnect { judged }),
        2 => (0..9usize).prop_map(|which| Event::Late { which }),
        1 => (0..6usize, 0..6usize).prop_map(|(lost, judged)| Event::Change { lost, judged }),
        2 => any::<bool>().prop_map(|proven| Event::Forget { proven }),
        1 => Just(Event::Wait),
        1 => prop::sample::select(vec![usize::MAX, 90, 75, 70]).prop_map(|limit| Event::Limit { limit }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
    #[test]
    fn whatever_breaks_each_acknowledged_record_stands_once_and_in_order(
        events in prop::collection::vec(event(), 1..250)
    ) {
        let mut model = Model::new();
        events.into_iter().for_each(|event| model.play(event));
        let _ = model.finish();
    }
}

#[test]
fn a_producer_that_was_forgotten_goes_on_under_another_epoch_without_an_error() {
    for proven in [true, false] {
        let mut model = Model::new();
        for _ in 0..7 {
            model.append();
        }
        while !model.wire.is_empty() {
            model.serve();
        }
        model.play(Event::Forget { proven });
        for _ in 0..7 {
            model.append();
        }
        let finished = model.finish();
        assert_eq!((finished.acked, finished.unknown, finished.refused), (14, 0, 0));
        assert_eq!(finished.renewed, 1);
    }
}

#[test]
fn of_a_batch_that_may_stand_where_its_producer_was_forgotten_the_fate_is_unknown_unless_it_is_proven() {
    for (proven, acked, unknown) in [(true, 3, 0), (false, 2, 1)] {
        let mut model = Model::new();
        model.append();
        model.serve();
        model.play(Event::Forget { proven });
        model.append();
        // Nobody heard whether it was taken.
        model.disconnect(1);
        model.append();
        let finished = model.finish();
        assert_eq!((finished.acked, finished.unknown), (acked, unknown), "proven: {proven}");
    }
}

#[test]
fn records_that_were_acknowledged_and_then_lost_with_their_leader_do_not_stop_the_producer() {
    let mut model = Model::new();
    for _ in 0..6 {
        model.append();
        model.serve();
    }
    // An unclean election.
    model.acked = Offset(0);
    model.broker.change(2, Offset(0));
    for _ in 0..3 {
        model.append();
    }
    while !model.wire.is_empty() {
        model.serve();
    }
    assert_eq!(model.renewed, 1);
    assert_eq!(model.broker.records(), [0, 1, 2, 3, 6, 7, 8]);
}

#[test]
fn a_batch_that_was_written_and_comes_again_gets_its_first_offset() {
    let mut model = Model::new();
    model.append();
    model.disconnect(1);
    model.serve();
    assert_eq!(model.outcome(0).unwrap().unwrap().offset, Some(Offset(0)));
    assert!(!model.outcome(0).unwrap().unwrap().maybe_twice);
    assert_eq!(model.broker.records(), [0]);
}

#[test]
fn what_was_refused_for_good_leaves_no_gap_behind() {
    let mut model = Model::new();
    for _ in 0..12 {
        model.append();
    }
    assert!(model.wire.len() > 2);
    model.refuse(ErrorCode::InvalidBatch);
    let finished = model.finish();
    assert_eq!((finished.acked + finished.refused, finished.unknown), (12, 0));
    assert!(finished.refused > 0);
}

#[test]
fn without_an_identity_records_are_not_numbered_and_may_stand_twice() {
    let mut model = Model::new();
    model.lane = Lane::new(Rules { idempotent: false, ..RULES });
    model.append();
    model.disconnect(1);
    model.serve();
    assert!(model.outcome(0).unwrap().unwrap().maybe_twice);
    assert_eq!(model.broker.records(), [0, 0]);
}
