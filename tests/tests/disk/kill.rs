//! kill -9 under load: every acknowledged record is there, in order, and the restart looks at nothing but the unflushed tail.

use std::sync::Arc;
use std::time::Duration;

use tidelog_client::NewTopic;
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::chance::{rounds, seeded};
use tidelog_tests::checkers::{ALL, Run, assert_holds, duplicates};
use tidelog_tests::contents::read_all;
use tidelog_tests::history::History;
use tidelog_tests::workload::{Workload, create_topic, wait_for_acks};

/// Bytes that recovery read at the last start, over all partitions.
fn scanned_bytes(broker: &BrokerProcess) -> u64 {
    let lines = broker.log_lines("recovered after an unclean shutdown");
    lines.iter().map(|line| line["scanned_bytes"].as_u64().expect("recovery says what it scanned")).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn acked_records_survive_twenty_kills_in_order() {
    let mut rng = seeded("acked_records_survive_twenty_kills_in_order");
    let mut broker = BrokerProcess::start();
    let server = broker.server();
    // Small segments, so that kills also hit rolls, and both promises: a page cache survives a kill.
    let topic = |name: &str| {
        NewTopic::named(name).partitions(2).config("segment.bytes", "1048576").config("max.message.bytes", "524288")
    };
    create_topic(&server, &topic("flushed")).await.unwrap();
    create_topic(&server, &topic("written").config("durability", "written")).await.unwrap();
    let histories = ["flushed", "written"].map(|name| (name, Arc::new(History::new(name))));
    let mut loads = Vec::new();
    for (name, history) in &histories {
        let workload = Workload { producers: 3, ..Workload::on(name) };
        loads.push(workload.start(&server, history).await);
    }
    for _ in 0..rounds(20) {
        // Each round makes progress, so that each kill interrupts work.
        for (_, history) in &histories {
            wait_for_acks(history, history.acked() + 1).await;
        }
        tokio::time::sleep(Duration::from_micros(rng.u64(..300_000))).await;
        broker.kill();
        broker.restart();
    }
    for load in loads {
        load.stop().await;
    }
    for (name, history) in &histories {
        let mut contents = read_all(&server, name).await;
        // A second reader must see the same.
        contents.extend(read_all(&server, name).await);
        let run = Run { sent: history.sent(), contents };
        assert_holds(&run, ALL);
        println!("{name}: {} acknowledged, {} stand twice", history.acked(), duplicates(&run) / 2);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_given_up_during_a_kill_are_unknown_and_never_invented() {
    let mut rng = seeded("sends_given_up_during_a_kill_are_unknown_and_never_invented");
    let mut broker = BrokerProcess::start();
    let server = broker.server();
    create_topic(&server, &NewTopic::named("logs").partitions(2)).await.unwrap();
    let history = Arc::new(History::new("given-up"));
    // One batch at a time: a batch that is given up must not let a later one pass.
    let workload =
        Workload { delivery_timeout: Duration::from_millis(150), batches_in_flight: 1, ..Workload::on("logs") };
    let load = workload.start(&server, &history).await;
    for _ in 0..rounds(5) {
        wait_for_acks(&history, history.acked() + 100).await;
        broker.kill();
        // Longer than the producers wait.
        tokio::time::sleep(Duration::from_millis(200 + rng.u64(..100))).await;
        broker.restart();
    }
    load.stop().await;
    let run = Run { sent: history.sent(), contents: read_all(&server, "logs").await };
    assert!(run.sent.iter().any(|sent| sent.acked_at().is_none()), "no send was given up: the kills hit nothing");
    assert_holds(&run, ALL);
}

#[tokio::test(flavor = "multi_thread")]
async fn restart_scans_the_unflushed_tail_and_not_the_log() {
    let mut broker = BrokerSettings::new().start();
    let server = broker.server();
    create_topic(&server, &NewTopic::named("logs").config("segment.bytes", "16777216")).await.unwrap();
    let history = Arc::new(History::new("tail"));
    let workload = Workload { value_bytes: 16 << 10, unanswered_max: 100, ..Workload::on("logs") };
    let load = workload.start(&server, &history).await;
    wait_for_acks(&history, 12_000).await;
    load.stop().await;
    let total: u64 = 12_000 * (16 << 10);
    broker.kill();
    broker.restart();
    let scanned = scanned_bytes(&broker);
    // Checkpoints follow 64 MiB behind at most, and each seal of a segment.
    assert!(scanned > 0, "an unclean shutdown must be recovered from");
    assert!(scanned < 80 << 20, "recovery read {scanned} bytes of {total}");
    let run = Run { sent: history.sent(), contents: read_all(&server, "logs").await };
    assert_holds(&run, ALL);

    assert!(broker.terminate().success());
    broker.restart();
    assert_eq!(scanned_bytes(&broker), 0, "a clean shutdown leaves nothing to scan");
}
