//! A broker whose log lines nobody takes: a pipe whose reader is gone, a file on a full disk. It serves, and ends cleanly.

use std::fs::File;
use std::process::{Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tidelog_client::{Client, NewTopic};
use tidelog_tests::binaries::binary;
use tidelog_tests::command::{Ended, without_settings};
use tidelog_tests::loopback;
use tidelog_tests::patience::{wait_for, wait_until};

async fn serves_and_ends_cleanly(unread: Stdio) {
    let home = tempfile::tempdir().unwrap();
    let host = loopback::fresh().ip();
    let mut command = Command::new(binary("tidelog-broker"));
    without_settings(&mut command)
        .args([format!("--listen={host}:9092"), format!("--admin-listen={host}:9640")])
        .arg("--data")
        .arg(home.path().join("data"))
        .args(["--set", "disk_free_min_bytes=0", "--set", "log_level=debug"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(unread);
    let mut broker = Ended(command.spawn().unwrap());
    let server = format!("{host}:9092");
    let client = wait_until("a broker that nobody listens to", async || {
        assert_eq!(broker.0.try_wait().unwrap(), None, "it must not end");
        Client::connect(&server).await.ok()
    })
    .await;
    client.admin().create_topic(&NewTopic::named("t")).await.unwrap();
    let producer = client.producer().build().unwrap();
    let topic = producer.topic("t").await.unwrap();
    for _ in 0..20 {
        topic.send(None, b"value").await.unwrap().await.unwrap();
    }
    kill_process(Pid::from_child(&broker.0), Signal::TERM).unwrap();
    let status = wait_for("the end of the broker", || broker.0.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pipe_that_nobody_reads_any_more_takes_no_broker_down() {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    serves_and_ends_cleanly(writer.into()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_file_on_a_full_disk_takes_no_broker_down() {
    serves_and_ends_cleanly(File::options().write(true).open("/dev/full").unwrap().into()).await;
}
