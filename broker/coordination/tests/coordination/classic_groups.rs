//! Classic groups on paper: who waits for whom, when a generation begins, who says who does what, and who is shut out.

use crate::classic_paper::{
    HOLD_MS, REBALANCE_MS, SESSION_MS, again, as_instance, bytes, caller, joining, knows, lasting,
};
use crate::group_paper;
use crate::group_paper::{GROUP, Paper, heartbeat};
use tidelog_coordination::groups::classic::{
    ClassicCommand, ClassicError, ClassicJoin, ClassicReply, ClassicSpeech, ClassicSync,
};
use tidelog_coordination::groups::records::ClassicPhase;
use tidelog_protocol::ErrorCode;
use tidelog_protocol::messages::GroupState;

#[test]
fn the_first_generation_waits_a_moment_and_has_all_who_came() {
    let mut paper = Paper::new(4);
    let one = paper.enter(joining("a"));
    let two = paper.enter(joining("b"));
    assert_eq!(paper.shown().phase, ClassicPhase::Preparing);
    paper.pass(HOLD_MS - 1);
    assert_eq!(paper.hears(&one), None, "others may come");
    paper.pass(1);
    let (first, second) = (paper.begun(&one), paper.begun(&two));
    assert_eq!((first.generation, &*first.leader, &*first.protocol), (1, "a", "range"));
    let members: Vec<_> = first.members.iter().map(|member| (&*member.member_id, &member.metadata)).collect();
    assert_eq!(members, [("a", &bytes("for range")), ("b", &bytes("for range"))]);
    assert_eq!((second.generation, &*second.leader, second.members.len()), (1, "a", 0), "only the leader hears of all");
}

#[test]
fn every_member_hears_its_part_once_the_leader_has_said_it() {
    let mut paper = Paper::new(4);
    let generation = paper.gather(&["a", "b"]);
    assert_eq!(paper.sync("b", generation, &[]), Ok(ClassicReply::SyncLater));
    assert_eq!(paper.part("b", generation), None);
    assert_eq!(paper.sync("b", generation, &[("b", "all")]), Ok(ClassicReply::SyncLater), "who leads not says nothing");
    assert_eq!(paper.part("b", generation), None);
    paper.sync("a", generation, &[("a", "left"), ("b", "right"), ("c", "nobody")]).expect("it leads");
    for (id, part) in [("a", "left"), ("b", "right")] {
        let told = paper.part(id, generation).expect("it is known").expect("to a member");
        assert_eq!((told.assignment, &*told.protocol), (bytes(part), "range"));
    }
    // Once said it stands.
    paper.sync("a", generation, &[("a", "all")]).expect("it hears what it said");
    assert_eq!(paper.part("a", generation).expect("known").expect("a member").assignment, bytes("left"));
    assert_eq!(paper.shown().phase, ClassicPhase::Stable);
}

#[test]
fn a_member_that_comes_makes_all_join_again() {
    let mut paper = Paper::new(4);
    let first = paper.settle_classic(&["a", "b"]);
    assert_eq!(paper.lives("a", first), Ok(ClassicReply::Alive));
    let new = paper.enter(joining("c"));
    assert_eq!(paper.lives("a", first), Err(ClassicError::RebalanceInProgress));
    assert_eq!(paper.sync("a", first, &[]), Err(ClassicError::RebalanceInProgress));
    assert_eq!(paper.part("b", first), Some(Err(ClassicError::RebalanceInProgress)), "who waited is told, too");
    let a = paper.enter(again("a"));
    assert_eq!(paper.hears(&new), None, "one is missing");
    let b = paper.enter(again("b"));
    let generations = [&new, &a, &b].map(|waiting| paper.begun(waiting).generation);
    assert_eq!(generations, [first + 1; 3], "with the last of them");
    assert_eq!(paper.begun(&a).members.len(), 3, "it leads as before");
    assert_eq!(paper.lives("b", first), Err(ClassicError::IllegalGeneration));
    assert_eq!(paper.lives("b", first + 1), Ok(ClassicReply::Alive));
}

#[test]
fn a_member_that_missed_an_answer_hears_it_again_without_a_round() {
    let mut paper = Paper::new(4);
    let generation = paper.gather(&["a", "b"]);
    for id in ["a", "b"] {
        let Ok(ClassicReply::Joined(joined)) = paper.call(ClassicCommand::Join(again(id))) else { panic!("at once") };
        assert_eq!((joined.generation, joined.members.len()), (generation, if id == "a" { 2 } else { 0 }));
    }
    paper.sync("a", generation, &[("b", "right")]).expect("it leads");
    let Ok(ClassicReply::Joined(joined)) = paper.call(ClassicCommand::Join(again("b"))) else { panic!("at once") };
    assert_eq!(joined.generation, generation);
    // Who leads has seen something that the work depends on, and so has one that knows something else now.
    paper.enter(again("a"));
    assert_eq!(paper.shown().phase, ClassicPhase::Preparing);
}

#[test]
fn an_id_is_given_before_a_member_joins_where_the_client_knows_that() {
    let mut paper = Paper::new(4);
    let ask = |fresh: &str| ClassicJoin { speaks: ClassicSpeech::IdFirst, ..joining(fresh) };
    assert_eq!(paper.refused(ask("a")), ClassicError::MemberIdRequired("a".into()));
    assert_eq!(paper.refused(ClassicJoin { member_id: "x".into(), ..ask("b") }), ClassicError::UnknownMember);
    let one = paper.enter(ClassicJoin { member_id: "a".into(), ..ask("unused") });
    assert_eq!(paper.refused(ask("b")), ClassicError::MemberIdRequired("b".into()));
    paper.pass(HOLD_MS);
    assert_eq!(paper.hears(&one), None, "it is waited for");
    let two = paper.enter(ClassicJoin { member_id: "b".into(), ..ask("unused") });
    assert_eq!(paper.begun(&one), paper.begun(&(one.0.clone(), two.1)));
    assert_eq!(paper.begun(&one).members.len(), 2);
    // An id that is not used holds nobody up for ever.
    assert_eq!(paper.refused(ask("c")), ClassicError::MemberIdRequired("c".into()));
    paper.pass(SESSION_MS);
    assert_eq!(paper.refused(ClassicJoin { member_id: "c".into(), ..ask("d") }), ClassicError::UnknownMember);
    // A name that outlives the process is id enough.
    paper.enter(lasting("one", ask("e")));
}

#[test]
fn the_way_that_most_like_best_of_those_that_all_know_is_chosen() {
    let mut paper = Paper::new(4);
    let with = |id: &str, names: &[&str]| ClassicJoin { protocols: knows(names), ..joining(id) };
    let one = paper.enter(with("a", &["sticky", "range", "roundrobin"]));
    paper.enter(with("b", &["roundrobin", "range"]));
    paper.enter(with("c", &["range", "roundrobin", "special"]));
    assert_eq!(paper.refused(with("d", &["special"])), ClassicError::InconsistentProtocol);
    assert_eq!(paper.refused(with("d", &[])), ClassicError::InconsistentProtocol);
    let other = ClassicJoin { protocol_type: "connect".into(), ..with("d", &["range"]) };
    assert_eq!(paper.refused(other), ClassicError::InconsistentProtocol);
    paper.pass(HOLD_MS);
    assert_eq!(paper.begun(&one).protocol, "range");
}

#[test]
fn only_members_of_this_generation_commit_and_not_while_their_parts_are_open() {
    let mut paper = Paper::new(4);
    let nobody = || caller("", -1);
    assert!(paper.commit_classic(nobody(), 1).expect("noted").is_ok(), "there are no members");
    let first = paper.gather(&["a", "b"]);
    assert_eq!(paper.commit_classic(caller("a", first), 2), Ok(Err(ClassicError::RebalanceInProgress)));
    paper.sync("a", first, &[]).expect("it leads");
    assert!(paper.commit_classic(caller("b", first), 3).expect("noted").is_ok());
    for (caller, error) in [
        (nobody(), ClassicError::UnknownMember),
        (caller("x", first), ClassicError::UnknownMember),
        (caller("a", first - 1), ClassicError::IllegalGeneration),
        (caller("a", first + 1), ClassicError::IllegalGeneration),
        (as_instance("one", caller("a", first)), ClassicError::UnknownMember),
    ] {
        assert_eq!(paper.commit_classic(caller.clone(), 9), Ok(Err(error)), "{caller:?}");
    }
    paper.enter(again("a"));
    assert!(paper.commit_classic(caller("b", first), 4).expect("noted").is_ok(), "before it lets go");
    paper.enter(again("b"));
    assert_eq!(paper.commit_classic(caller("b", first), 9), Ok(Err(ClassicError::IllegalGeneration)));
    assert_eq!(paper.committed(0), Some(4));
}

#[test]
fn the_next_life_of_a_member_goes_on_with_its_part_and_the_one_before_is_shut_out() {
    let mut paper = Paper::new(4);
    let (a, b) = (paper.enter(lasting("one", joining("a"))), paper.enter(lasting("two", joining("b"))));
    paper.pass(HOLD_MS);
    assert_eq!(paper.begun(&a).generation, paper.begun(&b).generation);
    let generation = paper.begun(&a).generation;
    paper.sync("a", generation, &[("a", "left"), ("b", "right")]).expect("it leads");
    let Ok(ClassicReply::Joined(joined)) = paper.call(ClassicCommand::Join(lasting("two", joining("b2")))) else {
        panic!("without a round")
    };
    assert_eq!((joined.generation, &*joined.member_id, &*joined.leader), (generation, "b2", "a"));
    assert_eq!(paper.part("b2", generation).expect("known").expect("a member").assignment, bytes("right"));
    let before = as_instance("two", caller("b", generation));
    assert_eq!(paper.call(ClassicCommand::Heartbeat(before.clone())), Err(ClassicError::FencedInstance));
    assert_eq!(paper.commit_classic(before.clone(), 9), Ok(Err(ClassicError::FencedInstance)));
    let sync = ClassicSync { caller: before, protocol_type: None, protocol: None, parts: Vec::new() };
    assert_eq!(paper.call(ClassicCommand::Sync(sync)), Err(ClassicError::FencedInstance));
    assert_eq!(paper.refused(lasting("two", again("b"))), ClassicError::FencedInstance);
    assert_eq!(paper.leave_classic(&[("b", Some("two"))]), [Err(ClassicError::FencedInstance)]);
    assert_eq!(paper.leave_classic(&[("", Some("two"))]), [Ok(())], "by order");
    assert_eq!(paper.shown().phase, ClassicPhase::Preparing);
}

#[test]
fn a_leader_that_comes_back_leaves_the_parts_as_they_are() {
    for (speaks, leader, skips) in [(ClassicSpeech::SkipsAssignment, "a2", true), (ClassicSpeech::IdFirst, "a", false)]
    {
        let mut paper = Paper::new(4);
        let a = paper.enter(lasting("one", joining("a")));
        paper.enter(joining("b"));
        paper.pass(HOLD_MS);
        let generation = paper.begun(&a).generation;
        paper.sync("a", generation, &[("a", "left"), ("b", "right")]).expect("it leads");
        let join = lasting("one", ClassicJoin { speaks, ..joining("a2") });
        let Ok(ClassicReply::Joined(joined)) = paper.call(ClassicCommand::Join(join)) else { panic!("no round") };
        assert_eq!((&*joined.leader, joined.skips_assignment), (leader, skips));
        let Ok(ClassicReply::Synced(part)) = paper.sync("a2", generation, &[]) else { panic!("at once") };
        assert_eq!(part.assignment, bytes("left"));
        assert_eq!(paper.lives("b", generation), Ok(ClassicReply::Alive));
    }
}

#[test]
fn who_waited_under_a_name_that_another_has_by_now_is_told() {
    let mut paper = Paper::new(4);
    let before = paper.enter(lasting("one", joining("a")));
    paper.enter(lasting("one", joining("a2")));
    let heard = paper.groups.classic_joined(GROUP, (&before.0, Some("one")), before.1);
    assert_eq!(heard, Some(Err(ClassicError::FencedInstance)));
}

#[test]
fn a_silent_member_goes_when_its_session_ends() {
    let mut paper = Paper::new(4);
    let generation = paper.settle_classic(&["a", "b"]);
    paper.pass(SESSION_MS - 1);
    assert_eq!(paper.lives("a", generation), Ok(ClassicReply::Alive));
    paper.pass(1);
    assert_eq!(paper.lives("b", generation), Err(ClassicError::UnknownMember));
    assert_eq!(paper.lives("a", generation), Err(ClassicError::RebalanceInProgress));
    let a = paper.enter(again("a"));
    assert_eq!(paper.begun(&a).members.len(), 1);
}

#[test]
fn who_waits_for_others_is_not_silent_and_who_does_not_come_is_left_behind() {
    let mut paper = Paper::new(4);
    let lasting_member = paper.enter(lasting("one", ClassicJoin { session_ms: 15_000, ..joining("c") }));
    let generation = paper.gather(&["a", "b"]);
    assert_eq!(paper.begun(&lasting_member).generation, generation);
    let leader = paper.leader();
    paper.sync(&leader, generation, &[]).expect("it leads");
    let a = paper.enter(again("a"));
    for _ in 0..4 {
        paper.pass(REBALANCE_MS / 4 - 1);
        // It lives, but does not join.
        let _ = paper.lives("b", generation);
        assert_eq!(paper.hears(&a), None);
    }
    paper.pass(4);
    let begun = paper.begun(&a);
    let members: Vec<_> = begun.members.iter().map(|member| &*member.member_id).collect();
    assert_eq!((&*begun.leader, members), ("a", vec!["a", "c"]), "one whose name outlives it may be on its way back");
    assert_eq!(paper.lives("b", generation), Err(ClassicError::UnknownMember));
}

#[test]
fn a_leader_that_says_nothing_is_left_behind() {
    let mut paper = Paper::new(4);
    let generation = paper.gather(&["a", "b"]);
    paper.sync("b", generation, &[]).expect("it waits");
    let mut passed = 0;
    while passed < REBALANCE_MS - 500 {
        passed += 500;
        paper.pass(500);
        paper.lives("a", generation).expect("it lives");
        assert_eq!(paper.part("b", generation), None);
    }
    paper.pass(500);
    assert_eq!(paper.lives("a", generation), Err(ClassicError::UnknownMember));
    assert_eq!(paper.part("b", generation), Some(Err(ClassicError::RebalanceInProgress)));
    let b = paper.enter(again("b"));
    assert_eq!(paper.begun(&b).leader, "b");
}

#[test]
fn offsets_outlive_the_members_and_the_generation_never_comes_twice() {
    let mut paper = Paper::new(4);
    let generation = paper.settle_classic(&["a"]);
    assert!(paper.commit_classic(caller("a", generation), 7).expect("noted").is_ok());
    assert_eq!(paper.leave_classic(&[("a", None), ("x", None)]), [Ok(()), Err(ClassicError::UnknownMember)]);
    assert_eq!((paper.shown().phase, paper.describe().state), (ClassicPhase::Empty, GroupState::Empty));
    paper.pass(30_000);
    assert_eq!(paper.committed(0), Some(7));
    let next = paper.settle_classic(&["b"]);
    assert!(next > generation, "{next} follows {generation}");
}

#[test]
fn a_group_is_of_one_kind_as_long_as_it_has_members() {
    let mut paper = Paper::new(4);
    let generation = paper.settle_classic(&["a"]);
    assert!(paper.commit_classic(caller("a", generation), 7).expect("noted").is_ok());
    let refused = paper.beat(group_paper::joining("n", &["orders"])).expect_err("there is one of the other kind");
    assert_eq!(refused.code, ErrorCode::GroupNotEmpty);
    assert!(refused.message.contains("1 member that speak"), "{}", refused.message);
    for refused in [paper.commit(None, &[0], 9).map(drop), paper.delete(None).map(drop)] {
        assert_eq!(refused.expect_err("it has members").code, ErrorCode::GroupNotEmpty);
    }
    assert_eq!(paper.leave_classic(&[("a", None)]), [Ok(())]);

    let joined = paper.join("n");
    assert_eq!(paper.committed(0), Some(7), "the offsets are the same");
    assert_eq!(paper.refused(joining("b")), ClassicError::InconsistentProtocol);
    assert_eq!(paper.lives("a", generation), Err(ClassicError::InconsistentProtocol));
    // A member of the other kind commits through the same API.
    assert!(paper.commit_classic(caller("n", joined.member_epoch), 8).expect("noted").is_ok());
    let stale = paper.commit_classic(caller("n", joined.member_epoch - 1), 9).expect_err("its epoch is over");
    assert_eq!(stale.code, ErrorCode::StaleMember);
    let nobody = paper.commit_classic(caller("", -1), 9).expect_err("there are members");
    assert_eq!(nobody.code, ErrorCode::GroupNotEmpty);
    paper.beat(heartbeat("n", tidelog_protocol::messages::LEAVING)).expect("it leaves");
    paper.settle_classic(&["b"]);
    assert_eq!(paper.committed(0), Some(8));
}

#[test]
fn another_coordinator_goes_on_in_every_phase() {
    let mut paper = Paper::new(4);
    let first = paper.settle_classic(&["a", "b"]);
    assert!(paper.commit_classic(caller("a", first), 7).expect("noted").is_ok());
    paper.take_over();
    assert_eq!(paper.lives("a", first), Ok(ClassicReply::Alive), "stable");
    assert_eq!(paper.part("b", first).expect("known").expect("a member").assignment, bytes("b"));

    paper.enter(joining("c"));
    paper.take_over();
    assert_eq!(paper.lives("a", first), Err(ClassicError::RebalanceInProgress), "preparing");
    assert!(paper.commit_classic(caller("a", first), 8).expect("noted").is_ok());
    let generation = paper.gather(&["a", "b", "c"]);
    assert_eq!(generation, first + 1);

    paper.take_over();
    assert_eq!(paper.sync("b", generation, &[]), Ok(ClassicReply::SyncLater), "completing");
    paper.sync("a", generation, &[("b", "right")]).expect("it leads");
    assert_eq!(paper.part("b", generation).expect("known").expect("a member").assignment, bytes("right"));

    paper.take_over();
    paper.pass(SESSION_MS - 1);
    assert_eq!(paper.lives("a", generation), Ok(ClassicReply::Alive), "everyone gets a whole session");
    paper.pass(1);
    let a = paper.enter(again("a"));
    assert_eq!((paper.begun(&a).members.len(), paper.committed(0)), (1, Some(8)));
}

#[test]
fn what_consumers_tell_each_other_is_shown() {
    use tidelog_protocol::kafka::Message;
    use tidelog_protocol::kafka::consumer_protocol::{
        ConsumerPartitions, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
    };
    let behind_version = |message: &[u8]| tidelog_protocol::codec::Bytes::from([&[0, 1], message].concat());
    let mut paper = Paper::new(4);
    let said = ConsumerProtocolSubscription { topics: vec!["orders".into()], ..Default::default() };
    let mut join = joining("a");
    join.protocols[0].metadata = behind_version(&said.to_bytes(1, false));
    let a = paper.enter(join);
    paper.pass(HOLD_MS);
    let generation = paper.begun(&a).generation;
    let orders = ConsumerPartitions { topic: "orders".into(), partitions: vec![3, 1, -5, 1] };
    let gone = ConsumerPartitions { topic: "gone".into(), partitions: vec![0] };
    let part = ConsumerProtocolAssignment { assigned_partitions: vec![orders, gone], user_data: None };
    let parts = vec![("a".into(), behind_version(&part.to_bytes(1, false)))];
    let sync = ClassicSync { caller: caller("a", generation), protocol_type: None, protocol: None, parts };
    paper.call(ClassicCommand::Sync(sync)).expect("it leads");
    paper.pass(2_000);
    let described = paper.describe();
    assert_eq!((described.state, described.epoch, &*described.assignor), (GroupState::Stable, generation, "range"));
    let member = &described.members[0];
    let owned: Vec<u32> = member.owned[0].partitions.iter().map(|partition| partition.0).collect();
    assert_eq!((member.owned.len(), owned), (1, vec![1, 3]));
    assert_eq!((member.subscription.topics.clone(), member.silent_ms), (vec!["orders".to_owned()], 2_000));
    assert_eq!(member.client_name.as_deref(), Some("client"));
}

#[test]
fn what_breaks_a_limit_is_refused() {
    let mut paper = Paper::new(4);
    for session_ms in [-1, 0, 999, 1_800_001] {
        assert_eq!(paper.refused(ClassicJoin { session_ms, ..joining("a") }), ClassicError::InvalidSession);
    }
    for group in ["", "line\nbreak"] {
        assert_eq!(paper.refused(ClassicJoin { group: group.into(), ..joining("a") }), ClassicError::InvalidGroup);
    }
    for member in ["a", "b", "c", "d"] {
        paper.enter(joining(member));
    }
    assert_eq!(paper.refused(joining("e")), ClassicError::GroupFull, "members");
    let other = |group: &str| ClassicJoin { group: group.into(), ..joining("x") };
    paper.enter(other("second"));
    assert_eq!(paper.refused(other("third")), ClassicError::GroupFull, "groups");
    let mut large = again("a");
    large.protocols[0].metadata = vec![0; 300 << 10].into();
    assert_eq!(paper.refused(large), ClassicError::GroupFull);
}
