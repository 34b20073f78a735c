//! Kafka Streams with `exactly_once_v2`: words are counted once each, though who counts them and the broker are killed.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::{Started, system};
use tidelog_tests::input::lines;
use tidelog_tests::kafka_java::{class_path, program_with};
use tidelog_tests::patience::wait_for;
use tidelog_tests::requirements::{Need, requires};

use super::native;

/// How often each word occurs, as the program tells words apart.
fn counted(text: &str) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    let lower = text.to_lowercase();
    for word in lower.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_') {
        if !word.is_empty() {
            *counts.entry(word.to_owned()).or_default() += 1;
        }
    }
    counts
}

/// What was told of each word, in order.
fn told_counts(broker: &BrokerProcess) -> BTreeMap<String, Vec<u64>> {
    let mut counts: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for line in native(broker, &["--output", "json", "consume", "counts", "--until-end"]).lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        let [word, count] = ["key", "value"].map(|part| record[part].as_str().unwrap().to_owned());
        counts.entry(word).or_default().push(count.parse().unwrap());
    }
    counts
}

/// All that were counted by now.
fn total(broker: &BrokerProcess) -> u64 {
    told_counts(broker).values().filter_map(|counts| counts.last()).sum()
}

fn start(broker: &BrokerProcess, folder: &Path) -> Started {
    let state = folder.join("state");
    program_with(folder, "WordCount").args([&broker.server(), state.to_str().unwrap(), "lines", "counts"]).start()
}

#[test]
fn a_word_count_of_kafka_streams_counts_each_word_once_whoever_is_killed() {
    let test = "a_word_count_of_kafka_streams_counts_each_word_once_whoever_is_killed";
    if !requires(test, &[Need::KafkaJava, Need::JavaCompiler]) {
        return;
    }
    let mut broker = BrokerProcess::start();
    let folder = tempfile::tempdir().unwrap();
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/java/WordCount.java");
    let _ = system("javac", &["-cp", &class_path(), "-d", folder.path().to_str().unwrap(), source]);
    for topic in ["lines", "counts"] {
        let _ = native(&broker, &["topics", "create", topic, "--partitions", "2"]);
    }
    let text = String::from_utf8(lines()).unwrap();
    let lines: Vec<&str> = text.split_inclusive('\n').take(900).collect();
    let mut parts = lines.chunks(lines.len().div_ceil(3)).map(<[&str]>::concat);
    let mut produce_part = |broker: &BrokerProcess| {
        let input = folder.path().join("input");
        std::fs::write(&input, parts.next().unwrap()).unwrap();
        let _ = native(broker, &["produce", "lines", input.to_str().unwrap()]);
    };

    produce_part(&broker);
    let first = start(&broker, folder.path());
    wait_for("the first counts", || (total(&broker) > 0).then_some(()));
    drop(first);
    let counted_first = total(&broker);
    produce_part(&broker);
    let mut second = start(&broker, folder.path());
    wait_for("who is resumed to count", || (total(&broker) > counted_first).then_some(()));
    broker.kill();
    broker.restart();
    produce_part(&broker);

    let expected = counted(&lines.concat());
    let all: u64 = expected.values().sum();
    wait_for("all to be counted", || {
        assert!(second.is_alive(), "{}", second.stderr_so_far());
        (total(&broker) >= all).then_some(())
    });
    let each_once = expected.into_iter().map(|(word, count)| (word, (1..=count).collect()));
    assert!(told_counts(&broker) == each_once.collect(), "each count is told once: {:?}", told_counts(&broker));
}
