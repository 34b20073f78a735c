//! What a leader makes of the batches of idempotent producers, one rule at a time. Knows nothing of its inside.

#![allow(clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use proptest::prelude::*;
use tidelog_protocol::messages::Acks;
use tidelog_protocol::records::{Attributes, BatchHeader};
use tidelog_protocol::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch, ProducerEpoch, ProducerId, Sequence, Timestamp, WireError,
};
use tidelog_replication::producers::{PRODUCERS_MAX, SILENCE_MS_MIN};
use tidelog_replication::{
    AckFailure, Admission, AppendedRange, Durability, Effects, EpochHistory, Leader, Leadership, Membership, Outcome,
    PartitionOffsets, ProduceTerms, Producers, Refusal, SequenceFault,
};

const ME: BrokerId = BrokerId(1);
const ALL: ProduceTerms = ProduceTerms { leader_epoch: None, acks: Acks::All, expected_log_end: None };

/// A batch of producer `id`.
fn batch(id: i64, epoch: i16, first: i32, records: u32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(0),
        batch_length: 49,
        leader_epoch: None,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: records - 1,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        producer_id: ProducerId(id),
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(first),
        record_count: records,
    }
}

/// A leader, alone, and what its log knows.
struct Partition {
    leader: Leader<&'static str>,
    effects: Effects<&'static str>,
    producers: Producers,
    unwritten: Vec<BatchHeader>,
}

impl Partition {
    fn new(durability: Durability) -> Self {
        Self::knowing(Producers::new(Offset(0)), durability)
    }

    fn knowing(producers: Producers, durability: Durability) -> Self {
        let leadership = Leadership {
            leader: ME,
            epoch: LeaderEpoch(1),
            membership: Membership { replicas: vec![ME], in_sync: vec![ME], partition_epoch: PartitionEpoch(0) },
            lag_max_ms: 1_000,
            min_in_sync: 1,
            durability,
        };
        let end = producers.end();
        let offsets = PartitionOffsets::recovered(Offset(0), end, end, end);
        let leader = Leader::new(offsets, EpochHistory::default(), &leadership);
        Self { leader, effects: Effects::new(), producers, unwritten: Vec::new() }
    }

    fn judge(&self, batches: &[BatchHeader]) -> Result<Admission, SequenceFault> {
        self.leader.admit_batches(&ALL, batches, &self.producers).map_err(|refusal| match refusal {
            Refusal::Sequence { fault, .. } => fault,
            other => panic!("{other:?}"),
        })
    }

    /// Admits and gives offsets, as one request.
    fn append(&mut self, batches: &[BatchHeader], ticket: &'static str) {
        assert_eq!(self.judge(batches), Ok(Admission::Append), "{ticket}");
        self.leader.sequenced(batches);
        let base_offset = self.leader.offsets().log_end();
        let mut next = base_offset;
        for header in batches {
            self.unwritten.push(BatchHeader { base_offset: next, ..*header });
            next = next.plus(u64::from(header.last_offset_delta) + 1);
        }
        self.leader.appended(AppendedRange { base_offset, next_offset: next, bytes: 0 }, Acks::All, ticket);
    }

    fn write(&mut self) -> Vec<&'static str> {
        self.unwritten.drain(..).for_each(|header| self.producers.note(&header));
        self.leader.written(self.leader.offsets().log_end(), &mut self.effects);
        self.acks()
    }

    fn flush(&mut self) -> Vec<&'static str> {
        self.leader.flushed(self.leader.offsets().written_end(), &mut self.effects);
        self.acks()
    }

    fn repeat(&mut self, batches: &[BatchHeader], acks: Acks, ticket: &'static str) -> Vec<&'static str> {
        let Ok(Admission::Duplicate { base_offset, next_offset }) = self.judge(batches) else {
            panic!("{:?}", self.judge(batches))
        };
        self.leader.duplicated(AppendedRange { base_offset, next_offset, bytes: 0 }, acks, ticket, &mut self.effects);
        self.acks()
    }

    fn acks(&mut self) -> Vec<&'static str> {
        let acks = self.effects.released.iter().map(|released| released.ticket).collect();
        self.effects.clear();
        acks
    }
}

fn gap(found: i32, expected: i32) -> Result<Admission, SequenceFault> {
    let producer = ProducerId(1);
    Err(SequenceFault::Gap { producer, found: Sequence(found), expected: Sequence(expected) })
}

fn duplicate(base: u64, next: u64) -> Result<Admission, SequenceFault> {
    Ok(Admission::Duplicate { base_offset: Offset(base), next_offset: Offset(next) })
}

#[test]
fn what_comes_twice_is_answered_as_the_first_time_and_what_is_missing_is_waited_for() {
    let mut partition = Partition::new(Durability::Written);
    partition.append(&[batch(-1, -1, -1, 4)], "nobody's");
    partition.append(&[batch(1, 0, 0, 3)], "first");
    partition.append(&[batch(1, 0, 3, 2)], "second");
    assert_eq!(partition.write(), ["nobody's", "first", "second"]);
    assert_eq!(partition.judge(&[batch(1, 0, 0, 3)]), duplicate(4, 7));
    assert_eq!(partition.judge(&[batch(1, 0, 3, 2)]), duplicate(7, 9));
    assert_eq!(partition.judge(&[batch(1, 0, 1, 1)]), duplicate(5, 6), "a part of a batch, too");
    assert_eq!(partition.judge(&[batch(1, 0, 7, 1)]), gap(7, 5));
    assert_eq!(partition.judge(&[batch(1, 0, 5, 1)]), Ok(Admission::Append));
}

#[test]
fn only_as_many_batches_are_remembered_as_may_be_under_way() {
    let mut partition = Partition::new(Durability::Written);
    for first in 0..7 {
        partition.append(&[batch(1, 0, first, 1)], "one");
        partition.write();
    }
    assert_eq!(partition.judge(&[batch(1, 0, 2, 1)]), duplicate(2, 3));
    let forgotten = SequenceFault::Forgotten { producer: ProducerId(1), found: Sequence(1) };
    assert_eq!(partition.judge(&[batch(1, 0, 1, 1)]), Err(forgotten), "it stands there, nobody knows where");
    let partly = SequenceFault::Forgotten { producer: ProducerId(1), found: Sequence(6) };
    assert_eq!(partition.judge(&[batch(1, 0, 6, 2)]), Err(partly));
}

#[test]
fn a_duplicate_waits_for_the_same_promise_as_the_first() {
    let mut partition = Partition::new(Durability::Flushed);
    partition.append(&[batch(1, 0, 0, 3)], "first");
    partition.append(&[batch(2, 0, 0, 1)], "other");
    assert!(partition.write().is_empty());
    assert_eq!(partition.repeat(&[batch(1, 0, 0, 3)], Acks::Leader, "leader"), ["leader"]);
    assert!(partition.repeat(&[batch(1, 0, 0, 3)], Acks::All, "again").is_empty());
    assert_eq!(partition.flush(), ["first", "again", "other"]);
    assert_eq!(partition.repeat(&[batch(1, 0, 0, 3)], Acks::All, "late"), ["late"]);
}

#[test]
fn what_is_not_written_yet_counts_and_what_is_abandoned_does_not() {
    let mut partition = Partition::new(Durability::Written);
    partition.append(&[batch(1, 0, 0, 3)], "first");
    assert_eq!(partition.judge(&[batch(1, 0, 0, 3)]), duplicate(0, 3));
    assert_eq!(partition.judge(&[batch(1, 0, 3, 1)]), Ok(Admission::Append));
    partition.leader.append_abandoned(AckFailure::StorageFull, &mut partition.effects);
    partition.unwritten.clear();
    assert_eq!(partition.judge(&[batch(1, 0, 0, 3)]), Ok(Admission::Append), "its numbers are free again");
    let unknown = SequenceFault::Unknown { producer: ProducerId(1), never_wrote: true };
    assert_eq!(partition.judge(&[batch(1, 0, 3, 1)]), Err(unknown));
}

#[test]
fn the_batches_of_a_request_count_one_after_the_other_and_all_or_nothing() {
    let mut partition = Partition::new(Durability::Written);
    let three = [batch(1, 0, 0, 2), batch(2, 0, 0, 1), batch(1, 0, 2, 2)];
    partition.append(&three, "three");
    partition.write();
    assert_eq!(partition.judge(&three), duplicate(0, 5));
    assert_eq!(partition.judge(&[batch(1, 0, 2, 2), batch(1, 0, 4, 1)]), Err(SequenceFault::Mixed));
    assert_eq!(partition.judge(&[batch(1, 0, 4, 1), batch(1, 0, 6, 1)]), gap(6, 5));
    assert_eq!(partition.judge(&[batch(1, 0, 4, 1), batch(1, 1, 0, 1)]), Ok(Admission::Append));
}

#[test]
fn a_new_epoch_begins_at_zero_and_fences_the_old_one() {
    let mut partition = Partition::new(Durability::Written);
    partition.append(&[batch(1, 3, 0, 2)], "first");
    partition.write();
    assert_eq!(partition.judge(&[batch(1, 4, 2, 1)]), gap(2, 0));
    partition.append(&[batch(1, 4, 0, 1)], "next epoch");
    let current = ProducerEpoch(4);
    let fenced = Err(SequenceFault::Fenced { producer: ProducerId(1), epoch: ProducerEpoch(3), current });
    assert_eq!(partition.judge(&[batch(1, 3, 2, 1)]), fenced);
    partition.write();
    assert_eq!(partition.judge(&[batch(1, 3, 0, 2)]), fenced, "also what was written under it");
}

#[test]
fn sequences_go_on_from_zero_after_the_largest() {
    let mut partition = Partition::new(Durability::Written);
    let mut header = batch(1, 0, i32::MAX - 1, 4);
    header.base_offset = Offset(0);
    partition.producers.note(&header);
    let mut partition = Partition::knowing(partition.producers, Durability::Written);
    assert_eq!(partition.judge(&[batch(1, 0, i32::MAX - 1, 4)]), duplicate(0, 4));
    assert_eq!(partition.judge(&[batch(1, 0, 0, 1)]), duplicate(2, 3), "in the middle of the batch");
    partition.append(&[batch(1, 0, 2, 1)], "behind the wrap");
}

#[test]
fn who_is_unknown_begins_at_zero_and_hears_whether_that_proves_anything() {
    let partition = Partition::new(Durability::Written);
    let code = |partition: &Partition, id| {
        let refusal = partition.leader.admit_batches(&ALL, &[batch(id, 2, 5, 1)], &partition.producers).unwrap_err();
        WireError::from(refusal).code
    };
    assert_eq!(code(&partition, 1), ErrorCode::ProducerNeverWrote);
    assert_eq!(partition.judge(&[batch(1, 2, 0, 1)]), Ok(Admission::Append));
    let forgetful = Partition::knowing(Producers::unknown(Offset(9)), Durability::Written);
    assert_eq!(code(&forgetful, 1), ErrorCode::UnknownProducer);
}

#[test]
fn silent_producers_are_forgotten_and_nobody_else() {
    let mut producers = Producers::new(Offset(0));
    let at = |id, first, offset| BatchHeader { base_offset: Offset(offset), ..batch(id, 0, first, 1) };
    producers.note(&at(1, 0, 0));
    producers.note(&at(2, 0, 1));
    producers.elapse(SILENCE_MS_MIN);
    producers.note(&at(3, 0, 2));
    assert_eq!(producers.forget(0, Offset(1)), 1, "what is not settled is needed still");
    assert_eq!(producers.forget(0, Offset(3)), 1);
    assert!(producers.standing(ProducerId(3)).is_some());
    let proofs = [1, 2, 3, 4].map(|id| producers.never_wrote(ProducerId(id)));
    assert_eq!(proofs, [false, false, false, true], "of whom something was forgotten nothing is proven");
    producers.elapse(SILENCE_MS_MIN - 1);
    assert_eq!(producers.forget(0, Offset(3)), 0, "nothing that may still be sent again");
}

/// A log that knows as many producers as it may, from 0 on, of each its first batch under this epoch, a millisecond after the other.
fn crowded(epoch: i16) -> Producers {
    let mut producers = Producers::new(Offset(0));
    for id in 0..PRODUCERS_MAX as i64 {
        producers.elapse(1);
        producers.note(&BatchHeader { base_offset: Offset(id as u64), ..batch(id, epoch, 0, 1) });
    }
    producers
}

const STRANGER: i64 = 1 << 40;

#[test]
fn where_all_have_a_later_epoch_new_producers_wait_and_are_told_when_there_is_room() {
    let mut partition = Partition::knowing(crowded(1), Durability::Written);
    let stranger = [batch(STRANGER, 0, 0, 1)];
    let room_in_ms = SILENCE_MS_MIN - (PRODUCERS_MAX as u64 - 1);
    assert_eq!(partition.producers.make_room(Offset::MAX), 0);
    assert_eq!(partition.judge(&stranger), Err(SequenceFault::TooMany { room_in_ms }));
    let told = WireError::from(partition.leader.admit_batches(&ALL, &stranger, &partition.producers).unwrap_err());
    assert_eq!((told.code, told.retry_after_ms), (ErrorCode::Overloaded, room_in_ms as u32));
    assert!(told.message.contains("room for another in 891 s"), "{told}");
    assert_eq!(partition.judge(&[batch(7, 1, 1, 1)]), Ok(Admission::Append), "those that are known go on");
    partition.producers.elapse(room_in_ms - 1);
    assert_eq!(partition.producers.make_room(Offset::MAX), 0);
    assert_eq!(partition.judge(&stranger), Err(SequenceFault::TooMany { room_in_ms: 1 }));
    partition.producers.elapse(1);
    assert_eq!(partition.producers.make_room(Offset::MAX), 1);
    assert_eq!(partition.judge(&stranger), Ok(Admission::Append));
}

#[test]
fn room_is_made_of_those_that_were_silent_for_longest_and_not_of_what_is_unsettled_open_or_fenced() {
    let mut producers = crowded(0);
    let mut end = PRODUCERS_MAX as u64;
    let mut next = |header| {
        end += 1;
        BatchHeader { base_offset: Offset(end - 1), ..header }
    };
    // The oldest: one that is heard of again, one of a later epoch, one with a transaction that is open, one with a marker.
    producers.elapse(1);
    producers.note(&next(batch(0, 0, 1, 1)));
    producers.note(&next(batch(1, 1, 0, 1)));
    producers.note(&next(BatchHeader { attributes: Attributes::default().transactional(), ..batch(2, 0, 1, 1) }));
    producers.note(&next(BatchHeader { attributes: Attributes::default().transactional(), ..batch(3, 0, 1, 1) }));
    producers.note_marker(&next(batch(3, 0, 0, 1)), Outcome::Committed);
    assert_eq!(producers.make_room(Offset(100)), 96, "only what is settled");
    assert_eq!(producers.make_room(Offset::MAX), PRODUCERS_MAX / 10);
    let known = |id| producers.standing(ProducerId(id)).is_some();
    assert_eq!(
        [0, 1, 2, 3, 4, 99, 100, 1_099, 1_100].map(known),
        [true, true, true, true, false, false, false, false, true]
    );
    // Those that came last are no better than others that fit.
    assert_eq!(producers.len(), PRODUCERS_MAX - 96 - PRODUCERS_MAX / 10);
}

/// Its producer may have lost the answer, and nothing in the log tells the batch from a new producer's: whoever might be it begins under another
/// epoch.
#[test]
fn a_first_batch_that_comes_again_never_stands_twice_however_many_are_new() {
    let mut partition = Partition::knowing(crowded(0), Durability::Written);
    let again = |epoch| batch(7, epoch, 0, 1);
    assert_eq!(partition.judge(&[again(0)]), duplicate(7, 8));
    assert!(matches!(partition.judge(&[batch(STRANGER, 0, 0, 1)]), Err(SequenceFault::TooMany { .. })));
    assert_eq!(partition.producers.make_room(Offset::MAX), PRODUCERS_MAX / 10);
    assert_eq!(partition.judge(&[batch(STRANGER, 0, 0, 1)]), Ok(Admission::Append), "there is room");
    let unknown = Err(SequenceFault::Unknown { producer: ProducerId(7), never_wrote: false });
    for restored in [false, true] {
        if restored {
            partition.producers = Producers::restored(&partition.producers.snapshot()).unwrap();
        }
        assert_eq!(partition.judge(&[again(0)]), unknown, "restored: {restored}");
        assert_eq!(partition.judge(&[batch(7, 0, 1, 1)]), unknown, "restored: {restored}");
        assert_eq!(partition.judge(&[again(1)]), Ok(Admission::Append), "restored: {restored}");
    }
    // Whoever hears of it from a leader, too.
    let mut told = Producers::new(Offset(0));
    assert!(told.adopt(&partition.producers.snapshot()));
    let told = Partition::knowing(told, Durability::Written);
    assert_eq!(told.judge(&[again(0)]), unknown);
}

#[test]
fn a_follower_that_nobody_asks_for_room_remembers_no_more_than_it_may_for_long() {
    for epoch in [0, 1] {
        let (mut follower, mut end) = (crowded(epoch), PRODUCERS_MAX as u64);
        for round in 1..=3 {
            follower.elapse(SILENCE_MS_MIN * u64::from(epoch == 1));
            for _ in 0..PRODUCERS_MAX {
                follower.note(&BatchHeader { base_offset: Offset(end), ..batch(end as i64, epoch, 0, 1) });
                end += 1;
            }
            assert!(follower.forget(7 * 86_400_000, Offset(end)) >= PRODUCERS_MAX, "round {round}");
            assert!(follower.len() <= PRODUCERS_MAX, "round {round}");
            assert_eq!(follower.forget(7 * 86_400_000, Offset(end)), 0, "as many as it may remember");
        }
    }
}

/// When a producer was heard of, and whether it left a transaction open.
fn heard() -> impl Strategy<Value = Vec<(u64, bool)>> {
    prop::collection::vec((0..2_000u64, prop::bool::weighted(0.2)), 1..40)
}

proptest! {
    #[test]
    fn as_many_are_forgotten_when_it_was_promised_and_not_before(heard in heard(), count in 1..40usize) {
        let mut producers = Producers::new(Offset(0));
        for (id, (later_ms, open)) in heard.iter().enumerate() {
            producers.elapse(*later_ms);
            let attributes = if *open { Attributes::default().transactional() } else { Attributes::default() };
            producers.note(&BatchHeader { base_offset: Offset(id as u64), attributes, ..batch(id as i64, 0, 0, 1) });
        }
        let in_ms = producers.fewer_in_ms(count);
        let idle = heard.iter().filter(|(_, open)| !open).count();
        if count > idle {
            prop_assert_eq!(in_ms, SILENCE_MS_MIN);
            return Ok(());
        }
        let mut before = producers.clone();
        before.elapse(in_ms.saturating_sub(1));
        prop_assert!(in_ms == 0 || before.forget(0, Offset::MAX) < count);
        producers.elapse(in_ms);
        prop_assert!(producers.forget(0, Offset::MAX) >= count);
    }
}

#[test]
fn a_conditional_append_that_comes_twice_does_not_ask_for_the_end_again() {
    let mut partition = Partition::new(Durability::Written);
    let terms = ProduceTerms { expected_log_end: Some(Offset(0)), ..ALL };
    let batches = [batch(1, 0, 0, 1)];
    assert_eq!(partition.leader.admit_batches(&terms, &batches, &partition.producers), Ok(Admission::Append));
    partition.append(&batches, "first");
    partition.write();
    let again = partition.leader.admit_batches(&terms, &batches, &partition.producers);
    assert_eq!(again, Ok(Admission::Duplicate { base_offset: Offset(0), next_offset: Offset(1) }));
    let other = partition.leader.admit_batches(&terms, &[batch(1, 0, 1, 1)], &partition.producers);
    assert!(matches!(other, Err(Refusal::OffsetMismatch { .. })));
}

#[test]
fn a_snapshot_says_all_that_was_known_and_one_that_cannot_be_is_none() {
    let mut producers = Producers::new(Offset(0));
    for offset in 0..20 {
        let header = batch((offset % 3) as i64, 0, (offset / 3) as i32, 1);
        producers.note(&BatchHeader { base_offset: Offset(offset), ..header });
    }
    producers.elapse(77);
    let snapshot = producers.snapshot();
    let restored = Producers::restored(&snapshot).unwrap();
    assert_eq!((&restored, restored.age_ms()), (&producers, 77));
    let broken = |change: fn(&mut tidelog_protocol::messages::ProducersSnapshot)| {
        let mut snapshot = snapshot.clone();
        change(&mut snapshot);
        Producers::restored(&snapshot)
    };
    assert_eq!(broken(|snapshot| snapshot.end = Offset(3)), None);
    assert_eq!(broken(|snapshot| snapshot.producers[0].heard_at = snapshot.end), None);
    assert_eq!(broken(|snapshot| snapshot.producers[0].batches.reverse()), None);
    assert_eq!(broken(|snapshot| snapshot.producers[0].producer_id = ProducerId(-4)), None);
    assert_eq!(broken(|snapshot| snapshot.producers[1].producer_id = ProducerId(0)), None);
    assert_eq!(broken(|snapshot| snapshot.producers[0].epoch = ProducerEpoch(-1)), None);
}

#[cfg(feature = "planted-bugs")]
mod planted {
    //! Bugs of these rules are caught.

    use tidelog_replication::{Flaw, Flaws};

    use super::*;

    fn flawed(producers: Producers, flaw: Flaw) -> Partition {
        let mut partition = Partition::knowing(producers, Durability::Written);
        let leadership = Leadership {
            leader: ME,
            epoch: LeaderEpoch(2),
            membership: Membership { replicas: vec![ME], in_sync: vec![ME], partition_epoch: PartitionEpoch(0) },
            lag_max_ms: 1_000,
            min_in_sync: 1,
            durability: Durability::Written,
        };
        let offsets = partition.leader.offsets();
        partition.leader = Leader::flawed(offsets, EpochHistory::default(), &leadership, Flaws::planted(flaw));
        partition
    }

    #[test]
    fn a_leader_that_takes_a_fenced_epoch_is_caught() {
        let mut producers = Producers::new(Offset(0));
        producers.note(&batch(1, 4, 0, 1));
        let partition = flawed(producers, Flaw::FencedProducerAccepted);
        assert_eq!(partition.judge(&[batch(1, 3, 7, 1)]), Ok(Admission::Append), "the bug is there");
    }

    #[test]
    fn a_leader_that_forgets_what_producers_wrote_before_it_is_caught() {
        let mut producers = Producers::new(Offset(0));
        producers.note(&batch(1, 0, 0, 1));
        let partition = flawed(producers, Flaw::ProducersForgotten);
        assert_eq!(
            partition.judge(&[batch(1, 0, 0, 1)]),
            Ok(Admission::Append),
            "the bug is there: it would stand twice"
        );
    }
}
