//! Offsets within a transaction: pending until its end, counting or gone then, and never touched by another's end.

use crate::cluster::{code, message};
use crate::group_paper;
use crate::group_paper::{GROUP, Paper, commit, heartbeat, offset_of};
use tidelog_coordination::Refusal;
use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::messages::{
    CommitTransaction, CommittedOffset, LEAVING, OffsetCommitRequest, OffsetFetchRequest, ProducerIdentity,
    TopicPartitions,
};
use tidelog_protocol::{ErrorCode, PartitionId, ProducerEpoch, ProducerId, TopicId};

/// How long a fence stays.
const FENCE_MS: u64 = 15 * 60_000;

const fn producer(id: i64, epoch: i16) -> ProducerIdentity {
    ProducerIdentity { producer_id: ProducerId(id), epoch: ProducerEpoch(epoch) }
}

fn within(identity: ProducerIdentity, request: OffsetCommitRequest) -> OffsetCommitRequest {
    let transactional_id = format!("tx-{}", identity.producer_id);
    OffsetCommitRequest { transaction: Some(CommitTransaction { transactional_id, identity }), ..request }
}

struct Transactional {
    paper: Paper,
    orders: TopicId,
}

impl Transactional {
    /// Four partitions, and nobody in the group.
    fn new() -> Self {
        let paper = Paper::new(4);
        let orders = paper.id("orders");
        Self { paper, orders }
    }

    /// All of four partitions are those of "a", in epoch 1.
    fn with_member() -> Self {
        let mut this = Self::new();
        this.paper.join("a");
        this
    }

    fn request(
        &self,
        identity: ProducerIdentity,
        member: Option<(&str, i32)>,
        partitions: &[u32],
        offset: u64,
    ) -> OffsetCommitRequest {
        let offsets = partitions.iter().map(|partition| offset_of(self.orders, *partition, offset)).collect();
        within(identity, commit(member, offsets))
    }

    /// Its coordinator says yes.
    fn note(
        &mut self,
        identity: ProducerIdentity,
        member: Option<(&str, i32)>,
        partitions: &[u32],
        offset: u64,
    ) -> Result<GroupReply, Refusal> {
        let request = self.request(identity, member, partitions, offset);
        match self.paper.ask(&GroupCommand::Commit(request.clone()))? {
            GroupReply::TakeInFirst => self.paper.ask(&GroupCommand::CommitTakenIn(request)),
            reply => Ok(reply),
        }
    }

    /// `identity` is that of the transaction; gives how many records came of it.
    fn end(&mut self, identity: ProducerIdentity, commit: bool) -> usize {
        let before = self.paper.log.len();
        let identity = producer(identity.producer_id.0, identity.epoch.0 + 1);
        let command = GroupCommand::EndTransaction { group: GROUP.into(), identity, commit, own_epoch: false };
        assert_eq!(self.paper.ask(&command), Ok(GroupReply::Ended));
        self.paper.log.len() - before
    }

    fn fetch_stable(&mut self, partitions: &[u32]) -> Result<Vec<CommittedOffset>, Refusal> {
        let partitions = partitions.iter().map(|partition| PartitionId(*partition)).collect();
        let request = OffsetFetchRequest {
            group: GROUP.into(),
            member_id: None,
            member_epoch: 0,
            partitions: Some(vec![TopicPartitions { topic_id: self.orders, partitions }]),
            require_stable: true,
        };
        match self.paper.ask(&GroupCommand::Fetch(request))? {
            GroupReply::Fetched(fetched) => Ok(fetched.offsets),
            other => unreachable!("{other:?}"),
        }
    }
}

#[test]
fn offsets_of_a_transaction_count_once_it_is_committed() {
    let mut of = Transactional::with_member();
    of.paper.commit(Some(("a", 1)), &[0, 1], 3).expect("noted");
    of.note(producer(7, 0), Some(("a", 1)), &[1, 2], 8).expect("noted");
    assert_eq!((of.paper.committed(1), of.paper.committed(2)), (Some(3), None), "it is open");
    of.end(producer(7, 0), true);
    assert_eq!([0, 1, 2, 3].map(|at| of.paper.committed(at)), [Some(3), Some(8), Some(8), None]);
}

#[test]
fn offsets_of_a_transaction_are_gone_once_it_is_undone() {
    let mut of = Transactional::with_member();
    of.paper.commit(Some(("a", 1)), &[1], 3).expect("noted");
    of.note(producer(7, 0), Some(("a", 1)), &[1, 2], 8).expect("noted");
    of.end(producer(7, 0), false);
    assert_eq!((of.paper.committed(1), of.paper.committed(2)), (Some(3), None));
    assert_eq!(of.fetch_stable(&[1, 2]).expect("nothing is open").len(), 1);
}

#[test]
fn the_coordinator_of_the_transaction_is_asked_before_anything_is_noted_and_once() {
    let mut of = Transactional::with_member();
    let request = of.request(producer(7, 0), Some(("a", 1)), &[1], 8);
    let written = of.paper.log.len();
    assert_eq!(of.paper.ask(&GroupCommand::Commit(request.clone())), Ok(GroupReply::TakeInFirst));
    assert_eq!(of.paper.log.len(), written);
    assert_eq!(of.paper.ask(&GroupCommand::CommitTakenIn(request)), Ok(GroupReply::Committed));
    let more = of.request(producer(7, 0), Some(("a", 1)), &[2], 8);
    assert_eq!(of.paper.ask(&GroupCommand::Commit(more)), Ok(GroupReply::Committed), "the group is part of it");
    of.end(producer(7, 0), true);
    let next = of.request(producer(7, 1), Some(("a", 1)), &[2], 8);
    assert_eq!(of.paper.ask(&GroupCommand::Commit(next)), Ok(GroupReply::TakeInFirst), "another transaction");
    let nothing = of.request(producer(7, 1), Some(("a", 1)), &[], 8);
    assert_eq!(of.paper.ask(&GroupCommand::Commit(nothing)), Ok(GroupReply::Committed), "nothing is to be done");
}

#[test]
fn a_commit_that_was_on_its_way_while_its_transaction_ended_is_refused() {
    for ended in [true, false] {
        let mut of = Transactional::with_member();
        let late = of.request(producer(7, 0), Some(("a", 1)), &[1], 8);
        assert_eq!(of.paper.ask(&GroupCommand::Commit(late.clone())), Ok(GroupReply::TakeInFirst));
        // Its coordinator said yes; then the end overtook it.
        of.end(producer(7, 0), ended);
        let refused = of.paper.ask(&GroupCommand::CommitTakenIn(late));
        assert_eq!(code(refused.clone()), ErrorCode::InvalidTransactionState);
        assert!(message(refused).contains("has ended in group 'payments'"));
        of.end(producer(7, 1), true);
        assert_eq!(of.paper.committed(1), None);
    }
}

#[test]
fn an_end_that_comes_late_or_twice_ends_nothing_of_a_later_transaction() {
    let mut of = Transactional::with_member();
    of.note(producer(7, 0), Some(("a", 1)), &[1], 8).expect("noted");
    assert_eq!(of.end(producer(7, 0), true), 3, "the offset, the end of the pending one, a fence");
    of.note(producer(7, 1), Some(("a", 1)), &[1], 20).expect("noted");
    assert_eq!(of.end(producer(7, 0), true), 0, "again");
    assert_eq!(of.paper.committed(1), Some(8));
    assert_eq!(code(of.fetch_stable(&[1])), ErrorCode::UnstableOffset, "it is open as before");
    of.end(producer(7, 1), false);
    assert_eq!(of.end(producer(7, 0), true), 0, "still");
    assert_eq!(of.paper.committed(1), Some(8));
}

#[test]
fn a_fence_outlasts_a_log_read_again_and_is_forgotten_long_after() {
    let mut of = Transactional::with_member();
    of.note(producer(7, 0), Some(("a", 1)), &[1], 8).expect("noted");
    of.end(producer(7, 0), true);
    let mut again = tidelog_coordination::groups::Groups::new(group_paper::limits());
    of.paper.log.iter().for_each(|record| again.replay(record));
    again.loaded(tidelog_protocol::Monotonic(of.paper.now));
    of.paper.groups = again;
    let late = of.request(producer(7, 0), Some(("a", 1)), &[1], 8);
    assert_eq!(code(of.paper.ask(&GroupCommand::CommitTakenIn(late))), ErrorCode::InvalidTransactionState);
    of.paper.beat(heartbeat("a", LEAVING)).expect("it leaves");
    of.paper.pass(100);
    assert_eq!(of.paper.pass(FENCE_MS - 1), 0);
    of.end(producer(7, 1), true);
    of.paper.pass(100);
    assert_eq!(of.paper.pass(FENCE_MS - 1), 0, "it counts from the last end");
    assert_eq!(of.paper.pass(1), 1);
    assert_eq!(of.paper.pass(FENCE_MS), 0, "once");
}

#[test]
fn nobody_goes_on_from_what_an_open_transaction_is_about_to_move() {
    let mut of = Transactional::with_member();
    of.paper.commit(Some(("a", 1)), &[0, 1], 3).expect("noted");
    of.note(producer(7, 0), Some(("a", 1)), &[1], 8).expect("noted");
    assert_eq!(code(of.fetch_stable(&[0, 1])), ErrorCode::UnstableOffset);
    assert_eq!(code(of.paper.fetch(Some(("a", 1)), None)), ErrorCode::UnstableOffset, "a member, whatever it asks for");
    assert_eq!(of.fetch_stable(&[0]).expect("nothing is open there"), [offset_of(of.orders, 0, 3)]);
    let seen = of.paper.fetch(None, None).expect("an operator sees what counts");
    assert_eq!(seen, [offset_of(of.orders, 0, 3), offset_of(of.orders, 1, 3)]);
    of.end(producer(7, 0), true);
    assert_eq!(of.fetch_stable(&[1]).expect("it has ended"), [offset_of(of.orders, 1, 8)]);
}

#[test]
fn nobody_else_moves_what_an_open_transaction_is_about_to_move() {
    let mut of = Transactional::with_member();
    of.note(producer(7, 0), Some(("a", 1)), &[1], 8).expect("noted");
    assert_eq!(code(of.paper.commit(Some(("a", 1)), &[0, 1], 9)), ErrorCode::UnstableOffset);
    assert_eq!(of.paper.committed(0), None, "all or nothing");
    assert_eq!(code(of.note(producer(8, 0), Some(("a", 1)), &[1], 9)), ErrorCode::UnstableOffset);
    of.note(producer(8, 0), Some(("a", 1)), &[0], 9).expect("another partition");
    of.note(producer(7, 0), Some(("a", 1)), &[1], 10).expect("its own it may");
    of.end(producer(7, 0), true);
    assert_eq!((of.paper.committed(0), of.paper.committed(1)), (None, Some(10)));
    of.paper.commit(Some(("a", 1)), &[1], 11).expect("nothing is open any more");
    let one = Some(vec![TopicPartitions { topic_id: of.orders, partitions: vec![PartitionId(0)] }]);
    of.paper.beat(heartbeat("a", LEAVING)).expect("it leaves");
    assert_eq!(code(of.paper.delete(None)), ErrorCode::UnstableOffset);
    assert_eq!(code(of.paper.delete(one.clone())), ErrorCode::UnstableOffset);
    of.end(producer(8, 0), false);
    of.paper.delete(one).expect("nothing is open");
    of.paper.delete(None).expect("nothing is open");
}

#[test]
fn a_member_is_fenced_within_a_transaction_as_outside() {
    let mut of = Transactional::with_member();
    assert_eq!(code(of.note(producer(7, 0), Some(("a", 2)), &[1], 8)), ErrorCode::StaleMember);
    assert_eq!(code(of.note(producer(7, 0), Some(("b", 1)), &[1], 8)), ErrorCode::UnknownMember);
    assert_eq!(code(of.note(producer(7, 0), None, &[1], 8)), ErrorCode::GroupNotEmpty);
    // It lost its place while the coordinator was asked.
    let request = of.request(producer(7, 0), Some(("a", 1)), &[1], 8);
    assert_eq!(of.paper.ask(&GroupCommand::Commit(request.clone())), Ok(GroupReply::TakeInFirst));
    of.paper.beat(heartbeat("a", LEAVING)).expect("it leaves");
    assert_eq!(code(of.paper.ask(&GroupCommand::CommitTakenIn(request))), ErrorCode::UnknownMember);
    assert_eq!(code(of.note(producer(-1, 0), None, &[1], 8)), ErrorCode::Malformed);
}

#[test]
fn a_group_lives_as_long_as_a_transaction_may_commit_to_it() {
    let mut of = Transactional::new();
    of.note(producer(7, 0), None, &[1], 8).expect("the group is made by it");
    of.paper.pass(100);
    assert_eq!(of.paper.pass(1_000_000), 0, "it waits for the end");
    of.end(producer(7, 0), false);
    of.paper.pass(100);
    of.paper.pass(1_000_000);
    assert_eq!(code(of.paper.try_describe()), ErrorCode::UnknownGroup, "nothing came of it");
}

#[test]
fn what_was_noted_for_a_deleted_topic_is_gone_with_the_end() {
    let mut of = Transactional::new();
    of.note(producer(7, 0), None, &[1], 8).expect("noted");
    of.paper.drop_topic("orders");
    of.paper.pass(100);
    assert_eq!(of.end(producer(7, 0), true), 2, "no offset, the end of the pending one, a fence");
    assert_eq!(of.paper.groups.committed(GROUP, of.orders, PartitionId(1)), None);
}

#[test]
fn more_than_one_batch_can_end_is_refused_before_it_is_noted() {
    let mut of = Transactional::with_member();
    of.note(producer(7, 0), Some(("a", 1)), &[0, 1, 2], 8).expect("there is room");
    of.note(producer(7, 0), Some(("a", 1)), &[0, 1, 2], 9).expect("the same again takes no more");
    let mut last = of.request(producer(7, 0), Some(("a", 1)), &[3], 8);
    last.offsets[0].metadata = "0123456789abcdef".into();
    assert_eq!(of.paper.ask(&GroupCommand::Commit(last.clone())), Ok(GroupReply::Committed));
    last.offsets[0].partition = PartitionId(0);
    assert_eq!(code(of.paper.ask(&GroupCommand::Commit(last))), ErrorCode::TooLarge);
}
