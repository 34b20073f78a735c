//! The outbox over real databases and brokers: what is committed is published, once and in order, whatever becomes of the relays.

use std::time::Duration;

use sqlx::{Pool, Postgres, Sqlite};
use tidelog_client::outbox::{Outbox, Step};
use tidelog_client::{Client, Isolation, Start};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::chance::{rounds, seeded};
use tidelog_tests::outbox::claims::{Read, violations};
use tidelog_tests::outbox::database::{Home, ShopDatabase};
use tidelog_tests::outbox::reading::read_all;
use tidelog_tests::outbox::relay::RelaySettings;
use tidelog_tests::outbox::shop::{committed, prepare, trade};
use tidelog_tests::patience::wait_until;
use tidelog_tests::requirements::{Need, requires};

const TOPIC: &str = "outbox.event.order";

fn settings(broker: &BrokerProcess, home: &Home) -> RelaySettings {
    RelaySettings {
        servers: broker.server(),
        database: home.url(),
        shards: 1,
        lease: Duration::from_millis(400),
        batch_rows: 20,
    }
}

/// Until nothing waits to be published.
async fn drained<S: tidelog_client::outbox::Store>(outbox: &Outbox<S>) {
    wait_until("the outbox to be empty", async || {
        let backlog = outbox.backlog().await.unwrap();
        (backlog.rows == 0).then_some(())
    })
    .await;
}

/// What was published of a topic is what was committed.
async fn assert_published<DB: ShopDatabase>(client: &Client, pool: &Pool<DB>) -> Vec<Read> {
    let read = read_all(client, TOPIC).await;
    assert_eq!(violations(&committed(pool).await, &read), []);
    read
}

/// Relays are killed at every step, again and again, while the shop goes on.
async fn killed_at_every_step<DB: ShopDatabase>(test: &str, home: Home) {
    let mut rng = seeded(test);
    let broker = BrokerProcess::start();
    let settings = settings(&broker, &home);
    let pool = DB::open(&home.url()).await;
    prepare(&pool).await;
    let outbox = DB::outbox(&pool);
    let client = Client::connect(&broker.server()).await.unwrap();
    for _ in 0..rounds(1) {
        for step in Step::ALL.into_iter().filter(|step| *step != Step::SetAside) {
            for time in [1, 2 + rng.u32(..2)] {
                // It is taken by a relay that comes to this step so often only where there is enough to do.
                let is_once = matches!(step, Step::Claimed | Step::Fenced | Step::Recovered);
                if is_once && time > 1 {
                    continue;
                }
                let shop = tokio::spawn(trade(pool.clone(), fastrand::Rng::with_seed(rng.u64(..)), 60, 10));
                let relay = settings.start_to_die(step, time);
                shop.await.unwrap();
                tokio::task::spawn_blocking(|| relay.wait_killed()).await.unwrap();
            }
        }
    }
    assert!(outbox.backlog().await.unwrap().rows > 0, "the last relay was killed in the middle of its work");
    let last = settings.start();
    drained(&outbox).await;
    let read = assert_published(&client, &pool).await;
    last.kill();
    // Some of it was published and undone, or published and not settled: else the faults met nobody at work.
    let mut all = client
        .consumer()
        .topic(TOPIC)
        .start(Start::Beginning)
        .isolation(Isolation::ReadUncommitted)
        .until_end()
        .build()
        .await
        .unwrap();
    let mut written = 0;
    while let Some(record) = all.next().await {
        let _ = record.unwrap();
        written += 1;
    }
    println!("{} events, {written} records written", read.len());
    assert!(written > read.len(), "no relay was ever killed within a transaction");
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_step_a_relay_is_killed_at_each_event_of_sqlite_is_published_once_and_in_order() {
    killed_at_every_step::<Sqlite>("killed_at_every_step_sqlite", Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_step_a_relay_is_killed_at_each_event_of_postgres_is_published_once_and_in_order() {
    let name = "whatever_step_a_relay_is_killed_at_each_event_of_postgres_is_published_once_and_in_order";
    if requires(name, &[Need::Postgres]) {
        killed_at_every_step::<Postgres>(name, Home::postgres()).await;
    }
}

/// Several relays, writers that overlap, and one relay after the other killed or paused.
async fn failover<DB: ShopDatabase>(test: &str, home: Home) {
    let mut rng = seeded(test);
    let broker = BrokerProcess::start();
    let settings = RelaySettings { shards: 3, ..settings(&broker, &home) };
    let pool = DB::open(&home.url()).await;
    prepare(&pool).await;
    let outbox = DB::outbox(&pool);
    let client = Client::connect(&broker.server()).await.unwrap();
    let shops: Vec<_> = (0..3)
        .map(|_| tokio::spawn(trade(pool.clone(), fastrand::Rng::with_seed(rng.u64(..)), 400 * rounds(1), 12)))
        .collect();
    let mut relays: Vec<_> = (0..2).map(|_| settings.start()).collect();
    let mut faults = 0;
    while faults < 4 || shops.iter().any(|shop| !shop.is_finished()) {
        tokio::time::sleep(Duration::from_millis(rng.u64(200..700))).await;
        let victim = relays.remove(rng.usize(..relays.len()));
        if rng.bool() {
            victim.kill();
            relays.push(settings.start());
        } else {
            // For longer than its lease: another takes over, and this one comes back with what it had in its hands.
            victim.pause();
            tokio::time::sleep(settings.lease * 3).await;
            victim.resume();
            relays.push(victim);
        }
        faults += 1;
    }
    for shop in shops {
        shop.await.unwrap();
    }
    drained(&outbox).await;
    assert!(relays.iter_mut().all(|relay| relay.is_alive()), "a relay ended by itself");
    let read = assert_published(&client, &pool).await;
    println!("{} events, {faults} faults", read.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_take_over_from_each_other_publish_each_event_of_sqlite_once_and_in_order() {
    failover::<Sqlite>("failover_sqlite", Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_take_over_from_each_other_publish_each_event_of_postgres_once_and_in_order() {
    let name = "relays_that_take_over_from_each_other_publish_each_event_of_postgres_once_and_in_order";
    if requires(name, &[Need::Postgres]) {
        failover::<Postgres>(name, Home::postgres()).await;
    }
}
