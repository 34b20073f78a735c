//! What is particular to an outbox in PostgreSQL: transactions that overlap, numbers that appear behind later ones, words of the database.

use std::collections::BTreeSet;
use std::time::Duration;

use sqlx::{PgPool, Postgres, Transaction};
use tidelog_client::outbox::{Event, Outbox, PostgresStore, Relay, RelayError, Schema, stage};
use tidelog_client::sql::{DatabaseError, open_postgres};
use tidelog_client::{Client, NewTopic, Start};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::outbox::claims::Read;
use tidelog_tests::outbox::reading::read_all;
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::postgres_process::PostgresProcess;
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::transacting::until_settled;

const TOPIC: &str = "outbox.event.order";

struct Shop {
    _broker: BrokerProcess,
    process: PostgresProcess,
    pool: PgPool,
    outbox: Outbox<PostgresStore>,
    client: Client,
}

impl Shop {
    async fn open() -> Self {
        let broker = BrokerProcess::start();
        let process = PostgresProcess::start();
        let pool = open_postgres(&process.url()).await.unwrap();
        let outbox = Outbox::postgres(pool.clone());
        outbox.migrate().await.unwrap();
        let client = Client::connect(&broker.server()).await.unwrap();
        client.admin().create_topic(&NewTopic::named(TOPIC)).await.unwrap();
        Self { _broker: broker, process, pool, outbox, client }
    }

    fn relay(&self) -> Relay<PostgresStore> {
        self.outbox.relay(self.client.clone())
    }

    async fn read(&self) -> Vec<Read> {
        read_all(&self.client, TOPIC).await
    }

    /// What stands in a topic.
    async fn values(&self, topic: &str) -> Vec<Option<String>> {
        until_settled(&self.client, topic).await;
        let consumer = self.client.consumer().topic(topic).start(Start::Beginning).until_end();
        let mut consumer = consumer.build().await.unwrap();
        let mut values = Vec::new();
        while let Some(record) = consumer.next().await {
            let value = record.unwrap().value.as_ref().map(|value| String::from_utf8(value.to_vec()).unwrap());
            values.push(value);
        }
        values
    }

    fn outbox_of(&self, table: &str) -> Outbox<PostgresStore> {
        Outbox::postgres_with(self.pool.clone(), Schema::default().table(table.parse().unwrap()))
    }

    async fn execute(&self, statement: &str) {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&self.pool).await.unwrap();
    }
}

fn event(key: &str, number: i64) -> Event {
    Event::of("order", key, "OrderPlaced").payload(format!("{key} {number}"))
}

fn of(key: &str, number: i64) -> Read {
    Read { key: key.into(), number }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_is_committed_late_is_not_skipped_and_holds_up_no_other() {
    let name = "an_event_that_is_committed_late_is_not_skipped_and_holds_up_no_other";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let shop = Shop::open().await;
    let mut long = shop.pool.begin().await.unwrap();
    stage(&mut long, event("late", 1)).await.unwrap();
    for number in 1..=3 {
        let mut short = shop.pool.begin().await.unwrap();
        stage(&mut short, event("soon", number)).await.unwrap();
        short.commit().await.unwrap();
    }
    // Their numbers are higher than the one that is not there yet.
    assert_eq!(shop.relay().drain().await.unwrap(), 3);
    assert_eq!(shop.read().await, [of("soon", 1), of("soon", 2), of("soon", 3)]);
    long.commit().await.unwrap();
    assert_eq!(shop.relay().drain().await.unwrap(), 1);
    assert_eq!(shop.read().await.last(), Some(&of("late", 1)));
}

/// How a row comes into the table.
#[derive(Clone, Copy)]
enum Writer {
    Stage,
    /// As a program in another language does: the columns of Debezium's, and nothing else.
    Insert,
}

impl Writer {
    async fn write(self, transaction: &mut Transaction<'_, Postgres>, key: &str, number: i64) {
        match self {
            Self::Stage => stage(transaction, event(key, number)).await.unwrap(),
            Self::Insert => {
                let insert = "INSERT INTO outboxevent (id, aggregatetype, aggregateid, type, payload) \
                              VALUES (gen_random_uuid(), 'order', $1, 'OrderPlaced', convert_to($2, 'UTF8'))";
                let insert = sqlx::query(insert).bind(key).bind(format!("{key} {number}"));
                insert.execute(&mut **transaction).await.unwrap();
            }
        }
    }
}

/// The order of the ids of transactions would be the wrong one here, and so would that of the numbers without the lock.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_aggregate_are_published_in_the_order_of_the_commits_whoever_began_first() {
    let name = "events_of_an_aggregate_are_published_in_the_order_of_the_commits_whoever_began_first";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let shop = Shop::open().await;
    let writers = [Writer::Stage, Writer::Insert];
    let pairs = writers.into_iter().flat_map(|first| writers.map(|second| (first, second)));
    for (round, (first, second)) in (1..).zip(pairs) {
        let key = format!("a{round}");
        // It has the lower id, as it has written something, and comes to the aggregate second.
        let mut early = shop.pool.begin().await.unwrap();
        second.write(&mut early, "elsewhere", round).await;
        let mut late = shop.pool.begin().await.unwrap();
        first.write(&mut late, &key, 1).await;
        let of_key = key.clone();
        let waiting = tokio::spawn(async move {
            second.write(&mut early, &of_key, 2).await;
            early.commit().await.unwrap();
        });
        // It waits for the one that was there first; of whose commit it cannot have the lower number then.
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        wait_until("the second to wait for the first", async || {
            let waiting: i64 = sqlx::query_scalar(waits).fetch_one(&shop.pool).await.unwrap();
            (waiting == 1).then_some(())
        })
        .await;
        first.write(&mut late, &key, 3).await;
        late.commit().await.unwrap();
        waiting.await.unwrap();
        assert_eq!(shop.relay().drain().await.unwrap(), 4);
        let of_key: Vec<_> = shop.read().await.into_iter().filter(|event| event.key == key).collect();
        assert_eq!(of_key, [of(&key, 1), of(&key, 3), of(&key, 2)]);
    }
}

/// Whoever writes them: else two relays would have one aggregate's events at once.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_aggregate_belong_to_one_shard_and_aggregates_to_many() {
    let name = "events_of_an_aggregate_belong_to_one_shard_and_aggregates_to_many";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let shop = Shop::open().await;
    for number in 0..200 {
        let mut transaction = shop.pool.begin().await.unwrap();
        let key = format!("customer-{number}");
        Writer::Stage.write(&mut transaction, &key, 1).await;
        Writer::Insert.write(&mut transaction, &key, 2).await;
        transaction.commit().await.unwrap();
    }
    let slots = "SELECT aggregateid, min(slot), max(slot) FROM outboxevent GROUP BY aggregateid";
    let slots: Vec<(String, i16, i16)> = sqlx::query_as(slots).fetch_all(&shop.pool).await.unwrap();
    assert!(slots.iter().all(|(_, least, most)| least == most), "an aggregate has two slots: {slots:?}");
    let distinct: BTreeSet<_> = slots.iter().map(|(_, slot, _)| *slot).collect();
    assert!(distinct.len() > 80 && distinct.iter().all(|slot| (0..256).contains(slot)), "{distinct:?}");
    assert_eq!(shop.relay().shards(4).drain().await.unwrap(), 400);
    let read = shop.read().await;
    for number in 0..200 {
        let key = format!("customer-{number}");
        let of_key: Vec<_> = read.iter().filter(|event| event.key == key).map(|event| event.number).collect();
        assert_eq!(of_key, [1, 2], "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_that_are_there_are_made_again_without_waiting_for_who_uses_them() {
    let name = "tables_that_are_there_are_made_again_without_waiting_for_who_uses_them";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let shop = Shop::open().await;
    let mut using = shop.pool.begin().await.unwrap();
    stage(&mut using, event("a", 1)).await.unwrap();
    within_limit("the migration", shop.outbox.migrate()).await.unwrap();
    using.commit().await.unwrap();
    assert_eq!(shop.relay().drain().await.unwrap(), 1);
}

/// Nothing tells the planner how large the table has grown: it would read all that waits for every few rows.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_large_backlog_only_what_is_sent_next_is_read() {
    let name = "of_a_large_backlog_only_what_is_sent_next_is_read";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let shop = Shop::open().await;
    for statement in [
        "ALTER TABLE outboxevent SET (autovacuum_enabled = false)",
        "INSERT INTO outboxevent (id, aggregatetype, aggregateid, type, payload) SELECT gen_random_uuid(), 'order', \
         'customer-' || n % 100, 'OrderPlaced', convert_to('customer-' || n % 100 || ' ' || n, 'UTF8') FROM generate_series(1, 20000) n",
    ] {
        sqlx::query(statement).execute(&shop.pool).await.unwrap();
    }
    let pool = open_postgres(&shop.process.url()).await.unwrap();
    let relay = Outbox::postgres(pool.clone()).relay(shop.client.clone()).batch_rows(500);
    assert_eq!(relay.drain().await.unwrap(), 20_000);
    // As its connections end, they say what they have read: each row for the look and for its removal, and some twice.
    pool.close().await;
    let read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'outboxevent'";
    let read = wait_until("the figures of the relay's connections", async || {
        let read: i64 = sqlx::query_scalar(read).fetch_one(&shop.pool).await.unwrap();
        (read >= 40_000).then_some(read)
    })
    .await;
    println!("{read} rows were read to publish 20,000");
    assert!(read < 100_000, "{read} rows were read to publish 20,000");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_database_wakes_the_relay() {
    let name = "the_database_wakes_the_relay";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let shop = Shop::open().await;
    let relay = shop.relay();
    let figures = relay.figures();
    let running = tokio::spawn(relay.run(std::future::pending()));
    wait_until("the relay to listen and to lead", async || {
        let listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN %'";
        let listening: i64 = sqlx::query_scalar(listening).fetch_one(&shop.pool).await.unwrap();
        (listening == 1 && !figures.now().leads.is_empty()).then_some(())
    })
    .await;
    for number in 1..=20 {
        // Idle for a while, so that its next look by itself is far away: hardly ever does it come upon the event before the word.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let mut transaction = shop.pool.begin().await.unwrap();
        stage(&mut transaction, event("a", number)).await.unwrap();
        transaction.commit().await.unwrap();
        wait_until("it to be published", async || (figures.now().published == number.unsigned_abs()).then_some(()))
            .await;
    }
    let woken = figures.now().woken;
    assert!(woken >= 10, "of 20 events the database said so only {woken} times");
    running.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_as_debezium_has_it_gets_what_it_lacks() {
    let name = "a_table_as_debezium_has_it_gets_what_it_lacks";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let shop = Shop::open().await;
    for statement in [
        "CREATE SCHEMA old",
        "CREATE TABLE old.outboxevent (id uuid NOT NULL PRIMARY KEY, aggregatetype varchar(255) NOT NULL, \
         aggregateid varchar(255) NOT NULL, type varchar(255) NOT NULL, payload bytea)",
        "INSERT INTO old.outboxevent VALUES (gen_random_uuid(), 'order', 'a', 'OrderPlaced', 'a 1')",
    ] {
        sqlx::query(statement).execute(&shop.pool).await.unwrap();
    }
    let schema = Schema::default().table("old.outboxevent".parse().unwrap());
    let old = Outbox::postgres_with(shop.pool.clone(), schema);
    old.migrate().await.unwrap();
    sqlx::query("INSERT INTO old.outboxevent VALUES (gen_random_uuid(), 'order', 'a', 'OrderPlaced', 'a 2')")
        .execute(&shop.pool)
        .await
        .unwrap();
    assert_eq!(old.relay(shop.client.clone()).drain().await.unwrap(), 2);
    assert_eq!(shop.read().await, [of("a", 1), of("a", 2)]);
}

/// As Debezium's users have it, `jsonb` first of all.
#[tokio::test(flavor = "multi_thread")]
async fn payloads_and_ids_of_all_types_that_are_allowed_are_staged_inserted_published_and_set_aside() {
    let name = "payloads_and_ids_of_all_types_that_are_allowed_are_staged_inserted_published_and_set_aside";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let shop = Shop::open().await;
    let types = ["bytea", "text", "varchar", "json", "jsonb"];
    for (n, payload) in types.into_iter().enumerate() {
        let id = ["uuid", "text"][n % 2];
        let (table, topic) = (format!("events_{payload}"), format!("topic-{payload}"));
        shop.execute(&format!(
            "CREATE TABLE {table} (id {id} NOT NULL PRIMARY KEY, aggregatetype varchar(255) NOT NULL, aggregateid text NOT NULL, \
             type varchar(255) NOT NULL, payload {payload})"
        ))
        .await;
        let literal = if payload == "bytea" { "convert_to('{\"n\": 1}', 'UTF8')" } else { "'{\"n\": 1}'" };
        let insert = |kind: &str, payload: &str| {
            let id = if id == "uuid" { "gen_random_uuid()" } else { "gen_random_uuid()::text" };
            format!(
                "INSERT INTO {table} (id, aggregatetype, aggregateid, type, payload) VALUES ({id}, '{kind}', 'a', 't', {payload})"
            )
        };
        shop.execute(&insert(&topic, literal)).await;
        let outbox = shop.outbox_of(&table);
        outbox.migrate().await.unwrap();
        outbox.migrate().await.unwrap();
        let mut transaction = shop.pool.begin().await.unwrap();
        for event in [Event::of(&topic, "a", "t").payload("{\"n\": 2}"), Event::of(&topic, "a", "t")] {
            outbox.stage(&mut transaction, event).await.unwrap();
        }
        transaction.commit().await.unwrap();
        shop.execute(&insert("no topic", literal)).await;
        let relay = outbox.relay(shop.client.clone()).name(payload).topic_prefix("").create_topics(1);
        assert_eq!(relay.drain().await.unwrap(), 3, "{payload}");
        let values = shop.values(&topic).await;
        assert_eq!(values, [Some("{\"n\": 1}".into()), Some("{\"n\": 2}".into()), None], "{payload}");
        let dead = outbox.dead_events(10).await.unwrap();
        assert_eq!((dead.len(), dead[0].payload_bytes), (1, 8), "{payload}");
        assert_eq!(outbox.revive(None).await.unwrap(), 1, "{payload}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_of_a_type_that_holds_no_event_is_refused_by_all_who_meet_it() {
    let name = "a_column_of_a_type_that_holds_no_event_is_refused_by_all_who_meet_it";
    if !requires(name, &[Need::Postgres]) {
        return;
    }
    let shop = Shop::open().await;
    for (column, found) in [("id", "bigint"), ("payload", "xml"), ("aggregateid", "uuid")] {
        let table = format!("events_{column}");
        let of = |name: &str, usual: &'static str| if name == column { found } else { usual };
        shop.execute(&format!(
            "CREATE TABLE {table} (id {}, aggregatetype text, aggregateid {}, type text, payload {})",
            of("id", "uuid"),
            of("aggregateid", "text"),
            of("payload", "bytea"),
        ))
        .await;
        let refused = shop.outbox_of(&table).migrate().await.unwrap_err();
        assert!(matches!(refused, DatabaseError::ColumnType { .. }), "{refused}");
        for part in [column, &table, found, "ALTER COLUMN"] {
            assert!(refused.to_string().contains(part), "{part}: {refused}");
        }
        let left = format!("SELECT to_regclass('{table}_meta') IS NOT NULL");
        assert!(!sqlx::query_scalar::<_, bool>(sqlx::AssertSqlSafe(left)).fetch_one(&shop.pool).await.unwrap());
    }
    shop.execute("ALTER TABLE outboxevent ALTER COLUMN payload TYPE integer USING NULL").await;
    let refused = within_limit("the relay to end", shop.relay().run(std::future::pending())).await.unwrap_err();
    assert!(matches!(refused, RelayError::Database(DatabaseError::ColumnType { .. })), "{refused}");
    let mut transaction = shop.pool.begin().await.unwrap();
    let refused = stage(&mut transaction, event("a", 1)).await.unwrap_err();
    assert!(refused.to_string().contains("Payload is of type INT4, and must be bytea"), "{refused}");
}
