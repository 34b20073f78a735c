//! Many connections, idle, busy and ill-behaved: the busy ones go on, memory stays in its budget, the ill-behaved are cut off.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking, helpers included")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tidelog_client::{Client, NewTopic};
use tidelog_protocol::PartitionId;
use tidelog_protocol::messages::{Isolation, Position, SubscribeRequest};
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

    // One that subscribes to everything with all the credit there is, and never reads.
    let mut never_reads = RawConnection::introduced(broker.address()).await;
    let topic_id = never_reads.topic_id("crowd").await;
    for partition in 0..4 {
        let subscribe = SubscribeRequest {
            topic_id,
            partition: PartitionId(partition),
            position: Position::EARLIEST,
            leader_epoch: None,
            isolation: Isolation::ReadUncommitted,
            credit_bytes: 1 << 30,
            item_bytes_max: 4 << 20,
        };
        let _ = never_reads.ask(&subscribe, &[]).await;
    }
    // One that announces a large frame and drips its bytes.
    let mut drips = RawConnection::introduced(broker.address()).await;
    let header = drips.header(20, &[], &vec![0; 16 << 20]);
    drips.send(&header.encode(&[&[]])).await;
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
