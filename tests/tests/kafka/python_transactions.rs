//! Transactions of the Python clients of Kafka, unmodified, against real brokers, and what native readers make of them. Which interpreter runs them,
//! `python.rs` says.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use tidelog_client::{Client, Isolation};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::transacting::{committed, values};

const TOPIC: &str = "transactions";

fn script(what: &str, client: &str, server: &str) -> Command {
    let script = format!("{}/tests/kafka/python/transactions.py", env!("CARGO_MANIFEST_DIR"));
    let python = std::env::var("TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    // It ends by itself; where it would not, this does.
    let mut command = Command::new("timeout");
    command.args(["240", &python, &script, what, client, server]);
    command
}

/// Runs a part of the script to its end.
fn run(what: &str, client: &str, server: &str) {
    let output = script(what, client, server).output().unwrap();
    let told = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "{what} {client}: {}\n{told}", output.status);
}

/// What the script writes in its first part, as native readers see it.
async fn check_written(servers: &str) {
    let client = Client::connect(servers).await.unwrap();
    let all = values(&client, TOPIC, Isolation::ReadUncommitted).await;
    let (aborted, rest): (Vec<String>, Vec<String>) = all.into_iter().partition(|value| value.starts_with("aborted"));
    assert_eq!((aborted.len(), rest.len()), (15, 18));
    assert_eq!(committed(&client, TOPIC).await, rest);
}

async fn write(test: &str, client: &str) {
    if requires(test, &[Need::KafkaPython]) {
        let broker = BrokerProcess::start();
        run("write", client, &broker.server());
        check_written(&broker.server()).await;
    }
}

fn alone(test: &str, what: &str, client: &str) {
    if requires(test, &[Need::KafkaPython]) {
        run(what, client, &BrokerProcess::start().server());
    }
}

/// A copy from topic to topic, whose process dies in the middle of a transaction.
fn copy(test: &str, client: &str) {
    if requires(test, &[Need::KafkaPython]) {
        let broker = BrokerProcess::start();
        for what in ["fill", "die", "copy", "copied"] {
            run(what, client, &broker.server());
        }
    }
}

/// One that says where it is, and waits.
struct Waiting(Child);

impl Waiting {
    fn start(what: &str, client: &str, server: &str) -> Self {
        let command = &mut script(what, client, server);
        let mut child = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
        let mut line = String::new();
        BufReader::new(child.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "open\n");
        child
    }

    fn go_on(mut self) {
        self.0.stdin.take().unwrap().write_all(b"go on\n").unwrap();
        let status = self.0.wait().unwrap();
        assert!(status.success(), "{status}");
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The broker is killed while a transaction is open.
fn survive(test: &str, client: &str) {
    if requires(test, &[Need::KafkaPython]) {
        let mut broker = BrokerProcess::start();
        let waiting = Waiting::start("survive", client, &broker.server());
        broker.kill();
        broker.restart();
        waiting.go_on();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn kafka_python_commits_and_aborts() {
    write("kafka_python_commits_and_aborts", "kafka-python").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn confluent_kafka_commits_and_aborts() {
    write("confluent_kafka_commits_and_aborts", "confluent-kafka").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transactions_over_several_brokers_are_seen_whole() {
    if requires("transactions_over_several_brokers_are_seen_whole", &[Need::KafkaPython]) {
        let cluster = Cluster::start(ClusterSettings::three()).await;
        run("write", "confluent-kafka", &cluster.servers());
        check_written(&cluster.servers()).await;
    }
}

#[test]
fn kafka_python_is_fenced_by_a_producer_of_its_name() {
    alone("kafka_python_is_fenced_by_a_producer_of_its_name", "fence", "kafka-python");
}

#[test]
fn confluent_kafka_is_fenced_by_a_producer_of_its_name() {
    alone("confluent_kafka_is_fenced_by_a_producer_of_its_name", "fence", "confluent-kafka");
}

#[test]
fn a_transaction_of_kafka_python_does_not_stay_open_for_ever() {
    alone("a_transaction_of_kafka_python_does_not_stay_open_for_ever", "timeout", "kafka-python");
}

#[test]
fn a_transaction_of_confluent_kafka_does_not_stay_open_for_ever() {
    alone("a_transaction_of_confluent_kafka_does_not_stay_open_for_ever", "timeout", "confluent-kafka");
}

#[test]
fn kafka_python_copies_each_record_once_though_it_dies() {
    copy("kafka_python_copies_each_record_once_though_it_dies", "kafka-python");
}

#[test]
fn confluent_kafka_copies_each_record_once_though_it_dies() {
    copy("confluent_kafka_copies_each_record_once_though_it_dies", "confluent-kafka");
}

#[test]
fn kafka_python_outlives_a_broker_that_is_killed_within_a_transaction() {
    survive("kafka_python_outlives_a_broker_that_is_killed_within_a_transaction", "kafka-python");
}

#[test]
fn confluent_kafka_outlives_a_broker_that_is_killed_within_a_transaction() {
    survive("confluent_kafka_outlives_a_broker_that_is_killed_within_a_transaction", "confluent-kafka");
}
