//! The Python clients of Kafka, unmodified, against a real broker: `kafka-python`, and `confluent-kafka`, which is the C library. They run in the
//! interpreter that `TEST_PYTHON` names, or in `python3`; where it is `none`, they were not to be had.

use std::process::Command;

use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::numbered::crowd_with_room;
use tidelog_tests::requirements::{Need, requires};

/// Runs a script to its end.
fn run(script: &str, arguments: &[&str]) {
    let script = format!("{}/tests/kafka/python/{script}", env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var("TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    // It ends by itself; where it would not, this does.
    let output = Command::new("timeout").args(["240", &python, &script]).args(arguments).output().unwrap();
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{arguments:?}: {}\n{told}", output.status);
}

fn serves(test: &str, client: &str) {
    if requires(test, &[Need::KafkaPython]) {
        let broker = BrokerProcess::start();
        run("clients.py", &[client, &broker.server()]);
    }
}

/// Members come and go, the broker is killed, and the group goes on where it stopped.
fn shares(test: &str, client: &str, strategy: &str) {
    if requires(test, &[Need::KafkaPython]) {
        let mut broker = BrokerProcess::start();
        run("groups.py", &["share", client, strategy, &broker.server()]);
        broker.kill();
        broker.restart();
        run("groups.py", &["resume", client, strategy, &broker.server()]);
    }
}

#[test]
fn kafka_python_shares_work_in_groups() {
    shares("kafka_python_shares_work_in_groups", "kafka-python", "default");
}

#[test]
fn confluent_kafka_shares_work_in_groups() {
    shares("confluent_kafka_shares_work_in_groups", "confluent-kafka", "default");
}

#[test]
fn confluent_kafka_shares_work_by_range() {
    shares("confluent_kafka_shares_work_by_range", "confluent-kafka", "range");
}

#[test]
fn confluent_kafka_shares_work_without_letting_go_of_what_stays() {
    shares("confluent_kafka_shares_work_without_letting_go_of_what_stays", "confluent-kafka", "cooperative-sticky");
}

/// The coordinator assigns (KIP-848).
#[test]
fn confluent_kafka_shares_work_that_the_coordinator_assigns() {
    shares("confluent_kafka_shares_work_that_the_coordinator_assigns", "confluent-kafka", "consumer-protocol");
}

#[test]
fn kafka_python_produces_reads_and_administers() {
    serves("kafka_python_produces_reads_and_administers", "kafka-python");
}

#[test]
fn confluent_kafka_produces_reads_and_administers() {
    serves("confluent_kafka_produces_reads_and_administers", "confluent-kafka");
}

/// A log that has forgotten somebody of a later id early takes nothing of this one's first epoch, and the client begins another by itself.
#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_gets_in_where_producers_were_forgotten_early() {
    if requires("confluent_kafka_gets_in_where_producers_were_forgotten_early", &[Need::KafkaPython]) {
        let broker = BrokerProcess::start();
        crowd_with_room(&broker, "crowded").await;
        tokio::task::block_in_place(|| run("clients.py", &["early-id", &broker.server()]));
    }
}
