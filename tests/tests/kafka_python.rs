//! The Python clients of Kafka, unmodified, against a real broker: `kafka-python`, and `confluent-kafka`, which is the C library. They run in the
//! interpreter that `TIDELOG_TEST_PYTHON` names, or in `python3`; where it is `none`, they were not to be had.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::process::Command;

use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::requirements::{Need, requires};

fn serves(test: &str, client: &str) {
    if !requires(test, &[Need::KafkaPython]) {
        return;
    }
    let broker = BrokerProcess::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka_python/clients.py");
    let python = std::env::var("TIDELOG_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    // It ends by itself; where it would not, this does.
    let output = Command::new("timeout").args(["120", &python, script, client, &broker.server()]).output().unwrap();
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{client}: {}\n{told}", output.status);
}

#[test]
fn kafka_python_produces_reads_and_administers() {
    serves("kafka_python_produces_reads_and_administers", "kafka-python");
}

#[test]
fn confluent_kafka_produces_reads_and_administers() {
    serves("confluent_kafka_produces_reads_and_administers", "confluent-kafka");
}
