//! The rules of a member, one by one: what it says, when, and what it makes of the answers.

use tidelog_protocol::{Monotonic, PartitionId};

use super::member::{Answer, Beat, Effect, Event, Failure, Member, Place, Rules};
use super::member_model::{rules, topic};

fn answer(epoch: i32, partitions: &[u32]) -> Answer {
    let assignment = partitions.iter().map(|at| (topic(), PartitionId(*at))).collect();
    Answer { member_epoch: epoch, interval_ms: 1_000, session_ms: 9_000, assignment: Some(assignment) }
}

fn sent(effects: &[Effect]) -> Option<&Beat> {
    effects.iter().find_map(|effect| if let Effect::Send(beat) = effect { Some(beat) } else { None })
}

fn places(partitions: &[u32]) -> Vec<Place> {
    partitions.iter().map(|at| (topic(), PartitionId(*at))).collect()
}

/// One that has joined at 0 and owns these.
fn joined(partitions: &[u32]) -> Member {
    let mut member = Member::new(rules(), Monotonic(0));
    let number = sent(&member.handle(Event::Tick, Monotonic(0))).unwrap().number;
    let effects = member.handle(Event::Answered { number, answer: answer(1, partitions) }, Monotonic(10));
    assert_eq!(effects, [Effect::Take(places(partitions))]);
    member
}

#[test]
fn what_a_member_keeps_appears_in_no_effect_and_what_it_let_go_of_is_said_at_once() {
    let mut member = joined(&[0, 1, 2]);
    assert_eq!(member.deadline(), Some(Monotonic(1_000)), "counted from when it was sent");
    let beat = sent(&member.handle(Event::Tick, Monotonic(1_000))).unwrap().clone();
    assert_eq!((beat.epoch, beat.whole, beat.owned.is_some()), (1, false, true));
    let given = Event::Answered { number: beat.number, answer: answer(1, &[1, 2]) };
    assert_eq!(member.handle(given, Monotonic(1_010)), [Effect::LetGo(places(&[0]))]);
    let effects = member.handle(Event::LetGo(places(&[0])), Monotonic(1_050));
    let beat = sent(&effects).unwrap().clone();
    assert_eq!((effects.len(), beat.owned), (1, Some(places(&[1, 2]))));
    let given = Event::Answered { number: beat.number, answer: answer(2, &[1, 2, 3]) };
    assert_eq!(member.handle(given, Monotonic(1_060)), [Effect::Take(places(&[3]))]);
}

#[test]
fn a_session_counts_from_the_sending_and_its_end_loses_all_before_others_may_have_it() {
    let mut member = joined(&[0]);
    assert_eq!(member.valid_until(), Monotonic(9_000));
    let number = sent(&member.handle(Event::Tick, Monotonic(1_000))).unwrap().number;
    let effects = member.handle(Event::Tick, Monotonic(9_000));
    assert_eq!(effects[0], Effect::Lose(places(&[0])));
    let again = sent(&effects).unwrap();
    assert_eq!((again.epoch, again.whole, again.owned.clone()), (0, true, Some(Vec::new())));
    // The answer to what was asked before the session ended comes too late to mean anything.
    assert_eq!(member.handle(Event::Answered { number, answer: answer(1, &[0]) }, Monotonic(9_001)), []);
    assert_eq!(member.epoch(), 0);
}

#[test]
fn a_member_nobody_knows_takes_a_new_id_and_a_fenced_one_keeps_its_own() {
    for (failure, takes_new_id) in [(Failure::Unknown, true), (Failure::Fenced, false)] {
        let mut member = joined(&[0]);
        let number = sent(&member.handle(Event::Tick, Monotonic(1_000))).unwrap().number;
        let effects = member.handle(Event::Failed { number, failure: failure.clone() }, Monotonic(1_010));
        assert_eq!(effects.contains(&Effect::TakeNewId), takes_new_id, "{failure:?}");
        assert!(effects.contains(&Effect::Lose(places(&[0]))) && sent(&effects).unwrap().epoch == 0);
        // A commit that is told the same a moment later changes nothing.
        assert_eq!(member.handle(Event::Refused { epoch: 1, failure }, Monotonic(1_020)), []);
    }
}

#[test]
fn a_lost_answer_has_everything_said_again_by_the_same_member() {
    let mut member = Member::new(rules(), Monotonic(0));
    let first = sent(&member.handle(Event::Tick, Monotonic(0))).unwrap().clone();
    let failure = Failure::Passing { suggested_ms: 0, jitter: 1.0 };
    assert_eq!(member.handle(Event::Failed { number: first.number, failure }, Monotonic(100)), []);
    let effects = member.handle(Event::Tick, member.deadline().unwrap());
    let again = sent(&effects).unwrap();
    assert_eq!((again.epoch, again.whole, again.number), (0, true, first.number + 1));
    assert!(!effects.contains(&Effect::TakeNewId));
}

#[test]
fn a_member_that_leaves_says_so_and_stops_even_where_nobody_answers() {
    let mut member = joined(&[0]);
    let effects = member.handle(Event::Leave, Monotonic(500));
    assert_eq!(sent(&effects).unwrap().epoch, -1);
    let number = sent(&effects).unwrap().number;
    let mut lucky = member.clone();
    assert_eq!(lucky.handle(Event::Answered { number, answer: answer(-1, &[]) }, Monotonic(510)), [Effect::Stop(None)]);
    assert_eq!(member.handle(Event::Tick, Monotonic(20_000)), [Effect::Stop(None)]);
    let mut is_static = Member::new(Rules { is_static: true, ..rules() }, Monotonic(0));
    is_static.handle(Event::Tick, Monotonic(0));
    assert_eq!(sent(&is_static.handle(Event::Leave, Monotonic(1))).unwrap().epoch, -2);
}
