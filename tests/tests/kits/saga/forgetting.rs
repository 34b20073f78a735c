//! Sagas that ended long ago: known for as long as was said, then forgotten by all, also by those that start later.

use std::time::Duration;

use tidelog_client::saga::*;
use tidelog_tests::patience::{LIMIT, wait_until};

use super::running::{Calls, Running, Working, fine, refused, step};

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_that_ended_is_known_for_as_long_as_was_said_and_then_nothing_of_it_is_in_memory() {
    let broker = Running::start().await;
    let (sagas, elsewhere) = (broker.sagas(1).await, broker.sagas(1).await);
    let calls = Calls::default();
    let fine = Definition::named("order").step(fine(&calls, "pay")).build().unwrap();
    let refused = Definition::named("refused").step(refused(&calls, "pay")).build().unwrap();
    let endless = step(&calls, "ship", async |_| std::future::pending().await);
    let endless = Definition::named("endless").step(endless).build().unwrap();
    let worker = |sagas: &Sagas| sagas.worker().drives(&fine).drives(&refused).drives(&endless);
    let working = Working::start(worker(&sagas).kept(Duration::from_secs(4)));
    sagas.start(&endless, "goes-on", &String::new()).await.unwrap();
    for at in 0..10 {
        let definition = if at % 2 == 0 { &fine } else { &refused };
        sagas.start(definition, &format!("s{at}"), &String::new()).await.unwrap();
    }
    for at in 0..10 {
        assert!(sagas.wait(&format!("s{at}"), LIMIT).await.unwrap().phase.is_end());
    }
    assert_eq!(elsewhere.start(&fine, "s0", &String::new()).await.unwrap(), Begun::Before);
    assert_eq!(elsewhere.store().known_aggregates().await, 11);

    let only_one = async |sagas: &Sagas| (sagas.store().known_aggregates().await == 1).then_some(());
    wait_until("what ended to be forgotten here", async || only_one(&sagas).await).await;
    wait_until("what ended to be forgotten elsewhere", async || only_one(&elsewhere).await).await;
    assert!(matches!(elsewhere.find("s0").await, Err(SagaError::NotFound(_))));
    let listed = elsewhere.list(|_| true).await.unwrap();
    assert_eq!(listed.iter().map(|listing| listing.id.as_str()).collect::<Vec<_>>(), ["goes-on"]);

    // Another saga of the same id: nothing of the first is found in it.
    assert_eq!(elsewhere.start(&refused, "s0", &"anew".into()).await.unwrap(), Begun::Now);
    assert_eq!(sagas.wait("s0", LIMIT).await.unwrap().phase, Phase::Compensated);
    let history = elsewhere.history("s0").await.unwrap();
    assert_eq!((history.saga.definition.as_str(), &history.saga.input[..]), ("refused", &b"anew"[..]));
    assert!(matches!(&history.events[0].1, SagaEvent::Started(_)));
    drop(working);

    // Whoever reads all there is comes to the same.
    let later = broker.sagas(1).await;
    assert_eq!(later.find("goes-on").await.unwrap().phase, Phase::Running);
    assert!(matches!(later.find("s1").await, Err(SagaError::NotFound(_))));
    let again = Working::start(worker(&later));
    wait_until("the one that goes on to be met", async || (again.figures.now().running == 1).then_some(())).await;
    assert_eq!(later.start(&fine, "s1", &String::new()).await.unwrap(), Begun::Now);
    assert_eq!(later.wait("s1", LIMIT).await.unwrap().phase, Phase::Done);
}
