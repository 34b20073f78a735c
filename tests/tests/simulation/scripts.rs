//! Published sequences of replication going wrong, as scripts on the real machines: each is harmless, and each does its harm once the
//! rule that was made for it is taken out.

use tidelog_protocol::messages::Acks;
use tidelog_protocol::{BrokerId, Durability, Offset};
use tidelog_replication::{Flaw, Flaws};
use tidelog_tests::simulation::invariants::{Invariant, Violation};
use tidelog_tests::simulation::message::Place;
use tidelog_tests::simulation::network::Weather;
use tidelog_tests::simulation::schedule::{expect_available, heal};
use tidelog_tests::simulation::settings::{Settings, ShellFlaw};
use tidelog_tests::simulation::world::World;

/// A cluster at peace, and who plays which part in the script.
struct Scene {
    world: World,
    leader: BrokerId,
    others: [BrokerId; 2],
}

fn scene(settings: Settings) -> Scene {
    let mut world = World::new(settings, Weather::CALM, 1);
    assert!(world.run_until(10_000, World::is_whole), "it comes up");
    world.run_for(300);
    let leader = world.leader().expect("it is led");
    let others: Vec<BrokerId> = world.brokers().into_iter().filter(|broker| *broker != leader).collect();
    let others = [others[0], *others.last().expect("two brokers at least")];
    Scene { world, leader, others }
}

impl Scene {
    /// Nothing gets from `from` to `to`.
    fn cut(&mut self, from: BrokerId, to: BrokerId) {
        self.world.network.cut(Place::Broker(from), Place::Broker(to));
    }

    /// What is sent from `from` to `to` arrives later.
    fn hold(&mut self, from: BrokerId, to: BrokerId) {
        self.world.network.hold(Place::Broker(from), Place::Broker(to));
    }

    fn let_pass(&mut self, from: BrokerId, to: BrokerId) {
        self.world.network.let_pass(Place::Broker(from), Place::Broker(to));
    }

    fn settled(&self) -> u64 {
        self.world.checks.settled_end().0
    }

    fn end(&self, broker: BrokerId) -> u64 {
        self.world.disk(broker).end().0
    }

    /// Appends and waits until all have it and know that it is settled.
    fn settle(&mut self, broker: BrokerId, records: u64) {
        assert!(self.world.produce(broker, records, Acks::All));
        let end = self.end(broker);
        assert!(self.world.run_until(500, |world| world.checks.settled_end().0 == end), "it is settled");
        self.world.run_for(50);
    }

    #[track_caller]
    fn leads_soon(&mut self, broker: BrokerId) {
        let leads = |world: &World| world.process(broker).is_some_and(|process| process.leads().is_some());
        let led = self.world.run_until(3_000, |world| world.leader() == Some(broker) && leads(world));
        assert!(led, "{broker} leads: {:?}", self.world.control().partition());
    }

    /// Ends every fault and gives all breaches.
    fn verdict(mut self) -> Vec<Violation> {
        heal(&mut self.world);
        expect_available(&mut self.world);
        self.world.check_disks(Invariant::NoAckedRecordLost);
        self.world.checks.violations().to_vec()
    }
}

fn usual() -> Settings {
    Settings::usual()
}

fn with(flaw: Flaw) -> Settings {
    Settings { flaws: Flaws::planted(flaw), ..usual() }
}

#[track_caller]
fn harmless(violations: Vec<Violation>) {
    assert_eq!(violations, []);
}

#[track_caller]
fn caught(violations: Vec<Violation>, invariants: &[Invariant]) {
    println!("{violations:?}");
    let harm = violations.iter().any(|violation| invariants.contains(&violation.invariant));
    assert!(harm, "the bug does its harm: {violations:?}");
}

/// KIP-101, first scenario: a follower has a record and has not heard that it is settled. The leader changes, the follower cuts to its
/// watermark, and becomes leader before it has fetched the record again.
fn kip_101(settings: Settings) -> Vec<Violation> {
    let mut scene = scene(settings);
    let (a, [b, c]) = (scene.leader, scene.others);
    scene.settle(a, 2);
    assert!(scene.world.produce(a, 1, Acks::All));
    scene.world.run_for(2);
    assert_eq!((scene.end(b), scene.end(c), scene.settled()), (3, 3, 2), "all have it, nobody knows");
    scene.cut(a, b);
    scene.cut(a, c);
    assert!(scene.world.run_until(100, |world| world.checks.settled_end() == Offset(3)), "only the leader knows");
    scene.world.kill(a);
    scene.cut(b, c);
    scene.cut(c, b);
    let led = scene.world.run_until(3_000, |world| world.leader().is_some_and(|leader| leader != a));
    assert!(led, "one of them leads");
    scene.world.run_for(200);
    let second = scene.world.leader().expect("it is led");
    let third = if second == b { c } else { b };
    scene.world.kill(second);
    scene.leads_soon(third);
    scene.verdict()
}

#[test]
fn kip_101_a_settled_record_survives_a_leader_that_had_not_heard_of_it() {
    harmless(kip_101(Settings { min_in_sync: 1, ..usual() }));
}

#[test]
fn kip_101_truncating_to_the_watermark_loses_it() {
    let flawed = Settings { min_in_sync: 1, ..with(Flaw::TruncateToWatermark) };
    caught(kip_101(flawed), &[Invariant::LeaderIsComplete, Invariant::NothingSettledIsCut]);
}

/// KIP-101, second scenario: two logs go on alone from the same offset; the one that leads keeps its records, the other cuts.
#[test]
fn kip_101_a_deposed_leader_cuts_the_tail_that_nobody_else_has() {
    let mut scene = scene(usual());
    let (a, [b, _]) = (scene.leader, scene.others);
    scene.settle(a, 2);
    scene.world.isolate(a);
    assert!(scene.world.produce(a, 3, Acks::Leader));
    let led = scene.world.run_until(3_000, |world| world.leader().is_some_and(|leader| leader != a));
    assert!(led, "another leads");
    scene.world.run_for(300);
    let second = scene.world.leader().unwrap_or(b);
    scene.settle(second, 1);
    assert_eq!((scene.end(a), scene.end(second)), (5, 3));
    let cuts = scene.world.checks.events.records_cut;
    let (records_cut, violation) = {
        heal(&mut scene.world);
        scene.world.run_for(1_000);
        (scene.world.checks.events.records_cut, scene.verdict())
    };
    assert_eq!(records_cut - cuts, 3);
    harmless(violation);
}

/// KIP-279: two brokers lead in turn without the other's records, each under epochs that the other never saw, after an unclean election.
fn kip_279(settings: Settings) -> Vec<Violation> {
    let mut scene = scene(Settings { brokers: 2, ..settings });
    let (a, [b, _]) = (scene.leader, scene.others);
    scene.settle(a, 1);
    // A second leadership of the first broker, whose records the other does not get.
    scene.cut(a, b);
    scene.cut(b, a);
    scene.world.hand_over(a);
    scene.world.run_for(100);
    assert!(scene.world.produce(a, 4, Acks::Leader));
    scene.world.run_for(20);
    // Then the other leads alone, then the first again, both by order.
    scene.world.kill(a);
    scene.world.run_until(2_000, |world| world.leader() != Some(a));
    scene.world.elect_unclean(b);
    scene.leads_soon(b);
    scene.world.run_for(100);
    assert!(scene.world.produce(b, 2, Acks::Leader));
    scene.world.kill(b);
    scene.world.start(a);
    scene.world.run_for(1_000);
    scene.world.elect_unclean(a);
    scene.leads_soon(a);
    scene.verdict()
}

#[test]
fn kip_279_logs_that_went_on_alone_are_made_equal() {
    harmless(kip_279(usual()));
}

#[test]
fn kip_279_stopping_at_the_first_answer_leaves_them_different() {
    // What stays makes the log no prefix of the leader's: nothing that is pushed continues it, and it never joins again.
    caught(kip_279(with(Flaw::AskOnce)), &[Invariant::EventuallyAvailable]);
}

/// KAFKA-7164: the same broker loses its tail and leads anew; its follower still holds the tail.
fn kafka_7164(settings: Settings) -> Vec<Violation> {
    let mut scene = scene(Settings { brokers: 2, min_in_sync: 1, ..settings });
    let (a, [b, _]) = (scene.leader, scene.others);
    scene.settle(a, 2);
    // The follower is out of the in-sync set and has everything but the last word of the controller.
    scene.world.kill(b);
    assert!(scene.world.run_until(3_000, |world| world.control().partition().in_sync == [a]), "it leaves");
    scene.world.start(b);
    scene.world.flush_takes(a, 5_000);
    scene.world.run_until(1_000, |world| world.process(b).is_some_and(|process| process.leads().is_none()));
    scene.hold(b, a);
    assert!(scene.world.produce(a, 3, Acks::Leader));
    scene.let_pass(b, a);
    scene.world.run_until(1_000, |world| world.disk(b).end() == world.disk(a).end());
    assert_eq!((scene.end(b), scene.settled()), (5, 2), "only the follower flushed");
    scene.world.cut_power(a, |_| 0);
    scene.world.flush_takes(a, 2);
    scene.world.start(a);
    scene.leads_soon(a);
    scene.world.run_for(300);
    assert!(scene.world.produce(a, 5, Acks::All));
    scene.verdict()
}

#[test]
fn kafka_7164_a_follower_searches_again_where_the_same_broker_leads_anew() {
    harmless(kafka_7164(usual()));
}

#[test]
fn kafka_7164_trusting_the_same_broker_lets_the_replicas_part() {
    let lies = [Invariant::OneValuePerOffset, Invariant::ReplicasByteIdentical, Invariant::NothingSettledIsCut];
    caught(kafka_7164(with(Flaw::SameLeaderTrusted)), &lies);
}

/// KIP-320: an answer of a leader that is long gone reaches a follower that has asked another one the same question.
fn kip_320(settings: Settings) -> Vec<Violation> {
    let mut scene = scene(Settings { min_in_sync: 1, ..settings });
    let (x, [y, f]) = (scene.leader, scene.others);
    scene.settle(x, 3);
    // Two records that one follower has and the other lacks.
    scene.cut(x, y);
    assert!(scene.world.produce(x, 2, Acks::Leader));
    scene.world.run_for(20);
    assert_eq!((scene.end(y), scene.end(f), scene.settled()), (3, 5, 3));
    // The one that lacks them leads; its answer to the other one's question is on the way for long.
    scene.hold(y, f);
    scene.world.hand_over(y);
    scene.world.run_for(60);
    scene.world.network.heal();
    scene.world.hand_over(f);
    scene.world.run_for(1_000);
    assert_eq!((scene.end(f), scene.settled()), (5, 5), "the other leads, and its records are settled");
    // Leadership moves on, and the follower asks the same question again.
    scene.hold(x, f);
    scene.world.hand_over(x);
    scene.world.run_for(20);
    scene.world.release();
    scene.world.run_for(20);
    scene.verdict()
}

#[test]
fn kip_320_an_answer_of_an_earlier_leader_is_not_believed() {
    harmless(kip_320(usual()));
}

#[test]
fn kip_320_believing_it_cuts_what_is_settled() {
    caught(kip_320(with(Flaw::AnswersUnfenced)), &[Invariant::NothingSettledIsCut]);
}

/// KIP-966: the last replica in sync goes on alone, then dies; an eligible one leads.
fn kip_966(settings: Settings) -> Vec<Violation> {
    let mut scene = scene(settings);
    let (a, [b, c]) = (scene.leader, scene.others);
    scene.settle(a, 2);
    scene.world.kill(b);
    scene.world.kill(c);
    assert!(scene.world.run_until(3_000, |world| world.control().partition().in_sync == [a]), "it stands alone");
    scene.world.run_for(100);
    scene.world.produce(a, 2, Acks::All);
    scene.world.produce(a, 2, Acks::Leader);
    scene.world.run_for(100);
    scene.world.kill(a);
    assert!(scene.world.run_until(3_000, |world| world.leader().is_none()));
    let eligible = scene.world.control().partition().eligible[0];
    scene.world.start(eligible);
    scene.leads_soon(eligible);
    scene.verdict()
}

#[test]
fn kip_966_an_eligible_replica_leads_and_nothing_settled_is_lost() {
    harmless(kip_966(usual()));
}

#[test]
fn kip_966_settling_below_the_minimum_loses_it() {
    caught(kip_966(with(Flaw::MinInSyncIgnored)), &[Invariant::LeaderIsComplete]);
}

/// Progress that was made under an earlier leadership arrives late, at the same broker, which leads again with other records.
fn late_progress(settings: Settings) -> Vec<Violation> {
    let mut scene = scene(Settings { min_in_sync: 1, ..settings });
    let (a, [b, c]) = (scene.leader, scene.others);
    scene.settle(a, 2);
    scene.cut(a, c);
    scene.hold(b, a);
    assert!(scene.world.produce(a, 3, Acks::Leader));
    scene.world.run_for(20);
    assert_eq!((scene.end(b), scene.end(c)), (5, 2), "b has the tail and has said so");
    scene.let_pass(b, a);
    scene.world.network.heal();
    scene.world.hand_over(c);
    scene.world.run_for(300);
    assert_eq!((scene.end(a), scene.end(b)), (2, 2), "both cut it");
    scene.world.hand_over(a);
    scene.world.run_for(120);
    scene.cut(a, b);
    assert!(scene.world.produce(a, 3, Acks::All));
    scene.world.run_for(20);
    assert_eq!(scene.settled(), 2, "b does not have it");
    scene.world.release();
    scene.world.run_for(5);
    scene.world.kill(a);
    scene.world.kill(c);
    scene.verdict()
}

#[test]
fn progress_of_an_earlier_leadership_settles_nothing() {
    harmless(late_progress(usual()));
}

#[test]
fn counting_progress_of_another_epoch_is_caught() {
    caught(
        late_progress(with(Flaw::ProgressUnfenced)),
        &[Invariant::LeaderIsComplete, Invariant::NothingSettledIsCut, Invariant::NoAckedRecordLost],
    );
}

/// KIP-903: what an earlier life of a follower reported arrives after it lost its tail and came back.
fn kip_903(settings: Settings) -> Vec<Violation> {
    let mut scene = scene(Settings { brokers: 2, min_in_sync: 1, durability: Durability::Written, ..settings });
    let (a, [b, _]) = (scene.leader, scene.others);
    scene.world.flush_takes(b, 60_000);
    scene.settle(a, 3);
    scene.hold(b, a);
    scene.world.run_for(150);
    scene.let_pass(b, a);
    scene.world.cut_power(b, |_| 0);
    assert_eq!(scene.end(b), 0, "nothing was flushed");
    scene.world.start(b);
    // It follows anew, and gets nothing yet.
    scene.cut(a, b);
    assert!(scene.world.run_until(1_000, |world| world.control().partition().in_sync == [a]), "it left");
    scene.world.run_for(300);
    scene.world.release();
    scene.world.run_for(20);
    scene.world.kill(a);
    scene.world.run_for(1_000);
    scene.verdict()
}

#[test]
fn kip_903_what_an_earlier_life_reported_counts_no_more() {
    harmless(kip_903(usual()));
}

#[test]
fn counting_progress_of_an_earlier_life_is_caught() {
    caught(kip_903(with(Flaw::BrokerEpochIgnored)), &[Invariant::LeaderIsComplete]);
}

/// A flush that began before a cut ends after it, and after other records took the place of those it was about.
fn late_flush(settings: Settings) -> Vec<Violation> {
    let mut scene = scene(Settings { min_in_sync: 1, ..settings });
    let (a, [f, c]) = (scene.leader, scene.others);
    scene.settle(a, 2);
    scene.world.flush_takes(f, 300);
    scene.cut(a, c);
    assert!(scene.world.produce(a, 3, Acks::Leader));
    scene.world.run_for(10);
    assert_eq!((scene.end(f), scene.end(c)), (5, 2));
    scene.world.network.heal();
    scene.world.hand_over(c);
    scene.world.run_for(150);
    assert_eq!(scene.end(f), 2, "it cut the tail");
    assert!(scene.world.produce(c, 3, Acks::All));
    scene.world.flush_takes(f, 60_000);
    scene.world.run_for(200);
    assert_eq!(scene.end(f), 5);
    scene.world.kill(a);
    scene.world.kill(c);
    scene.leads_soon(f);
    scene.world.cut_power(f, |_| 0);
    assert_eq!(scene.end(f), 2, "it never flushed what came after the cut");
    scene.world.start(f);
    scene.world.run_for(1_000);
    scene.verdict()
}

#[test]
fn a_flush_from_before_a_cut_proves_nothing() {
    harmless(late_flush(usual()));
}

#[test]
fn believing_a_flush_from_before_a_cut_is_caught() {
    let lost = [Invariant::LeaderIsComplete, Invariant::NothingSettledIsCut, Invariant::NoAckedRecordLost];
    caught(late_flush(Settings { shell_flaw: Some(ShellFlaw::StaleFlushBelieved), ..usual() }), &lost);
}

/// Under `written` all lose power, and with it what was settled. A broker that remembers the watermark from before leads, and takes new
/// records.
fn remembered_watermark(settings: Settings) -> Vec<Violation> {
    let mut scene = scene(Settings { brokers: 2, min_in_sync: 1, durability: Durability::Written, ..settings });
    let (a, [b, _]) = (scene.leader, scene.others);
    scene.world.flush_takes(a, 60_000);
    scene.world.flush_takes(b, 60_000);
    scene.settle(a, 5);
    scene.world.run_for(200);
    scene.world.cut_power(a, |_| 0);
    scene.world.cut_power(b, |_| 0);
    scene.world.checks.loss_admitted(Offset::ZERO);
    scene.world.start(a);
    scene.world.start(b);
    assert!(scene.world.run_until(5_000, World::is_whole));
    let leader = scene.world.leader().unwrap_or(a);
    let other = if leader == a { b } else { a };
    scene.cut(leader, other);
    assert!(scene.world.produce(leader, 3, Acks::Leader));
    scene.world.run_for(20);
    scene.world.isolate(leader);
    scene.leads_soon(other);
    scene.verdict()
}

#[test]
fn a_watermark_from_before_a_loss_settles_nothing_after_it() {
    harmless(remembered_watermark(usual()));
}

#[test]
fn trusting_the_watermark_checkpoint_is_caught() {
    let flawed = Settings { shell_flaw: Some(ShellFlaw::WatermarkCheckpointTrusted), ..usual() };
    caught(remembered_watermark(flawed), &[Invariant::LeaderIsComplete, Invariant::OneValuePerOffset]);
}

/// KIP-497: the controller has taken an expansion and the leader has not heard of it. The leader dies, the new member leads.
fn kip_497(settings: Settings) -> Vec<Violation> {
    let mut scene = scene(Settings { brokers: 2, min_in_sync: 1, ..settings });
    let (a, [b, _]) = (scene.leader, scene.others);
    scene.settle(a, 2);
    scene.world.kill(b);
    assert!(scene.world.run_until(3_000, |world| world.control().partition().in_sync == [a]), "it leaves");
    scene.world.start(b);
    let serves = |world: &World| world.control().image().broker(b).is_some_and(|broker| !broker.fenced);
    scene.world.run_for(50);
    assert!(scene.world.run_until(3_000, serves));
    scene.world.network.cut(Place::Controller, Place::Broker(a));
    let joined = scene.world.run_until(3_000, |world| world.control().partition().in_sync.len() == 2);
    assert!(joined, "the controller takes it in");
    scene.cut(a, b);
    scene.world.produce(a, 1, Acks::All);
    scene.world.run_for(50);
    scene.world.kill(a);
    scene.leads_soon(b);
    scene.verdict()
}

#[test]
fn kip_497_a_pending_member_counts_before_the_leader_hears_of_it() {
    harmless(kip_497(usual()));
}

#[test]
fn kip_497_forgetting_it_loses_what_was_acknowledged() {
    caught(kip_497(with(Flaw::PendingExpansionForgotten)), &[Invariant::LeaderIsComplete]);
}
