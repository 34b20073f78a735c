//! What is refused, and what is left alone until somebody knows what to do with it.

use tidelog_client::event_store::{Expected, NewEvent};
use tidelog_client::saga::*;
use tidelog_tests::patience::{LIMIT, wait_until};

use super::running::{Calls, Running, Working, fine};

#[tokio::test(flavor = "multi_thread")]
async fn to_start_a_saga_twice_is_to_start_it_once_and_another_under_its_id_is_refused() {
    let broker = Running::start().await;
    let (sagas, elsewhere) = (broker.sagas(3).await, broker.sagas(3).await);
    let calls = Calls::default();
    let define = |name: &str| Definition::named(name).step(fine(&calls, "pay")).build().unwrap();
    let (order, other) = (define("order"), define("other"));
    assert_eq!(sagas.start(&order, "a", &"x".to_owned()).await.unwrap(), Begun::Now);
    for sagas in [&sagas, &elsewhere] {
        assert_eq!(sagas.start(&order, "a", &"x".to_owned()).await.unwrap(), Begun::Before);
        let said = sagas.start(&order, "a", &"y".to_owned()).await.unwrap_err().to_string();
        assert_eq!(said, "saga \"a\" was started before, about something else");
        let said = sagas.start(&other, "a", &"x".to_owned()).await.unwrap_err().to_string();
        assert_eq!(said, "saga \"a\" was started before, by the definition \"order\"");
    }
    for id in ["", "a\nb", &"x".repeat(513)] {
        assert!(sagas.start(&order, id, &String::new()).await.unwrap_err().to_string().contains("1 to 512 bytes"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_without_definitions_or_with_two_of_one_name_is_refused() {
    let broker = Running::start().await;
    let sagas = broker.sagas(1).await;
    let order = Definition::named("order").step(fine(&Calls::default(), "pay")).build().unwrap();
    for (worker, part) in [
        (sagas.worker(), "needs a definition"),
        (sagas.worker().drives(&order).drives(&order), "two definitions \"order\""),
        (sagas.worker().drives(&order).concurrency(0), "1 at least"),
        (sagas.worker().drives(&order).kept(std::time::Duration::ZERO), "kept is a second at least"),
    ] {
        let said = worker.run(std::future::pending()).await.unwrap_err().to_string();
        assert!(said.contains(part), "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_of_a_definition_that_nobody_was_given_is_counted_and_waits_for_who_was() {
    let broker = Running::start().await;
    let sagas = broker.sagas(1).await;
    let calls = Calls::default();
    let define = |name: &str| Definition::named(name).step(fine(&calls, "pay")).build().unwrap();
    let (order, other) = (define("order"), define("other"));
    sagas.start(&order, "a", &String::new()).await.unwrap();
    let working = Working::start(sagas.worker().drives(&other));
    wait_until("the worker to say so", async || (working.figures.now().unknown == 1).then_some(())).await;
    let said = wait_until("the saga to say so", async || sagas.find("a").await.unwrap().left_alone).await;
    assert_eq!(said, "a worker of its partition was not given the definition \"order\"");
    sagas.start(&order, "b", &String::new()).await.unwrap();
    wait_until("the worker to have both", async || (working.figures.now().unknown == 2).then_some(())).await;
    sagas.abandon("b", "nobody will do it").await.unwrap();
    let let_go = async || {
        let figures = working.figures.now();
        (figures.unknown == 1 && figures.abandoned == 1).then_some(())
    };
    wait_until("the worker to let go of one", let_go).await;
    working.stop().await;
    assert_eq!(calls.all(), Vec::<String>::new());
    let working = Working::start(sagas.worker().drives(&other).drives(&order));
    let saga = sagas.wait("a", LIMIT).await.unwrap();
    assert_eq!((saga.phase, saga.left_alone), (Phase::Done, None));
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_that_was_started_with_other_steps_is_parked_and_says_which() {
    let broker = Running::start().await;
    let sagas = broker.sagas(1).await;
    let calls = Calls::default();
    let before = Definition::named("order").step(fine(&calls, "pay")).build().unwrap();
    let after = Definition::named("order").step(fine(&calls, "pay")).step(fine(&calls, "ship")).build().unwrap();
    sagas.start(&before, "a", &String::new()).await.unwrap();
    let working = Working::start(sagas.worker().drives(&after));
    let parked = wait_until("it to be parked", async || sagas.find("a").await.ok().and_then(|saga| saga.parked)).await;
    assert!(parked.contains("[\"pay\"]") && parked.contains("[\"pay\", \"ship\"]"), "{parked}");
    working.stop().await;
    sagas.retry("a").await.unwrap();
    let working = Working::start(sagas.worker().drives(&before));
    assert_eq!(sagas.wait("a", LIMIT).await.unwrap().phase, Phase::Done);
    working.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_no_saga_has_written_is_said_and_holds_up_nobody_else() {
    let broker = Running::start().await;
    let sagas = broker.sagas(1).await;
    let calls = Calls::default();
    let order = Definition::named("order").step(fine(&calls, "pay")).build().unwrap();
    let odd = vec![NewEvent::new("opened", "100")];
    sagas.store().append("account-7", Expected::Any, odd).await.unwrap();
    let working = Working::start(sagas.worker().drives(&order));
    sagas.start(&order, "a", &String::new()).await.unwrap();
    assert_eq!(sagas.wait("a", LIMIT).await.unwrap().phase, Phase::Done);
    for said in [
        sagas.find("account-7").await.unwrap_err().to_string(),
        sagas.list(|_| true).await.unwrap_err().to_string(),
        sagas.start(&order, "account-7", &String::new()).await.unwrap_err().to_string(),
    ] {
        assert!(said.contains("event 1 of \"account-7\" is none of a saga: a saga has no event \"opened\""), "{said}");
    }
    assert!(working.figures.now().trouble.unwrap().contains("account-7"));
    working.stop().await;
}
