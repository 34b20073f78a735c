//! Snapshots spare the events before them, and are no more than that.

use tidelog_client::event_store::*;
use tidelog_tests::patience::wait_until;

use super::running::{Account, Running};

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_spares_the_events_before_it() {
    let broker = Running::start().await;
    let store = broker.store("snapshots").await;
    let options = RepositoryOptions { snapshot_every: 10, ..RepositoryOptions::default() };
    let accounts = store.repository_with::<Account>(options);
    for _ in 0..25 {
        accounts.execute("a", |_| Ok(vec![2])).await.unwrap();
    }
    let stored =
        wait_until("a snapshot", async || store.snapshot("a").await.unwrap().filter(|known| known.version.0 >= 20))
            .await;
    assert_eq!(stored.state, stored.version.0.saturating_mul(2).to_string());

    // Another process: as the events before the snapshot cannot be understood any more, it must have come from there.
    let refusing = Upcasters::new().upcast("moved", 1, |_| Err("it is too old".into()));
    let fresh = broker.client().await.event_store("snapshots").upcasters(refusing).open().await.unwrap();
    assert!(fresh.load("a").await.unwrap_err().to_string().contains("too old"));
    let version = fresh.version("a").await.unwrap();
    let snapshot = fresh.snapshot("a").await.unwrap().unwrap();
    assert_eq!((version, snapshot.version), (Version(25), stored.version));
    store.save_snapshot("a", &StoredSnapshot { version: Version(25), schema: 1, state: "50".into() }).await.unwrap();
    let latest = async || fresh.snapshot("a").await.unwrap().filter(|known| known.version == Version(25));
    wait_until("the latest snapshot", latest).await;
    assert_eq!(fresh.repository::<Account>().load("a").await.unwrap().state, Account(50));

    // One of another schema is passed over.
    store.save_snapshot("a", &StoredSnapshot { version: Version(25), schema: 9, state: "99".into() }).await.unwrap();
    let other = broker.store("snapshots").await;
    assert_eq!(other.snapshot("a").await.unwrap().unwrap().schema, 9);
    assert_eq!(other.repository::<Account>().load("a").await.unwrap().state, Account(50));
}
