//! The rules of transactions, one at a time: who may write, how a transaction ends, and what comes too late.

use crate::transaction_paper::{ID, Paper, TIMEOUT_MS, bumped, code, identity};
use tidelog_coordination::transactions::records::{RecordedProducer, TransactionValue};
use tidelog_coordination::transactions::{TRANSACTIONAL_ID_BYTES_MAX, TransactionReply};
use tidelog_protocol::messages::{ProducerIdentity, TransactionEnder, TransactionMarkers, TransactionState};
use tidelog_protocol::{ErrorCode, ProducerEpoch, ProducerId};

const ADDED: Result<TransactionReply, tidelog_coordination::Refusal> = Ok(TransactionReply::Added);
const ABORTED: Result<TransactionReply, tidelog_coordination::Refusal> = Ok(TransactionReply::Aborted);
const ABORTED_FIRST: Result<TransactionReply, tidelog_coordination::Refusal> = Ok(TransactionReply::AbortedFirst);

/// The epochs of the one id are nearly used up: so many transactions are left.
fn nearly_used_up(paper: &mut Paper, left: i16) -> ProducerIdentity {
    paper.begin();
    let mut record = paper.log.pop().expect("it began");
    let epoch = ProducerEpoch(i16::MAX - left);
    if let Some(TransactionValue { producer, .. }) = &mut record.value {
        *producer = RecordedProducer { producer_id: ProducerId(7), epoch };
    }
    paper.transactions.replay(&record);
    paper.log.push(record);
    ProducerIdentity { producer_id: ProducerId(7), epoch }
}

#[test]
fn a_transaction_begins_ends_and_the_next_has_another_epoch() {
    let mut paper = Paper::new();
    let first = paper.begin();
    assert_eq!(first.epoch, ProducerEpoch(0));
    let (orders, groups) = (paper.partitions("orders", &[2, 0]), ["readers"]);
    assert_eq!(paper.add_all(&first, orders, &groups), ADDED);
    assert_eq!((paper.describe().state, paper.markers()), (TransactionState::Ongoing, None));

    let second = identity(paper.end(&first, true));
    assert_eq!(second, bumped(&first));
    let markers = TransactionMarkers {
        identity: second.clone(),
        commit: true,
        partitions: paper.partitions("orders", &[0, 2]),
        groups: vec![],
        own_epoch: false,
    };
    assert_eq!(paper.markers(), Some(markers.clone()));
    assert_eq!(paper.describe().state, TransactionState::Committing);
    paper.confirm(markers.clone());
    let of_groups = TransactionMarkers { partitions: vec![], groups: vec!["readers".into()], ..markers };
    assert_eq!(paper.markers(), Some(of_groups), "a group is so far once what was made on the way can be read");
    paper.finish();
    let described = paper.describe();
    assert_eq!((described.state, described.identity), (TransactionState::Empty, second.clone()));
    assert_eq!((described.partitions, described.groups, described.began_at), (vec![], vec![], None));
    let ended = described.ended.expect("one ended");
    assert_eq!((ended.identity, ended.committed, ended.by), (first, true, TransactionEnder::Producer));
    assert_eq!(paper.add(&second, &[1]), ADDED);
    assert_eq!(paper.log.len(), 4, "begun, open, being ended, open, which says that it was done: {:#?}", paper.log);
}

#[test]
fn taking_in_what_is_in_already_writes_nothing() {
    let mut paper = Paper::new();
    let producer = paper.begin();
    assert_eq!(paper.add(&producer, &[]), ADDED);
    assert_eq!(paper.log.len(), 1, "nothing is open");
    assert_eq!(paper.add(&producer, &[0, 1]), ADDED);
    assert_eq!(paper.add(&producer, &[1]), ADDED);
    assert_eq!(paper.log.len(), 2);
    assert_eq!(paper.add(&producer, &[1, 2]), ADDED);
    assert_eq!(paper.describe().partitions, paper.partitions("orders", &[0, 1, 2]));
}

#[test]
fn of_an_abort_groups_hear_at_once() {
    let mut paper = Paper::new();
    let first = paper.begin();
    let orders = paper.partitions("orders", &[0]);
    paper.add_all(&first, orders, &["readers"]).expect("it is open");
    paper.end(&first, false).expect("it is undone");
    assert_eq!(paper.markers().map(|markers| (markers.partitions.len(), markers.groups.len())), Some((1, 1)));
}

#[test]
fn nothing_is_taken_in_while_markers_are_missing() {
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.add(&first, &[0]).expect("it is open");
    let second = identity(paper.end(&first, false));
    assert_eq!(code(paper.add(&second, &[0])), ErrorCode::ConcurrentTransactions);
    assert_eq!(code(paper.end(&second, true)), ErrorCode::ConcurrentTransactions);
    assert_eq!(code(paper.init(Some(&second))), ErrorCode::ConcurrentTransactions);
    assert_eq!(code(paper.init(None)), ErrorCode::ConcurrentTransactions);
    paper.finish();
    assert_eq!(paper.add(&second, &[0]), ADDED);
}

#[test]
fn a_late_batch_is_not_taken_into_the_next_transaction() {
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.add(&first, &[0]).expect("it is open");
    let second = identity(paper.end(&first, true));
    assert_eq!(code(paper.add(&first, &[1])), ErrorCode::InvalidTransactionState);
    paper.finish();
    assert_eq!(code(paper.add(&first, &[1])), ErrorCode::InvalidTransactionState);
    paper.add(&second, &[2]).expect("it is open");
    assert_eq!(code(paper.add(&first, &[1])), ErrorCode::InvalidTransactionState);
    let third = identity(paper.end(&second, true));
    paper.finish();
    assert_eq!(code(paper.add(&first, &[1])), ErrorCode::TransactionFenced);
    assert_eq!(code(paper.add(&bumped(&third), &[1])), ErrorCode::TransactionFenced, "an epoch that nobody has");
}

#[test]
fn an_end_asked_again_is_answered_like_the_first_and_touches_nothing() {
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.add(&first, &[0]).expect("it is open");
    let second = identity(paper.end(&first, true));
    assert_eq!(identity(paper.end(&first, true)), second, "while markers are missing");
    assert_eq!(code(paper.end(&first, false)), ErrorCode::InvalidTransactionState);
    paper.finish();
    assert_eq!(identity(paper.end(&first, true)), second);
    assert_eq!(code(paper.end(&first, false)), ErrorCode::InvalidTransactionState);
    paper.add(&second, &[0]).expect("it is open");
    let before = (paper.describe(), paper.log.len());
    assert_eq!(identity(paper.end(&first, true)), second);
    assert_eq!(code(paper.end(&first, false)), ErrorCode::InvalidTransactionState);
    assert_eq!((paper.describe(), paper.log.len()), before, "the next is open as it was");
}

#[test]
fn the_end_of_an_empty_transaction_takes_an_epoch_too_lest_it_ends_the_next() {
    let mut paper = Paper::new();
    let first = paper.begin();
    let second = identity(paper.end(&first, true));
    assert_eq!((second.clone(), paper.markers()), (bumped(&first), None));
    paper.add(&second, &[0]).expect("it is open");
    assert_eq!(identity(paper.end(&first, true)), second, "doubled and late");
    assert_eq!(paper.describe().state, TransactionState::Ongoing);
}

#[test]
fn a_new_producer_fences_the_old_one_and_waits_for_its_markers() {
    let mut paper = Paper::new();
    let old = paper.begin();
    paper.add(&old, &[0]).expect("it is open");
    assert_eq!(paper.init(None), ABORTED_FIRST);
    let ended = paper.describe().ended.expect("it is aborted");
    assert_eq!((ended.committed, ended.by), (false, TransactionEnder::Successor));
    assert_eq!(code(paper.init(None)), ErrorCode::ConcurrentTransactions);
    for late in [paper.end(&old, true), paper.end(&old, false), paper.add(&old, &[0]), paper.init(Some(&old))] {
        assert_eq!(code(late), ErrorCode::TransactionFenced, "while markers are missing");
    }
    paper.finish();
    let new = paper.begin();
    assert!(new.epoch.0 > old.epoch.0 + 1, "the markers' epoch is nobody's: {new:?}");
    for late in [paper.end(&old, true), paper.end(&old, false), paper.add(&old, &[0]), paper.init(Some(&old))] {
        assert_eq!(code(late), ErrorCode::TransactionFenced);
    }
    assert_eq!(paper.add(&new, &[0]), ADDED);
}

#[test]
fn a_new_producer_fences_one_that_has_nothing_open() {
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.add(&first, &[0]).expect("it is open");
    let second = identity(paper.end(&first, true));
    paper.finish();
    let new = paper.begin();
    assert_eq!(new, bumped(&second));
    assert_eq!(code(paper.add(&second, &[0])), ErrorCode::TransactionFenced);
    assert_eq!(
        code(paper.end(&first, true)),
        ErrorCode::TransactionFenced,
        "it may not learn the new producer's epoch"
    );
}

#[test]
fn who_still_holds_the_id_goes_on_after_an_error() {
    let mut paper = Paper::new();
    let first = paper.begin();
    let second = identity(paper.init(Some(&first)));
    assert_eq!(second, bumped(&first));
    assert_eq!(identity(paper.init(Some(&first))), second, "the answer was lost");
    paper.add(&second, &[0]).expect("it is open");
    assert_eq!(code(paper.init(Some(&first))), ErrorCode::TransactionFenced, "doubled and late");
    assert_eq!(paper.describe().state, TransactionState::Ongoing);
    assert_eq!(paper.init(Some(&second)), ABORTED_FIRST);
    assert_eq!(code(paper.init(Some(&second))), ErrorCode::ConcurrentTransactions);
    paper.finish();
    assert_eq!(identity(paper.init(Some(&second))), bumped(&second));
    let unknown = ProducerIdentity { producer_id: ProducerId(1), epoch: ProducerEpoch(0) };
    assert_eq!(code(paper.init(Some(&unknown))), ErrorCode::TransactionFenced);
}

#[test]
fn a_transaction_that_is_open_for_too_long_is_aborted_and_its_producer_may_go_on() {
    let mut paper = Paper::new();
    let zombie = paper.begin();
    paper.add(&zombie, &[0, 1]).expect("it is open");
    paper.pass(100);
    paper.pass(u64::from(TIMEOUT_MS) - 1);
    assert_eq!(paper.describe().state, TransactionState::Ongoing);
    assert_eq!(code(paper.abort_of("shipping")), ErrorCode::UnknownTransaction);
    paper.pass(1);
    let markers = paper.markers().expect("it is aborted");
    assert_eq!((markers.identity.clone(), markers.commit), (bumped(&zombie), false), "it is fenced where it wrote");
    assert_eq!(markers.partitions, paper.partitions("orders", &[0, 1]));
    assert_eq!(code(paper.add(&zombie, &[2])), ErrorCode::InvalidTransactionState);
    let refusal = paper.end(&zombie, true).expect_err("it is too late");
    assert_eq!(refusal.code, ErrorCode::InvalidTransactionState);
    assert!(refusal.message.contains("timeout"), "{refusal}");
    paper.finish();
    assert_eq!(identity(paper.end(&zombie, false)), bumped(&zombie), "it learns who it is");
    assert_eq!(identity(paper.init(Some(&zombie))), bumped(&zombie), "in this way too");
}

#[test]
fn every_transaction_has_its_whole_timeout_and_another_coordinator_goes_on_counting() {
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.add(&first, &[0]).expect("it is open");
    paper.pass(100);
    paper.pass(4_000);
    let second = identity(paper.end(&first, true));
    paper.finish();
    paper.add(&second, &[0]).expect("it is open");
    paper.pass(100);
    paper.pass(4_000);
    assert_eq!(paper.describe().state, TransactionState::Ongoing);
    paper.reload();
    assert_eq!((paper.describe().state, paper.open().oldest_ms), (TransactionState::Ongoing, 4_100));
    assert_eq!(paper.list(true)[0].open_ms, 4_100);
    paper.pass(899);
    assert_eq!((paper.describe().state, paper.open().oldest_ms), (TransactionState::Ongoing, 4_999));
    paper.pass(1);
    assert_eq!(paper.describe().state, TransactionState::Aborting);
    paper.pass(100);
    paper.reload();
    assert_eq!(paper.open().oldest_ms, 5_100, "until its markers stand");
}

#[test]
fn however_often_its_coordinator_moves_a_transaction_has_its_timeout_once() {
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.add(&first, &[0]).expect("it is open");
    for _ in 0..10 {
        assert_eq!(paper.describe().state, TransactionState::Ongoing);
        // A process that has just started: its clock that does not jump begins at nothing.
        paper.now += 500;
        paper.ahead_ms += paper.now as i64;
        paper.now = 0;
        paper.reload();
        paper.pass(0);
    }
    assert_eq!(paper.describe().ended.map(|ended| ended.by), Some(TransactionEnder::Timeout));
}

#[test]
fn a_coordinator_whose_wall_clock_differs_ends_a_transaction_earlier_or_later_by_as_much_and_in_any_case() {
    for ahead_ms in [-100_000, -3_000, 0, 3_000, 100_000] {
        let mut paper = Paper::new();
        let first = paper.begin();
        paper.add(&first, &[0]).expect("it is open");
        paper.pass(1_000);
        paper.ahead_ms = ahead_ms;
        paper.reload();
        let age = (1_000 + ahead_ms).max(0) as u64;
        assert_eq!(paper.open().oldest_ms, age, "{ahead_ms}");
        // From then on its clock may be put right, or wrong: it does not matter any more.
        paper.ahead_ms = -ahead_ms;
        let left = u64::from(TIMEOUT_MS).saturating_sub(age);
        if left > 0 {
            paper.pass(left - 1);
            assert_eq!(paper.describe().state, TransactionState::Ongoing, "{ahead_ms}");
        }
        paper.pass(1);
        assert_eq!(paper.describe().state, TransactionState::Aborting, "{ahead_ms}");
    }
}

#[test]
fn an_operator_aborts_what_is_open() {
    let mut paper = Paper::new();
    assert_eq!(code(paper.abort()), ErrorCode::UnknownTransaction);
    let first = paper.begin();
    assert_eq!(code(paper.abort()), ErrorCode::InvalidTransactionState, "nothing is open");
    paper.add(&first, &[0]).expect("it is open");
    assert_eq!(paper.abort(), ABORTED);
    assert_eq!(paper.abort(), ABORTED, "asked again");
    assert_eq!(paper.describe().ended.map(|ended| ended.by), Some(TransactionEnder::Operator));
    paper.finish();
    assert_eq!(paper.abort(), ABORTED, "asked again");
    let second = identity(paper.end(&first, false));
    paper.add(&second, &[0]).expect("its producer goes on");
    paper.end(&second, true).expect("it is committed");
    assert_eq!(code(paper.abort()), ErrorCode::InvalidTransactionState, "what is committed stays so");
}

#[test]
fn markers_are_written_until_each_is_confirmed_also_by_another_coordinator() {
    let mut paper = Paper::new();
    let first = paper.begin();
    let orders = paper.partitions("orders", &[0, 1]);
    paper.add_all(&first, orders, &["readers"]).expect("it is open");
    paper.end(&first, true).expect("it is committed");
    let all = paper.markers().expect("they are missing");
    let one = TransactionMarkers { partitions: paper.partitions("orders", &[1]), ..all.clone() };
    paper.confirm(one.clone());
    let rest = TransactionMarkers { partitions: paper.partitions("orders", &[0]), ..all.clone() };
    assert_eq!((paper.markers(), paper.describe().partitions), (Some(rest.clone()), rest.partitions.clone()));
    assert_eq!(paper.log.len(), 3, "what is confirmed in part is not stored");
    paper.reload();
    assert_eq!(paper.markers(), Some(all), "written again, which does nothing where they stand");
    paper.confirm(rest);
    paper.confirm(one.clone());
    let of_groups = TransactionMarkers { partitions: vec![], groups: vec!["readers".into()], ..one.clone() };
    assert_eq!(paper.markers(), Some(of_groups.clone()));
    paper.confirm(of_groups);
    assert_eq!((paper.markers(), paper.describe().state), (None, TransactionState::Empty));
    paper.confirm(one);
    assert_eq!(paper.log.len(), 3, "it is not stored at once");
    paper.pass(100);
    assert_eq!((paper.log.len(), paper.describe().state), (4, TransactionState::Empty));
    paper.reload();
    assert_eq!((paper.markers(), paper.describe().state), (None, TransactionState::Empty), "but soon");
}

#[test]
fn a_transaction_that_follows_at_once_needs_one_record_to_begin_and_has_its_whole_timeout() {
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.add(&first, &[0]).expect("it is open");
    paper.pass(100);
    paper.pass(u64::from(TIMEOUT_MS) - 200);
    let second = identity(paper.end(&first, true));
    assert_eq!(code(paper.add(&second, &[0])), ErrorCode::ConcurrentTransactions, "its marker is missing");
    paper.finish();
    assert_eq!(
        (paper.describe().state, paper.describe().began_at, paper.open().count),
        (TransactionState::Empty, None, 0)
    );
    let stored = paper.log.len();
    paper.add(&second, &[1]).expect("the first has ended");
    assert_eq!(paper.log.len(), stored + 1);
    assert_eq!((paper.describe().partitions, paper.markers()), (paper.partitions("orders", &[1]), None));
    paper.pass(200);
    assert_eq!((paper.describe().state, paper.open().oldest_ms), (TransactionState::Ongoing, 0), "it began just now");
    paper.reload();
    assert_eq!((paper.describe().state, paper.describe().identity), (TransactionState::Ongoing, second));
}

#[test]
fn a_late_confirmation_says_nothing_of_the_next_transaction() {
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.add(&first, &[0]).expect("it is open");
    let second = identity(paper.end(&first, true));
    let markers = paper.markers().expect("they are missing");
    paper.finish();
    paper.add(&second, &[0]).expect("it is open");
    paper.confirm(markers.clone());
    assert_eq!(paper.describe().state, TransactionState::Ongoing);
    paper.end(&second, true).expect("it is committed");
    paper.confirm(markers);
    assert!(paper.markers().is_some(), "those of the second are missing still");
}

#[test]
fn partitions_of_deleted_topics_hold_up_nothing() {
    let mut paper = Paper::new();
    paper.topic("logs", 2);
    let first = paper.begin();
    let logs = paper.partitions("logs", &[0, 1]);
    paper.add_all(&first, logs, &["readers"]).expect("it is open");
    paper.drop_topic("logs");
    let second = identity(paper.end(&first, true));
    paper.pass(100);
    let markers = paper.markers().expect("a group is missing");
    assert_eq!((markers.partitions.len(), markers.groups.len()), (0, 1));
    paper.confirm(markers);
    assert_eq!(paper.describe().state, TransactionState::Empty);
    // And where there was nothing else.
    paper.topic("clicks", 1);
    let clicks = paper.partitions("clicks", &[0]);
    paper.add_all(&second, clicks, &[]).expect("it is open");
    paper.drop_topic("clicks");
    paper.end(&second, false).expect("it is aborted");
    paper.pass(100);
    assert_eq!(paper.describe().state, TransactionState::Empty);
}

#[test]
fn a_producer_whose_epochs_are_used_up_gets_another_id_with_the_end() {
    let mut paper = Paper::new();
    let last = nearly_used_up(&mut paper, 1);
    paper.add(&last, &[0]).expect("it is open");
    paper.gives_ids = false;
    assert_eq!(paper.end(&last, true), Ok(TransactionReply::FreshIdNeeded));
    assert_eq!(paper.describe().state, TransactionState::Ongoing, "nothing was decided");
    paper.gives_ids = true;
    let renewed = identity(paper.end(&last, true));
    assert!(renewed.producer_id > ProducerId(100) && renewed.epoch == ProducerEpoch(0), "{renewed:?}");
    let markers = paper.markers().expect("they are missing");
    assert_eq!(markers.identity, ProducerIdentity { producer_id: ProducerId(7), epoch: ProducerEpoch(i16::MAX) });
    assert_eq!(identity(paper.end(&last, true)), renewed);
    paper.finish();
    assert_eq!(paper.add(&renewed, &[0]), ADDED);
    assert_eq!(code(paper.add(&markers.identity, &[0])), ErrorCode::TransactionFenced);
}

#[test]
fn a_producer_whose_epochs_are_used_up_by_a_timeout_gets_another_id_when_it_asks() {
    let mut paper = Paper::new();
    let last = nearly_used_up(&mut paper, 1);
    paper.add(&last, &[0]).expect("it is open");
    paper.pass(100);
    paper.pass(u64::from(TIMEOUT_MS));
    assert_eq!(paper.markers().map(|markers| markers.identity), Some(bumped(&last)));
    assert_eq!(code(paper.add(&bumped(&last), &[0])), ErrorCode::TransactionFenced, "an epoch for markers alone");
    let renewed = identity(paper.end(&last, false));
    assert_eq!((renewed.producer_id, renewed.epoch), (ProducerId(102), ProducerEpoch(0)));
    assert_eq!(paper.markers().map(|markers| markers.identity), Some(bumped(&last)), "they are as they were");
    paper.finish();
    assert_eq!(paper.add(&renewed, &[0]), ADDED);

    let mut paper = Paper::new();
    let last = nearly_used_up(&mut paper, 1);
    paper.add(&last, &[0]).expect("it is open");
    paper.abort().expect("it is aborted");
    paper.finish();
    assert_eq!(paper.begin().epoch, ProducerEpoch(0), "a new producer, too");
}

#[test]
fn bad_input_is_refused_with_a_clear_error() {
    let mut paper = Paper::new();
    let long = "x".repeat(TRANSACTIONAL_ID_BYTES_MAX + 1);
    for id in ["", "a\nb", &long] {
        assert_eq!(code(paper.init_as(id, None, 0)), ErrorCode::InvalidTransactionalId, "{id:?}");
    }
    assert!(paper.init_as(&long[1..], None, 0).is_ok());
    for timeout_ms in [1, 999, 900_001, u32::MAX] {
        let refusal = paper.init_as(ID, None, timeout_ms).expect_err("out of range");
        assert_eq!(refusal.code, ErrorCode::TransactionTimeout, "{timeout_ms}");
        assert!(refusal.message.contains("900000"), "{refusal}");
    }
    let nobody = ProducerIdentity { producer_id: ProducerId(1), epoch: ProducerEpoch(0) };
    assert_eq!(code(paper.add(&nobody, &[0])), ErrorCode::UnknownTransaction);
    assert_eq!(code(paper.end(&nobody, true)), ErrorCode::UnknownTransaction);
    let producer = paper.begin();
    assert_eq!(paper.describe().timeout_ms, TIMEOUT_MS);
    assert_eq!(code(paper.add(&producer, &[6])), ErrorCode::UnknownPartition);
    let orders = paper.partitions("orders", &[0]);
    assert_eq!(code(paper.add_all(&producer, orders.clone(), &["a\tb"])), ErrorCode::InvalidGroup);
    let deleted = {
        paper.topic("logs", 1);
        let logs = paper.partitions("logs", &[0]);
        paper.drop_topic("logs");
        logs
    };
    assert_eq!(code(paper.add_all(&producer, deleted, &[])), ErrorCode::UnknownTopic);
    paper.cluster.create("__transactions", |topic| topic.internal = true).expect("a topic");
    let internal = paper.partitions("__transactions", &[0]);
    assert_eq!(code(paper.add_all(&producer, internal, &[])), ErrorCode::InternalTopic);
    assert_eq!(code(paper.add(&producer, &[0, 1, 2, 3, 4])), ErrorCode::TooLarge);
    assert_eq!(code(paper.add_all(&producer, orders, &["a", "b", "c"])), ErrorCode::TooLarge);
    assert_eq!(paper.describe().state, TransactionState::Empty, "all of it or nothing");
    paper.init_as("third", None, 0).expect("there is room");
    assert_eq!(code(paper.init_as("fourth", None, 0)), ErrorCode::TransactionsFull);
}

#[test]
fn an_id_that_nobody_uses_is_forgotten_and_its_producer_begins_anew() {
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.pass(59_999);
    assert_eq!(paper.list(false).len(), 1);
    paper.pass(1);
    assert_eq!(paper.list(false), vec![]);
    assert!(paper.log.last().is_some_and(|record| record.value.is_none()));
    assert_eq!(code(paper.add(&first, &[0])), ErrorCode::UnknownTransaction);
    let again = identity(paper.init(Some(&first)));
    assert!(again.producer_id != first.producer_id, "what the old one sent still is nobody's");
    // One that is open, or being ended, is not forgotten however long it takes.
    paper.init_as(ID, Some(again.clone()), 900_000).expect("it goes on");
    paper.add(&bumped(&again), &[0]).expect("it is open");
    paper.pass(100);
    paper.pass(100_000);
    assert_eq!(paper.describe().state, TransactionState::Ongoing);
    paper.end(&bumped(&again), true).expect("it is committed");
    paper.pass(100_000);
    assert!(paper.markers().is_some());
}

#[test]
fn what_is_open_is_listed_counted_and_timed() {
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.init_as("shipping", None, 0).expect("it begins");
    paper.add(&first, &[0]).expect("it is open");
    paper.pass(100);
    paper.pass(700);
    let open = paper.list(true);
    assert_eq!(open.len(), 1);
    assert_eq!((&*open[0].transactional_id, open[0].state, open[0].open_ms), (ID, TransactionState::Ongoing, 700));
    let all: Vec<_> = paper.list(false).into_iter().map(|listing| listing.transactional_id).collect();
    assert_eq!(all, [ID, "shipping"]);
    assert_eq!((paper.open().count, paper.open().oldest_ms), (1, 700));
    paper.end(&first, true).expect("it is committed");
    assert_eq!((paper.open().count, paper.open().oldest_ms), (1, 700), "until its markers stand");
    paper.finish();
    assert_eq!((paper.open().count, paper.open().oldest_ms), (0, 0));
}

#[test]
fn a_lot_that_is_due_at_once_is_done_bit_by_bit() {
    use tidelog_coordination::transactions::{TransactionLimits, Transactions};
    use tidelog_protocol::{Monotonic, Timestamp};
    let mut paper = Paper::new();
    let first = paper.begin();
    paper.add(&first, &[0]).expect("it is open");
    let mut record = paper.log.pop().expect("it is open");
    let mut transactions = Transactions::new(TransactionLimits::default());
    for number in 0..20_000 {
        record.key.transactional_id = format!("id-{number:0>200}");
        transactions.replay(&record);
    }
    transactions.loaded(Monotonic(0), Timestamp(0));
    let image = paper.cluster.controller.image();
    let (mut rounds, mut aborted) = (0, 0);
    loop {
        let records = transactions.expire(image, Monotonic(10_000), Timestamp(0));
        if records.is_empty() {
            break;
        }
        let bytes: usize =
            records.iter().map(|record| record.key().len() + record.value().map_or(0, |value| value.len())).sum();
        assert!(bytes < 2 << 20, "{bytes} bytes in one batch");
        records.iter().for_each(|record| transactions.replay(record));
        (rounds, aborted) = (rounds + 1, aborted + records.len());
    }
    assert!(rounds > 1, "there was more than one round");
    assert_eq!((aborted, transactions.pending_markers().len()), (20_000, 20_000));
}
