//! Exactly once into a database: the inbox, with real databases. Records come again, and from a topic that was made again.

use std::time::Duration;

use sqlx::{Pool, Postgres, Sqlite};
use tidelog_client::inbox::{self, Inbox, InboxError, Once};
use tidelog_client::{Client, PartitionId, Record, Start};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::outbox::database::Home;
use tidelog_tests::requirements::{Need, requires};

use super::sink::{Effects, assert_once, make_anew, open_topic, prepare, send, text};

/// Has all records of the topic noted, without headers: of how many the effect came before.
async fn seen_before<DB: Effects>(client: &Client, pool: &Pool<DB>) -> u32 {
    let mut consumer = client.consumer().topic("in").start(Start::Beginning).until_end().build().await.unwrap();
    let mut before = 0;
    while let Some(record) = consumer.next().await {
        let mut transaction = DB::begin(pool).await.unwrap();
        let once = inbox::once(&mut transaction, &record.unwrap(), async |_| Ok::<_, String>(())).await.unwrap();
        transaction.commit().await.unwrap();
        before += u32::from(once == Once::Before);
    }
    before
}

/// A record of a topic that was made again is not taken for one that stood there before it.
async fn noted_of_another_topic<DB: Effects>(home: Home) {
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    let pool = DB::open(&home.url()).await;
    prepare(&pool).await;
    send(&client, 0..20).await;
    // Two notes of an earlier release.
    let earlier = "INSERT INTO inbox (consumer, id, seen_ms) VALUES ('', 'in/0/0', 99999999999999), ('', 'in/1/0', 1)";
    DB::execute(&pool, earlier).await;
    assert_eq!(seen_before(&client, &pool).await, 1, "a note counts, but for one from before the topic was made");
    assert_eq!(seen_before(&client, &pool).await, 20);
    DB::execute(&pool, "DELETE FROM inbox WHERE id = 'in/0/0'").await;
    make_anew(&client).await;
    send(&client, 0..20).await;
    let client = Client::connect(&broker.server()).await.unwrap();
    assert_eq!(seen_before(&client, &pool).await, 0);
    assert_eq!(seen_before(&client, &pool).await, 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_topic_that_was_made_again_is_a_new_one_in_sqlite() {
    noted_of_another_topic::<Sqlite>(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_of_a_topic_that_was_made_again_is_a_new_one_in_postgres() {
    let name = "a_record_of_a_topic_that_was_made_again_is_a_new_one_in_postgres";
    if requires(name, &[Need::Postgres]) {
        noted_of_another_topic::<Postgres>(Home::postgres()).await;
    }
}

/// Each record comes three times; effects are noted with their ids.
async fn three_times<DB: Effects>(home: Home) {
    let broker = BrokerProcess::start();
    let client = open_topic(&broker).await;
    let pool = DB::open(&home.url()).await;
    prepare(&pool).await;
    let producer = client.producer().build().unwrap();
    for n in 0..20_u32 {
        let record = Record::to("in").partition(PartitionId(0)).value(format!("v{n}"));
        // Sent twice under one id; those without a header are known by where they stand.
        let record = if n.is_multiple_of(2) { record.header("id", format!("id-{n}")) } else { record };
        let times = if n.is_multiple_of(2) { 2 } else { 1 };
        for _ in 0..times {
            drop(producer.send(record.clone()).await.unwrap());
        }
    }
    producer.flush().await.unwrap();
    let mut effects = 0;
    for time in 0..3 {
        let mut consumer = client.consumer().topic("in").start(Start::Beginning).until_end().build().await.unwrap();
        while let Some(record) = consumer.next().await {
            let record = record.unwrap();
            let value = text(record.value.as_deref());
            let mut transaction = DB::begin(&pool).await.unwrap();
            // The first time it is undone after its effect, as by a crash before the commit.
            let undo = time == 0 && value == "v3";
            let once = inbox::once(&mut transaction, &record, async |transaction| DB::effect(transaction, value).await);
            let once = once.await.unwrap();
            if undo {
                transaction.rollback().await.unwrap();
                continue;
            }
            transaction.commit().await.unwrap();
            effects += u32::from(matches!(once, Once::Now(())));
        }
    }
    assert_eq!(effects, 20);
    assert_once(&pool, 20).await;

    // An effect that fails leaves no note, even where the rest is committed.
    let inbox = Inbox::of("others");
    let mut transaction = DB::begin(&pool).await.unwrap();
    let failed = inbox
        .once_by_id(&mut transaction, "x", async |transaction| {
            DB::effect(transaction, "half".into()).await.unwrap();
            Err::<(), _>("no")
        })
        .await;
    assert!(matches!(failed, Err(InboxError::Effect("no"))));
    transaction.commit().await.unwrap();
    for (expected, inbox) in [(true, &inbox), (false, &inbox), (true, &Inbox::of("yet another"))] {
        let mut transaction = DB::begin(&pool).await.unwrap();
        let once = inbox.once_by_id(&mut transaction, "x", async |_| Ok::<_, String>(())).await.unwrap();
        assert_eq!(once == Once::Now(()), expected);
        transaction.commit().await.unwrap();
    }
    assert!(!DB::effects(&pool).await.contains_key("half"));
    assert_eq!(inbox.forget(&pool, Duration::from_secs(3_600)).await.unwrap(), 0);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(inbox.forget(&pool, Duration::ZERO).await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_again_has_no_second_effect_in_sqlite() {
    three_times::<Sqlite>(Home::sqlite()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_again_has_no_second_effect_in_postgres() {
    let name = "what_comes_again_has_no_second_effect_in_postgres";
    if requires(name, &[Need::Postgres]) {
        three_times::<Postgres>(Home::postgres()).await;
    }
}
