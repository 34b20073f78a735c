//! Compacted topics as clients and operators see them: the latest value of each key stays, others go, records without key are refused, and a
//! log that cannot be compacted is named while the others are.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tidelog_client::{Client, NewTopic, Record, Start};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, Offset};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::chance::seeded;
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::workload::create_topic;

fn tidelog(broker: &BrokerProcess, line: &str) -> Finished {
    CommandLine::of("tidelog").env("TIDELOG_SERVER", &broker.server()).args(line.split_whitespace()).run()
}

/// Sealed as soon as it is looked after, so that all of it can be compacted.
fn compacted(name: &str) -> NewTopic {
    small_segments(name).config("cleanup.policy", "compact")
}

fn small_segments(name: &str) -> NewTopic {
    NewTopic::named(name)
        .config("segment.bytes", "65536")
        .config("max.message.bytes", "65536")
        .config("segment.ms", "1")
        .config("min.cleanable.dirty.ratio", "0.01")
}

/// Offset, key and value of every record, in their order.
async fn read(broker: &BrokerProcess, topic: &str) -> Vec<(u64, String, Option<String>)> {
    within_limit("a topic to be read to its end", async {
        let client = Client::connect(&broker.server()).await.unwrap();
        let builder = client.consumer().topic(topic).start(Start::Beginning).until_end();
        let mut consumer = builder.build().await.unwrap();
        let mut records = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_string();
        while let Some(record) = consumer.next().await {
            let record = record.unwrap();
            records.push((record.offset.0, text(record.key.as_deref().unwrap()), record.value.as_deref().map(text)));
        }
        records
    })
    .await
}

/// One value of the metrics; without labels, or with all of them.
fn metric(broker: &BrokerProcess, name: &str) -> Option<f64> {
    let body = broker.http("/metrics").body;
    body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
}

fn log_files(folder: &Path) -> Vec<PathBuf> {
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|kind| kind == "log")).collect();
    logs.sort();
    logs
}

#[tokio::test(flavor = "multi_thread")]
async fn of_each_key_the_latest_value_stays_through_kills_of_the_broker() {
    let mut chance = seeded("of_each_key_the_latest_value_stays_through_kills_of_the_broker");
    let mut broker = BrokerSettings::new().set("housekeeping_interval_ms", "20").start();
    create_topic(&broker.server(), &compacted("users").config("delete.retention.ms", "0")).await.unwrap();
    let mut latest: BTreeMap<String, Option<String>> = BTreeMap::new();
    let (mut end, mut removed) = (0, 0.0);
    for round in 0..6u32 {
        let client = Client::connect(&broker.server()).await.unwrap();
        let producer = client.producer().compression(if round % 2 == 0 { Compression::None } else { Compression::Lz4 });
        let producer = producer.build().unwrap();
        let mut sent = Vec::new();
        for number in 0..400u32 {
            let key = format!("user-{}", chance.u32(..60));
            let value = (chance.u32(..10) > 0).then(|| format!("{round}-{number}"));
            let mut record = Record::to("users").key(key.clone());
            record.value = value.as_ref().map(|value| format!("{value:<500}").into());
            sent.push(producer.send(record).await.unwrap());
            latest.insert(key, value);
        }
        for acknowledged in sent {
            end = end.max(within_limit("an ack", acknowledged).await.unwrap().offset.unwrap().0 + 1);
        }
        let passes = metric(&broker, "tidelog_compaction_passes_total").unwrap();
        wait_until("a pass over what was written", async || {
            (metric(&broker, "tidelog_compaction_passes_total").unwrap() > passes).then_some(())
        })
        .await;
        removed += metric(&broker, "tidelog_compaction_removed_bytes_total").unwrap();
        // In the middle of passes, as it comes.
        broker.kill();
        broker.restart();
        let found: BTreeMap<_, _> =
            read(&broker, "users").await.into_iter().map(|(_, key, value)| (key, value)).collect();
        for (key, value) in &latest {
            assert_eq!(found.get(key).cloned().flatten(), *value, "{key} in round {round}");
        }
    }
    let present = latest.values().filter(|value| value.is_some()).count();
    wait_until("nothing but the latest to be left", async || {
        let records = read(&broker, "users").await;
        (records.len() == present).then_some(())
    })
    .await;
    let records = read(&broker, "users").await;
    assert!(records.is_sorted_by_key(|(offset, ..)| *offset) && records.last().unwrap().0 < end);
    for (_, key, value) in &records {
        assert_eq!(latest[key], *value, "{key}");
    }
    // Whoever opens the files finds the same, and offsets go on where they were.
    for file in log_files(&broker.data().join("users-0")) {
        let _ = tidelog(&broker, &format!("log dump {}", file.display())).success();
    }
    removed += metric(&broker, "tidelog_compaction_removed_bytes_total").unwrap();
    assert!(removed > 0.0);
    let client = Client::connect(&broker.server()).await.unwrap();
    let topic = client.producer().build().unwrap().topic("users").await.unwrap();
    let next = topic.send(Some(b"user-1"), b"on").await.unwrap().await.unwrap();
    assert_eq!(next.offset, Some(Offset(end)));
    // This life of the broker may have had nothing to do until now.
    for _ in 0..20 {
        let _ = topic.send(Some(b"user-1"), &[b'x'; 500]).await.unwrap().await.unwrap();
    }
    wait_until("a pass of this life", async || {
        (metric(&broker, "tidelog_compaction_last_pass_timestamp_seconds").unwrap() > 1e9).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_without_key_is_refused_with_its_whole_request_and_only_where_it_has_no_place() {
    let broker = BrokerProcess::start();
    create_topic(&broker.server(), &compacted("keyed")).await.unwrap();
    create_topic(&broker.server(), &NewTopic::named("plain")).await.unwrap();
    let client = Client::connect(&broker.server()).await.unwrap();
    let producer = client.producer().build().unwrap();
    let keyed = producer.topic("keyed").await.unwrap();
    let refused = keyed.send(None, b"no key").await.unwrap().await.unwrap_err();
    assert!(refused.to_string().contains("key"), "{refused}");
    let mut raw = RawConnection::introduced(broker.address()).await;
    let topic_id = raw.topic_id("keyed").await;
    // The helper's records have no keys.
    let error = raw.produce(topic_id, &batch(&[b"a", b"b"], Compression::Zstd)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::KeyMissing);
    assert!(!error.code.is_retriable() && error.message.contains("nothing was written"), "{error}");
    let written = keyed.send(Some(b"k"), b"v").await.unwrap().await.unwrap();
    assert_eq!(written.offset, Some(Offset(0)), "nothing of what was refused is there");
    let plain = raw.topic_id("plain").await;
    raw.produce(plain, &batch(&[b"a"], Compression::None)).await.unwrap();
    // From the next request on, once the topic says so.
    let _ = tidelog(&broker, "topics alter plain --set cleanup.policy=compact,delete").success();
    wait_until("the change to hold", async || {
        raw.produce(plain, &batch(&[b"a"], Compression::None)).await.err().map(|error| error.code)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_a_topic_is_compacted_is_told_altered_and_refused_where_it_makes_no_sense() {
    let broker = BrokerProcess::start();
    let created = "topics create t --config cleanup.policy=compact --config min.cleanable.dirty.ratio=0.250";
    let _ = tidelog(&broker, created).success();
    let described = String::from_utf8(tidelog(&broker, "--output json topics describe t").success()).unwrap();
    for (key, value) in [
        ("cleanup.policy", "compact"),
        ("min.cleanable.dirty.ratio", "0.25"),
        ("delete.retention.ms", "86400000"),
        ("min.compaction.lag.ms", "0"),
    ] {
        let described: serde_json::Value = serde_json::from_str(&described).unwrap();
        let configs = described[0]["configs"].as_array().unwrap();
        let found = configs.iter().find(|config| config["key"] == key).unwrap_or_else(|| panic!("{key}: {described}"));
        assert_eq!(found["value"], value, "{key}");
    }
    for (set, word) in [
        ("cleanup.policy=shred", "compact,delete"),
        ("cleanup.policy=", "compact,delete"),
        ("min.cleanable.dirty.ratio=1.5", "0 to 1"),
        ("delete.retention.ms=-1", "milliseconds"),
        ("min.compaction.lag.ms=soon", "milliseconds"),
    ] {
        let refused = tidelog(&broker, &format!("topics alter t --set {set}")).expect_code(1);
        assert!(refused.stderr.contains(word), "{set}: {}", refused.stderr);
    }
    let _ = tidelog(&broker, "topics alter t --set cleanup.policy=delete,compact --reset min.cleanable.dirty.ratio")
        .success();
    let described = String::from_utf8(tidelog(&broker, "topics describe t").success()).unwrap();
    assert!(described.contains("compact,delete"), "{described}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_cannot_be_compacted_is_named_and_tried_again_while_others_go_on() {
    let mut broker = BrokerSettings::new().set("housekeeping_interval_ms", "20").start();
    let write = async |broker: &BrokerProcess, name: &str| {
        let client = Client::connect(&broker.server()).await.unwrap();
        let topic = client.producer().build().unwrap().topic(name).await.unwrap();
        let mut acks = Vec::new();
        for number in 0..300u32 {
            let key = format!("key-{}", number % 10);
            acks.push(topic.send(Some(key.as_bytes()), &[1; 1_000]).await.unwrap());
        }
        for ack in acks {
            within_limit("an ack", ack).await.unwrap();
        }
    };
    // Not compacted before it is damaged.
    create_topic(&broker.server(), &small_segments("damaged")).await.unwrap();
    create_topic(&broker.server(), &compacted("whole")).await.unwrap();
    write(&broker, "damaged").await;
    let folder = broker.data().join("damaged-0");
    wait_until("several segments", async || (log_files(&folder).len() > 3).then_some(())).await;
    broker.terminate();
    let file = &log_files(&folder)[1];
    let mut bytes = std::fs::read(file).unwrap();
    bytes[5_000] ^= 1;
    std::fs::write(file, bytes).unwrap();
    broker.restart();
    let _ = tidelog(&broker, "topics alter damaged --set cleanup.policy=compact").success();
    let failing = "tidelog_compaction_failing{topic=\"damaged\",partition=\"0\"}";
    wait_until("failures", async || {
        (metric(&broker, "tidelog_compaction_failures_total").unwrap() >= 2.0).then_some(())
    })
    .await;
    assert_eq!(metric(&broker, failing), Some(1.0));
    assert!(broker.log_text().contains("cannot be compacted"), "{}", broker.log_text());
    write(&broker, "whole").await;
    wait_until("the other to be compacted", async || (read(&broker, "whole").await.len() == 10).then_some(())).await;
    // It is not asked for any more, so nothing fails.
    let _ = tidelog(&broker, "topics alter damaged --set cleanup.policy=delete").success();
    wait_until("the failure to be forgotten", async || metric(&broker, failing).is_none().then_some(())).await;
}
