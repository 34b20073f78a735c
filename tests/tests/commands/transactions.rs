//! The commands about transactions as scripts see them: what is written within them, who has what open, and the end of what nobody ends.

use std::io::Write;

use rustix::process::Signal;
use serde_json::{Value, json};
use tidelog_client::{Client, PartitionId, Record};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::{CommandLine, Finished, system};
use tidelog_tests::patience::wait_for;

fn run(program: &str, server: &str, line: &str) -> Finished {
    CommandLine::of(program).env("TIDELOG_SERVER", server).args(line.split_whitespace()).run()
}

#[track_caller]
fn json(server: &str, line: &str) -> Value {
    let out = run("tidelog", server, &format!("--output json {line}")).success();
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

fn consumed(server: &str, line: &str) -> Vec<String> {
    let mut lines: Vec<String> =
        run("tidelog", server, &format!("consume {line}")).expect_code(0).text().lines().map(str::to_owned).collect();
    lines.sort();
    lines
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_open_is_shown_can_be_undone_and_is_left_out() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = run("tidelog", &server, "topics create orders --partitions 2").expect_code(0);
    assert_eq!(json(&server, "transactions list"), json!({"transactions": [], "missing": []}));
    let _ = run("tidelog", &server, "transactions describe nobody").expect_code(3);
    let _ = run("tidelog", &server, "transactions abort nobody").expect_code(3);

    let client = Client::connect(&server).await.unwrap();
    let mut producer = client.transactional_producer("billing-1").build().await.unwrap();
    let transaction = producer.begin().await.unwrap();
    drop(transaction.send(Record::to("orders").value("undone").partition(PartitionId(1))).await.unwrap());
    transaction.flush().await.unwrap();

    let listed = json(&server, "transactions list --open");
    let at = &listed["transactions"][0];
    assert_eq!((&at["transactional_id"], &at["state"]), (&json!("billing-1"), &json!("open")), "{listed}");
    let described = json(&server, "transactions describe billing-1");
    assert_eq!(described["partitions"], json!([{"topic": "orders", "partitions": [1]}]), "{described}");
    assert_eq!(described["ended"], Value::Null);
    let text = run("tidelog", &server, "transactions describe billing-1").expect_code(0).text();
    assert!(text.contains("'billing-1' is open") && text.contains("touches 1 partition: orders:1"), "{text}");
    assert_eq!(consumed(&server, "orders --until-end"), [""; 0]);
    assert_eq!(consumed(&server, "orders --until-end --isolation uncommitted"), ["undone"]);
    // A group's end is the end that its member sees, too.
    assert_eq!(consumed(&server, "orders --until-end --group readers --from beginning"), [""; 0]);
    let uncommitted = "orders --until-end --group others --from beginning --isolation uncommitted";
    assert_eq!(consumed(&server, uncommitted), ["undone"]);

    let _ = run("tidelog", &server, "transactions abort billing-1").expect_code(0);
    let ended = wait_for("the markers", || {
        let described = json(&server, "transactions describe billing-1");
        (described["state"] == "empty").then(|| described["ended"].clone())
    });
    assert_eq!((&ended["committed"], &ended["by"]), (&json!(false), &json!("operator")), "{ended}");
    let text = run("tidelog", &server, "transactions list").expect_code(0).text();
    assert!(text.contains("billing-1") && text.contains("empty"), "{text}");
    let text = run("tidelog", &server, "transactions list --open").expect_code(0).text();
    assert_eq!(text, "no transaction is open\n");
    let error = transaction.commit().await.unwrap_err();
    assert!(error.is_undone() && error.to_string().contains("operator"), "{error}");
    assert_eq!(consumed(&server, "orders --until-end"), [""; 0]);
}

#[test]
fn lines_are_written_within_transactions_and_all_or_none_where_one_cannot_be() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = run("tidelog", &server, "topics create logs --partitions 2").expect_code(0);
    let folder = tempfile::tempdir().unwrap();
    let expected: Vec<String> = (0..1_000).map(|number| format!("line {number:04}")).collect();
    let file = folder.path().join("lines");
    std::fs::write(&file, expected.join("\n")).unwrap();
    let produced = json(
        &server,
        &format!("produce logs {} --transactional-id import-1 --records-per-transaction 300", file.display()),
    );
    assert_eq!((&produced["records"], &produced["failed"]), (&json!(1_000), &json!(0)), "{produced}");
    wait_for("the markers", || (json(&server, "transactions describe import-1")["state"] == "empty").then_some(()));
    assert_eq!(consumed(&server, "logs --until-end"), expected);
    // A group comes to the end, too, although a marker stands there.
    assert_eq!(consumed(&server, "logs --until-end --group readers --from beginning"), expected);

    // The third line has no key: nothing of the transaction is written.
    let bad = folder.path().join("bad");
    std::fs::write(&bad, "k1:v1\nk2:v2\nno key\n").unwrap();
    let line = format!("produce logs {} --key-separator : --transactional-id import-1", bad.display());
    let refused = run("tidelog", &server, &line).expect_code(1);
    assert!(refused.stderr.contains("line 3") && refused.stderr.contains("0 records committed"), "{refused:?}");
    assert_eq!(consumed(&server, "logs --until-end").len(), 1_000);
    let _ = run("tidelog", &server, "produce nowhere --transactional-id import-1").expect_code(3);

    let _ = run(
        "perf-producer",
        &server,
        "--topic perf --records 5000 --record-size 100 --transactional-id perf --transaction-records 1000 --json",
    )
    .expect_code(0);
    let read = run("perf-consumer", &server, "--topic perf --records 5000 --idle-timeout 30s --json").success();
    let read: Value = serde_json::from_slice(&read).unwrap();
    assert_eq!(read["records"], json!(5_000), "{read}");
}

#[test]
fn a_transaction_that_takes_too_long_says_so_and_one_that_is_called_off_is_undone() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = run("tidelog", &server, "topics create logs --partitions 1").expect_code(0);
    let folder = tempfile::tempdir().unwrap();
    // Lines that come for as long as the other end is open.
    let pipe = folder.path().join("pipe");
    let pipe_name = pipe.display().to_string();
    drop(system("mkfifo", &[&pipe_name]));
    let open = |flags: &str| {
        let line = format!("produce logs {pipe_name} --transactional-id slow-1 {flags}");
        let command = CommandLine::of("tidelog").env("TIDELOG_SERVER", &server).args(line.split_whitespace()).start();
        // For reading, too: so that this does not wait for a command that has ended at once.
        let mut lines = std::fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
        lines.write_all(b"one\n").unwrap();
        (command, lines)
    };
    let state = || {
        let described = run("tidelog", &server, "--output json transactions describe slow-1");
        serde_json::from_slice::<Value>(&described.stdout).ok()
    };
    let (late, mut lines) = open("--transaction-timeout 1s");
    wait_for("the timeout to undo it", || state().filter(|it| it["ended"]["by"] == "timeout"));
    lines.write_all(b"two\n").unwrap();
    drop(lines);
    let refused = late.finish().expect_code(1);
    for part in
        ["open for longer than 1.0 s", "--records-per-transaction", "--transaction-timeout", "0 records committed"]
    {
        assert!(refused.stderr.contains(part), "{part:?} is missing: {refused:?}");
    }

    let (called_off, _lines) = open("");
    wait_for("an open transaction", || state().filter(|it| it["state"] == "open"));
    called_off.signal(Signal::TERM);
    let _ = called_off.finish().expect_code(130);
    let ended = wait_for("its end", || state().filter(|it| it["state"] == "empty"));
    assert_eq!((&ended["ended"]["by"], &ended["ended"]["committed"]), (&json!("producer"), &json!(false)), "{ended}");
    assert_eq!(consumed(&server, "logs --until-end"), [""; 0]);
    let unknown = run("tidelog", &server, "transactions describe nobody").expect_code(3);
    assert!(unknown.stderr.contains("tidelog transactions list"), "{unknown:?}");
}

#[test]
fn a_load_within_transactions_needs_no_id() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let line = "--topic perf --create-topic --records 1000 --record-size 100 --transaction-records 100 --json";
    let sent = run("perf-producer", &server, line).success();
    let sent: Value = serde_json::from_slice(&sent).unwrap();
    assert_eq!(sent["records"], json!(1_000), "{sent}");
    assert_eq!(json(&server, "transactions list")["transactions"].as_array().unwrap().len(), 1);
}
