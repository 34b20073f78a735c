//! A disk that hangs under a broker that is alone: it has nobody to give anything to, so it says so and goes on once the disk does.

use std::sync::Arc;

use tempfile::TempDir;
use tidelog_broker::Broker;
use tidelog_broker::config::{Config, PathText};
use tidelog_client::NewTopic;
use tidelog_protocol::records::Compression;
use tidelog_tests::http::http_get;
use tidelog_tests::patience::{wait_for, wait_until};
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::stalling_disk::{Call, StallingDisk};
use tidelog_tests::workload::create_topic;

fn config(folder: &TempDir) -> Config {
    let any = ([127, 0, 0, 1], 0).into();
    Config {
        listen: any,
        admin_listen: any,
        data: PathText(folder.path().join("data")),
        disk_free_min_bytes: 0,
        disk_stall_ms: 500,
        ..Config::default()
    }
}

/// The answer of `/readyz`, from a thread that may wait for it.
async fn ready(broker: &Broker) -> (u16, String) {
    let admin = broker.admin_address();
    let answer = tokio::task::spawn_blocking(move || http_get(admin, "/readyz").unwrap()).await.unwrap();
    (answer.status, answer.body)
}

async fn is_told_and_over(call: Call, work: &str) {
    let (folder, disk) = (tempfile::tempdir().unwrap(), StallingDisk::default());
    let broker = Broker::start_on(config(&folder), Arc::new(disk.clone())).await.unwrap();
    let server = broker.address().to_string();
    create_topic(&server, &NewTopic::named("hung")).await.unwrap();
    create_topic(&server, &NewTopic::named("other")).await.unwrap();
    let mut raw = RawConnection::introduced(broker.address()).await;
    let (hung, other) = (raw.topic_id("hung").await, raw.topic_id("other").await);

    let stall = disk.stall(call, "hung-0");
    let waiting = tokio::spawn(async move { raw.produce(hung, &batch(&[b"late"], Compression::None)).await });
    let named =
        format!("FAULT disk-answers: the disk hangs: {work} in {}", folder.path().join("data/hung-0").display());
    wait_until("it to be told", async || {
        let (status, body) = ready(&broker).await;
        (status == 503 && body.contains(&named)).then_some(())
    })
    .await;
    assert_eq!(broker.metrics().disk_stalled.get(), 1);
    let mut raw = RawConnection::introduced(broker.address()).await;
    raw.produce(other, &batch(&[b"meanwhile"], Compression::None)).await.unwrap();
    drop(stall);
    waiting.await.unwrap().unwrap();
    wait_until("it to be over", async || (ready(&broker).await.0 == 200).then_some(())).await;
    assert_eq!(broker.metrics().disk_stalled.get(), 0);
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flush_that_hangs_is_told_and_nothing_else_stands_still() {
    is_told_and_over(Call::Flush, "a flush").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_write_that_hangs_is_told_and_nothing_else_stands_still() {
    is_told_and_over(Call::Write, "a write").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn it_is_told_though_the_one_thread_that_serves_the_network_stands_in_a_write() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), StallingDisk::default());
    let broker = Broker::start_on(config(&folder), Arc::new(disk.clone())).await.unwrap();
    create_topic(&broker.address().to_string(), &NewTopic::named("hung")).await.unwrap();
    let mut raw = RawConnection::introduced(broker.address()).await;
    let hung = raw.topic_id("hung").await;
    let stall = disk.stall(Call::Write, "hung-0");
    let admin = broker.admin_address();
    // A thread of its own: none of the runtime's moves until it lets the disk go on.
    let asker = std::thread::spawn(move || {
        let told = wait_for("it to be told", || {
            let answer = http_get(admin, "/readyz").unwrap();
            answer.body.contains("FAULT disk-answers").then_some(answer.status)
        });
        drop(stall);
        told
    });
    raw.produce(hung, &batch(&[b"late"], Compression::None)).await.unwrap();
    assert_eq!(asker.join().unwrap(), 503);
    broker.shutdown().await.unwrap();
}
