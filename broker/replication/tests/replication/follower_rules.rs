//! The follower machine, one rule at a time. Knows nothing of its inside.

use tidelog_protocol::{BrokerEpoch, BrokerId, LeaderEpoch, Offset};
use tidelog_replication::{
    BatchSpan, BrokenChain, EpochEnd, EpochEndAnswer, EpochHistory, FollowAnswer, FollowOutcome, FollowTerms, Follower,
    FollowerEffect, Following, Offer, PartitionOffsets, ReplicaEnds, ReplicaProgress, Take,
};

const ME: BrokerId = BrokerId(2);
const LEADER: BrokerId = BrokerId(1);
const LIFE: BrokerEpoch = BrokerEpoch(9);

/// A follower whose log is only what its machine knows of it.
struct Replica {
    follower: Follower,
    effects: Vec<FollowerEffect>,
}

fn following(epoch: u32) -> Following {
    Following { replica: ME, broker_epoch: LIFE, leader: LEADER, epoch: LeaderEpoch(epoch) }
}

fn span(epoch: u32, base: u64, next: u64) -> BatchSpan {
    BatchSpan { base_offset: Offset(base), next_offset: Offset(next), epoch: LeaderEpoch(epoch) }
}

fn ask(leader_epoch: u32, epoch: u32) -> FollowerEffect {
    FollowerEffect::AskEpochEnd { leader_epoch: LeaderEpoch(leader_epoch), epoch: LeaderEpoch(epoch) }
}

fn follow(leader_epoch: u32, from: u64, last_epoch: Option<u32>) -> FollowerEffect {
    FollowerEffect::Follow(FollowTerms {
        replica: ME,
        broker_epoch: LIFE,
        leader_epoch: LeaderEpoch(leader_epoch),
        from: Offset(from),
        last_epoch: last_epoch.map(LeaderEpoch),
    })
}

fn report(epoch: u32, written: u64, flushed: u64) -> FollowerEffect {
    let ends = ReplicaEnds { written_end: Offset(written), flushed_end: Offset(flushed) };
    FollowerEffect::Report(ReplicaProgress { replica: ME, broker_epoch: LIFE, epoch: LeaderEpoch(epoch), ends })
}

fn truncate(to: u64) -> FollowerEffect {
    FollowerEffect::Truncate { to: Offset(to), settled_lost: 0 }
}

impl Replica {
    /// Holds `starts` up to `end`, all flushed, knows `watermark`, and begins to follow `epoch`.
    fn with(starts: &[(u32, u64)], end: u64, watermark: u64, epoch: u32) -> Self {
        let offsets = PartitionOffsets::recovered(Offset(0), Offset(watermark), Offset(end), Offset(end));
        let epochs = EpochHistory::recovered(starts.iter().map(|(epoch, start)| (LeaderEpoch(*epoch), Offset(*start))));
        let mut effects = Vec::new();
        let follower = Follower::new(offsets, epochs, following(epoch), &mut effects);
        Self { follower, effects }
    }

    /// The same, once its stream is open.
    fn fetching(starts: &[(u32, u64)], end: u64, watermark: u64, epoch: u32) -> Self {
        let mut replica = Self::with(starts, end, watermark, epoch);
        if let Some((latest, _)) = starts.last() {
            replica.hears(epoch, *latest, Some((*latest, end)));
        }
        replica.subscribed(epoch, FollowOutcome::Streams);
        assert!(replica.follower.is_fetching());
        replica.effects.clear();
        replica
    }

    fn asks(&mut self) -> Vec<FollowerEffect> {
        std::mem::take(&mut self.effects)
    }

    fn hears(&mut self, leader_epoch: u32, asked: u32, end: Option<(u32, u64)>) -> Vec<FollowerEffect> {
        let end = end.map(|(epoch, end)| EpochEnd { epoch: LeaderEpoch(epoch), end: Offset(end) });
        let (leader_epoch, asked, log_start) = (LeaderEpoch(leader_epoch), LeaderEpoch(asked), Offset(0));
        self.effects.clear();
        self.follower.epoch_end(EpochEndAnswer { leader_epoch, asked, end, log_start }, &mut self.effects);
        self.effects.clone()
    }

    fn subscribed(&mut self, leader_epoch: u32, outcome: FollowOutcome) -> Vec<FollowerEffect> {
        let from = self.follower.offsets().written_end();
        let answer = FollowAnswer { leader_epoch: LeaderEpoch(leader_epoch), from, log_start: Offset(30), outcome };
        self.effects.clear();
        self.follower.follows(answer, &mut self.effects);
        self.effects.clone()
    }

    fn offered(&mut self, epoch: u32, watermark: u64, batches: &[BatchSpan]) -> Result<Take, BrokenChain> {
        let (high_watermark, log_start) = (Offset(watermark), Offset(0));
        let offer = Offer { leader_epoch: LeaderEpoch(epoch), high_watermark, log_start };
        self.effects.clear();
        self.follower.offered(offer, batches.iter().copied(), &mut self.effects)
    }

    fn writes(&mut self, batches: &[BatchSpan]) -> Vec<FollowerEffect> {
        self.follower.written(batches.iter().copied(), &mut self.effects);
        self.asks()
    }

    fn ends(&self) -> (u64, u64) {
        (self.follower.offsets().high_watermark().0, self.follower.offsets().written_end().0)
    }
}

#[test]
fn rule_1_a_follower_truncates_before_it_fetches() {
    let mut replica = Replica::with(&[(1, 0)], 9, 3, 2);
    assert_eq!(replica.asks(), [ask(2, 1)], "it asks before it subscribes");
    assert_eq!(replica.hears(2, 1, Some((1, 6))), [truncate(6)]);
    replica.effects.clear();
    replica.follower.truncated(Offset(6), &mut replica.effects);
    assert_eq!(replica.asks(), [follow(2, 6, Some(1))]);
    assert_eq!(replica.subscribed(2, FollowOutcome::Streams), [report(2, 6, 6)]);
}

#[test]
fn rule_1_a_follower_never_truncates_to_its_own_watermark() {
    let mut replica = Replica::with(&[(1, 0)], 9, 3, 2);
    assert_eq!(replica.hears(2, 1, Some((1, 9))), [follow(2, 9, Some(1))], "the leader has all of it");
}

#[test]
fn rule_1_a_cut_inside_a_batch_takes_the_whole_batch() {
    let mut replica = Replica::with(&[(1, 0)], 9, 3, 2);
    assert_eq!(replica.hears(2, 1, Some((1, 6))), [truncate(6)]);
    replica.effects.clear();
    replica.follower.truncated(Offset(5), &mut replica.effects);
    assert_eq!(replica.asks(), [follow(2, 5, Some(1))]);
}

#[test]
fn rule_1_the_search_goes_back_to_older_epochs_that_the_leader_never_saw() {
    let mut replica = Replica::with(&[(0, 0), (1, 1), (3, 4)], 6, 0, 4);
    assert_eq!(replica.asks(), [ask(4, 3)]);
    assert_eq!(replica.hears(4, 3, Some((2, 8))), [ask(4, 1)], "neither knows the other's newest epoch");
    assert_eq!(replica.hears(4, 1, Some((0, 1))), [truncate(1)]);
}

#[test]
fn rule_1_the_same_broker_that_leads_anew_is_searched_anew() {
    let mut replica = Replica::fetching(&[(1, 0)], 9, 3, 1);
    replica.follower.leadership_changed(following(2), &mut replica.effects);
    assert_eq!(replica.asks(), [ask(2, 1)]);
    assert!(!replica.follower.is_fetching());
    replica.follower.leadership_changed(following(2), &mut replica.effects);
    replica.follower.leadership_changed(following(1), &mut replica.effects);
    assert_eq!(replica.asks(), [], "news that are none");
}

#[test]
fn rule_1_a_log_that_ends_in_this_leadership_needs_no_search_and_no_late_answer_cuts_it() {
    let mut replica = Replica::with(&[(1, 0), (2, 5)], 9, 7, 2);
    assert_eq!(replica.asks(), [follow(2, 9, Some(2))]);
    assert_eq!(replica.hears(2, 2, Some((2, 8))), [], "the leader's end as of long ago");
    assert_eq!(replica.subscribed(2, FollowOutcome::Streams), [report(2, 9, 9)]);
}

#[test]
fn rule_2_an_answer_from_another_leadership_is_discarded() {
    let mut replica = Replica::with(&[(1, 0)], 9, 3, 2);
    assert_eq!(replica.hears(1, 1, Some((1, 4))), [], "an old leader that is late");
    assert_eq!(replica.hears(3, 1, Some((1, 4))), [], "a leader this replica has not heard of");
    assert_eq!(replica.hears(2, 0, Some((0, 2))), [], "an answer to another question");
    assert_eq!(replica.hears(2, 1, Some((2, 4))), [], "an answer that cannot be");
    assert_eq!(replica.hears(2, 1, Some((1, 9))), [follow(2, 9, Some(1))]);
    assert_eq!(replica.subscribed(1, FollowOutcome::Streams), []);
    assert_eq!(replica.subscribed(2, FollowOutcome::Streams), [report(2, 9, 9)]);
}

#[test]
fn rule_3_no_progress_is_reported_before_the_search_is_over() {
    let mut replica = Replica::with(&[(1, 0)], 9, 3, 2);
    replica.asks();
    replica.follower.flushed(Offset(9), &mut replica.effects);
    replica.follower.report(&mut replica.effects);
    assert_eq!(replica.asks(), []);
}

#[test]
fn rule_7_written_and_flushed_are_reported_each_as_it_happens() {
    let mut replica = Replica::fetching(&[(1, 0)], 5, 3, 1);
    assert_eq!(replica.offered(1, 3, &[span(1, 5, 7)]), Ok(Take::From(Offset(5))));
    assert_eq!(replica.writes(&[span(1, 5, 7)]), [report(1, 7, 5)]);
    replica.follower.flushed(Offset(7), &mut replica.effects);
    assert_eq!(replica.asks(), [report(1, 7, 7)]);
}

#[test]
fn the_watermark_follows_the_leaders_and_never_passes_what_is_written_here() {
    let mut replica = Replica::fetching(&[(1, 0)], 5, 3, 1);
    assert_eq!(replica.offered(1, 9, &[span(1, 5, 7)]), Ok(Take::From(Offset(5))));
    assert_eq!(replica.asks(), [FollowerEffect::RaiseWatermark(Offset(5))]);
    assert_eq!(replica.writes(&[span(1, 5, 7)]), [FollowerEffect::RaiseWatermark(Offset(7)), report(1, 7, 5)]);
    assert_eq!(replica.offered(1, 4, &[]), Ok(Take::Nothing), "a late one");
    assert_eq!(replica.ends(), (7, 7));
}

#[test]
fn the_watermark_of_an_earlier_leader_says_nothing_of_the_next() {
    let mut replica = Replica::fetching(&[(1, 0)], 5, 3, 1);
    assert_eq!(replica.offered(1, 9, &[]), Ok(Take::Nothing));
    replica.follower.leadership_changed(following(2), &mut replica.effects);
    replica.hears(2, 1, Some((1, 5)));
    replica.subscribed(2, FollowOutcome::Streams);
    assert_eq!(replica.offered(2, 5, &[span(2, 5, 7)]), Ok(Take::From(Offset(5))));
    assert_eq!(replica.writes(&[span(2, 5, 7)]), [report(2, 7, 5)]);
    assert_eq!(replica.ends(), (5, 7));
}

#[test]
fn batches_of_another_leadership_or_before_their_time_are_not_taken() {
    let mut replica = Replica::with(&[(1, 0)], 5, 3, 2);
    assert_eq!(replica.offered(2, 9, &[span(2, 5, 7)]), Ok(Take::Nothing), "still searching");
    let mut replica = Replica::fetching(&[(1, 0)], 5, 3, 2);
    assert_eq!(replica.offered(1, 9, &[span(1, 5, 7)]), Ok(Take::Nothing), "an old leader that is late");
    assert_eq!(replica.ends(), (3, 5));
}

#[test]
fn what_comes_twice_is_taken_once() {
    let mut replica = Replica::fetching(&[(1, 0)], 5, 3, 1);
    assert_eq!(replica.offered(1, 3, &[span(1, 3, 5)]), Ok(Take::Nothing));
    assert_eq!(replica.offered(1, 3, &[span(1, 3, 5), span(1, 5, 6)]), Ok(Take::From(Offset(5))));
}

#[test]
fn what_is_missing_is_asked_for_again() {
    let mut replica = Replica::fetching(&[(1, 0)], 5, 3, 1);
    let gap = BrokenChain::Gap { log_end: Offset(5), base_offset: Offset(7) };
    assert_eq!(replica.offered(1, 3, &[span(1, 7, 8)]), Err(gap));
    assert_eq!(replica.asks(), [follow(1, 5, Some(1))]);
}

#[test]
fn batches_that_cannot_stand_there_are_refused() {
    let held = &[(1, 0), (3, 2)];
    for batches in [
        &[span(3, 4, 6)][..],
        &[span(3, 5, 5)],
        &[span(2, 5, 6)],
        &[span(5, 5, 6)],
        &[span(3, 5, 6), span(3, 7, 8)],
        &[span(4, 5, 6), span(3, 6, 8)],
    ] {
        let mut replica = Replica::fetching(held, 5, 3, 4);
        assert!(matches!(replica.offered(4, 9, batches), Err(BrokenChain::Impossible(_))), "{batches:?}");
        assert_eq!(replica.ends(), (3, 5));
    }
}

#[test]
fn a_broken_connection_asks_again_where_it_stood() {
    let mut replica = Replica::with(&[(1, 0)], 5, 3, 2);
    replica.asks();
    replica.follower.interrupted(&mut replica.effects);
    assert_eq!(replica.asks(), [ask(2, 1)]);
    let mut replica = Replica::fetching(&[(1, 0)], 5, 3, 2);
    replica.follower.interrupted(&mut replica.effects);
    assert_eq!(replica.asks(), [follow(2, 5, Some(1))]);
}

#[test]
fn the_leaders_second_check_sends_a_follower_back_to_cutting() {
    let mut replica = Replica::with(&[(1, 0)], 5, 3, 2);
    replica.hears(2, 1, Some((1, 5)));
    let end = Some(EpochEnd { epoch: LeaderEpoch(1), end: Offset(4) });
    assert_eq!(replica.subscribed(2, FollowOutcome::Diverged { end }), [truncate(4)]);
}

#[test]
fn a_follower_whose_next_record_is_gone_at_the_leader_begins_where_the_leader_begins() {
    let mut replica = Replica::with(&[(1, 0)], 5, 5, 2);
    replica.hears(2, 1, Some((1, 40)));
    let restart = FollowerEffect::RestartAt { at: Offset(30), settled_lost: 0 };
    assert_eq!(replica.subscribed(2, FollowOutcome::OutOfRange), [restart], "what retention removed is not lost");
    replica.effects.clear();
    replica.follower.restarted(Offset(30), &mut replica.effects);
    assert_eq!(replica.asks(), [follow(2, 30, None)]);
    replica.subscribed(2, FollowOutcome::Streams);
    assert_eq!(replica.offered(2, 40, &[span(1, 28, 33)]), Ok(Take::RestartAt(Offset(28))), "the batch around it");
    replica.writes(&[span(1, 28, 33)]);
    assert_eq!(replica.ends(), (33, 33));
    assert_eq!(replica.follower.epochs().latest(), Some(LeaderEpoch(1)));
}

#[test]
fn an_empty_log_parts_from_nobodys() {
    assert_eq!(Replica::with(&[], 0, 0, 2).asks(), [follow(2, 0, None)]);
}

#[test]
fn a_log_that_shares_no_epoch_with_the_leaders_begins_anew() {
    let mut replica = Replica::with(&[(1, 0)], 9, 0, 2);
    assert_eq!(replica.hears(2, 1, None), [FollowerEffect::RestartAt { at: Offset(0), settled_lost: 0 }]);
}

#[test]
fn settled_records_that_are_cut_are_counted() {
    let mut replica = Replica::with(&[(1, 0)], 9, 7, 2);
    let lost = FollowerEffect::Truncate { to: Offset(4), settled_lost: 3 };
    assert_eq!(replica.hears(2, 1, Some((1, 4))), [lost]);
    replica.follower.truncated(Offset(4), &mut replica.effects);
    assert_eq!(replica.ends(), (4, 4), "nobody reads what is not settled");
}

#[test]
fn what_the_leader_deleted_may_be_deleted_here_once_it_is_settled_here() {
    let mut replica = Replica::fetching(&[(1, 0)], 5, 3, 1);
    let offer = Offer { leader_epoch: LeaderEpoch(1), high_watermark: Offset(4), log_start: Offset(40) };
    assert_eq!(replica.follower.offered(offer, [], &mut replica.effects), Ok(Take::Nothing));
    let expected = [FollowerEffect::RaiseWatermark(Offset(4)), FollowerEffect::RaiseLogStart(Offset(4))];
    assert_eq!(replica.asks(), expected);
    replica.follower.log_start_moved(Offset(4));
    assert_eq!(replica.follower.offsets().log_start(), Offset(4));
}

#[test]
fn a_follower_whose_flush_failed_is_silent() {
    let mut replica = Replica::fetching(&[(1, 0)], 5, 3, 1);
    replica.follower.poisoned();
    replica.follower.flushed(Offset(5), &mut replica.effects);
    replica.follower.interrupted(&mut replica.effects);
    replica.follower.leadership_changed(following(2), &mut replica.effects);
    assert_eq!(replica.offered(1, 9, &[span(1, 5, 7)]), Ok(Take::Nothing));
    assert_eq!(replica.asks(), []);
}

#[test]
fn nobody_waits_for_the_flushes_of_a_replica_that_ends_below_its_leaders_watermark() {
    let offer = Offer { leader_epoch: LeaderEpoch(1), high_watermark: Offset(40), log_start: Offset(0) };
    assert!(!offer.is_awaited_at(Offset(39)), "who is in sync has more");
    assert!(offer.is_awaited_at(Offset(40)), "with this flush it may be");
    assert!(offer.is_awaited_at(Offset(41)));
}
