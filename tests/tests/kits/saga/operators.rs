//! What an operator does with sagas that cannot go on: look, have them tried again, give them up.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tidelog_client::Client;
use tidelog_client::saga::*;
use tidelog_tests::patience::{LIMIT, wait_until};

use super::running::{Calls, QUICK, Running, Working, fine, refused};

/// A definition whose first step cannot be undone before `is_mended`.
fn stubborn(calls: &Calls, is_mended: &Arc<AtomicBool>) -> Definition<String> {
    let is_mended = Arc::clone(is_mended);
    let undoing = calls.clone();
    let pay = fine(calls, "pay").compensation(move |call| {
        undoing.note(&call);
        let is_mended = is_mended.load(Ordering::SeqCst);
        async move { if is_mended { Ok(()) } else { Err(StepError::failed("the bank is away")) } }
    });
    Definition::named("order").step(pay.compensation_retry(QUICK)).step(refused(calls, "ship")).build().unwrap()
}

async fn parked(sagas: &Sagas, id: &str) -> Saga {
    wait_until("the saga to be parked", async || sagas.find(id).await.ok().filter(|saga| saga.parked.is_some())).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_saga_is_seen_by_an_operator_and_goes_on_at_a_word() {
    let broker = Running::start().await;
    let (sagas, operator) = (broker.sagas(3).await, broker.sagas(3).await);
    let (calls, is_mended) = (Calls::default(), Arc::new(AtomicBool::new(false)));
    let definition = stubborn(&calls, &is_mended);
    let working = Working::start(sagas.worker().drives(&definition));
    for id in ["a", "b"] {
        sagas.start(&definition, id, &id.to_owned()).await.unwrap();
        let saga = parked(&operator, id).await;
        assert_eq!(saga.parked.as_deref(), Some("pay cannot be undone: the bank is away"));
    }
    assert_eq!(calls.count("pay:undo"), 6, "three tries each");
    wait_until("the worker to say so", async || (working.figures.now().parked == 2).then_some(())).await;
    let listed = operator.list(|saga| saga.parked.is_some()).await.unwrap();
    assert_eq!(listed.iter().map(|listing| listing.id.as_str()).collect::<Vec<_>>(), ["a", "b"]);

    // Tried again too soon it is parked again.
    operator.retry("a").await.unwrap();
    wait_until("three more tries", async || (calls.count("a/pay:undo") == 6).then_some(())).await;
    parked(&operator, "a").await;
    is_mended.store(true, Ordering::SeqCst);
    operator.retry("a").await.unwrap();
    assert_eq!(operator.wait("a", LIMIT).await.unwrap().phase, Phase::Compensated);

    operator.abandon("b", "paid back by hand").await.unwrap();
    assert_eq!(operator.find("b").await.unwrap().phase, Phase::Abandoned);
    wait_until("the worker to let go of both", async || {
        let Figures { parked, running, compensating, .. } = working.figures.now();
        (parked + running + compensating == 0).then_some(())
    })
    .await;
    assert_eq!(calls.count("b/pay:undo"), 3, "nothing more is tried");
    assert_eq!((working.figures.now().abandoned, working.figures.now().compensated), (1, 1));
    for id in ["a", "b"] {
        assert!(matches!(operator.retry(id).await, Err(SagaError::Refused { .. })));
        assert!(matches!(operator.abandon(id, "").await, Err(SagaError::Refused { .. })));
    }
    let none = operator.list(|saga| !saga.phase.is_end()).await.unwrap();
    assert_eq!(none, []);
    assert!(matches!(operator.find("c").await, Err(SagaError::NotFound(id)) if id == "c"));
    assert!(matches!(operator.wait("c", Duration::from_secs(1)).await, Err(SagaError::NotFound(_))));
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_that_is_under_way_can_be_given_up() {
    let broker = Running::start().await;
    let (sagas, operator) = (broker.sagas(1).await, broker.sagas(1).await);
    let calls = Calls::default();
    let endless = super::running::step(&calls, "ship", async |_| std::future::pending().await);
    let definition = Definition::named("order").step(fine(&calls, "pay")).step(endless).build().unwrap();
    let working = Working::start(sagas.worker().drives(&definition));
    sagas.start(&definition, "a", &String::new()).await.unwrap();
    wait_until("the second step", async || (calls.count("ship") == 1).then_some(())).await;
    assert!(matches!(operator.retry("a").await, Err(SagaError::Refused { refusal: OperatorRefusal::NotParked, .. })));
    operator.abandon("a", "why not").await.unwrap();
    let idle = async || (working.figures.now().running == 0).then_some(());
    wait_until("the worker to let go", idle).await;
    working.stop().await;
    assert_eq!(calls.count("undo"), 0);
    let history = operator.history("a").await.unwrap();
    assert!(matches!(&history.events.last().unwrap().1, SagaEvent::Abandoned(changed) if changed.cause == "why not"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_parked_saga_is_carried_on_so_that_taking_its_partition_up_stays_quick() {
    let broker = Running::start().await;
    let sagas = broker.sagas(1).await;
    let (calls, is_mended) = (Calls::default(), Arc::new(AtomicBool::new(false)));
    let (definition, quick) = (stubborn(&calls, &is_mended), Definition::named("quick").step(fine(&calls, "x")));
    let quick = quick.build().unwrap();
    let worker = || sagas.worker().drives(&definition).drives(&quick).carried_after(40);
    let working = Working::start(worker());
    sagas.start(&definition, "still", &String::new()).await.unwrap();
    parked(&sagas, "still").await;
    for at in 0..30 {
        sagas.start(&quick, &format!("busy-{at}"), &String::new()).await.unwrap();
    }
    let carried = wait_until("it to be carried on", async || {
        let history = sagas.history("still").await.unwrap();
        history.events.iter().filter(|(_, event)| matches!(event, SagaEvent::Carried(_))).count().checked_sub(1)
    });
    assert!(carried.await <= 3, "once every 40 records, of about 120");
    let admin = Client::connect(&broker.server()).await.unwrap().admin();
    let noted = wait_until("where to read on to be noted behind its beginning", async || {
        let group = admin.describe_group("sagas.workers").await.unwrap();
        group.offsets.first().map(|committed| committed.offset.0).filter(|offset| *offset > 40)
    });
    noted.await;
    working.stop().await;

    // Whoever reads on there finds it.
    is_mended.store(true, Ordering::SeqCst);
    let working = Working::start(worker());
    wait_until("the next worker to find it", async || (working.figures.now().parked == 1).then_some(())).await;
    sagas.retry("still").await.unwrap();
    assert_eq!(sagas.wait("still", LIMIT).await.unwrap().phase, Phase::Compensated);
    working.stop().await;
}
