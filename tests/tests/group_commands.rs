//! The commands about groups as scripts see them: how long they last, what they say of a group that is behind, ahead, unread, or that nobody
//! answers for, and what they refuse.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::patience::wait_for;

fn tidelog(server: &str, line: &str) -> Finished {
    CommandLine::of("tidelog").args(["--server", server]).args(line.split_whitespace()).run()
}

#[track_caller]
fn json(server: &str, line: &str) -> Value {
    let out = tidelog(server, &format!("--output json {line}")).success();
    serde_json::from_slice(&out).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out)))
}

fn produce(server: &str, topic: &str, partition: u32, lines: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    std::fs::write(&file, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
    let _ = tidelog(server, &format!("produce {topic} {} --partition {partition}", file.display())).expect_code(0);
}

/// Where a group goes on in the first partition that `groups lag` shows.
fn committed(server: &str, group: &str) -> Option<u64> {
    let shown = tidelog(server, &format!("--output json groups lag {group}"));
    serde_json::from_slice::<Value>(&shown.stdout).ok()?["partitions"][0]["committed"].as_u64()
}

#[test]
fn a_member_that_prints_outlives_its_timeout() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let timeout = Duration::from_secs(5);
    let _ = tidelog(&server, "topics create logs --partitions 1").expect_code(0);
    produce(&server, "logs", 0, &["one"]);
    let began = Instant::now();
    let line = "consume logs --group printers --from beginning --max 2";
    let printing = CommandLine::of("tidelog")
        .args(["--server", &server, "--timeout", &format!("{}ms", timeout.as_millis())])
        .args(line.split_whitespace())
        .start();
    wait_for("the first line to be committed", || (committed(&server, "printers") == Some(1)).then_some(()));
    // Nothing else tells that it lives for longer than that.
    wait_for("the timeout to be over", || (began.elapsed() > timeout * 2).then_some(()));
    produce(&server, "logs", 0, &["two"]);
    let printed = printing.finish().expect_code(0);
    assert_eq!(printed.text(), "one\ntwo\n");
    assert_eq!(committed(&server, "printers"), Some(2));
}

#[test]
fn a_wait_that_is_over_says_where_the_group_is_and_one_for_a_topic_that_is_deleted_ends() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create logs --partitions 2").expect_code(0);
    produce(&server, "logs", 0, &["one", "two", "three"]);
    let _ = tidelog(&server, "groups reset-offsets readers --topic logs --partition 0 --to offset:1").expect_code(0);
    let wait = |timeout: &str, group: &str, partition: u32, offset: u64| {
        let place = format!("--topic logs --partition {partition} --offset {offset}");
        format!("--timeout {timeout} groups wait {group} {place}")
    };
    let late = tidelog(&server, &wait("1s", "readers", 0, 2)).expect_code(4);
    let told = "group 'readers' is not done with offset 2 of partition 0 of 'logs' after 1.0 s: it goes on at 1";
    assert!(late.stderr.contains(told), "{late:?}");
    let late = tidelog(&server, &wait("1s", "readers", 1, 0)).expect_code(4);
    assert!(late.stderr.contains("it has committed nothing there"), "{late:?}");
    assert!(tidelog(&server, &wait("1m", "readers", 0, 0)).expect_code(0).text().contains("it goes on at 1"));

    let line = wait("10m", "readers", 0, 2);
    let waiting = CommandLine::of("tidelog").args(["--server", &server]).args(line.split_whitespace()).start();
    let _ = tidelog(&server, "topics delete logs").expect_code(0);
    let gone = waiting.finish().expect_code(3);
    assert!(gone.stderr.contains("there is no topic 'logs'"), "{gone:?}");
}
