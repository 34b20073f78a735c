//! An outbox in trouble: tables or topics that are missing, events that cannot be sent, settings that do not fit, a database that goes away or is put back from a
//! copy. Each is said clearly, and nothing staged is lost.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sqlx::{Pool, Postgres, Sqlite, SqlitePool};
use tidelog_client::outbox::{
    Column, Event, Outbox, Relay, RelayError, Schema, Settling, SqliteStore, Step, Store, stage,
};
use tidelog_client::sql::{DatabaseError, Dialect, Name, open_sqlite};
use tidelog_client::{Client, NewTopic, Start};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::outbox::claims::violations;
use tidelog_tests::outbox::database::{Home, ShopDatabase};
use tidelog_tests::outbox::reading::read_all;
use tidelog_tests::outbox::shop::{End, committed, prepare, transact};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::postgres_process::PostgresProcess;
use tidelog_tests::requirements::{Need, requires};

const TOPIC: &str = "outbox.event.order";

struct Shop {
    broker: BrokerProcess,
    _home: Home,
    pool: SqlitePool,
    outbox: Outbox<SqliteStore>,
    client: Client,
}

impl Shop {
    async fn open() -> Self {
        let broker = BrokerProcess::start();
        let home = Home::sqlite();
        let pool = open_sqlite(&home.url()).await.unwrap();
        prepare(&pool).await;
        let client = Client::connect(&broker.server()).await.unwrap();
        let outbox = Outbox::sqlite(pool.clone());
        Self { broker, _home: home, pool, outbox, client }
    }

    fn relay(&self) -> Relay<SqliteStore> {
        self.outbox.relay(self.client.clone()).create_topics(1)
    }

    async fn stage(&self, events: impl IntoIterator<Item = Event>) {
        let mut transaction = Sqlite::begin(&self.pool).await.unwrap();
        for event in events {
            stage(&mut transaction, event).await.unwrap();
        }
        transaction.commit().await.unwrap();
    }

    async fn sell(&self, key: &str) {
        transact(&self.pool, &[key], Duration::ZERO, End::Commit).await.unwrap();
    }

    async fn assert_published(&self) {
        assert_eq!(violations(&committed(&self.pool).await, &read_all(&self.client, TOPIC).await), []);
    }
}

/// Why a relay ends by itself.
async fn refusal<S: Store>(relay: Relay<S>) -> RelayError {
    within_limit("the relay to end by itself", relay.run(std::future::pending())).await.unwrap_err()
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_missing_are_said_to_be_and_can_be_made() {
    let broker = BrokerProcess::start();
    let client = Client::connect(&broker.server()).await.unwrap();
    let home = Home::sqlite();
    let pool = open_sqlite(&home.url()).await.unwrap();
    let outbox = Outbox::sqlite(pool.clone());
    let mut transaction = Sqlite::begin(&pool).await.unwrap();
    let missing = stage(&mut transaction, Event::of("order", "a", "OrderPlaced")).await.unwrap_err();
    drop(transaction);
    assert!(matches!(missing, DatabaseError::Missing(_)) && missing.to_string().contains("migrat"), "{missing}");
    let missing = refusal(outbox.relay(client.clone())).await;
    assert!(missing.to_string().contains("--migrate"), "{missing}");
    // Twice is as good as once.
    outbox.migrate().await.unwrap();
    outbox.migrate().await.unwrap();
    assert_eq!(outbox.relay(client.clone()).drain().await.unwrap(), 0);
    // Tables of a later release are left alone.
    Sqlite::execute(&pool, "UPDATE outboxevent_meta SET value = '99' WHERE name = 'version'").await;
    let later = outbox.migrate().await.unwrap_err();
    assert!(matches!(later, DatabaseError::TooNew { found: 99, .. }), "{later}");
    let later = refusal(outbox.relay(client)).await;
    assert!(matches!(later, RelayError::Database(DatabaseError::TooNew { found: 99, .. })), "{later}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_cannot_be_sent_is_set_aside_with_the_cause_and_stops_no_other() {
    let shop = Shop::open().await;
    let topic = NewTopic::named(TOPIC).config("max.message.bytes", "20000");
    shop.client.admin().create_topic(&topic).await.unwrap();
    shop.sell("a").await;
    shop.stage([
        Event::of("order", "a", "OrderPlaced").payload(vec![b'x'; 50_000]),
        Event::of("no topic", "a", "OrderPlaced").payload("a 9"),
    ])
    .await;
    shop.sell("a").await;
    shop.sell("b").await;
    let relay = shop.relay();
    assert_eq!(relay.drain().await.unwrap(), 3);
    shop.assert_published().await;
    assert_eq!(relay.figures().now().dead, 2);
    let dead = shop.outbox.dead_events(10).await.unwrap();
    let causes: Vec<_> = dead.iter().map(|event| (event.payload_bytes, event.cause.as_str())).collect();
    assert_eq!((causes.len(), causes[0].0), (2, 50_000), "{causes:?}");
    assert!(causes[0].1.contains("20000") && causes[1].1.contains("no topic"), "{causes:?}");
    assert_eq!(shop.outbox.backlog().await.unwrap().dead, 2);

    // Once the topic takes it, it can be sent after all: under its id, and once.
    shop.client.admin().alter_topic(TOPIC, &[("max.message.bytes", "100000")], &[]).await.unwrap();
    assert_eq!(shop.outbox.revive(Some(dead[0].seq)).await.unwrap(), 1);
    let again = Client::connect(&shop.broker.server()).await.unwrap();
    assert_eq!(shop.outbox.relay(again).drain().await.unwrap(), 1);
    let left = shop.outbox.dead_events(10).await.unwrap();
    assert_eq!(left.iter().map(|event| event.seq).collect::<Vec<_>>(), [dead[1].seq]);
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_topic_that_does_not_exist_wait_until_it_does() {
    let shop = Shop::open().await;
    shop.sell("a").await;
    let relay = shop.outbox.relay(shop.client.clone());
    let figures = relay.figures();
    let running = tokio::spawn(relay.run(std::future::pending()));
    let trouble = wait_until("the relay to say what it waits for", async || figures.now().trouble).await;
    assert!(trouble.contains(TOPIC) && trouble.contains("create it"), "{trouble}");
    assert_eq!(shop.outbox.backlog().await.unwrap().rows, 1);
    shop.client.admin().create_topic(&NewTopic::named(TOPIC)).await.unwrap();
    wait_until("the event to be published", async || (figures.now().published == 1).then_some(())).await;
    shop.assert_published().await;
    assert_eq!(figures.now().trouble, None);
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn relays_that_disagree_on_shards_or_share_a_name_with_another_outbox_are_refused() {
    let shop = Shop::open().await;
    shop.sell("a").await;
    assert_eq!(shop.relay().shards(2).drain().await.unwrap(), 1);
    let wrong = refusal(shop.relay().shards(3)).await;
    assert!(
        matches!(wrong, RelayError::WrongShards { asked: 3, found: 2 }) && wrong.to_string().contains("reshard"),
        "{wrong}"
    );
    for shards in [0, 257] {
        assert!(matches!(refusal(shop.relay().shards(shards)).await, RelayError::Argument(_)));
    }
    shop.sell("b").await;
    shop.relay().reshard(3).await.unwrap();
    assert_eq!(shop.relay().shards(3).drain().await.unwrap(), 1);
    shop.assert_published().await;

    let other = Home::sqlite();
    let pool = open_sqlite(&other.url()).await.unwrap();
    prepare(&pool).await;
    transact(&pool, &["c"], Duration::ZERO, End::Commit).await.unwrap();
    let outbox = Outbox::sqlite(pool.clone());
    let taken = refusal(outbox.relay(shop.client.clone()).shards(3).create_topics(1)).await;
    assert!(
        matches!(taken, RelayError::OtherDatabase { .. }) && taken.to_string().contains("name of its own"),
        "{taken}"
    );
    assert_eq!(outbox.backlog().await.unwrap().rows, 1, "nothing of it was published");
    assert_eq!(outbox.relay(shop.client.clone()).shards(3).name("other").create_topics(1).drain().await.unwrap(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_number_of_shards_that_is_out_of_range_is_refused_before_it_is_written() {
    let shop = Shop::open().await;
    for shards in [0, 1_000] {
        let refused = within_limit("an answer", shop.relay().reshard(shards)).await.unwrap_err();
        assert!(matches!(refused, RelayError::Argument(_)), "{refused}");
    }
    shop.sell("a").await;
    assert_eq!(shop.relay().drain().await.unwrap(), 1);
    shop.relay().reshard(4).await.unwrap();
}

#[tokio::test]
async fn an_sqlite_from_before_3_42_can_work_out_when_a_row_was_staged() {
    let home = Home::sqlite();
    let pool = open_sqlite(&home.url()).await.unwrap();
    Outbox::sqlite(pool.clone()).migrate().await.unwrap();
    let newer = "SELECT count(*) FROM sqlite_master WHERE sql LIKE '%subsec%' OR sql LIKE '%unixepoch%'";
    assert_eq!(sqlx::query_scalar::<_, i64>(newer).fetch_one(&pool).await.unwrap(), 0);
    let insert = "INSERT INTO outboxevent (id, aggregatetype, aggregateid, type) VALUES ('i', 'order', 'a', 't')";
    Sqlite::execute(&pool, insert).await;
    let staged = "SELECT staged_ms FROM outboxevent";
    let staged = sqlx::query_scalar::<_, i64>(staged).fetch_one(&pool).await.unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_millis() as i64;
    assert!((0..60_000).contains(&(now - staged + 1)), "{staged} is not about {now}");
}

/// Any program may write anything into any column of SQLite: it stops nobody, and nothing of it is lost.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_strange_values_are_published_with_the_others_behind_them() {
    let shop = Shop::open().await;
    Sqlite::execute(
        &shop.pool,
        "INSERT INTO outboxevent (id, aggregatetype, aggregateid, type, payload) VALUES (x'00ff10', 'order', 7, 't', 5), \
         ('two', 'order', CAST(x'61ff' AS TEXT), 't', x'ff'), (3.5, 'or der', x'20', 't', 7.25), ('good', 'order', 'c', 't', 'text')",
    )
    .await;
    shop.relay().drain().await.unwrap();
    let mut consumer = shop.client.consumer().topic(TOPIC).start(Start::Beginning).until_end().build().await.unwrap();
    let mut told = Vec::new();
    while let Some(record) = consumer.next().await {
        let record = record.unwrap();
        let id = record
            .headers()
            .find(|header| header.name() == "id")
            .map(|header| header.value.unwrap_or_default().to_vec());
        told.push([record.key.clone(), id.map(Into::into), record.value.clone()].map(Option::unwrap));
    }
    let rows: [[&[u8]; 3]; 3] = [[b"7", b"00ff10", b"5"], [b"61ff", b"two", b"\xff"], [b"c", b"good", b"text"]];
    assert_eq!(told, rows);
    let dead = shop.outbox.dead_events(10).await.unwrap();
    let [dead] = &dead[..] else { panic!("{dead:?}") };
    assert_eq!((dead.id.as_str(), dead.aggregate_id.as_str(), dead.payload_bytes), ("3.5", "20", 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_of_another_name_is_refused_as_it_does_not_know_what_was_published() {
    let shop = Shop::open().await;
    shop.sell("a").await;
    assert_eq!(shop.relay().name("first").drain().await.unwrap(), 1);
    shop.sell("a").await;
    let wrong = refusal(shop.relay().name("second")).await;
    assert!(matches!(wrong, RelayError::WrongName { .. }) && wrong.to_string().contains("\"first\""), "{wrong}");
    let wrong = within_limit("an answer", shop.relay().name("second").reshard(2)).await.unwrap_err();
    assert!(matches!(wrong, RelayError::WrongName { .. }), "{wrong}");
    // As an earlier release left it: the first one that publishes fixes it.
    Sqlite::execute(&shop.pool, "DELETE FROM outboxevent_meta WHERE name = 'relay'").await;
    assert_eq!(shop.relay().name("first").drain().await.unwrap(), 1);
    assert!(matches!(refusal(shop.relay().name("second")).await, RelayError::WrongName { .. }));
    shop.assert_published().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_positions_that_could_lose_them_is_refused() {
    let shop = Shop::open().await;
    shop.client.admin().create_topic(&NewTopic::named("outbox.positions")).await.unwrap();
    let refused = refusal(shop.relay()).await;
    assert!(matches!(refused, RelayError::Positions { .. }) && refused.to_string().contains("compact"), "{refused}");
    assert!(
        refused.to_string().contains("tidelog topics alter outbox.positions --config cleanup.policy=compact"),
        "{refused}"
    );
    let narrow = NewTopic::named("narrow.positions").config("cleanup.policy", "compact");
    shop.client.admin().create_topic(&narrow).await.unwrap();
    let home = Home::sqlite();
    let pool = open_sqlite(&home.url()).await.unwrap();
    let outbox = Outbox::sqlite(pool);
    outbox.migrate().await.unwrap();
    let refused = refusal(outbox.relay(shop.client.clone()).name("narrow").shards(2)).await;
    assert!(refused.to_string().contains("1 partitions"), "{refused}");
}

/// With long ids, the record of ten thousand rows would be larger than any topic takes by default.
#[tokio::test(flavor = "multi_thread")]
async fn rows_of_long_ids_are_published_in_as_many_transactions_as_their_positions_need() {
    let shop = Shop::open().await;
    Sqlite::execute(
        &shop.pool,
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10000) \
         INSERT INTO outboxevent (id, aggregatetype, aggregateid, type) SELECT printf('%0250d', n), 'order', 'a', 't' FROM n",
    )
    .await;
    let relay = shop.relay().batch_rows(10_000).batch_bytes(64 << 20);
    assert_eq!(within_limit("the rows to be published", relay.drain()).await.unwrap(), 10_000);
    let now = relay.figures().now();
    assert!(now.dead == 0 && (3..20).contains(&now.transactions), "{now:?}");
    // As little as a topic can take.
    shop.client.admin().alter_topic("outbox.positions", &[("max.message.bytes", "1024")], &[]).await.unwrap();
    Sqlite::execute(
        &shop.pool,
        "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 10) \
         INSERT INTO outboxevent (id, aggregatetype, aggregateid, type) SELECT printf('%0255d', n), 'order', 'a', 't' FROM n",
    )
    .await;
    assert_eq!(within_limit("the rows to be published", relay.drain()).await.unwrap(), 10);
    assert_eq!((relay.figures().now().dead, shop.outbox.backlog().await.unwrap().rows), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_of_positions_that_is_deleted_under_a_relay_is_made_again_as_it_must_be() {
    let shop = Shop::open().await;
    shop.sell("a").await;
    let relay = shop.relay();
    let figures = relay.figures();
    let running = tokio::spawn(relay.run(std::future::pending()));
    wait_until("the first event", async || (figures.now().published == 1).then_some(())).await;
    let admin = shop.client.admin();
    admin.delete_topic("outbox.positions").await.unwrap();
    shop.sell("a").await;
    wait_until("the second event", async || (figures.now().published == 2).then_some(())).await;
    let described = admin.describe_topics(&["outbox.positions"]).await.unwrap();
    let policy = described[0].configs.iter().find(|config| config.key == "cleanup.policy").unwrap();
    assert_eq!(policy.value, "compact");
    shop.assert_published().await;
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn new_events_of_a_database_that_was_put_back_are_published_though_their_numbers_were_before() {
    let shop = Shop::open().await;
    let copy = tempfile::tempdir().unwrap();
    let kept = copy.path().join("kept.db");
    let keep = format!("VACUUM INTO '{}'", kept.display());
    sqlx::query(sqlx::AssertSqlSafe(keep)).execute(&shop.pool).await.unwrap();
    shop.sell("a").await;
    shop.sell("a").await;
    assert_eq!(shop.relay().drain().await.unwrap(), 2);
    // The copy knows nothing of `a`: its next events get the numbers that those had.
    let pool = open_sqlite(&format!("sqlite:{}", kept.display())).await.unwrap();
    transact(&pool, &["b"], Duration::ZERO, End::Commit).await.unwrap();
    transact(&pool, &["b"], Duration::ZERO, End::Commit).await.unwrap();
    assert_eq!(Outbox::sqlite(pool).relay(shop.client.clone()).drain().await.unwrap(), 2);
    let read = read_all(&shop.client, TOPIC).await;
    assert_eq!(read.iter().filter(|event| event.key == "b").map(|event| event.number).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_can_be_chosen_and_published_rows_can_stay() {
    let shop = Shop::open().await;
    let name = |text| Name::new(text).unwrap();
    let schema =
        Schema::default().table(name("events")).column(Column::Id, name("event_id")).column(Column::Type, name("kind"));
    let outbox = Outbox::sqlite_with(shop.pool.clone(), schema);
    outbox.migrate().await.unwrap();
    let mut transaction = Sqlite::begin(&shop.pool).await.unwrap();
    outbox.stage(&mut transaction, Event::of("parcel", "a", "Sent").payload("a 1")).await.unwrap();
    transaction.commit().await.unwrap();
    let relay =
        || outbox.relay(shop.client.clone()).name("parcels").topic_prefix("").create_topics(1).settling(Settling::Mark);
    assert_eq!(relay().drain().await.unwrap(), 1);
    assert_eq!(relay().drain().await.unwrap(), 0, "a row that stays is not published again");
    let kept =
        "SELECT count(*) FROM events WHERE published_ms >= staged_ms AND kind = 'Sent' AND length(event_id) = 36";
    let kept: i64 = sqlx::query_scalar(kept).fetch_one(&shop.pool).await.unwrap();
    assert_eq!(kept, 1);
    assert_eq!(read_all(&shop.client, "parcel").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_was_stopped_lets_another_have_its_shards_at_once() {
    let shop = Shop::open().await;
    let stop = Arc::new(tokio::sync::Notify::new());
    // With a lease far longer than the test waits: only a shard that was let go of can be had.
    let lease = Duration::from_secs(3_000);
    let first = shop.relay().lease(lease);
    let figures = first.figures();
    let stopped = Arc::clone(&stop);
    let running = tokio::spawn(first.run(async move { stopped.notified().await }));
    wait_until("the first relay to lead", async || (!figures.now().leads.is_empty()).then_some(())).await;
    let claimed = Arc::new(AtomicBool::new(false));
    let seen = Arc::clone(&claimed);
    let second =
        shop.relay().observer(move |_, step| seen.store(step >= Step::Claimed, Ordering::Relaxed)).lease(lease);
    let draining = tokio::spawn(async move { second.drain().await });
    shop.sell("a").await;
    wait_until("the first relay to publish", async || (figures.now().published == 1).then_some(())).await;
    assert!(!claimed.load(Ordering::Relaxed), "two relays have one shard");
    // The second one asks again a third of a lease later at most, or as soon as what is left of the lease.
    stop.notify_one();
    running.await.unwrap().unwrap();
    draining.abort();
    shop.sell("a").await;
    assert_eq!(within_limit("the shard to be free", shop.relay().drain()).await.unwrap(), 1);
    shop.assert_published().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_away_in_the_middle_is_waited_for_and_nothing_is_lost_or_doubled() {
    let name = "a_database_that_goes_away_in_the_middle_is_waited_for_and_nothing_is_lost_or_doubled";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let broker = BrokerProcess::start();
    let client = Client::connect(&broker.server()).await.unwrap();
    let mut process = PostgresProcess::start();
    let pool = Postgres::open(&process.url()).await;
    prepare(&pool).await;
    let outbox = Outbox::postgres(pool.clone());
    let relay = outbox.relay(client.clone()).create_topics(1).batch_rows(3).lease(Duration::from_millis(500));
    let figures = relay.figures();
    let running = tokio::spawn(relay.run(std::future::pending()));
    for round in 0..3_u64 {
        let sold = figures.now().published;
        for n in 0..10 {
            sell_until_sold(&pool, &format!("customer-{n}")).await;
        }
        wait_until("some of it to be published", async || (figures.now().published > sold).then_some(())).await;
        process.crash();
        wait_until("the relay to notice", async || {
            // Where all was published before, it notices as it renews its lease or hears nothing any more.
            (figures.now().trouble.is_some() || figures.now().published == 10 * (round + 1)).then_some(())
        })
        .await;
        process.restart();
    }
    wait_until("all to be published", async || {
        outbox.backlog().await.is_ok_and(|backlog| backlog.rows == 0).then_some(())
    })
    .await;
    assert!(!running.is_finished(), "the relay ended");
    assert_eq!(violations(&committed(&pool).await, &read_all(&client, TOPIC).await), []);
    running.abort();
}

async fn sell_until_sold(pool: &Pool<Postgres>, key: &str) {
    wait_until("a transaction to be committed", async || {
        match transact(pool, &[key], Duration::ZERO, End::Commit).await {
            Ok(()) => Some(()),
            Err(error) if error.is_retriable() => None,
            Err(error) => panic!("{error}"),
        }
    })
    .await;
}

/// The application writes for longer than a relay takes to publish: what was published is settled once it is done, and that is no failure.
#[tokio::test(flavor = "multi_thread")]
async fn a_relay_waits_for_its_turn_to_write() {
    let shop = Shop::open().await;
    let relay = shop.relay();
    let figures = relay.figures();
    let running = tokio::spawn(relay.run(std::future::pending()));
    wait_until("the relay to lead", async || (!figures.now().leads.is_empty()).then_some(())).await;
    shop.sell("a").await;
    wait_until("the topic to be made", async || (figures.now().published == 1).then_some(())).await;
    let mut sold = 1;
    // It has settled at once where it was faster than the application came to write again.
    loop {
        assert!(sold < 100, "the application never came first");
        shop.sell("a").await;
        sold += 1;
        let writing = shop.pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        if figures.now().published == sold {
            continue;
        }
        let published = async || (read_all(&shop.client, TOPIC).await.len() as u64 == sold).then_some(());
        wait_until("it to be published", published).await;
        if figures.now().published < sold {
            writing.rollback().await.unwrap();
            break;
        }
    }
    wait_until("it to be settled", async || (figures.now().published == sold).then_some(())).await;
    assert_eq!(figures.now().trouble, None);
    shop.assert_published().await;
    running.abort();
}
