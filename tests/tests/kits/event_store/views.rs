//! Views: they resume, are rebuilt from zero, and can be waited for by whoever wrote.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use tidelog_client::event_store::*;
use tidelog_client::{Offset, PartitionId};
use tidelog_tests::patience::{LIMIT, within_limit};

use super::running::{Account, Running};

/// What a view holds, shared between the test and the task that runs it.
struct Shared<T>(Arc<Mutex<T>>);

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Shared<T> {
    fn new(value: T) -> Self {
        Self(Arc::new(Mutex::new(value)))
    }

    fn look(&self) -> MutexGuard<'_, T> {
        self.0.lock().unwrap()
    }
}

/// Balances by account, and how far they are.
#[derive(Clone, Default, Debug, PartialEq)]
struct Balances {
    positions: BTreeMap<PartitionId, Offset>,
    balances: BTreeMap<String, i64>,
    applied: usize,
}

struct Table(Shared<Balances>);

impl Projection for Table {
    type Error = String;

    async fn position(&mut self, partition: PartitionId) -> Result<Offset, String> {
        Ok(self.0.look().positions.get(&partition).copied().unwrap_or_default())
    }

    async fn apply(&mut self, partition: PartitionId, events: Vec<StoredEvent>, next: Offset) -> Result<(), String> {
        let mut table = self.0.look();
        for event in events {
            let moved = Account::decode(&event.kind, &event.payload).map_err(|error| error.to_string())?;
            let id = String::from_utf8(event.id.to_vec()).map_err(|error| error.to_string())?;
            *table.balances.entry(id).or_default() += moved;
            table.applied += 1;
        }
        table.positions.insert(partition, next);
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_resumes_is_rebuilt_and_can_be_waited_for() {
    let broker = Running::start().await;
    let (store, elsewhere) = (broker.store("views").await, broker.store("views").await);
    let view = Shared::new(Balances::default());
    let start = |view: &Shared<Balances>| {
        let (store, view) = (store.clone(), view.clone());
        tokio::spawn(async move { store.projection("balances").run(&mut Table(view)).await })
    };
    let deposit = async |id: &str, amount: i64| {
        elsewhere.append(id, Expected::Any, vec![Account::encode(&amount)]).await.unwrap()
    };
    let running = start(&view);
    for round in 1..=20 {
        for id in ["a", "b", "c", "d"] {
            let made = deposit(id, 5).await;
            elsewhere.wait_for("balances", &made, LIMIT).await.unwrap();
            assert_eq!(view.look().balances[id], round * 5, "what was written is read");
        }
    }
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());

    // It goes on where it was.
    let made = deposit("a", 1).await;
    assert!(elsewhere.wait_for("balances", &made, Duration::from_millis(200)).await.is_err(), "nobody runs it");
    let running = start(&view);
    elsewhere.wait_for("balances", &made, LIMIT).await.unwrap();
    assert_eq!(view.look().applied, 81);
    assert_eq!(view.look().balances["a"], 101);
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());

    // Emptied, it is built anew; and nobody who waits is told of what the earlier one had.
    let anew = Shared::new(Balances::default());
    let run = store.projection("balances");
    let progress = run.progress();
    let table = anew.clone();
    let running = tokio::spawn(async move { run.run(&mut Table(table)).await });
    within_limit("the view", progress.reach(&made)).await.unwrap();
    for id in ["a", "b", "c", "d"] {
        let made = deposit(id, 0).await;
        elsewhere.wait_for("balances", &made, LIMIT).await.unwrap();
    }
    let rebuilt = anew.look().balances.clone();
    assert_eq!(rebuilt, view.look().balances);
    running.abort();

    // A view that cannot go on says why.
    let stopped = store.projection("strict").run(&mut Refusing).await.unwrap_err();
    assert_eq!(stopped.to_string(), "the projection cannot go on: not today");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_processes_that_run_one_view_the_first_ends_and_nobody_is_told_of_what_it_has() {
    let broker = Running::start().await;
    let (first, second, elsewhere) =
        (broker.store("views").await, broker.store("views").await, broker.store("views").await);
    let start = |store: &EventStore, view: &Shared<Balances>| {
        let (store, view) = (store.clone(), view.clone());
        tokio::spawn(async move { store.projection("balances").run(&mut Table(view)).await })
    };
    let (old, new) = (Shared::new(Balances::default()), Shared::new(Balances::default()));
    let deposit = async || elsewhere.append("a", Expected::Any, vec![Account::encode(&1)]).await.unwrap();
    let running = start(&first, &old);
    let made = deposit().await;
    elsewhere.wait_for("balances", &made, LIMIT).await.unwrap();
    let second = start(&second, &new);
    // Without further events nobody is behind.
    elsewhere.wait_for("balances", &made, LIMIT).await.unwrap();
    let mut at = 1;
    while !running.is_finished() {
        assert!(at < 1_000, "both go on");
        let made = deposit().await;
        elsewhere.wait_for("balances", &made, LIMIT).await.unwrap();
        at += 1;
    }
    let said = running.await.unwrap().unwrap_err();
    assert!(matches!(&said, ProjectionError::Replaced { name } if name == "balances"), "{said}");
    for _ in 0..20 {
        let made = deposit().await;
        elsewhere.wait_for("balances", &made, LIMIT).await.unwrap();
        at += 1;
        assert_eq!(new.look().balances["a"], at, "what was written is read");
    }
    assert!(!second.is_finished());
    second.abort();
}

struct Refusing;

impl Projection for Refusing {
    type Error = String;

    async fn position(&mut self, _: PartitionId) -> Result<Offset, String> {
        Ok(Offset::ZERO)
    }

    async fn apply(&mut self, _: PartitionId, events: Vec<StoredEvent>, _: Offset) -> Result<(), String> {
        if events.is_empty() { Ok(()) } else { Err("not today".into()) }
    }
}
