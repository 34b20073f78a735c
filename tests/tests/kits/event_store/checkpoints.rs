//! Checkpoints of what a store knows: it starts from them, and without them where they are of another log.

use tidelog_client::event_store::*;
use tidelog_client::{Client, Offset, PartitionId, Position};
use tidelog_tests::patience::{wait_until, within_limit};

use super::running::{Running, event, texts};

const SECOND: PartitionId = PartitionId(1);

/// Ids that the second of two partitions has.
fn ids(store: &EventStore) -> Vec<String> {
    (0..).map(|at| format!("a-{at}")).filter(|id| store.place(id.as_bytes()) == SECOND).take(10).collect()
}

/// The first offset of a topic's second partition, and that behind the last.
async fn ends(client: &Client, topic: &str) -> (u64, u64) {
    let positions = [(SECOND, Position::EARLIEST), (SECOND, Position::LATEST)];
    let answers = client.admin().list_offsets(topic, &positions).await.unwrap();
    (answers[0].offset.unwrap().0, answers[1].offset.unwrap().0)
}

async fn wait_for_a_checkpoint(client: &Client, topic: &str) {
    wait_until("a checkpoint", async || (ends(client, topic).await.1 > 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_starts_from_a_checkpoint() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let described = || client.event_store("checked").checkpoint_every(100).command_window(50);
    let writing = described().create(2, None).await.unwrap();
    let ids = ids(&writing);
    for at in 0..250 {
        writing.append_once(&ids[at % 10], format!("c-{at}"), Expected::Any, event(&at.to_string())).await.unwrap();
    }
    wait_until("the second checkpoint, and the first gone", async || {
        (ends(&client, "checked.index").await == (1, 2)).then_some(())
    })
    .await;

    // What lies before the checkpoint and the commands that are remembered is not read: it need not even be there.
    client.admin().delete_records("checked", SECOND, Some(Offset(130))).await.unwrap();
    let fresh = described().open().await.unwrap();
    for id in &ids {
        assert_eq!(fresh.version(id).await.unwrap(), Version(25));
    }
    assert!(fresh.append_once(&ids[9], "c-249", Expected::Any, event("x")).await.unwrap().repeated);
    assert!(fresh.append_once(&ids[2], "c-202", Expected::Any, event("x")).await.unwrap().repeated);
    assert_eq!(fresh.append(&ids[0], Version(25), event("y")).await.unwrap().version, Version(26));
    assert_eq!(texts(&fresh.load_after(&ids[0], Version(24)).await.unwrap().events), ["240", "y"]);

    // Without the checkpoint it would.
    client.admin().delete_records("checked.index", SECOND, None).await.unwrap();
    let error = described().open().await.unwrap().load(&ids[0]).await.unwrap_err();
    assert!(error.to_string().contains("out of range"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_tells_of_lost_snapshots_does_no_harm() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let described = || client.event_store("lost").checkpoint_every(20);
    let store = described().create(2, None).await.unwrap();
    let id = ids(&store).remove(0);
    let snapshot = |version| StoredSnapshot { version: Version(version), schema: 1, state: "state".into() };
    for at in 1..=30 {
        store.append(&id, Expected::Any, event("x")).await.unwrap();
        store.save_snapshot(&id, &snapshot(at)).await.unwrap();
    }
    wait_for_a_checkpoint(&client, "lost.index").await;
    drop(store);
    client.admin().delete_topic("lost.snapshots").await.unwrap();
    let now = broker.client().await;
    let store = within_limit("the store", now.event_store("lost").create(2, None)).await.unwrap();
    assert_eq!(within_limit("a version", store.version(&id)).await.unwrap(), Version(30));
    assert_eq!(store.snapshot(&id).await.unwrap(), None);
    store.save_snapshot(&id, &snapshot(30)).await.unwrap();
    wait_until("a snapshot", async || store.snapshot(&id).await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_checkpoint_that_outlives_its_log_does_no_harm() {
    let broker = Running::start().await;
    let client = broker.client().await;
    let other = || client.event_store("other").checkpoint_every(20);
    let store = other().create(2, None).await.unwrap();
    let id = ids(&store).remove(0);
    for _ in 0..30 {
        store.append(&id, Expected::Any, event("old")).await.unwrap();
    }
    wait_for_a_checkpoint(&client, "other.index").await;
    drop(store);
    client.admin().delete_topic("other").await.unwrap();
    client.admin().delete_topic("other.snapshots").await.unwrap();
    let client_of_now = broker.client().await;
    let anew = client_of_now.event_store("other").create(2, None).await.unwrap();
    assert_eq!(anew.version(&id).await.unwrap(), Version::NONE);
    assert_eq!(anew.append(&id, Version::NONE, event("new")).await.unwrap().version, Version(1));
}
