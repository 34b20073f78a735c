//! Power loss under load, on a file system that forgets what was not flushed: `flushed` loses nothing acknowledged, `written` loses and
//! says so. Needs root and loop devices.

use std::sync::Arc;
use std::time::Duration;

use tidelog_client::NewTopic;
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::chance::{rounds, seeded};
use tidelog_tests::checkers::{
    ALL, AckedIsDurable, Invariant, NoAckedRecordLost, NoPhantomRead, OneValuePerOffset, ProducerOrder, Run,
    assert_holds, duplicates,
};
use tidelog_tests::contents::{read_all, read_around_damage};
use tidelog_tests::history::History;
use tidelog_tests::loop_disk::LoopDisk;
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::workload::{Load, Workload, create_topic, wait_for_acks};

const DISK_BYTES: u64 = 768 << 20;

fn broker_on(disk: &LoopDisk) -> BrokerProcess {
    BrokerSettings::new().data(disk.path().join("data")).start()
}

/// Cuts the power under a load and brings the broker back.
async fn lose_power(disk: &LoopDisk, broker: &mut BrokerProcess, history: &History, load: Load) {
    history.cut_off();
    disk.lose_power();
    load.abandon().await;
    broker.kill();
    disk.remount();
    broker.restart();
    history.reconnected();
}

#[tokio::test(flavor = "multi_thread")]
async fn flushed_records_survive_power_loss_under_load() {
    if !requires("flushed_records_survive_power_loss_under_load", &[Need::LoopDisk]) {
        return;
    }
    let mut rng = seeded("flushed_records_survive_power_loss_under_load");
    let disk = LoopDisk::new(DISK_BYTES);
    let mut broker = broker_on(&disk);
    let server = broker.server();
    let topic = NewTopic::named("logs").partitions(2);
    let topic = topic.config("segment.bytes", "1048576").config("max.message.bytes", "524288");
    create_topic(&server, &topic).await.unwrap();
    let history = Arc::new(History::new("flushed-power"));
    for _ in 0..rounds(5) {
        let load = Workload { producers: 4, ..Workload::on("logs") }.start(&server, &history).await;
        wait_for_acks(&history, history.acked() + 200).await;
        tokio::time::sleep(Duration::from_micros(rng.u64(..500_000))).await;
        lose_power(&disk, &mut broker, &history, load).await;
    }
    // A flush that was under way may have left a later piece without an earlier one. Nothing of it was acknowledged, which the log can mostly
    // prove, and then it is cut; where it cannot, such a range is answered with an error.
    let run = Run { sent: history.sent(), contents: read_around_damage(&server, "logs").await };
    assert_holds(&run, ALL);
    assert_holds(&run, &[&AckedIsDurable]);
    let damaged: usize = run.contents.iter().map(|contents| contents.damaged.len()).sum();
    println!("{} acknowledged, {} stand twice, {damaged} ranges told as damaged", history.acked(), duplicates(&run));
    broker.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn written_records_are_lost_with_the_power_and_the_loss_is_told() {
    if !requires("written_records_are_lost_with_the_power_and_the_loss_is_told", &[Need::LoopDisk]) {
        return;
    }
    let disk = LoopDisk::new(DISK_BYTES);
    let mut broker = broker_on(&disk);
    let server = broker.server();
    create_topic(&server, &NewTopic::named("logs").partitions(2).config("durability", "written")).await.unwrap();
    let history = Arc::new(History::new("written-power"));
    let load = Workload::on("logs").start(&server, &history).await;
    wait_for_acks(&history, 2_000).await;
    lose_power(&disk, &mut broker, &history, load).await;

    let run = Run { sent: history.sent(), contents: read_around_damage(&server, "logs").await };
    let lost = NoAckedRecordLost.violations(&run);
    assert!(!lost.is_empty(), "nothing was lost: the power loss took nothing, so this test proves nothing");
    println!("{} of {} acknowledged records were lost, such as: {}", lost.len(), history.acked(), lost[0]);
    // What is left is true: nothing invented, nothing moved, and what was told as flushed is there.
    assert_holds(&run, &[&AckedIsDurable, &NoPhantomRead, &OneValuePerOffset, &ProducerOrder]);
    // And a reader can tell: what is lost lies behind the end, or in a range that the broker answers with an error.
    for sent in &run.sent {
        let Some(offset) = sent.acked_at() else { continue };
        let contents = run.contents.iter().find(|contents| contents.partition == sent.partition).unwrap();
        let is_read = contents.records.iter().any(|(_, value)| *value == sent.value());
        let end = contents.records.last().map_or(0, |(offset, _)| offset + 1);
        let is_told = offset >= end || contents.damaged.iter().any(|range| range.contains(&offset));
        assert!(is_read || is_told, "{} vanished from the middle without a word", sent.value());
    }

    // The broker goes on where its log ends now.
    let again = Arc::new(History::new("written-power-after"));
    let load = Workload { producers: 2, ..Workload::on("logs") }.start(&server, &again).await;
    wait_for_acks(&again, 100).await;
    load.stop().await;
    broker.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_once_the_power_is_gone() {
    if !requires("nothing_is_acknowledged_once_the_power_is_gone", &[Need::LoopDisk]) {
        return;
    }
    let disk = LoopDisk::new(DISK_BYTES);
    let mut broker = broker_on(&disk);
    let server = broker.server();
    create_topic(&server, &NewTopic::named("logs").partitions(1)).await.unwrap();
    let history = Arc::new(History::new("no-power"));
    let workload = Workload { delivery_timeout: Duration::from_secs(2), ..Workload::on("logs") };
    let load = workload.clone().start(&server, &history).await;
    wait_for_acks(&history, 100).await;
    load.stop().await;
    let before = history.acked();
    disk.lose_power();
    let load = workload.start(&server, &history).await;
    // Every send of the load gets its outcome, and none of them is an acknowledgement.
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.stop().await;
    assert!(history.sent().len() > before, "nothing was sent without power");
    assert_eq!(history.acked(), before);
    assert!(broker.is_alive(), "a dead disk must not take the process down");
    assert_eq!(broker.http("/livez").status, 200);
    let ready = broker.http("/readyz");
    assert_eq!(ready.status, 503, "{}", ready.body);

    broker.kill();
    disk.remount();
    broker.restart();
    let run = Run { sent: history.sent(), contents: read_all(&server, "logs").await };
    assert_holds(&run, ALL);
    assert_eq!(broker.http("/readyz").status, 200);
}
