//! Offsets within transactions of producers that keep their epoch from one to the next, as Kafka's clients note them.

use crate::group_paper::{GROUP, Paper, offset_of};
use tidelog_coordination::Refusal;
use tidelog_coordination::groups::classic::{
    ClassicCaller, ClassicCommand, ClassicError, ClassicReply, ClassicTransactionCommit,
};
use tidelog_coordination::groups::{GroupCommand, GroupReply};
use tidelog_protocol::messages::{CommitTransaction, ProducerIdentity};
use tidelog_protocol::{ErrorCode, Offset, PartitionId, ProducerEpoch, ProducerId};

const fn producer(epoch: i16) -> ProducerIdentity {
    ProducerIdentity { producer_id: ProducerId(7), epoch: ProducerEpoch(epoch) }
}

fn note(
    paper: &mut Paper,
    epoch: i16,
    offset: u64,
    asked: Option<u64>,
) -> Result<Result<ClassicReply, ClassicError>, Refusal> {
    let commit = ClassicTransactionCommit {
        caller: ClassicCaller { group: GROUP.into(), generation: -1, member_id: String::new(), instance_id: None },
        offsets: vec![offset_of(paper.id("orders"), 0, offset)],
        transaction: CommitTransaction { transactional_id: "tx".into(), identity: producer(epoch) },
        asked,
    };
    match paper.ask(&GroupCommand::Classic(ClassicCommand::CommitInTransaction(commit)))? {
        GroupReply::Classic(said) => Ok(*said),
        other => panic!("{other:?}"),
    }
}

/// The number with which the coordinator of the transaction is to be asked.
fn asked(paper: &mut Paper, epoch: i16, offset: u64) -> u64 {
    match note(paper, epoch, offset, None) {
        Ok(Ok(ClassicReply::AskFirst(number))) => number,
        other => panic!("{other:?}"),
    }
}

fn end(paper: &mut Paper, epoch: i16, commit: bool) {
    let identity = producer(epoch);
    let command = GroupCommand::EndTransaction { group: GROUP.into(), identity, commit, own_epoch: true };
    assert_eq!(paper.ask(&command), Ok(GroupReply::Ended));
}

fn committed(paper: &Paper) -> Option<Offset> {
    paper.groups.committed(GROUP, paper.id("orders"), PartitionId(0))
}

#[test]
fn one_transaction_after_the_other_moves_the_group_once_it_is_committed() {
    let mut paper = Paper::new(1);
    for (offset, commit, then) in [(3, true, 3), (5, false, 3), (6, true, 6)] {
        let before = committed(&paper);
        let number = asked(&mut paper, 4, offset);
        assert_eq!(note(&mut paper, 4, offset, Some(number)), Ok(Ok(ClassicReply::Committed)));
        assert_eq!(note(&mut paper, 4, offset, None), Ok(Ok(ClassicReply::Committed)), "its coordinator knows");
        assert_eq!(committed(&paper), before, "it is open");
        end(&mut paper, 4, commit);
        assert_eq!(committed(&paper), Some(Offset(then)));
        end(&mut paper, 4, !commit);
        assert_eq!(committed(&paper), Some(Offset(then)), "a marker that comes again finds nothing");
    }
}

#[test]
fn a_commit_that_asked_before_the_end_is_no_part_of_the_next() {
    let mut paper = Paper::new(1);
    let late = asked(&mut paper, 4, 9);
    end(&mut paper, 4, true);
    let refused = note(&mut paper, 4, 9, Some(late)).map_err(|refusal| refusal.code);
    assert_eq!(refused, Err(ErrorCode::InvalidTransactionState));
    let number = asked(&mut paper, 4, 2);
    assert_eq!(note(&mut paper, 4, 2, Some(number)), Ok(Ok(ClassicReply::Committed)));
}

#[test]
fn an_epoch_that_is_over_notes_nothing_and_ends_nothing() {
    let mut paper = Paper::new(1);
    let number = asked(&mut paper, 5, 2);
    note(&mut paper, 5, 2, Some(number)).expect("it is noted").expect("it is noted");
    end(&mut paper, 4, true);
    assert_eq!(committed(&paper), None);
    end(&mut paper, 5, true);
    assert_eq!(committed(&paper), Some(Offset(2)));
    let number = asked(&mut paper, 4, 9);
    let refused = note(&mut paper, 4, 9, Some(number)).map_err(|refusal| refusal.code);
    assert_eq!(refused, Err(ErrorCode::InvalidTransactionState));
}
