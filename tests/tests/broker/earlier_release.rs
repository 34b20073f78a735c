//! A data folder that a release without a metadata quorum left: everything in it is there after an upgrade, and after a restart. Besides: `log
//! dump` knows every file of it.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::fs;
use std::path::Path;

use tidelog_client::{Client, NewTopic};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::command::CommandLine;
use tidelog_tests::contents::read_all;

/// Topics `orders` (3 partitions, three records in one of them, retention of an hour), `payments` and `gone`, as 0.1.0 left them.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/one-broker");

const SPECIFICATION: &str = include_str!("../../../protocol/SPEC.md");

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (entry, to) = (entry.as_ref().unwrap(), to.join(entry.as_ref().unwrap().file_name()));
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), &to).unwrap()),
        }
    }
}

async fn check(broker: &BrokerProcess, expected: &[(&str, usize)]) {
    let client = Client::connect(&broker.server()).await.unwrap();
    let topics = client.admin().describe_all_topics().await.unwrap();
    let found: Vec<_> = topics.iter().map(|topic| (topic.name.as_str(), topic.partitions.len())).collect();
    assert_eq!(found, expected);
    let contents = read_all(&broker.server(), "orders").await;
    let values: Vec<_> =
        contents.iter().flat_map(|part| part.records.iter().map(|(_, value)| value.as_str())).collect();
    assert_eq!(values, ["a", "b", "c"]);
    let orders = client.admin().describe_topics(&["orders"]).await.unwrap();
    assert!(orders[0].configs.iter().any(|config| config.key == "retention.ms" && config.value == "3600000"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_folder_of_a_release_without_a_quorum_opens_and_goes_on() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    copy(Path::new(FIXTURE), &data);
    let mut broker = BrokerSettings::new().data(&data).start();
    let before = [("gone", 1), ("orders", 3), ("payments", 1)];
    check(&broker, &before).await;
    assert!(data.join("__cluster_metadata-0/snapshot").exists(), "the old log became a snapshot");
    let client = Client::connect(&broker.server()).await.unwrap();
    client.admin().create_topic(&NewTopic::named("new").partitions(2)).await.unwrap();
    client.admin().delete_topic("gone").await.unwrap();
    broker.kill();
    broker.restart();
    check(&broker, &[("new", 2), ("orders", 3), ("payments", 1)]).await;
}

/// Every file below `folder`.
fn files(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn every_file_of_a_data_folder_can_be_dumped() {
    let temp = tempfile::tempdir().unwrap();
    let data = temp.path().join("data");
    copy(Path::new(FIXTURE), &data);
    let mut broker = BrokerSettings::new().data(&data).start();
    let tidelog = |line: &str| CommandLine::of("tidelog").args(line.split_whitespace()).run();
    let server = broker.server();
    let _ = tidelog(&format!("--server {server} topics create quick --durability written")).success();
    let lines = temp.path().join("lines");
    // Enough batches for indexes to have entries.
    fs::write(&lines, "a line of a log\n".repeat(4_000)).unwrap();
    let produce = format!("--server {server} produce quick {} --acks leader --batch-size 8KiB", lines.display());
    for _ in 0..2 {
        let _ = tidelog(&produce).success();
    }
    assert!(broker.terminate().success());
    let (_, persisted) = SPECIFICATION.split_once("## Persisted forms").unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for path in files(&data) {
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let extension = name.split_once('.').map(|(_, extension)| format!("`….{extension}`"));
        let written = extension.unwrap_or_else(|| format!("`{name}`"));
        assert!(persisted.contains(&written), "the specification does not know {written}");
        // These hold nothing: a lock and room.
        if ["lock", "reserve"].contains(&name.as_str()) {
            continue;
        }
        for format in ["table", "json"] {
            let dumped = tidelog(&format!("--output {format} log dump {}", path.display()));
            assert_eq!(dumped.code, Some(0), "{}: {}", path.display(), dumped.stderr);
        }
        seen.insert(name.split_once('.').map_or(name.clone(), |(_, extension)| extension.to_owned()));
    }
    for expected in [
        "log",
        "index",
        "timeindex",
        "producers",
        "identity",
        "checkpoint",
        "leader-epochs",
        "written-since",
        "vote",
        "purged",
        "settled",
        "snapshot",
        "format",
        "broker-id",
        "metadata-seen",
        "closed-cleanly",
        "folder-stamps",
    ] {
        assert!(seen.contains(expected), "{expected} was not there to be dumped: {seen:?}");
    }
    let vote = tidelog(&format!("--output json log dump {}", data.join("__cluster_metadata-0/vote").display()));
    let vote: serde_json::Value = serde_json::from_slice(&vote.success()).unwrap();
    assert_eq!((&vote["kind"], &vote["elected"], &vote["broker_id"]), (&"vote".into(), &true.into(), &1.into()));
}
