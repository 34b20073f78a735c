//! The end of a broker: what was acknowledged stays, the next start has nothing to look for, clients come back by themselves.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;

use rustix::process::Signal;
use tidelog_broker::config::PathText;
use tidelog_broker::{Broker, Config};
use tidelog_client::{Client, NewTopic};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::checkers::{ALL, Run, assert_holds};
use tidelog_tests::contents::read_all;
use tidelog_tests::history::History;
use tidelog_tests::workload::{Workload, create_topic, wait_for_acks};

/// Ends a broker under load by `signal`, starts it again, and checks everything.
async fn ends_cleanly_under_load(signal: Signal) {
    let mut broker = BrokerProcess::start();
    let server = broker.server();
    create_topic(&server, &NewTopic::named("load").partitions(2)).await.unwrap();
    let history = Arc::new(History::new("load"));
    let load = Workload { producers: 2, ..Workload::on("load") }.start(&server, &history).await;
    wait_for_acks(&history, 50).await;
    broker.signal(signal);
    assert!(broker.wait_for_end().success(), "{}", broker.log_text());
    assert_eq!(broker.log_lines("stopped cleanly").len(), 1, "{}", broker.log_text());
    broker.restart();
    assert_eq!(broker.log_lines("recovered after an unclean shutdown").len(), 0, "{}", broker.log_text());
    wait_for_acks(&history, history.acked() + 50).await;
    load.stop().await;
    let run = Run { sent: history.sent(), contents: read_all(&server, "load").await };
    assert_holds(&run, ALL);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_under_load_loses_nothing_and_leaves_nothing_to_recover() {
    ends_cleanly_under_load(Signal::TERM).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sigint_does_the_same() {
    ends_cleanly_under_load(Signal::INT).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_runs_inside_a_program_and_starts_again_on_its_folder() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        data: PathText(folder.path().join("data")),
        disk_free_min_bytes: 0,
        ..Config::default()
    };
    let broker = Broker::start(config.clone()).await.unwrap();
    let client = Client::connect(&broker.address().to_string()).await.unwrap();
    client.admin().create_topic(&NewTopic::named("inside")).await.unwrap();
    let producer = client.producer().build().unwrap();
    let receipt = producer.topic("inside").await.unwrap().send(None, b"value").await.unwrap().await.unwrap();
    assert_eq!((receipt.replicas_written, receipt.replicas_flushed), (1, 1));
    drop(client);
    broker.shutdown().await.unwrap();

    let broker = Broker::start(config).await.unwrap();
    let contents = read_all(&broker.address().to_string(), "inside").await;
    assert_eq!(contents.len(), 1);
    broker.shutdown().await.unwrap();
}
