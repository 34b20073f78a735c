//! Workers: they end, others go on; two that both believe that a saga is theirs do not both go on with it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidelog_client::Backoff;
use tidelog_client::saga::*;
use tidelog_tests::patience::{LIMIT, wait_until};
use tokio::sync::Notify;

use super::running::{Calls, Running, Working, fine, step};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_worker_had_under_way_is_gone_on_with_by_another_under_the_same_keys() {
    let broker = Running::start().await;
    let sagas = broker.sagas(2).await;
    let (calls, is_hanging) = (Calls::default(), Arc::new(AtomicUsize::new(0)));
    let hanging = Arc::clone(&is_hanging);
    // The first call of each never returns.
    let ship = step(&calls, "ship", move |call| {
        hanging.fetch_add(usize::from(call.attempt() == 1), Ordering::SeqCst);
        async move { if call.attempt() == 1 { std::future::pending().await } else { Ok(String::new()) } }
    });
    let definition = Definition::named("order").step(fine(&calls, "pay")).step(ship).build().unwrap();
    let ids: Vec<String> = (0..10).map(|at| format!("s{at}")).collect();
    for id in &ids {
        sagas.start(&definition, id, id).await.unwrap();
    }
    let first = Working::start(broker.sagas(2).await.worker().drives(&definition));
    wait_until("all to hang", async || (is_hanging.load(Ordering::SeqCst) == 10).then_some(())).await;
    drop(first);
    let second = Working::start(broker.sagas(2).await.worker().drives(&definition));
    for id in &ids {
        assert_eq!(sagas.wait(id, LIMIT).await.unwrap().phase, Phase::Done);
        assert_eq!(calls.count(&format!("/{id}/pay#")), 1, "what was known to be done is not done again");
        assert_eq!(calls.count(&format!("sagas/{id}/ship#1")), 1);
        assert_eq!(calls.count(&format!("sagas/{id}/ship#2")), 1);
    }
    assert_eq!(second.figures.now().interrupted, 10);
    second.stop().await;
    assert_eq!(calls.count("undo"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_kills_its_worker_each_time_is_given_up_after_ten_times() {
    let broker = Running::start().await;
    let sagas = broker.sagas(1).await;
    let calls = Calls::default();
    let deadly = step(&calls, "ship", async |_| std::future::pending().await);
    let definition = Definition::named("order").step(fine(&calls, "pay")).step(deadly).build().unwrap();
    sagas.start(&definition, "a", &String::new()).await.unwrap();
    for times in 1..=10 {
        // Of groups of their own, so that none waits for the one before to be missed.
        let group = format!("workers-{times}");
        let working = Working::start(broker.sagas(1).await.worker().drives(&definition).group(group));
        let killed = async || (calls.count("ship#") == times).then_some(());
        wait_until("the step to begin", killed).await;
        drop(working);
    }
    let working = Working::start(broker.sagas(1).await.worker().drives(&definition));
    let saga = sagas.wait("a", LIMIT).await.unwrap();
    assert_eq!(saga.phase, Phase::Compensated);
    assert_eq!(saga.turned.as_deref(), Some("ship: whoever tried it was gone before it ended, 10 times"));
    assert_eq!((calls.count("ship#"), calls.count("ship:undo#"), calls.count("pay:undo#")), (10, 1, 1));
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_workers_that_both_have_a_saga_only_one_makes_each_try() {
    let broker = Running::start().await;
    let calls = Calls::default();
    let slow = |name: &str| {
        step(&calls, name, async |_| {
            tokio::time::sleep(Duration::from_millis(20)).await;
            Ok(String::new())
        })
    };
    let definition = Definition::named("order").step(slow("a")).step(slow("b")).step(slow("c")).build().unwrap();
    let sagas = broker.sagas(2).await;
    // Of different groups, so that each has all partitions, as one has that was not told yet that it lost them.
    let mut workers = Vec::new();
    for group in ["one", "other"] {
        workers.push(Working::start(broker.sagas(2).await.worker().drives(&definition).group(group)));
    }
    let conflicts = || workers.iter().map(|working| working.figures.now().conflicts).sum::<u64>();
    let mut ids: Vec<String> = Vec::new();
    // One of them may only begin once the other has done all there is.
    while conflicts() == 0 {
        assert!(ids.len() < 2_000, "they never got into each other's way");
        let round: Vec<String> = (ids.len()..ids.len() + 40).map(|at| format!("s{at}")).collect();
        for id in &round {
            sagas.start(&definition, id, id).await.unwrap();
        }
        for id in &round {
            assert_eq!(sagas.wait(id, LIMIT).await.unwrap().phase, Phase::Done);
        }
        ids.extend(round);
    }
    for working in workers {
        working.stop().await;
    }
    let all = calls.all();
    let different: BTreeSet<&String> = all.iter().collect();
    assert_eq!(different.len(), all.len(), "one try was made twice: {all:?}");
    let mut began = 0;
    for id in &ids {
        let events = sagas.history(id).await.unwrap().events;
        began += events.iter().filter(|(_, event)| matches!(event, SagaEvent::Began(_))).count();
    }
    assert!(all.len() <= began, "a try was made that nobody had stored");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_is_stopped_ends_what_it_has_under_way_and_begins_nothing_more() {
    let broker = Running::start().await;
    let sagas = broker.sagas(1).await;
    let (calls, go) = (Calls::default(), Arc::new(Notify::new()));
    let waiting = Arc::clone(&go);
    let pay = step(&calls, "pay", move |_| {
        let waiting = Arc::clone(&waiting);
        async move {
            waiting.notified().await;
            Ok(String::new())
        }
    });
    let definition = Definition::named("order").step(pay).step(fine(&calls, "ship")).build().unwrap();
    let working = Working::start(sagas.worker().drives(&definition));
    sagas.start(&definition, "a", &String::new()).await.unwrap();
    wait_until("the first step", async || (calls.count("pay") == 1).then_some(())).await;
    let stopping = tokio::spawn(working.stop());
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!stopping.is_finished(), "it waits for what is under way");
    go.notify_one();
    stopping.await.unwrap();
    let saga = sagas.find("a").await.unwrap();
    assert_eq!(
        (&saga.steps[0].action.standing, &saga.steps[1].action.standing),
        (&Standing::Succeeded, &Standing::Idle)
    );
    let next = Working::start(sagas.worker().drives(&definition));
    assert_eq!(sagas.wait("a", LIMIT).await.unwrap().phase, Phase::Done);
    next.stop().await;
    assert_eq!(calls.count("pay"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_has_as_many_sagas_under_way_as_was_said_and_none_is_forgotten() {
    let broker = Running::start().await;
    let sagas = broker.sagas(2).await;
    let (calls, busy, most) = (Calls::default(), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (now, peak) = (Arc::clone(&busy), Arc::clone(&most));
    let pay = step(&calls, "pay", move |_| {
        let (now, peak) = (Arc::clone(&now), Arc::clone(&peak));
        async move {
            peak.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(5)).await;
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(String::new())
        }
    });
    let definition = Definition::named("order").step(pay).step(fine(&calls, "ship")).build().unwrap();
    let ids: Vec<String> = (0..100).map(|at| format!("s{at}")).collect();
    for id in &ids {
        sagas.start(&definition, id, id).await.unwrap();
    }
    let working = Working::start(sagas.worker().drives(&definition).concurrency(3).sagas_max(7));
    for id in &ids {
        assert_eq!(sagas.wait(id, LIMIT).await.unwrap().phase, Phase::Done);
    }
    assert!((2..=3).contains(&most.load(Ordering::SeqCst)), "{most:?}");
    assert_eq!(working.figures.now().done, 100);
    working.stop().await;
}

/// A payment that fails each time, with so long a pause that it is not tried again within the test.
fn stuck(calls: &Calls, deadline: Duration) -> Definition<String> {
    let pause = 1_000 * LIMIT;
    let long = RetryPolicy { attempts: 9, backoff: Backoff { first: pause, max: pause } };
    let pay = step(calls, "pay", async |call| match call.saga() {
        id if id.starts_with("stuck") => Err(StepError::failed("the bank is away")),
        _ => Ok(String::new()),
    });
    Definition::named("order").step(pay.retry(long)).deadline(deadline).build().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_has_as_many_sagas_as_it_may_hears_operators_and_goes_on_with_the_next() {
    let broker = Running::start().await;
    let (sagas, operator) = (broker.sagas(2).await, broker.sagas(2).await);
    let calls = Calls::default();
    let definition = stuck(&calls, 4 * LIMIT);
    let working = Working::start(sagas.worker().drives(&definition).sagas_max(2));
    for id in ["stuck-1", "stuck-2"] {
        sagas.start(&definition, id, &String::new()).await.unwrap();
        wait_until("it to be stuck", async || (calls.count(id) == 1).then_some(())).await;
    }
    wait_until("both to wait", async || (working.figures.now().failures == 2).then_some(())).await;
    sagas.start(&definition, "next", &String::new()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(calls.count("next"), 0, "there is no room for it");
    operator.abandon("stuck-1", "not wanted any more").await.unwrap();
    assert_eq!(sagas.wait("next", LIMIT).await.unwrap().phase, Phase::Done);
    assert_eq!(working.figures.now().running, 1);
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_that_waits_for_its_turn_goes_back_at_its_deadline_all_the_same() {
    let broker = Running::start().await;
    let sagas = broker.sagas(1).await;
    let calls = Calls::default();
    let endless = step(&calls, "ship", async |_| std::future::pending().await);
    let hogging = Definition::named("hog").step(endless.timeout(4 * LIMIT)).build().unwrap();
    let hasty = Definition::named("hasty").step(fine(&calls, "pay")).deadline(Duration::from_secs(1)).build().unwrap();
    let worker = sagas.worker().drives(&hogging).drives(&hasty).concurrency(1).sagas_max(2);
    let working = Working::start(worker);
    sagas.start(&hogging, "hog", &String::new()).await.unwrap();
    wait_until("the first to have the only turn", async || (calls.count("ship") == 1).then_some(())).await;
    sagas.start(&hasty, "late", &String::new()).await.unwrap();
    let saga = sagas.wait("late", LIMIT).await.unwrap();
    assert_eq!((saga.phase, saga.turned.as_deref()), (Phase::Compensated, Some("its deadline has passed")));
    assert_eq!(calls.count("pay"), 0);
    drop(working);
}
