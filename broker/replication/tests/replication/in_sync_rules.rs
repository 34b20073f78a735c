//! Who is in sync and what counts meanwhile, one rule at a time, as the leader machine decides it. Knows nothing of its inside.

use tidelog_protocol::messages::Acks;
use tidelog_protocol::{BrokerEpoch, BrokerId, ErrorCode, LeaderEpoch, Monotonic, Offset, PartitionEpoch};
use tidelog_replication::{
    AppendedRange, Durability, Effects, EpochEnd, EpochHistory, FollowOutcome, FollowTerms, InSyncProposal, Leader,
    Leadership, Membership, PartitionOffsets, ProduceTerms, Refusal, ReplicaEnds, ReplicaProgress,
};

const A: BrokerId = BrokerId(1);
const B: BrokerId = BrokerId(2);
const C: BrokerId = BrokerId(3);
const EPOCH: LeaderEpoch = LeaderEpoch(7);
const LIFE: BrokerEpoch = BrokerEpoch(3);
const LAG_MAX_MS: u64 = 3_000;

/// A leads, of a log that held ten records of epoch 1 before, four of them settled.
struct Partition {
    leader: Leader<&'static str>,
    effects: Effects<&'static str>,
    partition_epoch: u32,
}

impl Partition {
    fn with(in_sync: &[BrokerId], durability: Durability, min_in_sync: u16) -> Self {
        let offsets = PartitionOffsets::recovered(Offset(0), Offset(4), Offset(10), Offset(10));
        let epochs = EpochHistory::recovered([(LeaderEpoch(1), Offset(0))]);
        let membership =
            Membership { replicas: vec![A, B, C], in_sync: in_sync.to_vec(), partition_epoch: PartitionEpoch(0) };
        let leadership =
            Leadership { leader: A, epoch: EPOCH, membership, lag_max_ms: LAG_MAX_MS, min_in_sync, durability };
        let mut leader = Leader::new(offsets, epochs, &leadership);
        leader.bar(&[]);
        Self { leader, effects: Effects::new(), partition_epoch: 0 }
    }

    fn written(in_sync: &[BrokerId]) -> Self {
        Self::with(in_sync, Durability::Written, 1)
    }

    fn append(&mut self, records: u64, ticket: &'static str) {
        let base_offset = self.leader.offsets().log_end();
        let next_offset = base_offset.plus(records);
        self.leader.appended(AppendedRange { base_offset, next_offset, bytes: 1 }, Acks::All, ticket);
        self.leader.written(next_offset, &mut self.effects);
        self.leader.flushed(next_offset, &mut self.effects);
    }

    fn terms(replica: BrokerId, from: u64, last_epoch: Option<u32>) -> FollowTerms {
        let last_epoch = last_epoch.map(LeaderEpoch);
        FollowTerms { replica, broker_epoch: LIFE, leader_epoch: EPOCH, from: Offset(from), last_epoch }
    }

    fn follows(&mut self, replica: BrokerId, from: u64) {
        let last_epoch = (from > 0).then_some(if from > 10 { EPOCH.0 } else { 1 });
        let answer = self.leader.follow(&Self::terms(replica, from, last_epoch));
        assert_eq!(answer.map(|answer| answer.outcome), Ok(FollowOutcome::Streams));
    }

    fn reports(&mut self, replica: BrokerId, written: u64, flushed: u64) {
        let ends = ReplicaEnds { written_end: Offset(written), flushed_end: Offset(flushed) };
        let progress = ReplicaProgress { replica, broker_epoch: LIFE, epoch: EPOCH, ends };
        assert_eq!(self.leader.progress(progress, &mut self.effects), Ok(()));
    }

    fn ticks(&mut self, now: u64) -> Option<Vec<BrokerId>> {
        self.leader.tick(Monotonic(now), &mut self.effects);
        self.asks()
    }

    /// The in-sync set that was asked for since the last look.
    fn asks(&mut self) -> Option<Vec<BrokerId>> {
        self.proposes().map(|proposal| proposal.in_sync.iter().map(|member| member.broker).collect())
    }

    fn proposes(&mut self) -> Option<InSyncProposal> {
        self.effects.alter_in_sync.take()
    }

    fn controller_holds(&mut self, in_sync: &[BrokerId]) {
        self.partition_epoch += 1;
        let partition_epoch = PartitionEpoch(self.partition_epoch);
        let membership = Membership { replicas: vec![A, B, C], in_sync: in_sync.to_vec(), partition_epoch };
        self.leader.membership_changed(&membership, &mut self.effects);
        self.leader.bar(&[]);
    }

    fn controller_refuses(&mut self) {
        self.leader.alteration_failed(PartitionEpoch(self.partition_epoch));
    }

    fn acks(&mut self) -> Vec<&'static str> {
        let acks = self.effects.released.iter().map(|released| released.ticket).collect();
        self.effects.released.clear();
        acks
    }

    fn watermark(&self) -> u64 {
        self.leader.offsets().high_watermark().0
    }
}

#[test]
fn rule_3_progress_counts_only_for_whoever_follows_this_leadership_in_this_life() {
    let mut partition = Partition::written(&[A, B]);
    let ends = ReplicaEnds { written_end: Offset(10), flushed_end: Offset(10) };
    let of = |broker_epoch, epoch| ReplicaProgress { replica: B, broker_epoch, epoch, ends };
    let code = |partition: &mut Partition, life, epoch| {
        partition.leader.progress(of(life, epoch), &mut partition.effects).map_err(|refusal| refusal.code())
    };
    assert_eq!(code(&mut partition, LIFE, EPOCH), Err(ErrorCode::FencedEpoch), "it has not asked for its stream");
    partition.follows(B, 10);
    assert_eq!(code(&mut partition, LIFE, LeaderEpoch(6)), Err(ErrorCode::FencedEpoch));
    assert_eq!(code(&mut partition, BrokerEpoch(2), EPOCH), Err(ErrorCode::FencedEpoch), "an earlier life of it");
    assert_eq!(partition.watermark(), 4);
    assert_eq!(code(&mut partition, LIFE, EPOCH), Ok(()));
    assert_eq!(partition.watermark(), 10);
}

#[test]
fn a_follower_that_comes_back_counts_from_its_new_report_on() {
    let mut partition = Partition::written(&[A, B]);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    partition.append(1, "x");
    let again = FollowTerms { broker_epoch: BrokerEpoch(4), ..Partition::terms(B, 6, Some(1)) };
    assert!(partition.leader.follow(&again).is_ok());
    assert!(matches!(partition.leader.follow(&Partition::terms(B, 10, Some(1))), Err(Refusal::NotFollowing { .. })));
    partition.ticks(0);
    assert!(partition.acks().is_empty());
}

#[test]
fn rule_4_a_follower_joins_only_at_or_past_the_start_of_the_epoch() {
    let mut partition = Partition::with(&[A, B], Durability::Written, 1);
    partition.follows(C, 4);
    partition.reports(C, 4, 4);
    assert_eq!(partition.asks(), None, "it has reached the watermark known here, which may not be the true one");
    partition.reports(C, 9, 9);
    assert_eq!(partition.asks(), None);
    partition.reports(C, 10, 0);
    let proposal = partition.proposes().unwrap();
    assert_eq!((proposal.leader_epoch, proposal.partition_epoch), (EPOCH, PartitionEpoch(0)));
    let members: Vec<_> = proposal.in_sync.iter().map(|member| (member.broker, member.broker_epoch)).collect();
    assert_eq!(members, [(A, None), (B, None), (C, Some(LIFE))], "the controller refuses an earlier life of it");
}

#[test]
fn rule_4_a_follower_of_a_flushed_topic_joins_with_what_it_has_flushed() {
    let mut partition = Partition::with(&[A], Durability::Flushed, 1);
    partition.follows(B, 10);
    partition.reports(B, 10, 9);
    assert_eq!(partition.asks(), None);
    partition.reports(B, 10, 10);
    assert_eq!(partition.asks(), Some(vec![A, B]));
}

#[test]
fn rule_4_a_pending_expansion_counts_already() {
    let mut partition = Partition::written(&[A]);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    assert_eq!(partition.asks(), Some(vec![A, B]));
    partition.append(1, "x");
    assert!(partition.acks().is_empty(), "the controller may hold it in sync already, and elect it");
    partition.reports(B, 11, 10);
    assert_eq!(partition.acks(), ["x"]);
    partition.controller_holds(&[A, B]);
    partition.append(1, "y");
    assert!(partition.acks().is_empty());
}

#[test]
fn rule_4_a_pending_expansion_does_not_make_up_the_minimum() {
    let mut partition = Partition::with(&[A], Durability::Written, 2);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    assert_eq!((partition.asks(), partition.watermark()), (Some(vec![A, B]), 4));
    let terms = ProduceTerms { leader_epoch: None, acks: Acks::All, expected_log_end: None };
    assert_eq!(partition.leader.admit(&terms), Err(Refusal::NotEnoughReplicas { in_sync: 1, min_in_sync: 2 }));
    partition.controller_holds(&[A, B]);
    assert_eq!((partition.leader.admit(&terms), partition.watermark()), (Ok(()), 10));
}

#[test]
fn rule_4_a_pending_shrink_still_counts() {
    let mut partition = Partition::written(&[A, B]);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    assert_eq!(partition.ticks(0), None);
    partition.append(1, "x");
    assert_eq!(partition.ticks(LAG_MAX_MS), None);
    assert_eq!(partition.ticks(LAG_MAX_MS + 1), Some(vec![A]));
    assert!(partition.acks().is_empty(), "the controller may still elect it");
    partition.controller_holds(&[A]);
    assert_eq!(partition.acks(), ["x"]);
}

#[test]
fn what_was_proposed_counts_even_after_a_refusal_until_the_partition_epoch_moves_on() {
    let mut partition = Partition::written(&[A]);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    assert_eq!(partition.asks(), Some(vec![A, B]));
    partition.controller_refuses();
    partition.append(1, "x");
    assert!(partition.acks().is_empty(), "the proposal may travel twice, and be taken the second time");
    partition.reports(B, 10, 10);
    assert_eq!(partition.ticks(0), Some(vec![A, B]));
    partition.controller_refuses();
    let settles = partition.ticks(LAG_MAX_MS + 1);
    assert_eq!(settles, Some(vec![A]), "B fell silent: the held set is asked for, to settle what became of the other");
    partition.controller_holds(&[A]);
    assert_eq!(partition.acks(), ["x"]);
}

#[test]
fn one_proposal_is_under_way_at_a_time_and_a_failed_one_waits_for_the_next_tick() {
    let mut partition = Partition::written(&[A]);
    for replica in [B, C] {
        partition.follows(replica, 10);
        partition.reports(replica, 10, 10);
    }
    assert_eq!(partition.asks(), Some(vec![A, B]));
    partition.controller_refuses();
    partition.reports(C, 10, 10);
    assert_eq!(partition.asks(), None);
    partition.reports(B, 10, 10);
    assert_eq!(partition.ticks(0), Some(vec![A, C]), "who was refused comes after who was not");
    assert_eq!(partition.ticks(500), None);
    partition.leader.alteration_failed(PartitionEpoch(9));
    assert_eq!(partition.ticks(1_000), None, "the answer to another question");
}

#[test]
fn news_that_are_older_than_what_is_known_change_nothing() {
    let mut partition = Partition::written(&[A, B]);
    partition.controller_holds(&[A]);
    let old = Membership { replicas: vec![A, B, C], in_sync: vec![A, B, C], partition_epoch: PartitionEpoch(1) };
    partition.leader.membership_changed(&old, &mut partition.effects);
    assert_eq!(partition.leader.replicas().in_sync().collect::<Vec<_>>(), [A]);
}

#[test]
fn a_silent_follower_leaves_after_the_lag_and_may_come_back() {
    let mut partition = Partition::written(&[A, B]);
    assert_eq!(partition.ticks(100), None);
    assert_eq!(partition.ticks(100 + LAG_MAX_MS + 1), Some(vec![A]));
    partition.controller_holds(&[A]);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    assert_eq!(partition.asks(), Some(vec![A, B]));
    partition.controller_holds(&[A, B]);
    assert_eq!(partition.ticks(9_000), None, "its lag counts from when it joined");
}

#[test]
fn who_left_is_proposed_again_only_after_a_fresh_report() {
    let mut partition = Partition::written(&[A, B]);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    partition.controller_holds(&[A]);
    assert_eq!(partition.ticks(0), None, "it was fenced, and had everything when it was last heard of");
    partition.append(1, "x");
    assert_eq!(partition.acks(), ["x"]);
    partition.reports(B, 11, 10);
    assert_eq!(partition.asks(), Some(vec![A, B]));
}

#[test]
fn a_last_word_that_comes_after_its_replica_left_keeps_nobody_else_out() {
    let mut partition = Partition::written(&[A, B, C]);
    for replica in [B, C] {
        partition.follows(replica, 10);
        partition.reports(replica, 10, 10);
    }
    partition.controller_holds(&[A]);
    partition.reports(C, 10, 10);
    assert_eq!(partition.asks(), Some(vec![A, C]), "nobody knows here that it died");
    partition.controller_refuses();
    assert_eq!(partition.ticks(0), Some(vec![A]), "not again, and what became of that is settled");
    partition.controller_holds(&[A]);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    assert_eq!(partition.asks(), Some(vec![A, B]));
    partition.controller_holds(&[A, B]);
    assert_eq!(partition.ticks(500), None);
    partition.append(1, "x");
    partition.reports(B, 11, 11);
    assert_eq!(partition.acks(), ["x"], "it holds up nobody who writes either");
    partition.reports(C, 11, 11);
    assert_eq!(partition.asks(), Some(vec![A, B, C]), "it lives");
}

#[test]
fn one_that_is_refused_again_and_again_keeps_nobody_else_out() {
    let mut partition = Partition::written(&[A]);
    partition.follows(B, 10);
    partition.follows(C, 9);
    partition.reports(B, 10, 10);
    assert_eq!(partition.asks(), Some(vec![A, B]));
    partition.controller_refuses();
    for now in 0..3 {
        partition.reports(B, 10, 10);
        assert_eq!(partition.ticks(now), Some(vec![A, B]), "it may be taken now");
        partition.controller_refuses();
    }
    partition.reports(B, 10, 10);
    partition.reports(C, 10, 10);
    assert_eq!(partition.ticks(3), Some(vec![A, C]));
    partition.controller_holds(&[A, C]);
    assert_eq!(partition.ticks(4), Some(vec![A, B, C]));
}

#[test]
fn those_that_were_refused_together_are_proposed_one_by_one_in_turn() {
    let mut partition = Partition::written(&[A]);
    for replica in [B, C] {
        partition.follows(replica, 10);
        partition.reports(replica, 10, 10);
    }
    assert_eq!(partition.asks(), Some(vec![A, B]));
    partition.controller_holds(&[A]);
    assert_eq!(partition.ticks(0), Some(vec![A, B, C]));
    partition.controller_refuses();
    for (now, replica) in [B, C, B, C].into_iter().enumerate() {
        partition.reports(B, 10, 10);
        partition.reports(C, 10, 10);
        assert_eq!(partition.ticks(now as u64), Some(vec![A, replica]), "round {now}");
        partition.controller_refuses();
    }
}

#[test]
fn who_is_fenced_or_shutting_down_is_not_proposed_until_it_is_no_more() {
    let mut partition = Partition::written(&[A]);
    partition.leader.bar(&[C]);
    for replica in [C, B] {
        partition.follows(replica, 10);
        partition.reports(replica, 10, 10);
    }
    assert_eq!(partition.asks(), Some(vec![A, B]));
    partition.controller_holds(&[A, B]);
    partition.leader.bar(&[C]);
    partition.reports(C, 10, 10);
    assert_eq!((partition.asks(), partition.ticks(0)), (None, None));
    partition.leader.bar(&[]);
    assert_eq!(partition.ticks(500), Some(vec![A, B, C]));
}

/// Who shuts down reports to the last. To propose it would count it until the controller answers, which may be what stops.
#[test]
fn whoever_leaves_is_not_proposed_before_it_is_known_that_it_is_not_shutting_down() {
    let mut partition = Partition::written(&[A, B, C]);
    partition.follows(C, 10);
    let membership = Membership { replicas: vec![A, B, C], in_sync: vec![A, B], partition_epoch: PartitionEpoch(1) };
    partition.leader.membership_changed(&membership, &mut partition.effects);
    partition.reports(C, 10, 10);
    assert_eq!(partition.asks(), None);
    partition.leader.bar(&[C]);
    assert_eq!(partition.ticks(0), None);
    partition.leader.bar(&[]);
    assert_eq!(partition.ticks(500), Some(vec![A, B, C]));
}

/// A new leader knows of nobody who is away.
#[test]
fn a_new_leader_proposes_nobody_before_it_is_known_who_is_shutting_down() {
    let membership = Membership { replicas: vec![A, B, C], in_sync: vec![A, B], partition_epoch: PartitionEpoch(0) };
    let leadership = Leadership {
        leader: A,
        epoch: EPOCH,
        membership,
        lag_max_ms: LAG_MAX_MS,
        min_in_sync: 1,
        durability: Durability::Written,
    };
    let leader = Leader::new(PartitionOffsets::default(), EpochHistory::default(), &leadership);
    let mut partition = Partition { leader, effects: Effects::new(), partition_epoch: 0 };
    partition.follows(C, 0);
    partition.reports(C, 0, 0);
    assert_eq!(partition.asks(), None);
    partition.leader.bar(&[]);
    assert_eq!(partition.ticks(0), Some(vec![A, B, C]));
}

#[test]
fn rule_5_the_watermark_stands_while_too_few_are_in_sync() {
    let mut partition = Partition::with(&[A, B], Durability::Written, 2);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    partition.append(1, "x");
    partition.controller_holds(&[A]);
    assert_eq!((partition.watermark(), partition.acks()), (10, vec![]), "B left, and may still be elected as eligible");
    partition.reports(B, 11, 11);
    partition.controller_holds(&[A, B]);
    assert_eq!((partition.watermark(), partition.acks()), (11, vec!["x"]));
}

#[test]
fn rule_8_a_leader_whose_lease_ended_acknowledges_nothing_and_serves_what_is_settled() {
    let mut partition = Partition::written(&[A]);
    partition.append(1, "x");
    assert_eq!(partition.acks(), ["x"]);
    let mut partition = Partition::with(&[A, B], Durability::Written, 1);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    partition.append(1, "y");
    partition.leader.lease_ended(&mut partition.effects);
    let failed: Vec<_> = partition.effects.failed.iter().map(|failed| (failed.ticket, failed.cause.code())).collect();
    assert_eq!(failed, [("y", ErrorCode::LeadershipEnded)]);
    let ends = ReplicaEnds { written_end: Offset(11), flushed_end: Offset(11) };
    let progress = ReplicaProgress { replica: B, broker_epoch: LIFE, epoch: EPOCH, ends };
    assert_eq!(partition.leader.progress(progress, &mut partition.effects), Err(Refusal::LeaseEnded));
    let terms = ProduceTerms { leader_epoch: None, acks: Acks::Leader, expected_log_end: None };
    assert_eq!(partition.leader.admit(&terms).map_err(|refusal| refusal.code()), Err(ErrorCode::NotLeader));
    assert_eq!(partition.ticks(60_000), None);
    assert_eq!(partition.watermark(), 10, "it neither moves on nor back");
    partition.leader.lease_renewed(&mut partition.effects);
    partition.reports(B, 11, 11);
    assert_eq!((partition.watermark(), partition.leader.admit(&terms)), (11, Ok(())));
}

#[test]
fn rule_8_a_leader_whose_lease_ended_asks_for_no_other_in_sync_set() {
    let mut partition = Partition::written(&[A, B]);
    partition.follows(B, 10);
    partition.reports(B, 10, 10);
    assert_eq!(partition.ticks(1_000), None);
    partition.append(1, "x");
    assert_eq!(partition.ticks(1_000 + LAG_MAX_MS - 1), None, "B may still come");
    partition.leader.lease_ended(&mut partition.effects);
    assert_eq!(partition.ticks(60_000), None, "B lags, but who says so may not lead any more");
    partition.leader.lease_renewed(&mut partition.effects);
    assert_eq!(partition.ticks(60_001), Some(vec![A]), "it leads, and says so");
}

#[test]
fn a_leader_whose_log_broke_gives_no_follower_a_stream() {
    let mut partition = Partition::written(&[A, B]);
    partition.follows(B, 10);
    partition.leader.poisoned(&mut partition.effects);
    let again = partition.leader.follow(&Partition::terms(B, 10, Some(1)));
    assert_eq!(again, Err(Refusal::Poisoned), "what its log gives back is not known");
}

#[test]
fn rule_10_a_log_that_is_no_prefix_of_the_leaders_gets_no_stream() {
    let mut partition = Partition::written(&[A]);
    partition.append(5, "x");
    let mut outcome =
        |from, last_epoch| partition.leader.follow(&Partition::terms(B, from, last_epoch)).unwrap().outcome;
    let end = |epoch, end| Some(EpochEnd { epoch: LeaderEpoch(epoch), end: Offset(end) });
    assert_eq!(outcome(10, Some(1)), FollowOutcome::Streams);
    assert_eq!(outcome(15, Some(7)), FollowOutcome::Streams);
    assert_eq!(outcome(11, Some(1)), FollowOutcome::Diverged { end: end(1, 10) });
    assert_eq!(outcome(12, Some(3)), FollowOutcome::Diverged { end: end(1, 10) });
    assert_eq!(outcome(16, Some(7)), FollowOutcome::Diverged { end: end(7, 15) });
    assert_eq!(outcome(16, None), FollowOutcome::OutOfRange);
}

#[test]
fn the_end_of_an_epoch_is_told_to_followers_of_this_leadership_only() {
    let mut partition = Partition::written(&[A]);
    let end = |partition: &Partition, asked| partition.leader.epoch_end(EPOCH, LeaderEpoch(asked)).unwrap().end;
    assert_eq!(end(&partition, 1), Some(EpochEnd { epoch: LeaderEpoch(1), end: Offset(10) }));
    partition.append(5, "x");
    assert_eq!(end(&partition, 6), Some(EpochEnd { epoch: LeaderEpoch(1), end: Offset(10) }));
    assert_eq!(end(&partition, 7), Some(EpochEnd { epoch: EPOCH, end: Offset(15) }));
    assert_eq!(end(&partition, 0), None);
    let code = |epoch| partition.leader.epoch_end(LeaderEpoch(epoch), EPOCH).map_err(|refusal| refusal.code());
    assert_eq!(code(6), Err(ErrorCode::FencedEpoch));
    assert_eq!(code(8), Err(ErrorCode::UnknownEpoch));
}

#[test]
fn an_append_that_was_abandoned_leaves_no_epoch_behind() {
    let mut partition = Partition::written(&[A]);
    let range = AppendedRange { base_offset: Offset(10), next_offset: Offset(12), bytes: 1 };
    partition.leader.appended(range, Acks::All, "x");
    let (offsets, epochs) = partition.leader.resigned(&mut partition.effects);
    assert_eq!((offsets.log_end(), epochs.latest()), (Offset(10), Some(LeaderEpoch(1))));
}

#[test]
fn a_leader_whose_log_broke_asks_the_others_in_sync_to_lead() {
    let mut partition = Partition::written(&[A, B]);
    assert_eq!(partition.leader.resignation(), None, "a healthy one stays");
    partition.leader.poisoned(&mut partition.effects);
    let InSyncProposal { leader_epoch, partition_epoch, in_sync } = partition.leader.resignation().unwrap();
    assert_eq!((leader_epoch, partition_epoch), (EPOCH, PartitionEpoch(0)));
    assert_eq!(in_sync.iter().map(|member| member.broker).collect::<Vec<_>>(), [B]);
    let mut alone = Partition::written(&[A]);
    alone.leader.poisoned(&mut alone.effects);
    let resignation = alone.leader.resignation().unwrap();
    assert_eq!(resignation.in_sync, [], "it knows of nobody; who is eligible the controller knows");
}
