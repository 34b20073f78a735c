//! What is written anew of a coordinator's log that lost a part for good: nothing that is known goes, nothing that two could hold at once is given
//! to either, and no epoch comes twice.

use crate::transaction_paper::{ID, Paper, bumped, identity, limits};
use tidelog_coordination::groups::records::{
    ClassicGroupValue, ClassicMemberValue, ClassicPartValue, ClassicPhase, CurrentValue, GroupKey, GroupRecord,
    GroupValue, MemberKey, OffsetKey, OffsetValue, TargetValue,
};
use tidelog_coordination::salvage::{Remains, Remnant};
use tidelog_coordination::transactions::{TransactionRecord, Transactions};
use tidelog_coordination::{groups, transactions};
use tidelog_protocol::messages::{TransactionFate, TransactionState};
use tidelog_protocol::{ErrorCode, Offset, PartitionId, ProducerEpoch, Timestamp, TopicId};

/// The latest record of the one id on paper, as all that there is of its log.
fn left(paper: &Paper, is_doubtful: bool) -> Remains<TransactionRecord> {
    let record = paper.log.last().expect("a record").clone();
    Remains { records: vec![Remnant { record, is_doubtful }], lost: 2 }
}

/// What was written anew is all that the coordinator knows.
fn salvaged(paper: &mut Paper, is_doubtful: bool) {
    paper.log = transactions::salvage(left(paper, is_doubtful), Timestamp(9));
    paper.reload();
}

#[test]
fn an_id_that_was_heard_of_since_the_loss_goes_on_as_it_was() {
    let mut paper = Paper::new();
    let producer = paper.begin();
    paper.add(&producer, &[0]).expect("it is open");
    salvaged(&mut paper, false);
    assert_eq!(paper.transactions.fate(&producer), TransactionFate::Ongoing);
    let next = identity(paper.end(&producer, true));
    assert_eq!(next, bumped(&producer));
}

#[test]
fn what_is_open_under_a_doubtful_id_is_undone_and_whoever_has_the_id_is_fenced() {
    let mut paper = Paper::new();
    let producer = paper.begin();
    paper.add(&producer, &[0]).expect("it is open");
    salvaged(&mut paper, true);
    let markers = paper.markers().expect("it is told that it ended");
    assert_eq!((markers.commit, markers.identity), (false, bumped(&producer)), "as if an operator had aborted it");
    assert_eq!(paper.transactions.fate(&producer), TransactionFate::Aborted);
    let later =
        |epoch| tidelog_protocol::messages::ProducerIdentity { epoch: ProducerEpoch(epoch), ..producer.clone() };
    assert_eq!(paper.transactions.fate(&later(5)), TransactionFate::Superseded, "begun and forgotten in what is lost");
    paper.finish();
    for epoch in [0, 1, 5] {
        assert_eq!(paper.add(&later(epoch), &[0]).map_err(|refusal| refusal.code), Err(ErrorCode::TransactionFenced));
    }
    let successor = paper.begin();
    assert_ne!(successor.producer_id, producer.producer_id, "no epoch of it is ever given again");
    paper.add(&successor, &[0]).expect("and it goes on");
}

#[test]
fn a_decision_that_is_known_stands() {
    let mut paper = Paper::new();
    let producer = paper.begin();
    paper.add(&producer, &[0]).expect("it is open");
    paper.end(&producer, true).expect("it is decided");
    salvaged(&mut paper, true);
    let markers = paper.markers().expect("its markers are due");
    assert_eq!((markers.commit, markers.identity), (true, bumped(&producer)));
    assert_eq!(paper.transactions.fate(&producer), TransactionFate::Committed);
    paper.finish();
    assert_ne!(paper.begin().producer_id, producer.producer_id);
}

#[test]
fn what_was_salvaged_can_be_salvaged_again() {
    let mut paper = Paper::new();
    let producer = paper.begin();
    paper.add(&producer, &[0]).expect("it is open");
    salvaged(&mut paper, true);
    let once = paper.log.clone();
    salvaged(&mut paper, false);
    assert_eq!(paper.log, once);
    salvaged(&mut paper, true);
    assert_eq!(paper.log, once, "a crash before the damage was deleted");
    let mut machine = Transactions::new(limits());
    paper.log.iter().for_each(|record| machine.replay(record));
    let described = paper.describe();
    assert_eq!((described.state, described.identity.epoch), (TransactionState::Aborting, ProducerEpoch(i16::MAX)));
    assert_eq!(paper.log[0].transactional_id(), ID);
}

#[test]
fn a_group_keeps_its_offsets_loses_its_members_and_no_epoch_comes_twice() {
    let (group, member_id) = (String::from("readers"), String::from("one"));
    let member = MemberKey { group: group.clone(), member_id };
    let value = GroupValue { epoch: 7, target_epoch: 6, assignor: "uniform".into(), topics_hash: 3 };
    let of = |epoch| {
        let value = GroupValue { epoch, ..value.clone() };
        GroupRecord::Group(GroupKey { group: group.clone() }, Some(value))
    };
    let key = OffsetKey { group: group.clone(), topic_id: TopicId([3; 16]), partition: PartitionId(1) };
    let at = OffsetValue { offset: Offset(40), leader_epoch: None, metadata: "x".into(), committed_at: Timestamp(5) };
    let offset = GroupRecord::Offset(key, Some(at));
    let owns = CurrentValue { epoch: 7, previous_epoch: 6, owned: Vec::new(), letting_go: Vec::new() };
    let records = [
        of(7),
        GroupRecord::Target(member.clone(), Some(TargetValue { partitions: Vec::new() })),
        GroupRecord::Current(member, Some(owns)),
        offset.clone(),
    ];
    let remnants = records.map(|record| Remnant { record, is_doubtful: true });
    let kept = groups::salvage(Remains { records: remnants.to_vec(), lost: 5 });
    assert_eq!(kept, [of(12), offset], "it can have risen by one with each record that is lost");
}

#[test]
fn of_a_classic_group_the_generation_stays_above_all_that_there_were_and_members_join_again() {
    let key = GroupKey { group: "billing".into() };
    let member = || MemberKey { group: "billing".into(), member_id: "a".into() };
    let led = ClassicGroupValue {
        phase: ClassicPhase::Stable,
        generation: 7,
        protocol_type: "consumer".into(),
        protocol: Some("range".into()),
        leader: Some("a".into()),
    };
    let said = ClassicMemberValue {
        instance_id: None,
        client_id: "c".into(),
        client_host: "h".into(),
        session_ms: 1_000,
        rebalance_ms: 1_000,
        protocols: Vec::new(),
    };
    let records = [
        GroupRecord::ClassicGroup(key.clone(), Some(led.clone())),
        GroupRecord::ClassicMember(member(), Some(said)),
        GroupRecord::ClassicPart(member(), Some(ClassicPartValue { assignment: Vec::new().into() })),
    ];
    let remnants = records.map(|record| Remnant { record, is_doubtful: true });
    let kept = groups::salvage(Remains { records: remnants.to_vec(), lost: 5 });
    let empty = ClassicGroupValue { phase: ClassicPhase::Empty, generation: 12, protocol: None, leader: None, ..led };
    assert_eq!(kept, [GroupRecord::ClassicGroup(key, Some(empty))]);
}
