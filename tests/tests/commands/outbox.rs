//! `tidelog outbox` as scripts see it, over a real database and a real broker.

use std::time::Duration;

use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::Sqlite;
use tidelog_client::Client;
use tidelog_client::outbox::{Event, Outbox, stage};
use tidelog_client::sql::{Dialect, open_sqlite};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::outbox::shop::{End, transact};
use tidelog_tests::patience::wait_for;
use tidelog_tests::postgres_process::PostgresProcess;
use tidelog_tests::requirements::{Need, requires};

fn command(server: &str, database: &str, line: &str) -> CommandLine {
    let command = CommandLine::of("tidelog").env("TIDELOG_SERVER", server).env("TIDELOG_DATABASE", database);
    command.args(line.split_whitespace())
}

fn run(server: &str, database: &str, line: &str) -> Finished {
    command(server, database, line).run()
}

#[track_caller]
fn json(server: &str, database: &str, line: &str) -> Value {
    let out = run(server, database, &format!("--output json outbox {line}")).success();
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_is_published_looked_at_and_mended_from_the_command_line() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("shop.db").display());

    let missing = run(&server, &database, "outbox status").expect_code(3);
    assert!(missing.stderr.contains("tidelog outbox migrate"), "{}", missing.stderr);
    assert!(missing.stderr.contains("shop.db"), "{}", missing.stderr);
    let refused = run(&server, "mysql://x", "outbox status").expect_code(2);
    assert!(refused.stderr.contains("postgres://"), "{}", refused.stderr);
    for line in ["relay", "relay --until-empty", "reshard 2", "dead-letters", "revive"] {
        let missing = run(&server, &database, &format!("outbox {line}")).expect_code(3);
        assert!(
            missing.stderr.contains("there is no database") && missing.stderr.contains("shop.db"),
            "{}",
            missing.stderr
        );
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "a database was made of a path that was mistyped");
    // A database of something else.
    drop(open_sqlite(&database).await.unwrap());
    let missing = run(&server, &database, "outbox status").expect_code(3);
    assert!(missing.stderr.contains("tidelog outbox migrate"), "{}", missing.stderr);
    assert_eq!(json(&server, &database, "migrate"), json!({"migrated": true}));

    let pool = open_sqlite(&database).await.unwrap();
    sqlx::query("CREATE TABLE aggregate (key TEXT PRIMARY KEY, events BIGINT NOT NULL)").execute(&pool).await.unwrap();
    for key in ["a", "b", "a"] {
        transact::<Sqlite>(&pool, &[key], Duration::ZERO, End::Commit).await.unwrap();
    }
    let status = json(&server, &database, "status");
    assert_eq!((&status["waiting"], &status["dead"]), (&json!(3), &json!(0)), "{status}");
    let text = run(&server, &database, "outbox status").expect_code(0).text();
    assert!(text.contains("3 events to be published, the oldest for"), "{text}");
    // Events whose topic does not exist are waited for, with a word on standard error.
    for line in ["outbox relay", "outbox relay --until-empty"] {
        let waiting = command(&server, &database, line).start();
        wait_for("the relay to say what it waits for", || waiting.stderr_so_far().contains("create it").then_some(()));
        drop(waiting);
    }
    let relayed = json(&server, &database, "relay --until-empty --create-topics 2");
    assert_eq!(relayed, json!({"published": 3}));
    let consumed = run(&server, &database, "consume outbox.event.order --until-end").expect_code(0).text();
    let mut lines: Vec<_> = consumed.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["a 1", "a 2", "b 1"]);

    let mut transaction = Sqlite::begin(&pool).await.unwrap();
    stage(&mut transaction, Event::of("no topic", "c", "Odd").payload("xyz")).await.unwrap();
    transaction.commit().await.unwrap();
    assert_eq!(json(&server, &database, "relay --until-empty"), json!({"published": 0}));
    let dead = json(&server, &database, "dead-letters");
    let letter = &dead["dead_letters"][0];
    assert_eq!((&letter["aggregate_id"], &letter["payload_bytes"]), (&json!("c"), &json!(3)), "{dead}");
    assert!(letter["cause"].as_str().unwrap().contains("no topic"), "{dead}");
    let table = run(&server, &database, "outbox dead-letters").expect_code(0).text();
    assert!(table.contains("CAUSE") && table.contains("no topic c"), "{table}");
    let _ = run(&server, &database, "outbox revive 99").expect_code(3);
    assert_eq!(json(&server, &database, "revive"), json!({"revived": 1}));
    assert_eq!(json(&server, &database, "status")["waiting"], json!(1));

    let wrong = run(&server, &database, "outbox relay --shards 2").expect_code(1);
    assert!(wrong.stderr.contains("1 shards") && wrong.stderr.contains("reshard"), "{}", wrong.stderr);
    assert_eq!(json(&server, &database, "reshard 2"), json!({"shards": 2}));
    assert_eq!(json(&server, &database, "relay --shards 2 --until-empty"), json!({"published": 0}));
}

/// A relay at work is no reason to wait in silence.
#[tokio::test(flavor = "multi_thread")]
async fn commands_beside_a_relay_at_work_say_so_and_end_with_a_code_of_their_own() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("shop.db").display());
    assert_eq!(json(&server, &database, "migrate"), json!({"migrated": true}));
    let pool = open_sqlite(&database).await.unwrap();
    sqlx::query("CREATE TABLE aggregate (key TEXT PRIMARY KEY, events BIGINT NOT NULL)").execute(&pool).await.unwrap();
    let outbox = Outbox::sqlite(pool.clone());
    // With a lease that nobody waits for.
    let relay = outbox.relay(Client::connect(&server).await.unwrap()).create_topics(1).lease(Duration::from_secs(300));
    let figures = relay.figures();
    let running = tokio::spawn(relay.run(std::future::pending()));
    wait_for("the relay to lead", || (!figures.now().leads.is_empty()).then_some(()));

    let refused = run(&server, &database, "outbox reshard 2").expect_code(4);
    let lasts = ["in 29", "in 300.0s"].iter().any(|part| refused.stderr.contains(part));
    assert!(refused.stderr.contains("stop all relays first") && lasts, "{}", refused.stderr);
    transact::<Sqlite>(&pool, &["a"], Duration::ZERO, End::Commit).await.unwrap();
    assert_eq!(json(&server, &database, "relay --until-empty"), json!({"published": 0}));
    // It is counted a moment after it is settled.
    wait_for("the relay to count it", || (figures.now().published == 1).then_some(()));
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());

    // The lease goes on, and what waits now nobody publishes.
    transact::<Sqlite>(&pool, &["a"], Duration::ZERO, End::Commit).await.unwrap();
    for (line, code) in [("outbox relay --until-empty", 130), ("outbox relay", 0)] {
        let standing = command(&server, &database, line).start();
        wait_for("it to stand by", || standing.stderr_so_far().contains("another relay has shard 0").then_some(()));
        standing.signal(Signal::TERM);
        let _ = standing.finish().expect_code(code);
    }
}

#[test]
fn why_a_postgres_cannot_be_opened_is_said_in_a_line() {
    if !requires("why_a_postgres_cannot_be_opened_is_said_in_a_line", &[Need::Postgres]) {
        return;
    }
    let mut process = PostgresProcess::start();
    let no_database = process.url().replace("/postgres", "/shop");
    let refused = run("127.0.0.1:1", &no_database, "outbox status").expect_code(1);
    assert!(refused.stderr.contains("database \"shop\" does not exist"), "{}", refused.stderr);
    process.ask_for_passwords();
    let wrong = process.url().replace("shop@", "shop:wrong@");
    let refused = run("127.0.0.1:1", &wrong, "outbox status").expect_code(1);
    assert!(refused.stderr.contains("password authentication failed"), "{}", refused.stderr);
    process.crash();
    let away = run("127.0.0.1:1", &process.url(), "outbox status").expect_code(4);
    assert!(away.stderr.contains("Connection refused"), "{}", away.stderr);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_and_columns_of_other_names_are_told_by_options() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let folder = tempfile::tempdir().unwrap();
    let database = format!("sqlite:{}", folder.path().join("shop.db").display());
    let names = "--table events --column id=event_id --column type=kind --column payload=body";
    assert_eq!(json(&server, &database, &format!("migrate {names}")), json!({"migrated": true}));
    let pool = open_sqlite(&database).await.unwrap();
    let insert = "INSERT INTO events (event_id, aggregatetype, aggregateid, kind, body) VALUES ('i', 'order', 'a', 'Placed', 'a 1')";
    sqlx::query(insert).execute(&pool).await.unwrap();
    assert_eq!(json(&server, &database, &format!("status {names}"))["waiting"], json!(1));
    let _ = run(&server, &database, "outbox status").expect_code(3);
    let relayed = json(&server, &database, &format!("relay {names} --until-empty --create-topics 1"));
    assert_eq!(relayed, json!({"published": 1}));
    let consumed = run(&server, &database, "consume outbox.event.order --until-end").expect_code(0).text();
    assert_eq!(consumed, "a 1\n");
}
