//! How members join, stay, pause, leave and are fenced.

use crate::cluster::{code, message};
use crate::group_paper::{GROUP, Paper, heartbeat, joining, limits, subscription, with_instance};
use tidelog_coordination::groups::partition_set::PartitionSet;
use tidelog_coordination::groups::{GroupCommand, GroupFlaw, GroupFlaws, GroupReply, Groups};
use tidelog_protocol::ErrorCode;
use tidelog_protocol::messages::{
    GroupHeartbeatRequest, GroupState, LEAVING, ListGroupsResponse, PAUSING, Subscription, TopicPartitions,
};

fn owned(response: &tidelog_protocol::messages::GroupHeartbeatResponse) -> usize {
    PartitionSet::from_wire(response.assignment.as_deref().expect("it is told")).len()
}

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut paper = Paper::new(5);
    let joined = paper.join("a");
    assert_eq!((joined.member_epoch, joined.session_timeout_ms, joined.heartbeat_interval_ms), (1, 5_000, 1_000));
    assert_eq!(owned(&joined), 5);
    let stayed = paper.beat(heartbeat("a", 1)).expect("it stays");
    assert_eq!((stayed.member_epoch, stayed.assignment), (1, None), "nothing has changed");
}

#[test]
fn who_keeps_a_partition_never_stops_and_who_comes_waits_for_what_is_let_go_of() {
    let mut paper = Paper::new(4);
    paper.join("a");
    assert_eq!(owned(&paper.join("b")), 0, "everything is still owned");
    let told = paper.beat(heartbeat("a", 1)).expect("it stays");
    assert_eq!((told.member_epoch, owned(&told)), (1, 2), "it is asked to let go of two, in the epoch that it has");
    let group = paper.describe();
    assert_eq!(group.state, GroupState::Reconciling);
    assert_eq!(PartitionSet::from_wire(&group.members[0].letting_go).len(), 2);
    // Until it says so, nobody gets them, and it is told again.
    assert_eq!(paper.follow("b").len(), 0);
    assert_eq!(owned(&paper.beat(heartbeat("a", 1)).expect("it stays")), 2);
    let still = PartitionSet::from_wire(&group.members[0].owned);
    let mut all = still.clone();
    all.take_in(&PartitionSet::from_wire(&group.members[0].letting_go));
    let not_yet = GroupHeartbeatRequest { owned: Some(all.to_wire()), ..heartbeat("a", 1) };
    assert_eq!(paper.beat(not_yet).expect("it stays").member_epoch, 1);
    assert_eq!(paper.follow("b").len(), 0);
    assert_eq!(paper.follow("a"), still, "what it keeps, it keeps");
    assert_eq!(paper.follow("b").len(), 2);
    let group = paper.describe();
    assert_eq!(group.state, GroupState::Stable);
    assert_eq!((group.epoch, group.target_epoch, group.members[0].member_epoch), (2, 2, 2));
}

#[test]
fn a_join_that_is_asked_again_makes_no_second_member_and_keeps_what_it_has() {
    let mut paper = Paper::new(4);
    let first = paper.join("a");
    let again = paper.join("a");
    assert_eq!(again.assignment, first.assignment);
    assert!(again.member_epoch > first.member_epoch, "what it sent before counts no more");
    assert_eq!(paper.describe().members.len(), 1);
    assert_eq!(paper.describe().epoch, 1, "nothing is made anew");
}

#[test]
fn an_old_join_does_not_prove_that_anything_was_let_go_of() {
    let mut paper = Paper::new(4);
    paper.join("a");
    paper.join("b");
    paper.beat(heartbeat("a", 1)).expect("it is asked to let go");
    paper.join("a");
    assert_eq!(paper.follow("b").len(), 0, "a may still work on them");
    assert_eq!(paper.describe().members[0].letting_go.len(), 1);
    paper.follow("a");
    assert!(paper.describe().members[0].letting_go.is_empty());
    assert_eq!(paper.follow("b").len(), 2);
}

/// A member was given a partition, and is to let go of it. Then a heartbeat arrives that it sent before it was given the partition.
/// Does another get it though the member may still work on it?
fn old_heartbeat_frees_a_partition(flaws: GroupFlaws) -> bool {
    let mut paper = Paper::new(2);
    paper.groups = Groups::with_flaws(limits(), flaws);
    paper.join("a");
    paper.join("b");
    paper.settle();
    assert_eq!((paper.member("b").0, paper.member("b").1.len()), (3, 1), "it had nothing in epoch 2");
    let changes = GroupHeartbeatRequest { subscription: subscription(&["logs"]), ..heartbeat("b", 3) };
    paper.beat(changes).expect("it stays");
    assert_eq!(paper.describe().members[1].letting_go.len(), 1);
    paper.beat(GroupHeartbeatRequest { owned: Some(Vec::new()), ..heartbeat("b", 2) }).expect("it is old");
    paper.follow("a").len() == 2
}

#[test]
fn an_old_heartbeat_does_not_prove_that_anything_was_let_go_of() {
    assert!(!old_heartbeat_frees_a_partition(GroupFlaws::NONE));
    assert!(old_heartbeat_frees_a_partition(GroupFlaws::with(GroupFlaw::LateHeartbeatBelieved)), "the bug is seen");
}

#[test]
fn a_lost_answer_is_given_again_and_an_older_epoch_is_fenced() {
    let mut paper = Paper::new(4);
    paper.join("a");
    paper.join("b");
    paper.settle();
    let (epoch, owned_by_b) = paper.member("b");
    assert_eq!(epoch, 3, "it had nothing in epoch 2, then it was given something");
    let lost = GroupHeartbeatRequest { owned: Some(Vec::new()), ..heartbeat("b", 2) };
    let again = paper.beat(lost).expect("it may have missed the answer");
    assert_eq!((again.member_epoch, again.assignment), (epoch, Some(owned_by_b.to_wire())));
    let topic_id = paper.id("orders");
    let strange =
        Some(vec![TopicPartitions { topic_id, partitions: paper.member("a").1.iter().map(|(_, at)| *at).collect() }]);
    let refused = paper.beat(GroupHeartbeatRequest { owned: strange, ..heartbeat("b", 2) });
    assert_eq!(code(refused), ErrorCode::FencedMember, "it was never given that");
    assert_eq!(code(paper.beat(heartbeat("b", 1))), ErrorCode::FencedMember);
    assert_eq!(code(paper.beat(heartbeat("b", 9))), ErrorCode::FencedMember);
    assert_eq!(code(paper.beat(heartbeat("c", 1))), ErrorCode::UnknownMember);
    assert_eq!(code(paper.beat(heartbeat("b", -3))), ErrorCode::InvalidGroup);
}

#[test]
fn who_leaves_frees_what_it_had() {
    let mut paper = Paper::new(4);
    paper.join("a");
    paper.join("b");
    paper.settle();
    let bye = paper.beat(heartbeat("b", LEAVING)).expect("it leaves");
    assert_eq!(bye.member_epoch, LEAVING);
    assert_eq!(code(paper.beat(heartbeat("b", LEAVING))), ErrorCode::UnknownMember);
    assert_eq!(paper.follow("a").len(), 4);
    paper.beat(heartbeat("a", LEAVING)).expect("it leaves");
    assert_eq!(paper.describe().state, GroupState::Empty);
}

#[test]
fn a_silent_member_is_removed_after_its_session_and_not_before() {
    let mut paper = Paper::new(4);
    paper.join("a");
    let short = GroupHeartbeatRequest { session_timeout_ms: 2_000, ..joining("b", &["orders"]) };
    paper.beat(short).expect("it joins");
    paper.pass(0);
    assert_eq!(paper.pass(1_999), 0);
    paper.beat(heartbeat("a", 1)).expect("it stays");
    assert!(paper.pass(1) > 0);
    let ids: Vec<String> = paper.describe().members.into_iter().map(|member| member.member_id).collect();
    assert_eq!(ids, ["a"]);
    assert_eq!(code(paper.beat(heartbeat("b", 2))), ErrorCode::UnknownMember);
    assert_eq!(paper.pass(100), 0, "nothing is due");
}

#[test]
fn a_member_that_does_not_let_go_in_time_is_fenced() {
    let mut paper = Paper::new(4);
    paper.join("a");
    paper.join("b");
    for _ in 0..8 {
        paper.pass(1_000);
        for (id, epoch) in [("a", 1), ("b", 2)] {
            paper.beat(heartbeat(id, epoch)).expect("its time has not passed");
        }
    }
    assert!(paper.pass(1_000) > 0);
    assert_eq!(code(paper.beat(heartbeat("a", 1))), ErrorCode::UnknownMember);
    assert_eq!(paper.follow("b").len(), 4);
}

#[test]
fn the_time_to_let_go_begins_anew_for_who_joins_again_or_missed_an_answer() {
    let mut paper = Paper::new(4);
    paper.join("a");
    paper.join("b");
    paper.beat(heartbeat("a", 1)).expect("it is asked to let go");
    let wait = |paper: &mut Paper| {
        for _ in 0..7 {
            paper.pass(1_000);
            for id in ["a", "b"] {
                paper.beat(heartbeat(id, 2)).expect("it stays");
            }
        }
    };
    paper.pass(4_000);
    paper.join("a");
    wait(&mut paper);
    paper.beat(heartbeat("a", 1)).expect("it missed the answer to its join");
    wait(&mut paper);
    assert_eq!(paper.describe().members.len(), 2);
    for _ in 0..2 {
        paper.pass(500);
        paper.beat(heartbeat("b", 2)).expect("it stays");
    }
    assert_eq!(code(paper.beat(heartbeat("a", 2))), ErrorCode::UnknownMember, "its time has passed");
}

#[test]
fn a_rebalance_timeout_is_no_shorter_than_the_session() {
    let mut paper = Paper::new(2);
    paper.beat(GroupHeartbeatRequest { rebalance_timeout_ms: 1_000, ..joining("a", &["orders"]) }).expect("it joins");
    paper.join("b");
    paper.beat(heartbeat("a", 1)).expect("it is asked to let go");
    paper.pass(0);
    assert_eq!(paper.pass(4_000), 0, "until its session ends it may not have heard");
}

#[test]
fn a_coordinator_that_has_just_read_its_log_gives_everyone_a_whole_session() {
    let mut paper = Paper::new(4);
    paper.join("a");
    paper.pass(4_000);
    paper.groups.loaded(tidelog_protocol::Monotonic(paper.now));
    assert_eq!(paper.pass(4_999), 0);
    assert!(paper.pass(1) > 0);
}

#[test]
fn a_static_member_that_pauses_gets_back_what_it_had_and_nobody_else_notices() {
    let mut paper = Paper::new(4);
    paper.beat(with_instance("one", joining("a", &["orders"]))).expect("it joins");
    paper.join("b");
    paper.settle();
    let (_, had) = paper.member("a");
    let epoch = paper.describe().epoch;
    let bye = paper.beat(with_instance("one", heartbeat("a", PAUSING))).expect("it pauses");
    assert_eq!(bye.member_epoch, PAUSING);
    assert_eq!(paper.follow("b").len(), 2, "its share waits");
    assert_eq!(code(paper.beat(heartbeat("a", 3))), ErrorCode::FencedMember);
    let back = paper.beat(with_instance("one", joining("a2", &["orders"]))).expect("it comes back");
    assert_eq!(back.assignment, Some(had.to_wire()));
    let group = paper.describe();
    assert_eq!((group.epoch, group.state), (epoch, GroupState::Stable), "nothing was made anew");
    assert_eq!(code(paper.beat(heartbeat("a", PAUSING))), ErrorCode::UnknownMember);
    // The same process, too, may come back.
    paper.beat(with_instance("one", heartbeat("a2", PAUSING))).expect("it pauses");
    let again = paper.beat(with_instance("one", joining("a2", &["orders"]))).expect("it comes back");
    assert_eq!(again.assignment, Some(had.to_wire()));
    assert!(again.member_epoch > back.member_epoch, "in an epoch that it never had");
}

#[test]
fn a_pause_ends_with_the_session() {
    let mut paper = Paper::new(4);
    paper.beat(with_instance("one", joining("a", &["orders"]))).expect("it joins");
    paper.beat(heartbeat("a", PAUSING)).expect("it pauses");
    paper.pass(4_000);
    paper.beat(heartbeat("a", PAUSING)).expect("it said so already");
    assert!(paper.pass(1_000) > 0, "to say it twice does not make it longer");
    assert!(paper.describe().members.is_empty());
    paper.join("b");
    assert_eq!(code(paper.beat(heartbeat("b", PAUSING))), ErrorCode::InvalidGroup, "it has no name to come back under");
}

#[test]
fn two_live_members_never_share_an_instance_id() {
    let mut paper = Paper::new(4);
    paper.beat(with_instance("one", joining("a", &["orders"]))).expect("it joins");
    paper.pass(0);
    let second = || with_instance("one", joining("b", &["orders"]));
    let refused = paper.beat(second());
    assert_eq!(code(refused.clone()), ErrorCode::InstanceTaken);
    assert!(message(refused).contains("until its session of 5000 ms ends"));
    paper.beat(heartbeat("a", 1)).expect("the first one goes on");
    // It was silent for its session, though nobody has looked yet.
    paper.now += 5_000;
    let taken_over = paper.beat(second()).expect("it takes its place");
    assert_eq!(owned(&taken_over), 4);
    assert_eq!(code(paper.beat(heartbeat("a", 1))), ErrorCode::UnknownMember);
    let other = paper.beat(with_instance("two", heartbeat("b", taken_over.member_epoch)));
    assert_eq!(code(other), ErrorCode::InvalidGroup);
}

#[test]
fn topics_that_come_grow_or_go_make_new_targets() {
    let mut paper = Paper::new(2);
    paper.beat(joining("a", &["orders", "logs"])).expect("it joins");
    assert_eq!(paper.shares(), [2]);
    paper.pass(100);
    paper.grow("orders", 5);
    paper.pass(100);
    assert_eq!((paper.shares(), paper.describe().epoch), (vec![5], 2));
    paper.topic("logs", 3);
    paper.topic("strange", 3);
    paper.pass(100);
    assert_eq!((paper.shares(), paper.describe().epoch), (vec![8], 3));
    paper.drop_topic("orders");
    paper.drop_topic("strange");
    paper.pass(100);
    assert_eq!((paper.shares(), paper.describe().epoch), (vec![3], 4));
    paper.cluster.fence(3);
    assert_eq!(paper.pass(100), 0, "what brokers do is nothing to a group");
}

#[test]
fn a_topic_that_comes_and_goes_between_two_looks_is_nobodys() {
    let mut paper = Paper::new(2);
    paper.beat(joining("a", &["orders", "logs"])).expect("it joins");
    paper.pass(100);
    paper.topic("logs", 3);
    paper.beat(joining("b", &["orders", "logs"])).expect("it joins");
    assert_eq!(paper.shares().iter().sum::<usize>(), 5);
    paper.drop_topic("logs");
    paper.pass(100);
    assert_eq!(paper.shares(), [1, 1]);
}

#[test]
fn a_subscription_that_changes_makes_new_targets_and_one_that_is_repeated_does_not() {
    let mut paper = Paper::new(2);
    paper.topic("logs", 3);
    paper.join("a");
    let say =
        |topics: &[&str], epoch| GroupHeartbeatRequest { subscription: subscription(topics), ..heartbeat("a", epoch) };
    paper.beat(say(&["orders", "orders"], 1)).expect("it stays");
    assert_eq!(paper.describe().epoch, 1);
    paper.beat(say(&["logs", "orders"], 1)).expect("it stays");
    assert_eq!((paper.describe().epoch, paper.shares()), (2, vec![5]));
}

#[test]
fn a_pattern_takes_in_topics_as_they_come_but_never_internal_ones() {
    let mut paper = Paper::new(2);
    paper.topic("orders-eu", 2);
    paper.topic("my-orders", 2);
    let pattern = Some(Subscription { topics: Vec::new(), pattern: Some("orders.*|__.*".into()) });
    paper.beat(GroupHeartbeatRequest { subscription: pattern, ..joining("a", &[]) }).expect("it joins");
    assert_eq!(paper.shares(), [4]);
    paper.pass(100);
    paper.topic("orders-us", 3);
    paper.pass(100);
    assert_eq!(paper.shares(), [7]);
    let broken = Some(Subscription { topics: Vec::new(), pattern: Some("orders-(eu".into()) });
    let refused = paper.beat(GroupHeartbeatRequest { subscription: broken, ..joining("b", &[]) });
    assert_eq!(code(refused.clone()), ErrorCode::InvalidGroup);
    assert_eq!(message(refused), "the pattern 'orders-(eu' does not compile: at character 8: unclosed group");
}

#[test]
fn what_breaks_a_rule_is_refused_with_the_rule() {
    let mut paper = Paper::new(2);
    let mut refused = |request: GroupHeartbeatRequest| {
        let refused = paper.beat(request);
        assert_eq!(code(refused.clone()), ErrorCode::InvalidGroup);
        message(refused)
    };
    let join = || joining("a", &["orders"]);
    assert_eq!(
        refused(GroupHeartbeatRequest { group: String::new(), ..join() }),
        "a group name has 1 to 255 bytes without control characters; this one is empty"
    );
    assert!(refused(GroupHeartbeatRequest { member_id: "x".repeat(65), ..join() }).ends_with("this one has 65"));
    assert!(refused(with_instance("a\nb", join())).ends_with(r"this one holds '\n'"));
    assert!(refused(GroupHeartbeatRequest { rack: Some(String::new()), ..join() }).starts_with("a rack"));
    assert!(refused(GroupHeartbeatRequest { subscription: None, ..join() }).contains("says what it wants to read"));
    assert!(refused(joining("a", &["a/b"])).contains("no topic can have the name 'a/b'"));
    assert!(refused(joining("a", &["a", "b", "c", "d", "e", "f"])).contains("names 5 topics at most, this one 6"));
    assert_eq!(
        refused(GroupHeartbeatRequest { session_timeout_ms: 10, ..join() }),
        "a session timeout is 1000 to 20000 ms, not 10"
    );
    assert!(refused(GroupHeartbeatRequest { rebalance_timeout_ms: 90_000, ..join() }).contains("rebalance timeout"));
    assert_eq!(
        refused(GroupHeartbeatRequest { assignor: Some("sticky".into()), ..join() }),
        "there is no assignor 'sticky': there are 'uniform' and 'range'"
    );
    assert!(paper.log.is_empty());
}

#[test]
fn there_is_room_for_so_many_and_no_more() {
    let mut paper = Paper::new(2);
    for id in ["a", "b", "c", "d"] {
        paper.join(id);
    }
    assert_eq!(code(paper.beat(joining("e", &["orders"]))), ErrorCode::GroupFull);
    paper.beat(joining("a", &["orders"])).expect("it is a member already");
    let elsewhere = |group: &str| GroupHeartbeatRequest { group: group.into(), ..joining("a", &["orders"]) };
    paper.beat(elsewhere("second")).expect("it joins");
    assert_eq!(code(paper.beat(elsewhere("third"))), ErrorCode::GroupFull);
    assert_eq!(limits().groups_max, 2);
}

#[test]
fn people_see_who_is_silent_and_who_is_busy() {
    let mut paper = Paper::new(2);
    paper.join("a");
    paper.beat(GroupHeartbeatRequest { busy_ms: Some(700), ..heartbeat("a", 1) }).expect("it stays");
    paper.now += 300;
    let member = paper.describe().members.remove(0);
    assert_eq!((member.silent_ms, member.busy_ms), (300, Some(700)));
    paper.beat(heartbeat("a", 1)).expect("it stays");
    let member = paper.describe().members.remove(0);
    assert_eq!((member.silent_ms, member.busy_ms), (0, None));
    let Ok(GroupReply::Listed(ListGroupsResponse { groups, .. })) = paper.ask(&GroupCommand::List) else {
        panic!("it lists")
    };
    assert_eq!((groups[0].group.as_str(), groups[0].state, groups[0].members), (GROUP, GroupState::Stable, 1));
}

#[test]
fn a_group_that_holds_nothing_is_forgotten_in_time() {
    let mut paper = Paper::new(2);
    paper.join("a");
    paper.beat(heartbeat("a", LEAVING)).expect("it leaves");
    paper.pass(100);
    paper.pass(19_999);
    assert_eq!(paper.describe().state, GroupState::Empty);
    paper.pass(1);
    assert_eq!(code(paper.try_describe()), ErrorCode::UnknownGroup);
}
