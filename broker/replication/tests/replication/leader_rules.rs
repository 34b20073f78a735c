//! The leader machine, one rule at a time, in the words of a producer and an operator. Knows nothing of its inside.

use tidelog_protocol::messages::Acks;
use tidelog_protocol::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Offset, PartitionEpoch, WireError};
use tidelog_replication::{
    AckFailure, AppendedRange, Durability, Effects, EpochHistory, FollowTerms, Leader, Leadership, Membership,
    PartitionOffsets, ProduceTerms, Refusal, ReplicaEnds, ReplicaProgress,
};

const ME: BrokerId = BrokerId(1);
const OTHER: BrokerId = BrokerId(2);
const LIFE: BrokerEpoch = BrokerEpoch(3);
const EPOCH: LeaderEpoch = LeaderEpoch(7);
const ANY: ProduceTerms = ProduceTerms { leader_epoch: None, acks: Acks::All, expected_log_end: None };

struct Partition {
    leader: Leader<&'static str>,
    effects: Effects<&'static str>,
}

impl Partition {
    fn led_with(replicas: &[BrokerId], durability: Durability) -> Self {
        let leadership = Leadership {
            leader: ME,
            epoch: EPOCH,
            membership: Membership {
                replicas: replicas.to_vec(),
                in_sync: replicas.to_vec(),
                partition_epoch: PartitionEpoch(0),
            },
            lag_max_ms: 3_000,
            min_in_sync: 1,
            durability,
        };
        let leader = Leader::new(PartitionOffsets::default(), EpochHistory::default(), &leadership);
        let mut partition = Self { leader, effects: Effects::new() };
        if replicas.contains(&OTHER) {
            let terms = FollowTerms {
                replica: OTHER,
                broker_epoch: LIFE,
                leader_epoch: EPOCH,
                from: Offset(0),
                last_epoch: None,
            };
            assert!(partition.leader.follow(&terms).is_ok());
        }
        partition
    }

    fn append(&mut self, records: u64, acks: Acks, ticket: &'static str) {
        let base_offset = self.leader.offsets().log_end();
        let range = AppendedRange { base_offset, next_offset: base_offset.plus(records), bytes: 10 };
        self.leader.appended(range, acks, ticket);
    }

    fn write(&mut self) -> Vec<&'static str> {
        self.leader.written(self.leader.offsets().log_end(), &mut self.effects);
        self.acks()
    }

    fn flush(&mut self) -> Vec<&'static str> {
        self.leader.flushed(self.leader.offsets().written_end(), &mut self.effects);
        self.acks()
    }

    fn follower(&mut self, epoch: LeaderEpoch, written: u64, flushed: u64) -> Result<Vec<&'static str>, Refusal> {
        let ends = ReplicaEnds { written_end: Offset(written), flushed_end: Offset(flushed) };
        self.leader.progress(ReplicaProgress { replica: OTHER, broker_epoch: LIFE, epoch, ends }, &mut self.effects)?;
        Ok(self.acks())
    }

    fn only_me_in_sync(&mut self) {
        let membership =
            Membership { replicas: vec![ME, OTHER], in_sync: vec![ME], partition_epoch: PartitionEpoch(1) };
        self.leader.membership_changed(&membership, &mut self.effects);
    }

    fn acks(&mut self) -> Vec<&'static str> {
        let acks = self.effects.released.iter().map(|released| released.ticket).collect();
        self.effects.clear();
        acks
    }
}

#[test]
fn a_flushed_topic_answers_all_after_the_flush_and_others_after_the_write() {
    let mut partition = Partition::led_with(&[ME], Durability::Flushed);
    partition.append(3, Acks::All, "all");
    partition.append(2, Acks::Leader, "leader");
    partition.append(1, Acks::None, "none");
    assert_eq!(partition.write(), ["leader", "none"]);
    assert_eq!(partition.leader.offsets().high_watermark(), Offset(0));
    assert_eq!(partition.leader.flush_wanted(), Some(Offset(6)));
    assert_eq!(partition.flush(), ["all"]);
    assert_eq!(partition.leader.offsets().high_watermark(), Offset(6));
    assert_eq!((partition.leader.flush_wanted(), partition.leader.pending()), (None, 0));
}

#[test]
fn a_written_topic_answers_all_after_the_write_and_wants_no_flush() {
    let mut partition = Partition::led_with(&[ME], Durability::Written);
    partition.append(3, Acks::All, "all");
    assert_eq!(partition.write(), ["all"]);
    assert_eq!(partition.leader.flush_wanted(), None);
}

#[test]
fn an_ack_says_what_was_promised() {
    let mut partition = Partition::led_with(&[ME, OTHER], Durability::Written);
    partition.append(3, Acks::All, "all");
    assert!(partition.write().is_empty());
    let ends = ReplicaEnds { written_end: Offset(3), flushed_end: Offset(3) };
    let progress = ReplicaProgress { replica: OTHER, broker_epoch: LIFE, epoch: EPOCH, ends };
    assert_eq!(partition.leader.progress(progress, &mut partition.effects), Ok(()));
    assert_eq!(partition.effects.high_watermark, Some(Offset(3)));
    let ack = &partition.effects.released[0];
    assert_eq!((ack.base_offset, ack.next_offset, ack.leader_epoch), (Offset(0), Offset(3), EPOCH));
    assert_eq!((ack.replicas_written, ack.replicas_flushed), (2, 1));
}

#[test]
fn acks_all_waits_for_the_slowest_replica_in_sync() {
    let mut partition = Partition::led_with(&[ME, OTHER], Durability::Flushed);
    partition.append(1, Acks::All, "first");
    partition.append(1, Acks::All, "second");
    partition.write();
    assert!(partition.flush().is_empty());
    assert_eq!(partition.follower(EPOCH, 2, 1), Ok(vec!["first"]));
    partition.only_me_in_sync();
    assert_eq!(partition.acks(), ["second"], "the follower left the in-sync set");
}

#[test]
fn zombie_follower_cannot_move_the_watermark() {
    let mut partition = Partition::led_with(&[ME, OTHER], Durability::Written);
    partition.append(1, Acks::All, "x");
    partition.write();
    let fenced = Refusal::FencedEpoch { requested: LeaderEpoch(6), current: EPOCH };
    assert_eq!(partition.follower(LeaderEpoch(6), 1, 1), Err(fenced));
    let unknown = Refusal::UnknownEpoch { requested: LeaderEpoch(8), current: EPOCH };
    assert_eq!(partition.follower(LeaderEpoch(8), 1, 1), Err(unknown));
    assert_eq!(partition.leader.offsets().high_watermark(), Offset(0));
}

#[test]
fn a_follower_that_claims_more_than_it_was_given_is_refused() {
    let mut partition = Partition::led_with(&[ME, OTHER], Durability::Written);
    partition.append(1, Acks::All, "x");
    let impossible = |result| matches!(result, Err(Refusal::ImpossibleProgress { .. }));
    assert!(impossible(partition.follower(EPOCH, 1, 0)), "not written here yet");
    partition.write();
    assert!(impossible(partition.follower(EPOCH, 0, 1)), "flushed but not written");
    assert!(impossible(partition.follower(EPOCH, 2, 0)));
}

#[test]
fn a_produce_under_another_epoch_is_refused() {
    let partition = Partition::led_with(&[ME], Durability::Flushed);
    let code = |epoch| partition.leader.admit(&ProduceTerms { leader_epoch: Some(epoch), ..ANY }).map_err(|r| r.code());
    assert_eq!(code(LeaderEpoch(6)), Err(ErrorCode::FencedEpoch));
    assert_eq!(code(EPOCH), Ok(()));
    assert_eq!(code(LeaderEpoch(8)), Err(ErrorCode::UnknownEpoch));
}

#[test]
fn a_conditional_append_sees_appends_that_are_still_being_written() {
    let mut partition = Partition::led_with(&[ME], Durability::Flushed);
    partition.append(3, Acks::Leader, "x");
    let terms = |expected| ProduceTerms { expected_log_end: Some(Offset(expected)), ..ANY };
    assert_eq!(partition.leader.admit(&terms(3)), Ok(()));
    let error = WireError::from(partition.leader.admit(&terms(0)).unwrap_err());
    assert_eq!((error.code, error.range), (ErrorCode::OffsetMismatch, Some((Offset(0), Offset(3)))));
    assert_eq!(error.message, "expected the log end at 0, it is at 3; nothing was written");
}

#[test]
fn too_few_in_sync_replicas_refuse_acks_all_and_stop_the_watermark() {
    let mut partition = Partition::led_with(&[ME, OTHER], Durability::Written);
    partition.leader.promises_changed(Durability::Written, 2, &mut partition.effects);
    partition.only_me_in_sync();
    assert_eq!(partition.leader.admit(&ANY), Err(Refusal::NotEnoughReplicas { in_sync: 1, min_in_sync: 2 }));
    let terms = ProduceTerms { acks: Acks::Leader, ..ANY };
    assert_eq!(partition.leader.admit(&terms), Ok(()));
    partition.append(1, Acks::Leader, "x");
    assert_eq!(partition.write(), ["x"]);
    assert_eq!(partition.leader.offsets().high_watermark(), Offset(0));
}

#[test]
fn a_full_disk_fails_what_was_not_written_and_frees_its_offsets() {
    let mut partition = Partition::led_with(&[ME], Durability::Flushed);
    partition.append(1, Acks::All, "kept");
    partition.write();
    partition.append(1, Acks::Leader, "lost");
    partition.append(1, Acks::All, "lost too");
    partition.append(1, Acks::None, "lost unasked");
    partition.leader.append_abandoned(AckFailure::StorageFull, &mut partition.effects);
    let failed: Vec<_> = partition.effects.failed.iter().map(|f| (f.ticket, f.cause.code())).collect();
    let lost = ["lost", "lost unasked", "lost too"].map(|ticket| (ticket, ErrorCode::StorageFull));
    assert_eq!(failed, lost);
    partition.append(1, Acks::All, "after");
    assert_eq!(partition.leader.offsets().log_end(), Offset(2));
    partition.write();
    assert_eq!(partition.flush(), ["kept", "after"]);
}

#[test]
fn a_flush_that_succeeds_after_one_that_failed_acknowledges_nothing() {
    let mut partition = Partition::led_with(&[ME], Durability::Flushed);
    partition.append(1, Acks::All, "x");
    partition.write();
    partition.leader.poisoned(&mut partition.effects);
    assert_eq!(partition.effects.failed[0].cause, AckFailure::StorageFailed);
    assert!(partition.flush().is_empty());
    let offsets = partition.leader.offsets();
    assert_eq!((offsets.high_watermark(), offsets.flushed_end()), (Offset(0), Offset(0)));
    assert_eq!(partition.leader.admit(&ANY), Err(Refusal::Poisoned));
    assert_eq!(partition.leader.flush_wanted(), None, "a failed flush is never tried again");
}

#[test]
fn a_change_from_flushed_to_written_keeps_the_promises_made_before() {
    let mut partition = Partition::led_with(&[ME], Durability::Flushed);
    partition.append(1, Acks::All, "promised a flush");
    partition.write();
    partition.leader.promises_changed(Durability::Written, 1, &mut partition.effects);
    assert!(partition.acks().is_empty());
    assert_eq!(partition.leader.flush_wanted(), Some(Offset(1)), "or the ticket would wait for ever");
    assert_eq!(partition.flush(), ["promised a flush"]);
    partition.append(1, Acks::All, "promised a write");
    assert_eq!(partition.write(), ["promised a write"]);
}

#[test]
fn no_flush_is_wanted_for_a_promise_that_nobody_waits_for() {
    let mut partition = Partition::led_with(&[ME], Durability::Flushed);
    partition.append(1, Acks::Leader, "x");
    partition.write();
    assert_eq!(partition.leader.flush_wanted(), Some(Offset(1)));
    partition.leader.promises_changed(Durability::Written, 1, &mut partition.effects);
    assert_eq!(partition.leader.flush_wanted(), None);
}

#[test]
fn offsets_given_out_again_carry_no_old_promise() {
    let mut partition = Partition::led_with(&[ME], Durability::Flushed);
    partition.append(1, Acks::All, "never written");
    partition.leader.promises_changed(Durability::Written, 1, &mut partition.effects);
    partition.leader.append_abandoned(AckFailure::StorageFull, &mut partition.effects);
    partition.append(1, Acks::All, "promised a write");
    assert_eq!(partition.write(), ["promised a write"]);
}

#[test]
fn a_change_from_written_to_flushed_counts_from_the_next_ack_on() {
    let mut partition = Partition::led_with(&[ME], Durability::Written);
    partition.append(2, Acks::All, "x");
    assert_eq!(partition.write(), ["x"]);
    partition.leader.promises_changed(Durability::Flushed, 1, &mut partition.effects);
    assert_eq!(partition.leader.offsets().high_watermark(), Offset(2), "the watermark never moves back");
    partition.append(1, Acks::All, "y");
    assert!(partition.write().is_empty());
    assert_eq!(partition.flush(), ["y"]);
}

#[test]
fn records_are_deleted_up_to_the_watermark_and_no_further() {
    let mut partition = Partition::led_with(&[ME], Durability::Flushed);
    partition.append(5, Acks::Leader, "x");
    partition.write();
    partition.flush();
    partition.append(1, Acks::Leader, "y");
    partition.write();
    let refusal = partition.leader.delete_before(Some(Offset(6))).unwrap_err();
    assert_eq!(WireError::from(refusal).range, Some((Offset(0), Offset(5))));
    assert_eq!(partition.leader.delete_before(Some(Offset(3))), Ok(Offset(3)));
    assert_eq!(partition.leader.delete_before(Some(Offset(1))), Ok(Offset(3)), "twice is once");
    assert_eq!(partition.leader.delete_before(None), Ok(Offset(5)));
}

#[test]
fn losing_leadership_fails_every_ticket_and_hands_the_offsets_on() {
    let mut partition = Partition::led_with(&[ME], Durability::Flushed);
    partition.append(1, Acks::All, "x");
    partition.write();
    let (offsets, _) = partition.leader.resigned(&mut partition.effects);
    assert_eq!(offsets.written_end(), Offset(1));
    assert_eq!(partition.effects.failed[0].cause.code(), ErrorCode::LeadershipEnded);
}

#[test]
fn a_sole_replica_stands_at_its_watermark_from_the_start() {
    let recovered = PartitionOffsets::recovered(Offset(2), Offset(4), Offset(8), Offset(9));
    let leadership = Leadership {
        leader: ME,
        epoch: EPOCH,
        membership: Membership { replicas: vec![ME], in_sync: vec![ME], partition_epoch: PartitionEpoch(4) },
        lag_max_ms: 3_000,
        min_in_sync: 1,
        durability: Durability::Flushed,
    };
    let leader: Leader<()> = Leader::new(recovered, EpochHistory::default(), &leadership);
    assert_eq!(leader.offsets().high_watermark(), Offset(8));
    assert_eq!(leader.flush_wanted(), Some(Offset(9)));
    assert_eq!(leader.epoch_start(), Offset(9));
}
