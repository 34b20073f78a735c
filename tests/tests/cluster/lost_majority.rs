//! What the command line says where the majority of the brokers is gone: that it is, and the same truth in every view of a partition.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use serde_json::{Value, json};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::patience::insist;

async fn tidelog(servers: &str, line: &str) -> Finished {
    let command = CommandLine::of("tidelog").env("TIDELOG_SERVER", servers).args(line.split_whitespace());
    tokio::task::spawn_blocking(|| command.run()).await.unwrap()
}

fn document(finished: &Finished) -> Value {
    serde_json::from_slice(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"))
}

/// What a command said of the state of each partition, and who leads it.
fn states(partitions: &Value) -> Vec<(Value, Value)> {
    partitions.as_array().unwrap().iter().map(|one| (one["leader"].clone(), one["state"].clone())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_view_says_that_the_majority_is_missing_and_which_partitions_are_dead() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let servers = cluster.servers();
    let _ = tidelog(&servers, "topics create logs --partitions 6 --replication-factor 3").await.expect_code(0);
    insist("leaders on all brokers", async || {
        let described = document(&tidelog(&servers, "topics describe logs --output json").await);
        let led = states(&described[0]["partitions"]);
        let sound = led.iter().all(|(_, state)| state == "healthy");
        let everywhere = [1, 2, 3].iter().all(|broker| led.iter().any(|(leader, _)| *leader == json!(broker)));
        if sound && everywhere { Ok(()) } else { Err(described.to_string()) }
    })
    .await;
    let _ = cluster.kill(1);
    let _ = cluster.kill(2);

    // Whoever was the controller: it takes a moment to notice.
    let status = insist("nobody decides", async || {
        let status = document(&tidelog(&servers, "cluster status --output json").await);
        if status["controller"].is_null() { Ok(status) } else { Err(status.to_string()) }
    })
    .await;
    let replicas = document(&tidelog(&servers, "partitions describe logs --output json").await.expect_code(7));
    let described = tidelog(&servers, "topics describe logs --output json").await.expect_code(8);
    let topics = document(&described);
    let (by_replicas, by_topic) = (states(&replicas), states(&topics[0]["partitions"]));
    for (leader, state) in by_replicas.iter().chain(&by_topic) {
        let expected = match leader.as_u64() {
            Some(3) => "leader without lease",
            Some(_) => "offline, its leader is away",
            None => "offline",
        };
        assert!(state.as_str().unwrap().starts_with(expected), "{leader}: {state}");
    }
    let dead = |states: &[(Value, Value)]| states.iter().filter(|(leader, _)| *leader != json!(3)).count() as u64;
    assert!(dead(&by_replicas) > 0 && dead(&by_replicas) == dead(&by_topic), "{by_replicas:?} {by_topic:?}");
    // Those of groups and transactions count as well.
    assert!(status["partitions"]["offline"].as_u64().unwrap() >= dead(&by_replicas), "{status}");
    assert_eq!(status["settled"], false);

    // Of what is dead nobody knows how much there is, and both views say so.
    for partition in topics[0]["partitions"].as_array().unwrap() {
        assert_eq!(partition["high_watermark"].is_null(), partition["leader"] != json!(3), "{partition}");
    }
    let listed = tidelog(&servers, "topics list --output json").await.expect_code(8);
    assert!(document(&listed)[0]["records"].is_null(), "{listed:?}");
    assert_eq!(document(&listed)[0]["records_at_least"], 0);
    let table = tidelog(&servers, "topics list").await.expect_code(8);
    assert!(table.text().contains("at least 0"), "{table:?}");
    for said in [described.stderr, listed.stderr, table.stderr] {
        for (leader, _) in &by_topic {
            let part = match leader.as_u64() {
                Some(3) => "broker 3 has no lease".to_owned(),
                Some(leader) => format!("broker {leader} does not tell of"),
                None => "nobody leads".to_owned(),
            };
            assert!(said.contains(&part), "'{part}' is missing: {said}");
        }
    }

    let offsets = tidelog(&servers, "offsets logs --timeout 12s --output json").await.expect_code(8);
    let rows = document(&offsets)["partitions"].clone();
    let rows = rows.as_array().unwrap();
    // Those that it leads by its own view, too: nobody says that there is no other who leads them, and has more.
    assert!(rows.len() == 6 && rows.iter().all(|row| row["as_known_to"] == 3), "{rows:?}");
    assert!(rows.iter().all(|row| row["next"] == 0), "{rows:?}");
    assert!(offsets.stderr.contains("a majority of the brokers that vote on metadata is missing"), "{offsets:?}");
    assert!(!offsets.stderr.contains("Start one with"), "{offsets:?}");

    let folder = tempfile::tempdir().unwrap();
    let lines = folder.path().join("lines");
    std::fs::write(&lines, "one\n").unwrap();
    let produce = CommandLine::of("tidelog").env("TIDELOG_SERVER", &servers);
    let produce = produce.args(["produce", "logs", "--timeout", "12s"]).stdin(&lines);
    let produced = tokio::task::spawn_blocking(|| produce.run()).await.unwrap().expect_code(4);
    // In the words of the broker that was asked last, or in the tool's.
    let said = &produced.stderr;
    assert!(said.contains("a majority of the ") && said.contains(" missing"), "{produced:?}");
}
