//! A transaction has its timeout once: neither a coordinator that stands still nor one that takes the other's place gives it more, and its age is
//! told as it is.

use std::time::{Duration, Instant};

use tidelog_protocol::ErrorCode;
use tidelog_protocol::messages::{ListTransactionsRequest, TransactionEnder, TransactionState};
use tidelog_tests::patience::wait_until;
use tidelog_tests::question::ask;
use tidelog_tests::raw_transactions::{RawProducer, Scene, codes};

const ID: &str = "payments";

/// For how long the coordinator says that it is open.
async fn open_for(scene: &Scene) -> Duration {
    wait_until("the coordinator to list it", async || {
        let coordinator = scene.coordinator_of(ID).await;
        let listed =
            ask(scene.cluster.address(coordinator), &ListTransactionsRequest { open_only: true }).await.ok()?;
        let open = listed.transactions.iter().find(|listing| listing.transactional_id == ID)?;
        Some(Duration::from_millis(open.open_ms))
    })
    .await
}

async fn begun(scene: &Scene, timeout_ms: u32) -> (RawProducer, Instant) {
    let producer = scene.producer(ID, timeout_ms).await;
    producer.send((scene.orders, 0), 0, &["one"]).await.unwrap();
    (producer, Instant::now())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_is_as_old_as_it_is_where_another_takes_its_coordinators_place() {
    let mut scene = Scene::set().await;
    let (mut producer, began) = begun(&scene, 600_000).await;
    for _ in 0..2 {
        let coordinator = scene.coordinator_of(ID).await;
        scene.cluster.kill(coordinator);
        wait_until("another to coordinate", async || (scene.coordinator_of(ID).await != coordinator).then_some(()))
            .await;
        let lived = began.elapsed();
        let said = open_for(&scene).await;
        // Both clocks count whole milliseconds.
        assert!(said + Duration::from_millis(2) >= lived, "it is open for {lived:?}, and said to be for {said:?}");
        scene.cluster.restart(coordinator);
    }
    producer.end(true).await.unwrap();
    scene.settled(&producer).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_that_stands_still_again_and_again_does_not_keep_a_transaction_open() {
    const TIMEOUT: Duration = Duration::from_secs(4);
    let scene = Scene::set().await;
    let (mut producer, began) = begun(&scene, TIMEOUT.as_millis() as u32).await;
    let mut pauses = 0;
    let mut lived = began.elapsed();
    while lived < 2 * TIMEOUT {
        let coordinator = scene.coordinator_of(ID).await;
        scene.cluster.pause(coordinator);
        // Longer than what counts as away, shorter than what costs it its leadership.
        tokio::time::sleep(Duration::from_millis(700)).await;
        scene.cluster.resume(coordinator);
        pauses += 1;
        let described = producer.describe().await;
        if described.state != TransactionState::Ongoing {
            break;
        }
        lived = began.elapsed();
    }
    assert!(pauses >= 2, "it stood still {pauses} times");
    let described = producer.describe().await;
    assert_eq!(described.ended.map(|ended| (ended.committed, ended.by)), Some((false, TransactionEnder::Timeout)));
    assert!(began.elapsed() >= TIMEOUT - Duration::from_millis(2), "it had its time");
    let refused = codes(producer.end(true).await);
    assert_eq!(refused, Some(ErrorCode::InvalidTransactionState), "it was undone");
}
