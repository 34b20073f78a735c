//! Who may note how far a group has come, who may ask, and when it is forgotten.

use crate::cluster::{code, message};
use crate::group_paper::{GROUP, Paper, commit, heartbeat, joining, offset_of, with_instance};
use tidelog_coordination::groups::GroupCommand;
use tidelog_protocol::messages::{CommittedOffset, GroupState, LEAVING, PAUSING, TopicPartitions};
use tidelog_protocol::{ErrorCode, LeaderEpoch, Offset, PartitionId, TopicId};

#[test]
fn a_member_commits_in_its_epoch_what_it_owns() {
    let mut paper = Paper::new(4);
    paper.join("a");
    paper.commit(Some(("a", 1)), &[0, 3], 7).expect("it owns them");
    assert_eq!((paper.committed(0), paper.committed(1), paper.committed(3)), (Some(7), None, Some(7)));
    assert_eq!(code(paper.commit(Some(("a", 2)), &[0], 9)), ErrorCode::StaleMember);
    assert_eq!(code(paper.commit(Some(("a", 0)), &[0], 9)), ErrorCode::StaleMember);
    assert_eq!(code(paper.commit(Some(("b", 1)), &[0], 9)), ErrorCode::UnknownMember);
    assert_eq!(code(paper.commit(Some(("", 1)), &[0], 9)), ErrorCode::InvalidGroup);
    assert_eq!(paper.committed(0), Some(7));
}

#[test]
fn what_is_being_let_go_of_can_be_committed_until_it_is_gone() {
    let mut paper = Paper::new(2);
    paper.join("a");
    paper.join("b");
    paper.beat(heartbeat("a", 1)).expect("it is asked to let go");
    paper.commit(Some(("a", 1)), &[0, 1], 5).expect("it may finish");
    paper.settle();
    let (epoch, kept) = paper.member("a");
    let gone = u32::from(kept.contains(&(paper.id("orders"), PartitionId(0))));
    assert_eq!(code(paper.commit(Some(("a", 1)), &[gone], 9)), ErrorCode::StaleMember);
    let refused = paper.commit(Some(("a", epoch)), &[0, 1], 9);
    assert_eq!(code(refused.clone()), ErrorCode::NotOwned);
    assert_eq!(message(refused), format!("member 'a' does not own 'orders' partition {gone}; nothing was committed"));
    assert_eq!((paper.committed(0), paper.committed(1)), (Some(5), Some(5)), "all or nothing");
}

#[test]
fn a_member_that_pauses_or_left_commits_nothing() {
    let mut paper = Paper::new(2);
    paper.beat(with_instance("one", joining("a", &["orders"]))).expect("it joins");
    paper.beat(heartbeat("a", PAUSING)).expect("it pauses");
    assert_eq!(code(paper.commit(Some(("a", 1)), &[0], 9)), ErrorCode::FencedMember);
    assert_eq!(code(paper.commit(Some(("a", PAUSING)), &[0], 9)), ErrorCode::FencedMember);
    paper.beat(heartbeat("a", LEAVING)).expect("it leaves");
    assert_eq!(code(paper.commit(Some(("a", 1)), &[0], 9)), ErrorCode::UnknownMember);
}

#[test]
fn nobody_commits_only_while_the_group_has_no_members() {
    let mut paper = Paper::new(2);
    paper.commit(None, &[0], 3).expect("the group is made by it");
    assert_eq!((paper.describe().state, paper.committed(0)), (GroupState::Empty, Some(3)));
    paper.join("a");
    let refused = paper.commit(None, &[0], 0);
    assert_eq!(code(refused.clone()), ErrorCode::GroupNotEmpty);
    assert!(message(refused).contains("stop them first"));
    paper.beat(heartbeat("a", LEAVING)).expect("it leaves");
    paper.commit(None, &[0], 0).expect("nobody is there");
    assert_eq!(paper.committed(0), Some(0), "also backwards");
}

#[test]
fn a_commit_for_what_does_not_exist_or_is_too_much_is_refused_whole() {
    let mut paper = Paper::new(2);
    let topic_id = paper.id("orders");
    let mut refused = |wrong: CommittedOffset| {
        let request = commit(None, vec![offset_of(topic_id, 0, 5), wrong]);
        let refused = paper.ask(&GroupCommand::Commit(request));
        assert_eq!(paper.committed(0), None);
        code(refused)
    };
    assert_eq!(refused(offset_of(TopicId([9; 16]), 0, 5)), ErrorCode::UnknownTopic);
    assert_eq!(refused(offset_of(topic_id, 2, 5)), ErrorCode::UnknownPartition);
    assert_eq!(refused(offset_of(topic_id, 1, Offset::MAX.0 + 1)), ErrorCode::Malformed);
    let long = CommittedOffset { metadata: "x".repeat(17), ..offset_of(topic_id, 1, 5) };
    assert_eq!(refused(long), ErrorCode::TooLarge);
    let empty = commit(None, Vec::new());
    paper.ask(&GroupCommand::Commit(empty)).expect("nothing is to be done");
    assert!(paper.log.is_empty(), "and no group comes of it");
    for group in ["one", "two"] {
        let commit = tidelog_protocol::messages::OffsetCommitRequest {
            group: group.into(),
            ..commit(None, vec![offset_of(topic_id, 0, 5)])
        };
        paper.ask(&GroupCommand::Commit(commit)).expect("there is room");
    }
    assert_eq!(code(paper.commit(None, &[0], 5)), ErrorCode::GroupFull);
}

#[test]
fn what_was_noted_comes_back_as_it_was() {
    let mut paper = Paper::new(3);
    let topic_id = paper.id("orders");
    let noted =
        CommittedOffset { leader_epoch: Some(LeaderEpoch(4)), metadata: "here".into(), ..offset_of(topic_id, 1, 5) };
    paper.ask(&GroupCommand::Commit(commit(None, vec![noted.clone(), offset_of(topic_id, 0, 2)]))).expect("noted");
    assert_eq!(paper.fetch(None, None).expect("it is there"), [offset_of(topic_id, 0, 2), noted.clone()]);
    let asked = vec![TopicPartitions { topic_id, partitions: vec![PartitionId(2), PartitionId(1)] }];
    assert_eq!(paper.fetch(None, Some(asked)).expect("it is there"), [noted]);
}

#[test]
fn who_is_no_member_any_more_is_told_when_it_asks() {
    let mut paper = Paper::new(3);
    assert_eq!(paper.fetch(None, None).expect("a group that does not exist has nothing"), []);
    assert_eq!(code(paper.fetch(Some(("a", 1)), None)), ErrorCode::UnknownMember);
    paper.join("a");
    paper.fetch(Some(("a", 1)), None).expect("it is a member");
    assert_eq!(code(paper.fetch(Some(("a", 3)), None)), ErrorCode::StaleMember);
}

#[test]
fn only_a_group_without_members_is_deleted() {
    let mut paper = Paper::new(3);
    assert_eq!(code(paper.delete(None)), ErrorCode::UnknownGroup);
    paper.join("a");
    paper.commit(Some(("a", 1)), &[0, 1, 2], 5).expect("noted");
    assert_eq!(code(paper.delete(None)), ErrorCode::GroupNotEmpty);
    paper.beat(heartbeat("a", LEAVING)).expect("it leaves");
    let one = vec![TopicPartitions { topic_id: paper.id("orders"), partitions: vec![PartitionId(1), PartitionId(9)] }];
    paper.delete(Some(one)).expect("a part is forgotten");
    assert_eq!((paper.committed(0), paper.committed(1)), (Some(5), None));
    paper.delete(None).expect("all is forgotten");
    assert_eq!(paper.committed(0), None);
    assert_eq!(code(paper.try_describe()), ErrorCode::UnknownGroup);
    assert_eq!(GROUP, "payments");
}

#[test]
fn offsets_live_as_long_as_the_group_or_the_topic() {
    let mut paper = Paper::new(3);
    paper.topic("logs", 1);
    let logs = paper.id("logs");
    paper.join("a");
    paper.commit(Some(("a", 1)), &[0], 5).expect("noted");
    paper.beat(heartbeat("a", LEAVING)).expect("it leaves");
    paper.ask(&GroupCommand::Commit(commit(None, vec![offset_of(logs, 0, 8)]))).expect("noted");
    paper.pass(10_000_000);
    assert_eq!(paper.committed(0), Some(5), "however long nobody is there");
    paper.drop_topic("logs");
    assert_eq!(paper.pass(100), 1);
    assert_eq!(paper.groups.committed(GROUP, logs, PartitionId(0)), None);
    assert_eq!(paper.committed(0), Some(5));
    // One that came and went since somebody last looked, too.
    paper.topic("clicks", 1);
    let clicks = paper.id("clicks");
    paper.ask(&GroupCommand::Commit(commit(None, vec![offset_of(clicks, 0, 8)]))).expect("noted");
    paper.drop_topic("clicks");
    assert_eq!(paper.pass(100), 1);
    assert_eq!(paper.groups.committed(GROUP, clicks, PartitionId(0)), None);
}
