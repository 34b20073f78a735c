//! How sagas go: forward, side by side, back; late, and in spite of steps that fail, panic or take too long.

use std::sync::Arc;
use std::time::Duration;

use tidelog_client::saga::*;
use tidelog_tests::patience::LIMIT;
use tokio::sync::Barrier;

use super::running::{Calls, Running, Working, fine, refused, step};

/// Runs a saga of this definition to its end.
async fn ended(definition: Definition<String>) -> (Saga, History) {
    let broker = Running::start().await;
    let sagas = broker.sagas(3).await;
    let working = Working::start(sagas.worker().drives(&definition));
    assert_eq!(sagas.start(&definition, "s/1", &"Mia".into()).await.unwrap(), Begun::Now);
    let saga = sagas.wait("s/1", LIMIT).await.unwrap();
    working.stop().await;
    (saga, sagas.history("s/1").await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_is_done_step_by_step_and_later_steps_know_what_earlier_ones_said() {
    let calls = Calls::default();
    let last = step(&calls, "ship", async |call| {
        let said = call.output("pay").map(|output| String::from_utf8(output.to_vec()).unwrap());
        assert_eq!((call.input().as_str(), call.saga(), call.step()), ("Mia", "s/1", "ship"));
        said.ok_or_else(|| StepError::refused("nothing was said"))
    });
    let definition = Definition::named("order").step(fine(&calls, "pay")).step(last).build().unwrap();
    let (saga, history) = ended(definition).await;
    assert_eq!((saga.phase, saga.definition.as_str()), (Phase::Done, "order"));
    assert_eq!(&saga.steps[1].output[..], b"pay did");
    assert_eq!(calls.all(), ["sagas/s/1/pay#1", "sagas/s/1/ship#1"]);
    let kinds: Vec<_> = history.events.iter().map(|(_, event)| event.kind().trim_start_matches("saga-")).collect();
    let both = ["attempt-began", "attempt-succeeded"];
    assert_eq!(kinds, [&["started"][..], &both, &both, &["done"]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_step_is_refused_those_before_it_are_undone_the_latest_first() {
    let calls = Calls::default();
    let definition = Definition::named("order")
        .step(fine(&calls, "reserve"))
        .step(fine(&calls, "pay"))
        .step(refused(&calls, "ship"))
        .step(fine(&calls, "thank"));
    let (saga, _) = ended(definition.build().unwrap()).await;
    assert_eq!((saga.phase, saga.turned.as_deref()), (Phase::Compensated, Some("ship: no")));
    let said = ["reserve#1", "pay#1", "ship#1", "pay:undo#1", "reserve:undo#1"];
    assert_eq!(calls.all(), said.map(|call| format!("sagas/s/1/{call}")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_fails_panics_or_takes_too_long_is_tried_again_under_the_same_key_and_may_have_happened() {
    let calls = Calls::default();
    let troubled = step(&calls, "pay", async |call| match call.attempt() {
        1 => Err("x".parse::<u8>().map(drop).unwrap_err().into()),
        2 => panic!("as this test wants"),
        _ => std::future::pending().await,
    });
    let definition = Definition::named("order").step(troubled.timeout(Duration::from_millis(50))).build().unwrap();
    let (saga, history) = ended(definition).await;
    assert_eq!(saga.phase, Phase::Compensated);
    assert_eq!(calls.all(), ["pay#1", "pay#2", "pay#3", "pay:undo#1"].map(|call| format!("sagas/s/1/{call}")));
    let causes = history.events.iter().filter_map(|(_, event)| match event {
        SagaEvent::Failed(failed) => Some(failed.cause.as_str()),
        _ => None,
    });
    let causes: Vec<&str> = causes.collect();
    for (cause, part) in causes.iter().zip(["invalid digit", "panicked", "no answer within 50ms"]) {
        assert!(cause.contains(part), "{causes:?}");
    }
    assert_eq!(causes.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn steps_of_a_stage_run_side_by_side_and_the_next_one_waits_for_all() {
    let calls = Calls::default();
    let both = Arc::new(Barrier::new(2));
    let meeting = |name: &str| {
        let both = Arc::clone(&both);
        step(&calls, name, move |_| {
            let both = Arc::clone(&both);
            async move {
                // Alone, neither would ever be done.
                both.wait().await;
                Ok(String::new())
            }
        })
    };
    let definition = Definition::named("trip").parallel([meeting("flight"), meeting("room")]);
    let (saga, _) = ended(definition.step(fine(&calls, "guide")).build().unwrap()).await;
    assert_eq!(saga.phase, Phase::Done);
    assert_eq!(calls.all().last().unwrap(), "sagas/s/1/guide#1");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_that_is_not_done_by_its_deadline_goes_back() {
    let calls = Calls::default();
    let endless = step(&calls, "ship", async |_| std::future::pending().await);
    let definition = Definition::named("order").step(fine(&calls, "pay")).step(endless);
    let (saga, _) = ended(definition.deadline(Duration::from_secs(1)).build().unwrap()).await;
    assert_eq!((saga.phase, saga.turned.as_deref()), (Phase::Compensated, Some("its deadline has passed")));
    assert_eq!(calls.count("pay:undo"), 1);
    assert_eq!(calls.count("ship:undo"), 1, "it may have happened");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_output_that_is_too_large_to_be_kept_is_a_failure_that_says_so() {
    let calls = Calls::default();
    let large = step(&calls, "pay", async |_| Ok("x".repeat(100_000)));
    let (saga, _) = ended(Definition::named("order").step(large).build().unwrap()).await;
    assert!(saga.turned.unwrap().contains("its output has 100000 bytes"));
    assert_eq!(calls.count("pay:undo"), 1);
}
