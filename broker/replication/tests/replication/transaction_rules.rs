//! What a leader makes of transactional batches and of markers, one rule at a time, and where that leaves readers of what is committed.

#![allow(clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use tidelog_protocol::messages::{AbortedTransaction, Acks};
use tidelog_protocol::records::{Attributes, BatchHeader};
use tidelog_protocol::{
    BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch, ProducerEpoch, ProducerId, Sequence, Timestamp, WireError,
};
use tidelog_replication::producers::{PRODUCERS_MAX, SILENCE_MS_MIN};
use tidelog_replication::transactions::ABORTED_MAX;
use tidelog_replication::{
    AckFailure, Admission, AppendedRange, Durability, Effects, EpochHistory, Flaws, Leader, Leadership,
    MarkerAdmission, MarkerEpoch, Membership, OpenTransactions, Outcome, PartitionOffsets, ProduceTerms, Producers,
    Refusal, SequenceFault, Word,
};

const ME: BrokerId = BrokerId(1);
const ALL: ProduceTerms = ProduceTerms { leader_epoch: None, acks: Acks::All, expected_log_end: None };
const P: ProducerId = ProducerId(1);

/// A batch of producer 1, outside any transaction.
fn plain(epoch: i16, first: i32, records: u32) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(0),
        batch_length: 49,
        leader_epoch: None,
        crc: 0,
        attributes: Attributes::default(),
        last_offset_delta: records - 1,
        base_timestamp: Timestamp(0),
        max_timestamp: Timestamp(0),
        producer_id: P,
        producer_epoch: ProducerEpoch(epoch),
        base_sequence: Sequence(first),
        record_count: records,
    }
}

/// One of a transaction.
fn batch(epoch: i16, first: i32, records: u32) -> BatchHeader {
    BatchHeader { attributes: Attributes::default().transactional(), ..plain(epoch, first, records) }
}

fn marker(epoch: i16) -> BatchHeader {
    let attributes = Attributes::default().transactional().control();
    BatchHeader { attributes, base_sequence: Sequence::NONE, ..plain(epoch, 0, 1) }
}

fn of(producer: i64, header: BatchHeader) -> BatchHeader {
    BatchHeader { producer_id: ProducerId(producer), ..header }
}

fn word(epoch: i16) -> Word {
    Word { producer: P, epoch: ProducerEpoch(epoch) }
}

fn ask(epoch: i16) -> Result<Admission, SequenceFault> {
    Ok(Admission::AskCoordinator { producer: P, epoch: ProducerEpoch(epoch) })
}

fn over(epoch: i16, current: i16) -> Result<Admission, SequenceFault> {
    let (epoch, current) = (ProducerEpoch(epoch), ProducerEpoch(current));
    Err(SequenceFault::TransactionOver { producer: P, epoch, current })
}

fn aborted(producer: i64, first: u64, marker: u64) -> AbortedTransaction {
    let (producer_id, first_offset, marker_offset) = (ProducerId(producer), Offset(first), Offset(marker));
    AbortedTransaction { producer_id, first_offset, marker_offset }
}

/// What a log says, batch by batch.
struct Log(Producers);

impl Log {
    fn new() -> Self {
        Self(Producers::new(Offset(0)))
    }

    fn flawed(flaws: Flaws) -> Self {
        Self(Producers::new(Offset(0)).flawed(flaws))
    }

    fn batch(&mut self, header: BatchHeader) -> &mut Self {
        let base_offset = self.0.end();
        self.0.note(&BatchHeader { base_offset, ..header });
        self
    }

    fn marker(&mut self, header: BatchHeader, outcome: Outcome) -> &mut Self {
        let base_offset = self.0.end();
        self.0.note_marker(&BatchHeader { base_offset, ..header }, outcome);
        self
    }

    fn stable(&mut self, high_watermark: u64) -> Option<u64> {
        self.0.first_unstable(Offset(0), Offset(high_watermark)).map(|first| first.0)
    }

    fn aborted(&self, from: u64, to: u64) -> Option<Vec<AbortedTransaction>> {
        self.0.aborted_within(Offset(from)..Offset(to))
    }
}

/// A leader, alone, and what its log knows.
struct Partition {
    leader: Leader<&'static str>,
    effects: Effects<&'static str>,
    log: Log,
    unwritten: Vec<BatchHeader>,
}

impl Partition {
    fn of(log: Log) -> Self {
        Self::flawed(log, Flaws::NONE)
    }

    fn flawed(log: Log, flaws: Flaws) -> Self {
        let leadership = Leadership {
            leader: ME,
            epoch: LeaderEpoch(1),
            membership: Membership { replicas: vec![ME], in_sync: vec![ME], partition_epoch: PartitionEpoch(0) },
            lag_max_ms: 1_000,
            min_in_sync: 1,
            durability: Durability::Written,
        };
        let end = log.0.end();
        let offsets = PartitionOffsets::recovered(Offset(0), end, end, end);
        let leader = Leader::flawed(offsets, EpochHistory::default(), &leadership, flaws);
        Self { leader, effects: Effects::new(), log, unwritten: Vec::new() }
    }

    fn judge(&self, batches: &[BatchHeader]) -> Result<Admission, SequenceFault> {
        self.judge_with(batches, None)
    }

    fn judge_with(&self, batches: &[BatchHeader], word: Option<Word>) -> Result<Admission, SequenceFault> {
        self.leader.admit_with_word(&ALL, batches, (&self.log.0, word)).map_err(|refusal| match refusal {
            Refusal::Sequence { fault, .. } => fault,
            other => panic!("{other:?}"),
        })
    }

    fn marker(&self, epoch: i16) -> MarkerAdmission {
        self.leader
            .admit_marker(word(epoch), MarkerEpoch::Next, &self.log.0)
            .unwrap_or_else(|refusal| panic!("{refusal}"))
    }

    /// Gives offsets.
    fn take(&mut self, header: BatchHeader) {
        self.leader.sequenced(&[header]);
        let base_offset = self.leader.offsets().log_end();
        let next_offset = base_offset.plus(u64::from(header.last_offset_delta) + 1);
        self.leader.appended(AppendedRange { base_offset, next_offset, bytes: 0 }, Acks::All, "one");
        self.unwritten.push(header);
    }

    fn write(&mut self) {
        for header in std::mem::take(&mut self.unwritten) {
            if header.attributes.is_control() {
                self.log.marker(header, Outcome::Committed);
            } else {
                self.log.batch(header);
            }
        }
        self.leader.written(self.leader.offsets().log_end(), &mut self.effects);
    }
}

#[test]
fn the_first_batch_of_a_transaction_waits_for_the_coordinators_word_and_the_next_do_not() {
    let mut partition = Partition::of(Log::new());
    assert_eq!(partition.judge(&[batch(4, 0, 3)]), ask(4));
    assert_eq!(partition.judge_with(&[batch(4, 0, 3)], Some(word(3))), ask(4), "of another transaction");
    assert_eq!(partition.judge_with(&[batch(4, 0, 3)], Some(word(4))), Ok(Admission::Append));
    partition.take(batch(4, 0, 3));
    assert_eq!(partition.judge(&[batch(4, 3, 1)]), Ok(Admission::Append), "not written yet, and counts");
    partition.write();
    assert_eq!(partition.judge(&[batch(4, 3, 1), batch(4, 4, 1)]), Ok(Admission::Append));
    let again = Admission::Duplicate { base_offset: Offset(0), next_offset: Offset(3) };
    assert_eq!(partition.judge(&[batch(4, 0, 3)]), Ok(again), "nobody is asked for what stands");
    assert_eq!(partition.judge(&[batch(5, 0, 1)]), ask(5), "each transaction is asked for");
}

#[test]
fn an_abandoned_first_batch_leaves_nothing_open() {
    let mut partition = Partition::of(Log::new());
    partition.take(batch(4, 0, 3));
    partition.leader.append_abandoned(AckFailure::StorageFull, &mut partition.effects);
    assert_eq!(partition.judge(&[batch(4, 0, 3)]), ask(4));
}

#[test]
fn a_word_that_a_marker_has_overtaken_counts_no_more() {
    let mut partition = Partition::of(Log::new());
    assert_eq!(partition.judge(&[batch(4, 0, 1)]), ask(4));
    // The transaction is aborted meanwhile, and its marker comes first, though nothing is open here.
    assert_eq!(partition.marker(5), MarkerAdmission::Append);
    partition.take(marker(5));
    assert_eq!(partition.judge_with(&[batch(4, 0, 1)], Some(word(4))), over(4, 5), "not written yet, and counts");
    partition.write();
    assert_eq!(partition.judge_with(&[batch(4, 0, 1)], Some(word(4))), over(4, 5));
    assert_eq!(partition.judge(&[batch(5, 0, 1)]), ask(5), "the next one begins at 0");
    let gap = SequenceFault::Gap { producer: P, found: Sequence(1), expected: Sequence(0) };
    assert_eq!(partition.judge(&[batch(5, 1, 1)]), Err(gap));
}

#[test]
fn records_outside_the_transaction_that_is_open_are_refused() {
    let mut log = Log::new();
    log.batch(batch(4, 0, 1));
    let partition = Partition::of(log);
    let open = Err(SequenceFault::TransactionOpen { producer: P });
    assert_eq!(partition.judge(&[plain(4, 1, 1)]), open);
    assert_eq!(partition.judge(&[plain(5, 0, 1)]), open, "whatever its epoch");
    assert_eq!(partition.judge(&[batch(4, 1, 1), plain(4, 2, 1)]), open);
    let refusal = partition.leader.admit_batches(&ALL, &[plain(4, 1, 1)], &partition.log.0);
    assert_eq!(refusal.map_err(|refusal| WireError::from(refusal).code), Err(ErrorCode::InvalidTransactionState));
}

#[test]
fn who_writes_within_transactions_is_refused_outside_of_them_also_where_none_is_open() {
    let mut log = Log::new();
    log.batch(batch(4, 0, 1)).marker(marker(5), Outcome::Committed);
    let outside = Err(SequenceFault::OutsideTransaction { producer: P });
    let mut partition = Partition::of(log);
    assert_eq!(partition.judge(&[plain(5, 0, 1)]), outside);
    assert_eq!(partition.judge(&[plain(6, 0, 1)]), outside, "whatever its epoch");
    assert_eq!(partition.judge(&[of(2, plain(5, 0, 1))]), Ok(Admission::Append), "others are not");
    let refusal = partition.leader.admit_batches(&ALL, &[plain(5, 0, 1)], &partition.log.0);
    assert_eq!(refusal.map_err(|refusal| refusal.code()), Err(ErrorCode::InvalidTransactionState));
    let restored = Producers::restored(&partition.log.0.snapshot()).unwrap();
    assert_eq!(Partition::of(Log(restored)).judge(&[plain(5, 0, 1)]), outside, "a restart changes nothing");
    partition.take(of(3, marker(1)));
    let unwritten = Err(SequenceFault::OutsideTransaction { producer: ProducerId(3) });
    assert_eq!(partition.judge(&[of(3, plain(1, 0, 1))]), unwritten, "a marker that is not written yet counts");
}

#[test]
fn what_stands_outside_of_a_transaction_is_never_acknowledged_as_part_of_one_nor_the_other_way_round() {
    let mut log = Log::new();
    // Nothing is known of the producer yet.
    log.batch(plain(4, 0, 2));
    let stands = |found| Err(SequenceFault::StandsOutside { producer: P, found: Sequence(found) });
    let mut partition = Partition::of(log);
    assert_eq!(partition.judge_with(&[batch(4, 0, 2)], Some(word(4))), stands(0));
    assert_eq!(partition.judge_with(&[batch(4, 1, 1)], Some(word(4))), stands(1), "a part of it, too");
    let again = Admission::Duplicate { base_offset: Offset(0), next_offset: Offset(2) };
    assert_eq!(partition.judge(&[plain(4, 0, 2)]), Ok(again));
    let refusal = partition.leader.admit_with_word(&ALL, &[batch(4, 0, 2)], (&partition.log.0, Some(word(4))));
    assert_eq!(refusal.map_err(|refusal| refusal.code()), Err(ErrorCode::InvalidTransactionState));
    // One that goes on from there begins the transaction, not written yet, and then written, restarted and told to a follower.
    partition.take(batch(4, 2, 1));
    let open = Err(SequenceFault::TransactionOpen { producer: P });
    let judged = |partition: &Partition, when: &str| {
        assert_eq!(partition.judge(&[batch(4, 0, 2)]), stands(0), "{when}");
        let again = Admission::Duplicate { base_offset: Offset(2), next_offset: Offset(3) };
        assert_eq!(partition.judge(&[batch(4, 2, 1)]), Ok(again), "{when}");
        assert_eq!(partition.judge(&[plain(4, 2, 1)]), open, "{when}");
    };
    judged(&partition, "not written yet");
    partition.write();
    judged(&partition, "written");
    let told = partition.log.0.snapshot();
    judged(&Partition::of(Log(Producers::restored(&told).unwrap())), "restored");
    let mut follower = Producers::unknown(Offset(3));
    assert!(follower.adopt(&told));
    judged(&Partition::of(Log(follower)), "told by a leader");
}

#[test]
fn a_marker_ends_what_an_earlier_epoch_has_open_and_stands_where_its_epoch_is_known() {
    let mut partition = Partition::of(Log::new());
    partition.take(batch(4, 0, 2));
    partition.write();
    assert_eq!(partition.marker(5), MarkerAdmission::Append);
    partition.take(marker(5));
    partition.write();
    assert_eq!(partition.log.0.standing(P).map(|standing| standing.open()), Some(None));
    assert_eq!(partition.marker(5), MarkerAdmission::Stands { next_offset: Offset(3) });
    // The next transaction is open when the marker comes again.
    partition.take(batch(5, 0, 2));
    assert_eq!(partition.marker(5), MarkerAdmission::Stands { next_offset: Offset(4) });
    partition.write();
    assert_eq!(partition.marker(5), MarkerAdmission::Stands { next_offset: Offset(4) });
    assert_eq!(partition.marker(4), MarkerAdmission::Stands { next_offset: Offset(4) });
    assert_eq!(partition.judge(&[batch(5, 2, 1)]), Ok(Admission::Append), "it is open still");
    // In the log, too, one of before would do nothing.
    partition.log.marker(marker(4), Outcome::Aborted);
    assert_eq!((partition.log.stable(9), partition.log.aborted(0, 9)), (Some(3), Some(vec![])));
}

#[test]
fn markers_go_on_where_new_producers_wait_and_are_bounded_too() {
    let mut log = Log::new();
    for id in 0..PRODUCERS_MAX as i64 {
        log.batch(of(100 + id, plain(0, 0, 1)));
    }
    let mut partition = Partition::of(log);
    assert_eq!(partition.judge(&[batch(0, 0, 1)]), Err(SequenceFault::TooMany { room_in_ms: SILENCE_MS_MIN }));
    let unsettled = partition.log.0.make_room(Offset(0));
    assert_eq!(unsettled, 0, "nobody of whom something is not settled is forgotten");
    assert_eq!(partition.marker(1), MarkerAdmission::Append);
    for id in 0..PRODUCERS_MAX as i64 {
        partition.log.marker(of(1 << 40 | id, marker(1)), Outcome::Aborted);
    }
    let refused = partition.leader.admit_marker(word(1), MarkerEpoch::Next, &partition.log.0);
    assert_eq!(refused.map_err(|refusal| refusal.code()), Err(ErrorCode::Overloaded));
}

#[test]
fn the_last_stable_offset_waits_for_the_oldest_transaction_and_for_its_marker_to_settle() {
    let mut log = Log::new();
    log.batch(of(7, plain(0, 0, 5)));
    assert_eq!(log.stable(5), None);
    log.batch(batch(4, 0, 2)).batch(of(2, batch(0, 0, 3)));
    assert_eq!(log.stable(10), Some(5));
    log.marker(marker(5), Outcome::Committed);
    assert_eq!(log.stable(10), Some(5), "the marker at 10 is not settled");
    assert_eq!(log.stable(11), Some(7), "the other is open still");
    log.marker(of(2, marker(1)), Outcome::Aborted);
    assert_eq!((log.stable(11), log.stable(12)), (Some(7), None));
    assert_eq!(log.aborted(0, 12), Some(vec![aborted(2, 7, 11)]));
    assert_eq!(log.aborted(10, 12), Some(vec![aborted(2, 7, 11)]), "it reaches in");
    assert_eq!(log.aborted(0, 7), Some(vec![]));
    assert_eq!(log.aborted(12, 20), Some(vec![]));
}

#[test]
fn a_transaction_without_a_marker_is_undone_by_the_next_one_of_its_producer() {
    // The marker was among settled records that were lost; the coordinator would not have let the next begin otherwise.
    let mut log = Log::new();
    log.batch(batch(4, 0, 2));
    let partition = Partition::of(log);
    assert_eq!(partition.judge_with(&[batch(5, 0, 1)], Some(word(5))), Ok(Admission::Append));
    let mut log = partition.log;
    log.batch(batch(5, 0, 1)).marker(marker(6), Outcome::Committed);
    assert_eq!((log.stable(9), log.aborted(0, 9)), (None, Some(vec![aborted(1, 0, 1)])));
}

#[test]
fn a_marker_of_a_later_transaction_does_not_commit_one_whose_own_was_lost() {
    let mut log = Log::new();
    log.batch(batch(3, 0, 1)).marker(marker(5), Outcome::Committed);
    assert_eq!(log.aborted(0, 2), Some(vec![aborted(1, 0, 1)]), "what the fifth epoch says is not of the third");
    log.batch(batch(5, 0, 1)).marker(marker(6), Outcome::Committed);
    assert_eq!(log.aborted(2, 4), Some(vec![]));
}

#[test]
fn what_is_open_for_long_is_told_and_what_ended_is_not() {
    let mut log = Log::new();
    log.batch(of(1, batch(3, 0, 1)));
    log.0.elapse(6_000);
    log.batch(of(2, batch(5, 0, 1))).batch(of(3, batch(0, 0, 1))).batch(of(4, plain(0, 0, 1)));
    log.0.elapse(4_000);
    let named = |producer, epoch| (ProducerId(producer), ProducerEpoch(epoch));
    assert_eq!(log.0.open_for(10_000, None, 9), [named(1, 3)]);
    assert_eq!(log.0.open_for(10_001, None, 9), []);
    log.marker(of(3, marker(1)), Outcome::Committed);
    assert_eq!(log.0.open_for(0, None, 9), [named(1, 3), named(2, 5)]);
    assert_eq!(log.0.open_for(0, None, 1), [named(1, 3)]);
    assert_eq!(log.0.open_for(0, Some(named(1, 3).0), 1), [named(2, 5)], "nobody stands in another's way for ever");
    assert_eq!(log.0.open_for(0, Some(named(2, 5).0), 9), [named(1, 3), named(2, 5)]);
    assert_eq!(log.0.open_for(0, Some(named(1, 3).0), 9), [named(2, 5), named(1, 3)]);
    log.marker(of(1, marker(4)), Outcome::Aborted).marker(of(2, marker(6)), Outcome::Committed);
    assert_eq!(log.0.open_for(0, None, 9), []);
}

#[test]
fn who_has_something_open_is_not_forgotten() {
    let mut log = Log::new();
    log.batch(batch(0, 0, 1)).batch(of(2, batch(0, 0, 1))).marker(of(2, marker(1)), Outcome::Committed);
    log.0.elapse(SILENCE_MS_MIN);
    assert_eq!(log.0.open_transactions(), OpenTransactions { count: 1, oldest_ms: SILENCE_MS_MIN });
    assert_eq!(log.0.forget(0, Offset(9)), 1);
    assert!(log.0.standing(P).is_some() && log.0.standing(ProducerId(2)).is_none());
}

#[test]
fn undone_transactions_are_remembered_up_to_a_bound_and_down_to_the_start_of_the_log() {
    let mut log = Log::new();
    for epoch in 0..ABORTED_MAX as i64 + 3 {
        log.batch(of(epoch, batch(0, 0, 1))).marker(of(epoch, marker(1)), Outcome::Aborted);
    }
    assert_eq!(log.aborted(5, 9), None, "only the log itself tells");
    assert_eq!(log.aborted(6, 9), Some(vec![aborted(3, 6, 7), aborted(4, 8, 9)]));
    log.0.first_unstable(Offset(100), Offset(1 << 40));
    assert_eq!(log.aborted(99, 101), None);
    assert_eq!(log.aborted(100, 101), Some(vec![aborted(50, 100, 101)]));
}

#[test]
fn a_snapshot_says_what_is_open_ended_and_undone_and_one_that_cannot_be_is_none() {
    let mut log = Log::new();
    log.batch(batch(4, 0, 2)).batch(of(2, batch(0, 0, 3))).marker(of(2, marker(1)), Outcome::Aborted);
    log.batch(of(3, batch(0, 0, 1))).marker(of(3, marker(1)), Outcome::Committed);
    log.marker(of(9, marker(3)), Outcome::Aborted);
    let snapshot = log.0.snapshot();
    let mut restored = Log(Producers::restored(&snapshot).unwrap_or_else(|| panic!("{snapshot:?}")));
    assert_eq!(restored.0, log.0);
    assert_eq!(restored.0.snapshot(), snapshot);
    assert_eq!(restored.aborted(0, 9), Some(vec![aborted(2, 2, 5)]));
    restored.marker(marker(5), Outcome::Committed);
    assert_eq!((restored.stable(6), restored.stable(10)), (Some(0), None), "the marker at 9 comes to settle as well");
    let broken = |change: fn(&mut tidelog_protocol::messages::ProducersSnapshot)| {
        let mut snapshot = snapshot.clone();
        change(&mut snapshot);
        Producers::restored(&snapshot)
    };
    assert_eq!(broken(|snapshot| snapshot.aborted[0].marker_offset = Offset(9)), None);
    assert_eq!(broken(|snapshot| snapshot.aborted[0].first_offset = Offset(6)), None);
    assert_eq!(broken(|snapshot| snapshot.ended[0].marker_offset = Offset(99)), None);
    assert_eq!(broken(|snapshot| snapshot.producers[0].heard_at = Offset(99)), None);
    let opened_late = |snapshot: &mut tidelog_protocol::messages::ProducersSnapshot| {
        if let Some(open) = &mut snapshot.producers[0].transaction {
            open.first_offset = Offset(7);
        }
    };
    assert_eq!(broken(opened_late), None);
}

#[test]
fn a_replica_that_begins_behind_deleted_records_learns_what_is_open_where_it_begins() {
    // Of the leader's log only what lies at 6 and above is left.
    let mut leader = Log::new();
    leader.batch(batch(4, 0, 2)).batch(of(2, batch(0, 0, 2))).marker(of(9, marker(3)), Outcome::Aborted);
    leader.batch(of(3, batch(0, 0, 1)));
    let rest: [(BatchHeader, Option<Outcome>); 5] = [
        (batch(4, 2, 1), None),
        (of(2, marker(1)), Some(Outcome::Aborted)),
        (of(3, marker(1)), Some(Outcome::Committed)),
        (of(2, batch(1, 0, 1)), None),
        (of(2, marker(2)), Some(Outcome::Committed)),
    ];
    let replay = |log: &mut Log, rest: &[(BatchHeader, Option<Outcome>)]| {
        for (header, outcome) in rest {
            match outcome {
                Some(outcome) => log.marker(*header, *outcome),
                None => log.batch(*header),
            };
        }
    };
    replay(&mut leader, &rest);
    for settled in [0, 9, 11] {
        let _ = leader.0.first_unstable(Offset(0), Offset(settled));
        let mut follower = Log(Producers::unknown(Offset(6)));
        assert!(follower.0.adopt(&leader.0.snapshot()));
        assert_eq!(follower.stable(6), Some(0), "producer 1 has something open");
        assert!(follower.0.standing(ProducerId(9)).is_some_and(|fenced| fenced.epoch == ProducerEpoch(3)));
        replay(&mut follower, &rest);
        assert_eq!(follower.stable(11), Some(0));
        assert_eq!(follower.aborted(6, 11), Some(vec![aborted(2, 2, 7)]), "settled to {settled}");
        follower.marker(marker(5), Outcome::Committed);
        assert_eq!(follower.stable(12), None, "nothing hangs");
    }
}

#[cfg(feature = "planted-bugs")]
mod planted {
    //! Bugs of these rules are caught.

    use tidelog_replication::Flaw;

    use super::*;

    #[test]
    fn a_leader_that_does_not_ask_is_caught() {
        let partition = Partition::flawed(Log::new(), Flaws::planted(Flaw::MembershipUnasked));
        assert_eq!(partition.judge(&[batch(4, 0, 3)]), Ok(Admission::Append), "the bug is there");
    }

    #[test]
    fn a_marker_that_ends_a_later_transaction_is_caught() {
        let flaws = Flaws::planted(Flaw::MarkerEndsLaterTransaction);
        let mut log = Log::flawed(flaws);
        log.batch(batch(4, 0, 2)).marker(marker(5), Outcome::Committed).batch(batch(5, 0, 2));
        let mut partition = Partition::flawed(log, flaws);
        assert_eq!(partition.marker(5), MarkerAdmission::Append, "the bug is there");
        partition.log.marker(marker(5), Outcome::Committed);
        assert_eq!(partition.log.stable(9), None, "and ends what is not over");
    }

    #[test]
    fn a_marker_that_counts_before_it_is_settled_is_caught() {
        let mut log = Log::flawed(Flaws::planted(Flaw::UnsettledMarkersCount));
        log.batch(batch(4, 0, 2)).marker(marker(5), Outcome::Committed);
        assert_eq!(log.stable(2), None, "the bug is there");
    }
}
