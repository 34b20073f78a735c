//! The Python clients of Kafka, unmodified, administer a real broker: `kafka-python`, `confluent-kafka`, which is the C library, and `aiokafka`.
//! They run in the interpreter that `TEST_PYTHON` names, or in `python3`; where it is `none`, they were not to be had.

use std::process::Command;

use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::requirements::{Need, requires};

fn administers(test: &str, need: Need, client: &str) {
    if !requires(test, &[need]) {
        return;
    }
    let broker = BrokerProcess::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/kafka/python/admin.py");
    let python = std::env::var("TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    // It ends by itself; where it would not, this does.
    let output = Command::new("timeout").args(["240", &python, script, client, &broker.server()]).output().unwrap();
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{client}: {}\n{told}", output.status);
}

#[test]
fn kafka_python_administers() {
    administers("kafka_python_administers", Need::KafkaPython, "kafka-python");
}

#[test]
fn confluent_kafka_administers() {
    administers("confluent_kafka_administers", Need::KafkaPython, "confluent-kafka");
}

#[test]
fn aiokafka_administers() {
    administers("aiokafka_administers", Need::Aiokafka, "aiokafka");
}
