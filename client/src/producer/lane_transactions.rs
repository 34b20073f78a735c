//! A lane whose records belong to a transaction: under which numbers they leave, and that one failure is the end of it all. No clock, no socket.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_protocol::records::{BatchBuilder, BatchHeader, Compression, RawBatch};
use tidelog_protocol::{
    ErrorCode, LeaderEpoch, Offset, PartitionId, ProducerEpoch, ProducerId, Sequence, Timestamp, WireError,
};

use super::delivery::Completion;
use super::lane::{Belonging, Content, Lane, LinkTerms, NoRoom, Rules, Settled, Step, Wants, Who};
use super::memory::Memory;
use super::{Receipt, RecordRef, SendError};
use crate::backoff::Backoff;
use crate::{Address, ClientError};

const WHO: Who = Who { id: ProducerId(7), epoch: ProducerEpoch(4) };
const RULES: Rules = Rules {
    max_in_flight: 5,
    linger: Duration::ZERO,
    delivery_timeout: Duration::from_secs(10),
    compression: Compression::None,
    idempotent: false,
    acknowledged: true,
    transaction: Some(Belonging::To(WHO)),
};

struct World {
    lane: Lane,
    memory: Arc<Memory>,
    now: Instant,
    /// What left and was not answered.
    wire: Vec<(u64, Bytes)>,
    settled: Vec<Option<SendError>>,
    /// Who the producer is, where the lane has to be told; `None` before that is known.
    told: Option<Who>,
}

impl World {
    fn new() -> Self {
        Self::belonging(Belonging::To(WHO))
    }

    fn belonging(belonging: Belonging) -> Self {
        let lane = Lane::new(Rules { transaction: Some(belonging), ..RULES });
        let (memory, now) = (Memory::new(1 << 20), Instant::now());
        Self { lane, memory, now, wire: Vec::new(), settled: Vec::new(), told: None }
    }

    /// One record in a batch of its own.
    fn send(&mut self) -> Arc<Completion> {
        let record = RecordRef::new(None, b"value");
        self.lane.open(BatchBuilder::new(1 << 10), self.memory.try_reserve(1 << 10).unwrap(), self.now);
        let appended = self.lane.append(Timestamp(0), &record);
        let (completion, _) = appended.unwrap_or_else(|error: NoRoom| panic!("{error:?}"));
        self.lane.let_leave(None);
        self.drive();
        completion
    }

    fn tell(&mut self, settled: impl IntoIterator<Item = Settled>) {
        for settled in settled {
            self.settled.push(settled.failure().cloned());
            settled.tell();
        }
    }

    /// A leader is always found.
    fn drive(&mut self) {
        while self.lane.begin_drive() {
            loop {
                match self.lane.step(self.now) {
                    Step::Idle => break,
                    Step::Recover => {
                        let (expired, next) = self.lane.expire(self.now, || ClientError::Closed);
                        self.tell(expired);
                        let wants = self.lane.wants();
                        if wants.is_some() && self.told.is_none() {
                            break;
                        }
                        if next.is_some() {
                            let identity = wants.and(self.told);
                            let terms = LinkTerms { tells_twice: true, identity };
                            let settled = self.lane.link(1 << 20, terms);
                            self.tell(settled);
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
                        self.wire.push((id, bytes));
                    }
                }
            }
        }
    }

    /// The oldest on the wire is answered, as the shell does it.
    fn answer(&mut self, answer: Result<Receipt, ClientError>) {
        let (id, bytes) = self.wire.remove(0);
        let settled = self.lane.answered(id, answer, bytes, self.now);
        let undone = settled.as_ref().is_some_and(|settled| settled.failure().is_some());
        self.tell(settled);
        if undone {
            let given_up = self.lane.abandon();
            self.tell(given_up);
        }
        self.drive();
    }

    fn refuse(&mut self, code: ErrorCode) {
        self.answer(Err(WireError::new(code, "no").into()));
    }

    fn header(&self, at: usize) -> BatchHeader {
        *RawBatch::parse(&self.wire[at].1).unwrap().header()
    }

    fn failures(&self) -> Vec<&SendError> {
        self.settled.iter().flatten().collect()
    }
}

fn receipt() -> Receipt {
    Receipt {
        partition: PartitionId(0),
        offset: Some(Offset(0)),
        timestamp: Timestamp(0),
        leader_epoch: Some(LeaderEpoch(0)),
        replicas_written: 1,
        replicas_flushed: 1,
        maybe_twice: false,
    }
}

#[test]
fn batches_of_a_transaction_say_so_and_are_numbered_from_0_under_its_identity() {
    let mut world = World::new();
    let _completions: Vec<_> = (0..3).map(|_| world.send()).collect();
    for at in 0..3 {
        let header = world.header(at);
        assert!(header.attributes.is_transactional());
        assert_eq!((header.producer_id, header.producer_epoch), (WHO.id, WHO.epoch));
        assert_eq!(header.base_sequence, Sequence(at as i32));
    }
}

#[test]
fn records_are_taken_before_the_transaction_has_an_identity_and_leave_under_it_once_it_has() {
    let mut world = World::belonging(Belonging::ToBeTold);
    let _completions: Vec<_> = (0..3).map(|_| world.send()).collect();
    assert!(world.wire.is_empty(), "nothing leaves as nobody's");
    assert_eq!(world.lane.wants(), Some(Wants::Identity));
    world.told = Some(WHO);
    let settled = world.lane.link(1 << 20, LinkTerms { tells_twice: true, identity: Some(WHO) });
    assert!(settled.is_empty());
    world.drive();
    for at in 0..3 {
        let header = world.header(at);
        assert!(header.attributes.is_transactional());
        assert_eq!((header.producer_id, header.producer_epoch), (WHO.id, WHO.epoch));
        assert_eq!(header.base_sequence, Sequence(at as i32));
    }
    // What fails from here on keeps its numbers, as in any transaction.
    world.refuse(ErrorCode::ConcurrentTransactions);
    world.refuse(ErrorCode::OutOfOrderSequence);
    world.refuse(ErrorCode::OutOfOrderSequence);
    assert_eq!((world.lane.wants(), world.header(0).base_sequence), (None, Sequence(0)));
}

#[test]
fn what_was_not_answered_or_has_to_wait_goes_out_again_under_the_same_number() {
    let mut world = World::new();
    let _completions: Vec<_> = (0..2).map(|_| world.send()).collect();
    // The transaction before is still being ended; what comes behind its first batch has nothing to stand behind.
    world.refuse(ErrorCode::ConcurrentTransactions);
    let (pause, doubts) = world.lane.recovery(Backoff::DEFAULT);
    assert!(pause < Duration::from_millis(10) && !pause.is_zero(), "it takes a moment: {pause:?}");
    assert_eq!(doubts, None, "nobody doubts the leader");
    world.refuse(ErrorCode::OutOfOrderSequence);
    assert_eq!(world.header(0).base_sequence, Sequence(0));
    world.answer(Err(ClientError::Disconnected {
        address: Address { host: "broker".into(), port: 9092 },
        reason: "cut".into(),
    }));
    assert!(world.lane.recovery(Backoff::DEFAULT).1.is_some());
    assert_eq!(world.header(0).base_sequence, Sequence(0));
    world.answer(Ok(receipt()));
    assert_eq!(world.header(0).base_sequence, Sequence(1));
    world.answer(Ok(receipt()));
    assert_eq!(world.failures(), Vec::<&SendError>::new());
}

#[test]
fn one_batch_that_is_refused_gives_up_all_and_takes_no_more() {
    let mut world = World::new();
    let completions: Vec<_> = (0..7).map(|_| world.send()).collect();
    assert_eq!(world.wire.len(), 5);
    world.answer(Ok(receipt()));
    world.refuse(ErrorCode::InvalidBatch);
    // What waited is given up at once, what is in flight with its answer, whatever that is.
    assert!(world.lane.is_abandoned());
    let waited = world.settled.len();
    world.refuse(ErrorCode::OutOfOrderSequence);
    world.refuse(ErrorCode::OutOfOrderSequence);
    while !world.wire.is_empty() {
        world.answer(Ok(receipt()));
    }
    assert!(waited >= 3 && world.settled.len() == completions.len(), "{:?}", world.settled);
    let failures = world.failures();
    assert!(matches!(failures[0], SendError::Rejected(error) if error.code == ErrorCode::InvalidBatch));
    assert!(failures[1..].iter().all(|failure| **failure == SendError::Undone), "{failures:?}");
    assert_eq!(world.memory.in_use(), 0, "its memory is free");
    assert!(!world.lane.begin_drive());
}

#[test]
fn a_leader_that_misses_what_it_acknowledged_or_knows_a_later_epoch_ends_it() {
    for code in [ErrorCode::OutOfOrderSequence, ErrorCode::ProducerFenced, ErrorCode::UnknownProducer] {
        let mut world = World::new();
        let _completions: Vec<_> = (0..2).map(|_| world.send()).collect();
        world.answer(Ok(receipt()));
        world.refuse(code);
        assert!(world.lane.is_abandoned(), "{code}");
        let failures = world.failures();
        assert!(matches!(failures[..], [SendError::Rejected(error)] if error.code == code), "{failures:?}");
    }
}

#[test]
fn an_abandoned_lane_settles_everything_and_stays_silent() {
    let mut world = World::new();
    let _completions: Vec<_> = (0..6).map(|_| world.send()).collect();
    let given_up = world.lane.abandon();
    world.tell(given_up);
    assert_eq!(world.failures(), [&SendError::Undone], "five are in flight");
    for _ in 0..5 {
        world.refuse(ErrorCode::Overloaded);
    }
    assert_eq!(world.failures().len(), 6);
    assert!(world.lane.unsettled().is_empty() && !world.lane.begin_drive());
}
