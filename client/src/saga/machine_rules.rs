//! The rules of a saga, one by one.

use std::time::Duration;

use bytes::Bytes;
use tidelog_protocol::Timestamp;

use super::events::{Attempt, Changed, SagaEvent, Side};
use super::machine::{Commands, Input, Moment, OperatorRefusal, Outcome, abandon, decide, resume, start};
use super::plan::{Plan, Planned, Policy};
use super::state::{Phase, Saga, Standing};
use crate::Backoff;
use crate::group::RetryPolicy;

/// Two tries, with a second in between.
const RETRY: RetryPolicy = RetryPolicy {
    attempts: 2,
    backoff: Backoff { first: Duration::from_millis(1_000), max: Duration::from_millis(1_000) },
};
const TIMEOUT: Duration = Duration::from_secs(5);

/// A plan of these stages; `!` in front of a name: it cannot be undone.
pub(super) fn plan(stages: &[&[&str]]) -> Plan {
    let policy = Policy { retry: RETRY, timeout: TIMEOUT };
    let mut steps = Vec::new();
    for (stage, names) in stages.iter().enumerate() {
        for name in *names {
            let compensation = (!name.starts_with('!')).then_some(policy);
            steps.push(Planned { name: (*name).into(), stage: stage as u16, action: policy, compensation });
        }
    }
    Plan { definition: "order".into(), deadline: None, steps }
}

/// A saga in the hands of one worker, whose tries end as the test says.
struct World {
    plan: Plan,
    saga: Saga,
    now: i64,
    said: Vec<String>,
    last: Commands,
}

impl World {
    fn of(plan: Plan) -> Self {
        let mut saga = Saga::default();
        saga.apply(&start(&plan, Bytes::new(), Timestamp(0)));
        let mut world = Self { plan, saga, now: 0, said: Vec::new(), last: Commands::default() };
        world.give(Input::TakenUp { own: Vec::new() });
        world
    }

    fn give(&mut self, input: Input) {
        self.give_to("me", input);
    }

    fn give_to(&mut self, worker: &str, input: Input) {
        let moment = Moment { now: Timestamp(self.now), jitter: 1.0, worker, may_begin: true };
        self.last = decide(&self.plan, &self.saga, input, &moment);
        for event in &self.last.events {
            self.saga.apply(event);
            let attempt = match event {
                SagaEvent::Began(began) => Some(&began.attempt),
                SagaEvent::Succeeded(succeeded) => Some(&succeeded.attempt),
                SagaEvent::Failed(failed) => Some(&failed.attempt),
                SagaEvent::Interrupted(interrupted) => Some(&interrupted.attempt),
                _ => None,
            };
            let kind = event.kind().trim_start_matches("saga-").trim_start_matches("attempt-");
            self.said.push(attempt.map_or_else(
                || kind.to_owned(),
                |attempt| {
                    let sign = if attempt.side == Side::Action { "+" } else { "-" };
                    format!("{kind} {sign}{}", self.plan.steps[usize::from(attempt.step)].name)
                },
            ));
        }
    }

    fn attempt(&self, name: &str, side: Side) -> Attempt {
        let at = self.plan.steps.iter().position(|step| step.name == name).unwrap();
        Attempt { step: at as u16, side, number: self.saga.steps[at].course(side).attempts }
    }

    fn end(&mut self, name: &str, side: Side, outcome: Outcome) {
        let attempt = self.attempt(name, side);
        self.give(Input::Ended { attempt, outcome });
    }

    fn succeed(&mut self, name: &str) {
        self.end(name, Side::Action, Outcome::Succeeded(Bytes::new()));
    }

    fn undo(&mut self, name: &str) {
        self.end(name, Side::Compensation, Outcome::Succeeded(Bytes::new()));
    }

    /// What happened since this was last asked.
    fn said(&mut self) -> String {
        std::mem::take(&mut self.said).join(", ")
    }
}

fn failed() -> Outcome {
    Outcome::Failed("no answer".into())
}

fn refused() -> Outcome {
    Outcome::Refused("no money".into())
}

#[test]
fn steps_are_done_one_after_the_other_and_those_of_a_stage_side_by_side() {
    let mut world = World::of(plan(&[&["a"], &["b", "c"], &["d"]]));
    assert_eq!(world.said(), "began +a");
    world.succeed("a");
    assert_eq!(world.said(), "succeeded +a, began +b, began +c");
    world.succeed("c");
    assert_eq!(world.said(), "succeeded +c");
    world.succeed("b");
    assert_eq!(world.said(), "succeeded +b, began +d");
    world.succeed("d");
    assert_eq!(world.said(), "succeeded +d, done");
    assert_eq!(world.saga.phase, Phase::Done);
    world.give(Input::Wake);
    assert_eq!(world.last, Commands::default());
}

#[test]
fn a_step_that_is_refused_is_not_undone_and_those_before_it_are_the_latest_first() {
    let mut world = World::of(plan(&[&["a"], &["b"], &["!look"], &["c"]]));
    for name in ["a", "b", "!look"] {
        world.succeed(name);
    }
    world.said();
    world.end("c", Side::Action, refused());
    assert_eq!(world.said(), "failed +c, turned, began -b");
    assert_eq!(world.saga.turned.as_deref(), Some("c: no money"));
    world.undo("b");
    assert_eq!(world.said(), "succeeded -b, began -a");
    world.undo("a");
    assert_eq!(world.said(), "succeeded -a, compensated");
}

#[test]
fn a_step_that_failed_is_tried_again_after_a_while_and_undone_in_the_end() {
    let mut world = World::of(plan(&[&["a"]]));
    world.end("a", Side::Action, failed());
    assert_eq!((world.said().as_str(), world.last.wake_at), ("began +a, failed +a", Some(Timestamp(1_000))));
    world.now = 999;
    world.give(Input::Wake);
    assert_eq!(world.said(), "");
    world.now = 1_000;
    world.give(Input::Wake);
    assert_eq!(world.said(), "began +a");
    world.end("a", Side::Action, failed());
    assert_eq!(world.said(), "failed +a, turned, began -a");
}

#[test]
fn a_step_that_was_refused_after_it_had_failed_may_have_happened_the_first_time() {
    let mut world = World::of(plan(&[&["a"]]));
    world.end("a", Side::Action, failed());
    world.now = 1_000;
    world.give(Input::Wake);
    world.end("a", Side::Action, refused());
    assert_eq!(world.said(), "began +a, failed +a, began +a, failed +a, turned, began -a");
}

#[test]
fn what_is_under_way_ends_before_anything_is_undone() {
    let mut world = World::of(plan(&[&["a"], &["b", "c"]]));
    world.succeed("a");
    world.said();
    world.end("b", Side::Action, refused());
    assert_eq!(world.said(), "failed +b, turned");
    // Going back, it is not tried again.
    world.end("c", Side::Action, failed());
    assert_eq!(world.said(), "failed +c, began -c");
    world.undo("c");
    assert_eq!(world.said(), "succeeded -c, began -a");
}

#[test]
fn after_its_deadline_a_saga_goes_back_and_nobody_waits_for_an_action_beyond_it() {
    let mut world = World::of(Plan { deadline: Some(Duration::from_secs(3)), ..plan(&[&["a"], &["b"]]) });
    assert_eq!(world.last.runs[0].timeout, Duration::from_secs(3));
    assert_eq!(world.last.wake_at, Some(Timestamp(3_000)));
    world.now = 1_000;
    world.succeed("a");
    assert_eq!(world.last.runs[0].timeout, Duration::from_secs(2));
    world.said();
    world.now = 3_000;
    world.give(Input::Wake);
    assert_eq!(world.said(), "turned", "b is under way");
    world.end("b", Side::Action, failed());
    assert_eq!(world.said(), "failed +b, began -b");
    assert_eq!(world.last.runs[0].timeout, TIMEOUT, "what undoes it takes the time that it takes");
    assert_eq!(world.last.wake_at, None);
    assert_eq!(world.saga.turned.as_deref(), Some("its deadline has passed"));
}

#[test]
fn a_saga_that_is_done_with_its_last_word_is_not_late() {
    let mut world = World::of(Plan { deadline: Some(Duration::from_secs(3)), ..plan(&[&["a"]]) });
    world.now = 3_000;
    world.succeed("a");
    assert_eq!(world.said(), "began +a, succeeded +a, done");
}

#[test]
fn a_step_that_is_interrupted_ten_times_is_given_up_and_what_undoes_it_parked() {
    let mut world = World::of(plan(&[&["a"]]));
    let interrupt = |world: &mut World, times: usize| {
        (0..times).for_each(|_| world.give(Input::TakenUp { own: Vec::new() }));
        world.said()
    };
    let again = |side: &str, times: usize| vec![format!("interrupted {side}a, began {side}a"); times].join(", ");
    assert_eq!(interrupt(&mut world, 9), format!("began +a, {}", again("+", 9)));
    assert_eq!(interrupt(&mut world, 1), "interrupted +a, turned, began -a");
    assert_eq!(world.saga.turned.as_deref(), Some("a: whoever tried it was gone before it ended, 10 times"));
    // An operator is asked, and his word gives it as many tries again.
    assert_eq!(interrupt(&mut world, 10), format!("{}, interrupted -a, parked", again("-", 9)));
    let resumed = resume(&world.saga, Timestamp(0)).unwrap();
    world.saga.apply(&resumed);
    assert_eq!(interrupt(&mut world, 10), format!("began -a, {}", again("-", 9)));
}

#[test]
fn a_try_that_was_interrupted_is_none_of_those_that_the_policy_allows() {
    let mut world = World::of(plan(&[&["a"]]));
    world.give(Input::TakenUp { own: Vec::new() });
    world.end("a", Side::Action, failed());
    assert_eq!(world.said(), "began +a, interrupted +a, began +a, failed +a");
    world.now += 1_000;
    world.give(Input::Wake);
    world.end("a", Side::Action, failed());
    assert_eq!(world.said(), "began +a, failed +a, turned, began -a");
}

#[test]
fn a_saga_that_was_left_alone_says_so_until_something_happens() {
    let mut saga = World::of(plan(&[&["a"]])).saga;
    let carried = |cause: &str| SagaEvent::Carried(Changed { at: Timestamp(1), cause: cause.into() });
    saga.apply(&carried("nobody knows it"));
    saga.apply(&carried(""));
    assert_eq!(saga.left_alone.as_deref(), Some("nobody knows it"));
    saga.apply(&SagaEvent::Turned(Changed { at: Timestamp(1), cause: String::new() }));
    assert_eq!(saga.left_alone, None);
}

#[test]
fn who_takes_a_saga_up_takes_what_others_try_for_lost_and_tries_again() {
    let mut world = World::of(plan(&[&["a"], &["b"]]));
    world.said();
    world.give_to("other", Input::TakenUp { own: Vec::new() });
    assert_eq!(world.said(), "interrupted +a, began +a");
    assert_eq!(world.saga.steps[0].action.failures, 0, "nothing failed");
    // The first one's word comes too late, and so does a wrong number.
    let stale = Attempt { number: 1, ..world.attempt("a", Side::Action) };
    world.give(Input::Ended { attempt: stale.clone(), outcome: refused() });
    world.give(Input::Ended { attempt: world.attempt("a", Side::Action), outcome: refused() });
    world.give_to("other", Input::Ended { attempt: stale, outcome: refused() });
    assert_eq!(world.said(), "");
    let own = vec![world.attempt("a", Side::Action)];
    world.give_to("other", Input::TakenUp { own });
    assert_eq!(world.said(), "", "its own go on");
    let refused = Input::Ended { attempt: world.attempt("a", Side::Action), outcome: refused() };
    world.give_to("other", refused);
    assert_eq!(world.said(), "failed +a, turned, began -a", "the first one's may have happened");
}

#[test]
fn a_compensation_that_fails_too_often_or_is_refused_parks_the_saga_until_an_operator_acts() {
    for is_refused in [false, true] {
        let mut world = World::of(plan(&[&["a"], &["b"]]));
        world.succeed("a");
        world.end("b", Side::Action, refused());
        if !is_refused {
            world.end("a", Side::Compensation, failed());
            world.now = 1_000;
            world.give(Input::Wake);
        }
        world.said();
        world.end("a", Side::Compensation, if is_refused { refused() } else { failed() });
        assert_eq!(world.said(), "failed -a, parked");
        assert!(world.saga.parked.as_deref().unwrap().starts_with("a cannot be undone: no "));
        world.now = 1_000_000;
        world.give(Input::Wake);
        assert_eq!((world.said().as_str(), world.last.wake_at), ("", None));

        let resumed = resume(&world.saga, Timestamp(world.now)).unwrap();
        world.saga.apply(&resumed);
        assert_eq!(resume(&world.saga, Timestamp(0)), Err(OperatorRefusal::NotParked));
        world.give(Input::TakenUp { own: Vec::new() });
        assert_eq!(world.said(), "began -a");
        assert_eq!(world.saga.steps[0].compensation.failures, 0, "it has all its tries again");
        world.undo("a");
        assert_eq!(world.said(), "succeeded -a, compensated");
        assert_eq!(resume(&world.saga, Timestamp(0)), Err(OperatorRefusal::Ended(Phase::Compensated)));
        assert_eq!(abandon(&world.saga, String::new(), Timestamp(0)), Err(OperatorRefusal::Ended(Phase::Compensated)));
    }
}

#[test]
fn what_is_being_undone_beside_what_cannot_be_is_not_undone_twice() {
    let mut world = World::of(plan(&[&["a", "b"], &["c"]]));
    world.succeed("a");
    world.succeed("b");
    world.end("c", Side::Action, refused());
    world.said();
    world.end("a", Side::Compensation, refused());
    world.undo("b");
    assert_eq!(world.said(), "failed -a, parked, succeeded -b");
    let resumed = resume(&world.saga, Timestamp(0)).unwrap();
    world.saga.apply(&resumed);
    world.give(Input::TakenUp { own: Vec::new() });
    assert_eq!(world.said(), "began -a");
}

#[test]
fn an_abandoned_saga_stays_as_it_is() {
    let mut world = World::of(plan(&[&["a"], &["b"]]));
    world.succeed("a");
    let abandoned = abandon(&world.saga, "the shop is closed".into(), Timestamp(7)).unwrap();
    world.saga.apply(&abandoned);
    world.said();
    world.succeed("b");
    world.give(Input::TakenUp { own: Vec::new() });
    assert_eq!((world.said().as_str(), world.saga.phase), ("", Phase::Abandoned));
}

#[test]
fn a_saga_that_was_started_with_other_steps_is_parked_and_goes_on_with_those_it_knows() {
    let mut world = World::of(plan(&[&["a"], &["b"]]));
    world.said();
    for other in [plan(&[&["a"], &["c"]]), plan(&[&["a", "b"]]), plan(&[&["a"]]), plan(&[&["a"], &["!b"]])] {
        let mut changed =
            World { plan: other, saga: world.saga.clone(), said: Vec::new(), ..World::of(plan(&[&["x"]])) };
        changed.give(Input::TakenUp { own: Vec::new() });
        if changed.plan.steps.iter().any(|step| step.name == "!b") {
            assert!(changed.said().contains("parked"));
            continue;
        }
        assert_eq!(changed.said(), "interrupted +a, parked");
        changed.give(Input::Wake);
        assert_eq!(changed.said(), "", "it is parked once");
        changed.plan = plan(&[&["a"], &["b"]]);
        let resumed = resume(&changed.saga, Timestamp(0)).unwrap();
        changed.saga.apply(&resumed);
        changed.give(Input::TakenUp { own: Vec::new() });
        assert_eq!(changed.said(), "began +a");
    }
}

#[test]
fn without_room_nothing_begins_and_that_is_said() {
    let plan = plan(&[&["a"]]);
    let mut saga = Saga::default();
    saga.apply(&start(&plan, Bytes::new(), Timestamp(0)));
    let moment = Moment { now: Timestamp(0), jitter: 0.0, worker: "me", may_begin: false };
    let commands = decide(&plan, &saga, Input::Wake, &moment);
    assert_eq!(commands, Commands { is_held_back: true, ..Commands::default() });
}

#[test]
fn events_that_make_no_sense_change_nothing() {
    let plan = plan(&[&["a"]]);
    let mut saga = Saga::default();
    saga.apply(&start(&plan, Bytes::new(), Timestamp(0)));
    let before = saga.clone();
    for step in [0, 1, 9] {
        let attempt = Attempt { step, side: Side::Action, number: 3 };
        saga.apply(&SagaEvent::Interrupted(super::Interrupted { attempt: attempt.clone() }));
        saga.apply(&SagaEvent::Succeeded(super::Succeeded { attempt, output: Bytes::new() }));
    }
    saga.apply(&SagaEvent::Carried(Changed { at: Timestamp(4), cause: String::new() }));
    assert_eq!(saga, before);
    assert_eq!(saga.steps[0].action.standing, Standing::Idle);
}
