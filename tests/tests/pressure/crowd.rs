//! Many connections, idle, busy and ill-behaved: the busy ones go on, memory stays in its budget, the ill-behaved are cut off.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidelog_client::{Client, NewTopic};
use tidelog_protocol::PartitionId;
use tidelog_protocol::messages::{Isolation, MetadataRequest, Position, SubscribeRequest};
use tidelog_tests::broker_process::BrokerSettings;
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::RawConnection;
use tidelog_tests::workload::create_topic;

const IDLE: usize = 200;
const BUSY: usize = 50;
/// What the broker may lend, and what it may take besides: code, tables, 250 connections.
const BUDGET_BYTES: u64 = 32 << 20;
const BESIDES_BYTES: u64 = 160 << 20;

/// Sends 1 KB records, one after the other, and counts the acknowledged.
async fn busy(server: String, acked: Arc<AtomicU64>, stop: Arc<AtomicBool>) {
    let client = Client::connect(&server).await.unwrap();
    let producer = client.producer().build().unwrap();
    let topic = producer.topic("crowd").await.unwrap();
    while !stop.load(Ordering::Relaxed) {
        topic.send(None, &[7; 1_000]).await.unwrap().await.unwrap();
        acked.fetch_add(1, Ordering::Relaxed);
    }
}

async fn reaches(counter: &AtomicU64, more: u64) {
    let goal = counter.load(Ordering::Relaxed) + more;
    wait_until("more acknowledged records", async || (counter.load(Ordering::Relaxed) >= goal).then_some(())).await;
}

/// Records acknowledged within half a second.
async fn rate(counter: &AtomicU64) -> u64 {
    let before = counter.load(Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    counter.load(Ordering::Relaxed) - before
}

/// A client that subscribes to everything with all the credit there is, asks without end, and never reads.
async fn never_reads(address: SocketAddr) -> RawConnection {
    let mut connection = RawConnection::introduced(address).await;
    let topic_id = connection.topic_id("crowd").await;
    for partition in 0..4 {
        let subscribe = SubscribeRequest {
            topic_id,
            partition: PartitionId(partition),
            position: Position::EARLIEST,
            leader_epoch: None,
            isolation: Isolation::ReadUncommitted,
            credit_bytes: 1 << 30,
            item_bytes_max: 4 << 20,
            last_epoch: None,
            nearby: false,
            settled: false,
        };
        let _ = connection.ask(&subscribe, &[]).await;
    }
    for _ in 0..1_000 {
        let _ = connection.ask(&MetadataRequest { topics: None }, &[]).await;
    }
    connection
}

/// A client that announces a large frame, of which nothing has come yet.
async fn drips(address: SocketAddr) -> RawConnection {
    let mut connection = RawConnection::introduced(address).await;
    let header = connection.header(20, &[], &vec![0; 16 << 20]);
    connection.send(&header.encode(&[&[]])).await;
    connection
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_silent_clients_hurt_only_themselves() {
    let broker = BrokerSettings::new()
        .set("memory_budget_bytes", &BUDGET_BYTES.to_string())
        .set("frame_timeout_ms", "1000")
        .set("write_timeout_ms", "2000")
        .start();
    let server = broker.server();
    create_topic(&server, &NewTopic::named("crowd").partitions(4).config("durability", "written")).await.unwrap();

    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(RawConnection::introduced(broker.address()).await);
    }
    let (acked, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let loads: Vec<_> = (0..BUSY).map(|_| tokio::spawn(busy(server.clone(), acked.clone(), stop.clone()))).collect();
    reaches(&acked, 10_000).await;

    // In turn, on the same machine in the same seconds: without and with the ill-behaved.
    let (mut quiet, mut disturbed) = (Vec::new(), Vec::new());
    for _ in 0..5 {
        quiet.push(rate(&acked).await);
        let ill_behaved =
            (never_reads(broker.address()).await, never_reads(broker.address()).await, drips(broker.address()).await);
        disturbed.push(rate(&acked).await);
        drop(ill_behaved);
    }
    quiet.sort_unstable();
    disturbed.sort_unstable();
    println!("records acknowledged in each window, quiet: {quiet:?}, disturbed: {disturbed:?}");
    // They do take some of the machine; what they must not do is take the others' place.
    assert!(disturbed[2] * 3 > quiet[2], "quiet: {quiet:?}, disturbed: {disturbed:?}");

    let _never_reads = never_reads(broker.address()).await;
    let mut drips = drips(broker.address()).await;
    let dripping = tokio::spawn(async move {
        let mut dripped = 0;
        loop {
            drips.send(&[0]).await;
            dripped += 1;
            let mut one = [0; 1];
            match tokio::time::timeout(Duration::from_millis(200), drips.socket.peek(&mut one)).await {
                Err(_) => {}
                // The broker said something, or closed.
                Ok(_) => return (drips.last_words().await, dripped),
            }
        }
    });

    // The others go on all the while.
    reaches(&acked, 10_000).await;
    let (reason, dripped) = dripping.await.unwrap();
    assert!(reason.contains("a frame was not complete"), "{reason}");
    assert!(dripped > 1, "it dripped for a while");
    wait_until("the client that never reads is cut off", async || {
        (broker.log_text().contains("took none of its answers")).then_some(())
    })
    .await;
    reaches(&acked, 10_000).await;
    let memory = broker.figures().anonymous_bytes;
    println!("{} records acknowledged, {memory} bytes of memory", acked.load(Ordering::Relaxed));
    assert!(memory < BUDGET_BYTES + BESIDES_BYTES, "{memory} bytes");

    stop.store(true, Ordering::Relaxed);
    for load in loads {
        load.await.unwrap();
    }
    // The idle ones were left alone.
    for connection in &mut idle {
        connection.call(&tidelog_protocol::messages::PingRequest {}, &[]).await.unwrap();
    }
}
