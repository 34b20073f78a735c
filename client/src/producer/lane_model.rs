//! A lane against a model of a leader that writes, refuses and vanishes as drawn at random; and the lane's rules one by one. No
//! clock, no socket: the model tells the lane the time.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use proptest::prelude::*;
use tidelog_protocol::records::{BatchBuilder, Compression, RawBatch, Scratch};
use tidelog_protocol::{ErrorCode, Offset, PartitionId, Timestamp, WireError};

use super::delivery::Completion;
use super::lane::{Content, Lane, LinkTerms, NoRoom, Rules, Step};
use super::memory::Memory;
use super::{Receipt, RecordRef, SendError};
use crate::ClientError;
use crate::address::Address;
use crate::backoff::Backoff;

const RULES: Rules = Rules {
    max_in_flight: 3,
    linger: Duration::ZERO,
    delivery_timeout: Duration::from_secs(10),
    compression: Compression::None,
    idempotent: false,
    acknowledged: true,
    transaction: None,
};

/// Bytes of a batch of one of the model's records.
const BATCH_OF_ONE: usize = 61 + 11;

/// A lane, the time, and the frames on their way to the leader.
struct Model {
    lane: Lane,
    memory: Arc<Memory>,
    now: Instant,
    wire: VecDeque<(u64, Bytes)>,
    /// What the leader wrote, in its order.
    log: Vec<u32>,
    sent: Vec<(u32, Arc<Completion>)>,
    /// What the cluster tells of the largest batch.
    limit: usize,
}

impl Model {
    fn new(rules: Rules) -> Self {
        Self {
            lane: Lane::new(rules),
            memory: Memory::new(1 << 20),
            now: Instant::now(),
            wire: VecDeque::new(),
            log: Vec::new(),
            sent: Vec::new(),
            limit: 1 << 20,
        }
    }

    /// Appends the next number; batches hold three.
    fn append(&mut self) {
        let number = self.sent.len() as u32;
        let value = number.to_le_bytes();
        let record = RecordRef::new(None, &value);
        let (completion, _) = match self.lane.append(Timestamp(0), &record) {
            Ok(appended) => appended,
            Err(NoRoom::Batch { .. }) => {
                let memory = self.memory.try_reserve(100).unwrap();
                self.lane.open(BatchBuilder::new(61 + 3 * 11), memory, self.now);
                self.lane.append(Timestamp(0), &record).unwrap()
            }
            Err(NoRoom::Never(error)) => panic!("{error}"),
        };
        self.sent.push((number, completion));
        self.drive();
    }

    /// Does what the lane says; a leader is always found.
    fn drive(&mut self) {
        while self.lane.begin_drive() {
            loop {
                match self.lane.step(self.now) {
                    Step::Idle => break,
                    Step::Recover => {
                        let (expired, next) = self.lane.expire(self.now, || ClientError::Closed);
                        expired.into_iter().for_each(|settled| drop(settled.tell()));
                        if next.is_some() {
                            let settled = self.lane.link(self.limit, LinkTerms::default());
                            settled.into_iter().for_each(|settled| drop(settled.tell()));
                        } else {
                            assert!(self.lane.rest());
                        }
                        break;
                    }
                    Step::Send { id, content, .. } => {
                        let bytes = match content {
                            Content::Filling(mut builder) => builder.finish(Compression::None).unwrap(),
                            Content::Sealed(bytes) => bytes,
                            content => panic!("{content:?} cannot be sent"),
                        };
                        self.wire.push_back((id, bytes));
                    }
                }
            }
        }
    }

    fn write(&mut self, bytes: &Bytes) {
        let mut scratch = Scratch::new();
        for record in RawBatch::parse(bytes).unwrap().records(&mut scratch).unwrap() {
            self.log.push(u32::from_le_bytes(record.unwrap().value.unwrap().try_into().unwrap()));
        }
    }

    fn answer(&mut self, id: u64, bytes: Bytes, answer: Result<Receipt, ClientError>) {
        if let Some(settled) = self.lane.answered(id, answer, bytes, self.now) {
            settled.tell();
        }
        self.drive();
    }

    /// The leader writes the oldest frame and says so.
    fn acknowledge(&mut self) {
        if let Some((id, bytes)) = self.wire.pop_front() {
            self.write(&bytes);
            self.answer(id, bytes, Ok(receipt()));
        }
    }

    /// The leader writes `written` of the frames and refuses, for the moment, all that were sent behind them before it was heard.
    fn refuse(&mut self, written: usize) {
        for _ in 0..written {
            self.acknowledge();
        }
        let frames: Vec<_> = self.wire.drain(..).collect();
        for (id, bytes) in frames {
            self.answer(id, bytes, Err(refused(ErrorCode::Overloaded)));
        }
    }

    /// As [`Model::acknowledge`], by a leader that refuses what is larger than it says.
    fn judge(&mut self) {
        if self.wire.front().is_some_and(|(_, bytes)| bytes.len() > self.limit) {
            let (id, bytes) = self.wire.pop_front().unwrap();
            self.answer(id, bytes, Err(refused(ErrorCode::TooLarge)));
        } else {
            self.acknowledge();
        }
    }

    /// The connection breaks after the leader wrote `written` of the frames; no answer comes.
    fn disconnect(&mut self, written: usize) {
        let lost: Vec<_> = self.wire.drain(..).collect();
        for (_, bytes) in lost.iter().take(written) {
            self.write(bytes);
        }
        for (id, bytes) in lost {
            self.answer(id, bytes, Err(disconnected()));
        }
    }
}

fn receipt() -> Receipt {
    Receipt {
        partition: PartitionId(0),
        offset: Some(Offset(0)),
        timestamp: Timestamp(0),
        leader_epoch: None,
        replicas_written: 1,
        replicas_flushed: 1,
        maybe_twice: false,
    }
}

fn disconnected() -> ClientError {
    let address = Address { host: "model".into(), port: 1 };
    ClientError::Disconnected { address, reason: "as drawn".into() }
}

fn refused(code: ErrorCode) -> ClientError {
    ClientError::Broker(WireError::new(code, "as drawn"))
}

/// What may happen next.
#[derive(Clone, Copy, Debug)]
enum Event {
    Append,
    Acknowledge,
    Disconnect {
        written: usize,
    },
    /// The leader writes so many and refuses all that were sent behind them.
    Refuse {
        written: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        5 => Just(Event::Append),
        2 => Just(Event::Acknowledge),
        1 => (0..4usize).prop_map(|written| Event::Disconnect { written }),
        1 => (0..4usize).prop_map(|written| Event::Refuse { written }),
    ]
}

proptest! {
    #[test]
    fn whatever_breaks_no_record_is_lost_and_first_copies_stand_in_order(
        events in prop::collection::vec(event(), 1..200)
    ) {
        let mut model = Model::new(RULES);
        for event in events {
            match event {
                Event::Append => model.append(),
                Event::Acknowledge => model.acknowledge(),
                Event::Disconnect { written } => model.disconnect(written),
                Event::Refuse { written } => model.refuse(written),
            }
            prop_assert!(model.wire.len() <= RULES.max_in_flight);
        }
        while !model.wire.is_empty() {
            model.acknowledge();
        }
        let mut first_copies = Vec::new();
        for number in &model.log {
            if first_copies.last().is_none_or(|last| number > last) {
                first_copies.push(*number);
            }
        }
        let all: Vec<u32> = (0..model.sent.len() as u32).collect();
        prop_assert_eq!(first_copies, all, "log: {:?}", model.log);
        prop_assert!(model.lane.unsettled().is_empty());
        prop_assert_eq!(model.memory.in_use(), 0);
    }
}

fn outcome(model: &Model, number: usize) -> Option<Result<Receipt, SendError>> {
    super::Delivery::new(Arc::clone(&model.sent[number].1), 0).now()
}

#[test]
fn the_first_record_leaves_at_once_and_those_after_it_together() {
    let mut model = Model::new(RULES);
    for _ in 0..3 {
        model.append();
    }
    assert_eq!(model.wire.len(), 1);
    model.acknowledge();
    assert_eq!(model.log, [0]);
    model.acknowledge();
    assert_eq!(model.log, [0, 1, 2]);
}

#[test]
fn a_full_batch_leaves_though_others_are_in_flight() {
    let mut model = Model::new(RULES);
    for _ in 0..20 {
        model.append();
    }
    assert_eq!(model.wire.len(), RULES.max_in_flight);
}

#[test]
fn with_a_linger_time_a_batch_leaves_when_told() {
    let mut model = Model::new(Rules { linger: Duration::from_secs(1), ..RULES });
    model.append();
    assert!(model.wire.is_empty());
    model.lane.let_leave(Some(7));
    model.drive();
    assert!(model.wire.is_empty(), "that was another batch");
    model.lane.let_leave(Some(0));
    model.drive();
    assert_eq!(model.wire.len(), 1);
}

#[test]
fn after_a_failure_one_batch_goes_alone_until_one_succeeds() {
    let mut model = Model::new(RULES);
    for _ in 0..20 {
        model.append();
    }
    model.disconnect(0);
    assert_eq!(model.wire.len(), 1);
    model.acknowledge();
    assert_eq!(model.wire.len(), RULES.max_in_flight);
}

#[test]
fn nothing_leaves_before_the_fate_of_all_in_flight_is_known() {
    let mut model = Model::new(RULES);
    for _ in 0..7 {
        model.append();
    }
    let (first, bytes) = model.wire.pop_front().unwrap();
    let waiting = model.wire.len();
    assert!(waiting >= 1);
    model.answer(first, bytes, Err(refused(ErrorCode::Overloaded)));
    assert_eq!(model.wire.len(), waiting);
}

#[test]
fn time_is_over_for_a_batch_that_left_and_for_one_that_did_not() {
    let mut model = Model::new(Rules { max_in_flight: 1, ..RULES });
    for _ in 0..5 {
        model.append();
    }
    model.now += RULES.delivery_timeout;
    model.disconnect(1);
    assert!(matches!(outcome(&model, 0), Some(Err(SendError::Unknown { .. }))));
    assert!(matches!(outcome(&model, 4), Some(Err(SendError::Expired { .. }))));
    assert_eq!(model.memory.in_use(), 0);
    model.append();
    model.acknowledge();
    assert_eq!(outcome(&model, 5), Some(Ok(receipt())), "the lane goes on");
}

#[test]
fn a_final_refusal_fails_its_batch_and_the_next_goes_on() {
    let mut model = Model::new(RULES);
    model.append();
    model.append();
    let (id, bytes) = model.wire.pop_front().unwrap();
    model.answer(id, bytes, Err(refused(ErrorCode::InvalidBatch)));
    assert!(matches!(outcome(&model, 0), Some(Err(SendError::Rejected(_)))));
    model.acknowledge();
    assert_eq!(outcome(&model, 1), Some(Ok(receipt())));
}

#[test]
fn a_record_whose_first_answer_was_lost_is_said_to_stand_twice_perhaps() {
    let mut model = Model::new(RULES);
    model.append();
    model.disconnect(1);
    model.acknowledge();
    assert_eq!(outcome(&model, 0), Some(Ok(Receipt { maybe_twice: true, ..receipt() })));
    model.append();
    model.acknowledge();
    assert_eq!(outcome(&model, 1), Some(Ok(receipt())));
}

#[test]
fn what_a_deposed_leader_has_written_may_stand_twice() {
    let mut model = Model::new(RULES);
    model.append();
    let (id, bytes) = model.wire.pop_front().unwrap();
    model.answer(id, bytes, Err(refused(ErrorCode::LeadershipEnded)));
    model.acknowledge();
    assert_eq!(outcome(&model, 0), Some(Ok(Receipt { maybe_twice: true, ..receipt() })));
}

#[test]
fn a_record_that_an_earlier_try_may_have_written_is_never_called_refused() {
    let mut model = Model::new(RULES);
    model.append();
    model.disconnect(1);
    let (id, bytes) = model.wire.pop_front().unwrap();
    model.answer(id, bytes, Err(refused(ErrorCode::InvalidBatch)));
    assert_eq!(model.log, [0]);
    assert!(matches!(outcome(&model, 0), Some(Err(SendError::Unknown { .. }))));
}

#[test]
fn what_a_failed_disk_may_hold_is_unknown() {
    let mut model = Model::new(RULES);
    model.append();
    let (id, bytes) = model.wire.pop_front().unwrap();
    model.answer(id, bytes, Err(refused(ErrorCode::StorageFailed)));
    assert!(matches!(outcome(&model, 0), Some(Err(SendError::Unknown { .. }))));
    // What comes after the failure is not even tried.
    model.append();
    let (id, bytes) = model.wire.pop_front().unwrap();
    model.answer(id, bytes, Err(refused(ErrorCode::OutOfService)));
    assert!(matches!(outcome(&model, 1), Some(Err(SendError::Rejected(_)))));
}

#[test]
fn under_a_lowered_limit_records_go_on_in_smaller_batches_in_order() {
    let mut model = Model::new(Rules { max_in_flight: 1, ..RULES });
    for _ in 0..20 {
        model.append();
    }
    model.limit = BATCH_OF_ONE + 11;
    while !model.wire.is_empty() {
        model.judge();
    }
    assert_eq!(model.log, (0..20).collect::<Vec<_>>());
    for number in 0..20 {
        assert!(matches!(outcome(&model, number), Some(Ok(_))), "{number}");
    }
    assert!(model.lane.unsettled().is_empty());
    assert_eq!(model.memory.in_use(), 0);
}

#[test]
fn a_record_over_the_lowered_limit_fails_with_both_sizes() {
    let mut model = Model::new(RULES);
    for _ in 0..4 {
        model.append();
    }
    model.limit = BATCH_OF_ONE - 1;
    while !model.wire.is_empty() {
        model.judge();
    }
    for number in 0..4 {
        let Some(Err(SendError::TooLarge { bytes, limit })) = outcome(&model, number) else { panic!("{number}") };
        assert_eq!((bytes, limit), (BATCH_OF_ONE, BATCH_OF_ONE - 1));
    }
    assert_eq!(model.memory.in_use(), 0);
    model.limit = 1 << 20;
    model.append();
    model.judge();
    assert_eq!(outcome(&model, 4), Some(Ok(receipt())), "the lane goes on");
}

#[test]
fn a_batch_refused_as_too_large_within_the_limit_told_is_halved_until_it_fits_or_is_refused_alone() {
    let mut model = Model::new(RULES);
    for _ in 0..4 {
        model.append();
    }
    // The leader keeps to another limit than the cluster tells.
    let mut refusals = 0;
    while let Some((id, bytes)) = model.wire.pop_front() {
        refusals += 1;
        assert!(refusals < 20, "each refusal makes batches smaller");
        model.answer(id, bytes, Err(refused(ErrorCode::TooLarge)));
    }
    for number in 0..4 {
        assert!(matches!(outcome(&model, number), Some(Err(SendError::Rejected(_)))), "{number}");
    }
}

/// A lane without acknowledgements that a leader was found for, and one record that went to the socket.
fn unacknowledged() -> Model {
    let mut model = Model::new(Rules { acknowledged: false, ..RULES });
    model.append();
    model.acknowledge();
    model
}

/// What was written is refused. How long it takes until the leader is looked for, where it is.
fn looked_for_after(model: &mut Model, code: ErrorCode) -> Option<Duration> {
    model.lane.refused(refused(code), model.now);
    model.lane.refused(refused(code), model.now);
    if !model.lane.begin_drive() {
        return None;
    }
    assert!(matches!(model.lane.step(model.now), Step::Recover));
    let (pause, stale) = model.lane.recovery(Backoff::DEFAULT);
    assert_eq!(stale, Some(model.now), "what was known of it before is not to be trusted");
    model.lane.link(model.limit, LinkTerms::default());
    Some(pause)
}

#[test]
fn without_acknowledgement_a_refusal_has_the_leader_looked_for_where_it_is_in_doubt() {
    for code in [ErrorCode::NotLeader, ErrorCode::FencedEpoch, ErrorCode::UnknownTopic, ErrorCode::TooLarge] {
        let mut model = unacknowledged();
        assert!(looked_for_after(&mut model, code).is_some(), "{code:?}");
        model.append();
        assert_eq!(model.wire.len(), 1, "the next goes to the next leader");
    }
    let mut model = unacknowledged();
    assert_eq!(looked_for_after(&mut model, ErrorCode::KeyMissing), None, "it fares no better elsewhere");
}

#[test]
fn without_acknowledgement_a_leader_that_refuses_everything_is_looked_for_ever_more_slowly() {
    let mut model = unacknowledged();
    for failures in 1..5 {
        let pause = looked_for_after(&mut model, ErrorCode::NotLeader).unwrap();
        let bound = Duration::from_millis(25 << failures);
        assert!(pause <= bound && pause >= bound / 2, "{pause:?} after {failures}");
        model.append();
        model.acknowledge();
    }
    // Nothing was refused for long: that what is written arrives is believed again.
    model.now += Duration::from_secs(3);
    model.append();
    model.acknowledge();
    assert!(looked_for_after(&mut model, ErrorCode::NotLeader).unwrap() <= Duration::from_millis(50));
}
