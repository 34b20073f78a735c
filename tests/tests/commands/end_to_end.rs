//! What a newcomer does: lines in through the command line, the same lines out, byte for byte.

use std::path::Path;

use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::{CommandLine, Finished};
use tidelog_tests::input::{lines, lines_file, sorted};

fn tidelog(broker: &BrokerProcess, arguments: &[&str]) -> Finished {
    CommandLine::of("tidelog").env("TIDELOG_SERVER", &broker.server()).args(arguments).run()
}

fn create(broker: &BrokerProcess, topic: &str, partitions: &str) {
    let _ = tidelog(broker, &["topics", "create", topic, "--partitions", partitions]).success();
}

fn consume(broker: &BrokerProcess, topic: &str) -> Vec<u8> {
    tidelog(broker, &["consume", topic, "--from", "beginning", "--until-end"]).success()
}

/// Standard input is a file, as `< input.log` makes it.
fn produce_stdin(broker: &BrokerProcess, topic: &str, file: &Path) {
    let command = CommandLine::of("tidelog").args(["--server", &broker.server(), "produce", topic]);
    let _ = command.stdin(file).run().success();
}

#[test]
fn lines_of_three_partitions_come_back_byte_identical() {
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start();
    create(&broker, "logs", "3");
    // One produce fills one sticky partition after the other as batches fill: small batches make sure that all are used.
    let file = lines_file(folder.path());
    let file = file.to_str().unwrap();
    let _ = tidelog(&broker, &["produce", "logs", file, "--batch-size", "4KiB"]).success();

    let read = consume(&broker, "logs");
    assert!(sorted(&read) == sorted(&lines()), "{} bytes in, {} bytes out", lines().len(), read.len());
    let offsets = tidelog(&broker, &["--output", "json", "topics", "describe", "logs"]).success();
    let described: serde_json::Value = serde_json::from_slice(&offsets).unwrap();
    let partitions = described[0]["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 3);
    for partition in partitions {
        assert!(partition["log_end"].as_u64() > Some(0), "a partition stayed empty: {described}");
    }
}

#[test]
fn lines_of_one_partition_come_back_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let mut broker = BrokerProcess::start();
    create(&broker, "logs", "1");
    produce_stdin(&broker, "logs", &lines_file(folder.path()));
    assert!(consume(&broker, "logs") == lines());

    // And the same again from disk, after either end of the broker.
    broker.kill();
    broker.restart();
    assert!(consume(&broker, "logs") == lines());
    assert!(broker.terminate().success());
    broker.restart();
    assert!(consume(&broker, "logs") == lines());
}

#[test]
fn lines_come_back_through_every_compression() {
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start();
    let file = lines_file(folder.path());
    let mut sizes = Vec::new();
    for codec in ["none", "lz4", "zstd", "snappy", "gzip"] {
        create(&broker, codec, "1");
        let _ = tidelog(&broker, &["produce", codec, file.to_str().unwrap(), "--compression", codec]).success();
        assert!(consume(&broker, codec) == lines(), "{codec}");
        let described = tidelog(&broker, &["--output", "json", "topics", "describe", codec]).success();
        let described: serde_json::Value = serde_json::from_slice(&described).unwrap();
        sizes.push((codec, described[0]["partitions"][0]["size_bytes"].as_u64().unwrap()));
    }
    let plain = sizes[0].1;
    for (codec, bytes) in &sizes[1..] {
        assert!(*bytes < plain / 2, "{codec} did not compress: {sizes:?}");
    }
}

#[test]
fn keys_headers_and_awkward_values_survive() {
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start();
    create(&broker, "pairs", "4");
    let file = folder.path().join("pairs");
    // An empty value, an empty key, bytes that are no text, a separator within a value, no newline at the end.
    std::fs::write(&file, b"k1\tone\nk2\t\n\tno key\nk3\t\xff\xfe\nk4\ta\tb\r\nlast\tline").unwrap();
    let file = file.to_str().unwrap();
    let flags = ["--key-separator", "\\t", "--header", "origin=a=b", "--header", "empty="];
    let _ = tidelog(&broker, &[&["produce", "pairs", file][..], &flags].concat()).success();

    let format = "%k\\t%v";
    let read =
        tidelog(&broker, &["consume", "pairs", "--from", "beginning", "--until-end", "--format", format]).success();
    let expected = b"k1\tone\nk2\t\n\tno key\nk3\t\xff\xfe\nk4\ta\tb\r\nlast\tline\n";
    assert_eq!(sorted(&read), sorted(expected));
    let json = tidelog(&broker, &["consume", "pairs", "--until-end", "--format", "json"]).success();
    let text = String::from_utf8(json).unwrap();
    assert_eq!(text.lines().count(), 6);
    for line in text.lines() {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        assert!(record.to_string().contains("origin"), "{record}");
    }
}

#[test]
fn consuming_starts_and_stops_where_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let broker = BrokerProcess::start();
    create(&broker, "logs", "1");
    let file = lines_file(folder.path());
    produce_stdin(&broker, "logs", &file);
    let all = lines();
    let lines: Vec<&[u8]> = all.split_inclusive(|byte| *byte == b'\n').collect();

    let some = tidelog(&broker, &["consume", "logs", "--from", "offset:100", "--max", "7"]).success();
    assert_eq!(some, lines[100..107].concat());
    let none = tidelog(&broker, &["consume", "logs", "--from", "end", "--until-end"]).success();
    assert!(none.is_empty());
    let none = tidelog(&broker, &["consume", "logs", "--from", "time:2999-01-01T00:00:00Z", "--until-end"]).success();
    assert!(none.is_empty());
    let every = tidelog(&broker, &["consume", "logs", "--from", "time:2001-01-01T00:00:00Z", "--until-end"]).success();
    assert!(every == all);

    let _ = tidelog(&broker, &["records", "delete", "logs", "--partition", "0", "--before", "5000"]).success();
    let rest = consume(&broker, "logs");
    assert!(rest == lines[5000..].concat());
    let gone = tidelog(&broker, &["consume", "logs", "--from", "offset:4999", "--until-end"]).expect_code(3);
    assert!(gone.stderr.contains("4999") && gone.stderr.contains("5000"), "{}", gone.stderr);
}
