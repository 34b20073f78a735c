//! Kafka's own programs for Java, unmodified and at their default settings, against a real broker. What they print is what is judged, as their
//! exit codes often say nothing. They lie in the folder that `TEST_JAVA` names, or in `target/java`; where it is `none`, they were not to be had.

mod console;
mod groups;
mod measuring;
mod segments;
mod topics;
mod transactions;
mod word_count;

use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::command::CommandLine;
use tidelog_tests::kafka_java::program;
use tidelog_tests::requirements::{Need, requires};

/// A broker, where the machine has what the test needs.
fn broker_for(test: &str) -> Option<BrokerProcess> {
    requires(test, &[Need::KafkaJava]).then(BrokerProcess::start)
}

/// Kafka's program with this main class, which asks the broker.
fn asking(broker: &BrokerProcess, class: &str, arguments: &[&str]) -> CommandLine {
    program(class).args(["--bootstrap-server", &broker.server()]).args(arguments)
}

/// What a program that succeeds prints.
#[track_caller]
fn told(broker: &BrokerProcess, class: &str, arguments: &[&str]) -> String {
    String::from_utf8(asking(broker, class, arguments).run().success()).unwrap()
}

/// What a program that fails prints and complains about.
#[track_caller]
fn refused(broker: &BrokerProcess, class: &str, arguments: &[&str]) -> String {
    let finished = asking(broker, class, arguments).run().expect_code(1);
    finished.text() + &finished.stderr
}

/// What the project's own command prints.
#[track_caller]
fn native(broker: &BrokerProcess, arguments: &[&str]) -> String {
    let output = CommandLine::of("tidelog").args(["--server", &broker.server()]).args(arguments).run().success();
    String::from_utf8(output).unwrap()
}

/// The rows of a table, each as its cells.
fn rows(table: &str) -> Vec<Vec<&str>> {
    table.lines().map(|line| line.split_whitespace().collect()).filter(|row: &Vec<&str>| !row.is_empty()).collect()
}
