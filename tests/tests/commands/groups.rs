//! The commands about groups as scripts see them: how long they last, what they say of a group that is behind, ahead, unread, or that nobody
//! answers for, and what they refuse.

use std::time::{Duration, Instant};

use rustix::process::Signal;
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
    let line = "consume logs --group printers --from beginning --max 6";
    let printing = CommandLine::of("tidelog")
        .args(["--server", &server, "--timeout", &format!("{}ms", timeout.as_millis())])
        .args(line.split_whitespace())
        .start();
    wait_for("the first line to be committed", || (committed(&server, "printers") == Some(1)).then_some(()));
    // Nothing else tells that it lives for longer than that.
    wait_for("the timeout to be over", || (began.elapsed() > timeout * 2).then_some(()));
    // Each line is committed after some silence, and the broker takes half a second for that.
    for line in ["two", "three", "four", "five", "six"] {
        produce(&server, "logs", 0, &[line]);
        broker.pause();
        let paused = Instant::now();
        wait_for("the commit to be under way", || (paused.elapsed() > Duration::from_millis(500)).then_some(()));
        broker.resume();
    }
    let printed = printing.finish().expect_code(0);
    assert_eq!(printed.text(), "one\ntwo\nthree\nfour\nfive\nsix\n");
    assert_eq!(committed(&server, "printers"), Some(6));
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
    let unknown = tidelog(&server, &wait("1s", "nobody", 0, 0)).expect_code(4);
    assert!(unknown.stderr.contains("there is no such group") && !unknown.stderr.contains("longer"), "{unknown:?}");
    assert!(tidelog(&server, &wait("1m", "readers", 0, 0)).expect_code(0).text().contains("it goes on at 1"));

    let line = wait("10m", "readers", 0, 2);
    let waiting = CommandLine::of("tidelog").args(["--server", &server]).args(line.split_whitespace()).start();
    let _ = tidelog(&server, "topics delete logs").expect_code(0);
    let gone = waiting.finish().expect_code(3);
    assert!(gone.stderr.contains("there is no topic 'logs'"), "{gone:?}");
}

#[test]
fn the_lag_hides_neither_what_was_never_read_nor_what_is_ahead_and_nobody_is_set_beyond_the_end() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create logs --partitions 2").expect_code(0);
    produce(&server, "logs", 0, &["a", "b", "c"]);
    produce(&server, "logs", 1, &["d", "e"]);
    let refused = tidelog(&server, "groups reset-offsets readers --topic logs --to offset:3").expect_code(3);
    let told = "partition 1 of topic 'logs' has no offset 3: the log holds 0 up to, not including, 2";
    assert!(refused.stderr.contains(told), "{refused:?}");
    let _ = tidelog(&server, "groups reset-offsets readers --topic logs --partition 0 --to offset:2").expect_code(0);
    let lag = json(&server, "groups lag readers");
    let lags: Vec<&Value> = lag["partitions"].as_array().unwrap().iter().map(|at| &at["lag"]).collect();
    assert_eq!((&lag["lag"], lags), (&json!(3), vec![&json!(1), &json!(2)]), "{lag}");
    let text = tidelog(&server, "groups lag readers").expect_code(0).text();
    let sum = "group 'readers' is 3 records behind, 2 of them in 1 partition where it has committed nothing\n";
    assert!(text.ends_with(sum), "{text}");
    let unknown = tidelog(&server, "groups lag nobody").expect_code(3);
    assert!(unknown.stderr.contains("tidelog groups list"), "{unknown:?}");

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        use tidelog_client::messages::CommittedOffset;
        use tidelog_client::{Client, ErrorCode, Offset, PartitionId};
        let admin = Client::connect(&server).await.unwrap().admin();
        let topics = admin.metadata().await.unwrap().topics;
        let topic_id = topics.iter().find(|topic| topic.name.as_str() == "logs").unwrap().topic_id;
        let at = |partition, offset| CommittedOffset {
            topic_id,
            partition: PartitionId(partition),
            offset: Offset(offset),
            leader_epoch: None,
            metadata: String::new(),
        };
        let refused = admin.set_group_offsets("readers", vec![at(0, 3), at(1, 9)]).await.unwrap_err();
        assert_eq!(refused.code(), Some(ErrorCode::OffsetOutOfRange), "{refused}");
        assert_eq!(admin.group_offsets("readers").await.unwrap().len(), 1, "nothing of it was set");
        admin.set_group_offsets("readers", vec![at(1, 2)]).await.unwrap();
    });
    assert_eq!(json(&server, "groups lag readers")["lag"], json!(1));
}

#[test]
fn a_group_whose_place_is_gone_is_told_how_to_go_on() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create logs --partitions 1").expect_code(0);
    produce(&server, "logs", 0, &["one", "two", "three"]);
    let _ = tidelog(&server, "groups reset-offsets readers --topic logs --to beginning").expect_code(0);
    let _ = tidelog(&server, "records delete logs --partition 0 --before 2").expect_code(0);
    let refused = tidelog(&server, "consume logs --group readers --until-end").expect_code(3);
    let hint = "tidelog groups reset-offsets readers --topic logs --partition 0 --to beginning";
    assert!(refused.stderr.contains(hint) && !refused.stderr.contains("--from"), "{refused:?}");
    let _ = tidelog(&server, hint.trim_start_matches("tidelog ")).expect_code(0);
    let read = tidelog(&server, "consume logs --group readers --until-end").expect_code(0);
    assert_eq!(read.text(), "three\n");
}

#[test]
fn a_member_that_is_told_to_stop_leaves_its_group_and_loses_no_line() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create logs --partitions 1").expect_code(0);
    produce(&server, "logs", 0, &["one", "two"]);
    for (group, flags, code) in [("followers", "", 0), ("counters", "--max 9", 130)] {
        let line = format!("consume logs --group {group} --from beginning {flags}");
        let member = CommandLine::of("tidelog").args(["--server", &server]).args(line.split_whitespace()).start();
        wait_for("its records to be committed", || (committed(&server, group) == Some(2)).then_some(()));
        let reset = format!("groups reset-offsets {group} --topic logs --to beginning");
        let refused = tidelog(&server, &reset).expect_code(1);
        assert_eq!(tidelog(&server, &format!("{reset} --dry-run")), refused, "a dry run ends as the other would");
        member.signal(Signal::TERM);
        let printed = member.finish().expect_code(code);
        assert_eq!(printed.text(), "one\ntwo\n");
        assert_eq!(json(&server, &format!("groups describe {group}"))["members"], json!([]), "{group}");
        let _ = tidelog(&server, &format!("{reset} --dry-run")).expect_code(0);
    }

    let line = "--topic logs --group meters --records 9 --json";
    let meter = CommandLine::of("perf-consumer").args(["--server", &server]).args(line.split_whitespace()).start();
    let described = || {
        let described = tidelog(&server, "--output json groups describe meters");
        serde_json::from_slice::<Value>(&described.stdout).ok()
    };
    wait_for("it to be a member", || described().filter(|group| group["members"][0]["owned"][0].is_object()));
    meter.signal(Signal::TERM);
    let _ = meter.finish().expect_code(130);
    assert_eq!(described().unwrap()["members"], json!([]));
}

#[test]
fn a_wait_for_a_group_ends_at_once_where_it_is_told_to_stop() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create logs --partitions 1").expect_code(0);
    let line = "--timeout 50s groups wait nobody --topic logs --partition 0 --offset 5";
    let waiting = CommandLine::of("tidelog").args(["--server", &server]).args(line.split_whitespace()).start();
    // It says nothing while it waits.
    std::thread::sleep(Duration::from_secs(1));
    waiting.signal(Signal::TERM);
    let began = std::time::Instant::now();
    let _ = waiting.finish().expect_code(130);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn what_follows_a_topic_ends_with_whole_lines_where_it_is_told_to_stop() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let _ = tidelog(&server, "topics create logs --partitions 1").expect_code(0);
    produce(&server, "logs", 0, &["one"]);
    let line = "consume logs --from beginning";
    let follower = CommandLine::of("tidelog").args(["--server", &server]).args(line.split_whitespace()).start();
    wait_for("the first line", || (follower.stdout_so_far() == "one\n").then_some(()));
    follower.signal(Signal::TERM);
    let _ = follower.finish().expect_code(0);
}
