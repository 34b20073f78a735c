//! Transactions of producers that keep their epoch from one to the next, as Kafka's clients do (KIP-98).

use crate::transaction_paper::{ID, Paper, TIMEOUT_MS, bumped, code, identity};
use tidelog_coordination::Refusal;
use tidelog_coordination::transactions::{TransactionCommand, TransactionReply};
use tidelog_protocol::ErrorCode;
use tidelog_protocol::messages::{
    AddToTransactionRequest, EndTransactionRequest, ProducerIdentity, TransactionFate, TransactionState,
};

fn end(paper: &mut Paper, by: &ProducerIdentity, commit: bool) -> Result<TransactionReply, Refusal> {
    let request = EndTransactionRequest { transactional_id: ID.into(), identity: by.clone(), commit };
    paper.ask(TransactionCommand::EndInEpoch(request))
}

/// Is the partition part of what is open?
fn asks(paper: &mut Paper, by: &ProducerIdentity, partition: u32) -> Result<TransactionReply, Refusal> {
    let partitions = paper.partitions("orders", &[partition]);
    paper.ask(TransactionCommand::Add(AddToTransactionRequest {
        transactional_id: ID.into(),
        identity: by.clone(),
        partitions,
        groups: vec![],
        only_asks: true,
    }))
}

#[test]
fn the_same_epoch_writes_one_transaction_after_the_other_and_its_markers_carry_it() {
    let mut paper = Paper::new();
    let producer = paper.begin();
    for commit in [true, false, true] {
        assert_eq!(paper.add(&producer, &[0]), Ok(TransactionReply::Added));
        assert_eq!(identity(end(&mut paper, &producer, commit)), producer);
        paper.reload();
        let markers = paper.markers().expect("they are due");
        assert_eq!((&markers.identity, markers.commit, markers.own_epoch), (&producer, commit, true));
        assert_eq!(code(paper.add(&producer, &[1])), ErrorCode::ConcurrentTransactions, "the markers come first");
        assert_eq!(identity(end(&mut paper, &producer, commit)), producer, "asked again");
        assert_eq!(code(end(&mut paper, &producer, !commit)), ErrorCode::ConcurrentTransactions);
        paper.finish();
    }
    assert_eq!(paper.describe().identity, producer);
    let before = paper.log.len();
    assert_eq!(identity(end(&mut paper, &producer, false)), producer, "nothing is open");
    assert_eq!(paper.log.len(), before);
}

#[test]
fn only_what_the_producer_has_taken_in_is_part_of_it() {
    let mut paper = Paper::new();
    let producer = paper.begin();
    assert_eq!(code(asks(&mut paper, &producer, 0)), ErrorCode::UnknownTransaction);
    assert_eq!(paper.describe().state, TransactionState::Empty, "whoever asks begins nothing");
    paper.add(&producer, &[0]).expect("it is open");
    assert_eq!(asks(&mut paper, &producer, 0), Ok(TransactionReply::Added));
    assert_eq!(code(asks(&mut paper, &producer, 1)), ErrorCode::UnknownTransaction);
    end(&mut paper, &producer, true).expect("it is committed");
    paper.finish();
    assert_eq!(code(asks(&mut paper, &producer, 0)), ErrorCode::UnknownTransaction, "a batch that comes late");
}

#[test]
fn whoever_takes_its_place_and_whatever_ends_it_for_it_moves_the_epoch_on() {
    let mut paper = Paper::new();
    let producer = paper.begin();
    paper.add(&producer, &[0]).expect("it is open");
    paper.pass(1);
    paper.pass(u64::from(TIMEOUT_MS) + 1);
    let markers = paper.markers().expect("it was open for too long");
    assert_eq!((markers.identity, markers.commit, markers.own_epoch), (bumped(&producer), false, false));
    assert_eq!(code(end(&mut paper, &producer, true)), ErrorCode::InvalidTransactionState);
    paper.finish();
    assert_eq!(code(paper.add(&producer, &[0])), ErrorCode::InvalidTransactionState);
    let again = identity(paper.init(Some(&producer)));
    assert_eq!(again, bumped(&producer), "it goes on, as nobody has taken its place");
    paper.add(&again, &[0]).expect("it is open");
    assert_eq!(paper.init(None), Ok(TransactionReply::AbortedFirst));
    paper.finish();
    assert_eq!(code(end(&mut paper, &again, true)), ErrorCode::TransactionFenced);
    assert_eq!(code(paper.init(Some(&again))), ErrorCode::TransactionFenced);
}

#[test]
fn nobody_is_told_that_what_is_open_has_ended_because_the_one_before_has() {
    let mut paper = Paper::new();
    let producer = paper.begin();
    paper.add(&producer, &[0]).expect("it is open");
    end(&mut paper, &producer, true).expect("it is committed");
    assert_eq!(paper.transactions.fate(&producer), TransactionFate::Ongoing, "its markers are sent");
    paper.finish();
    paper.add(&producer, &[0]).expect("the next is open");
    assert_eq!(paper.transactions.fate(&producer), TransactionFate::Ongoing);
    assert_eq!(paper.init(None), Ok(TransactionReply::AbortedFirst));
    assert_eq!(paper.transactions.fate(&producer), TransactionFate::Aborted);
}
