//! A data folder that a release without a metadata quorum left: everything in it is there after an upgrade, and after a restart.
#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use std::fs;
use std::path::Path;

use tidelog_client::{Client, NewTopic};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::contents::read_all;

/// Topics `orders` (3 partitions, three records in one of them, retention of an hour), `payments` and `gone`, as 0.1.0 left them.
const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/one-broker");

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
