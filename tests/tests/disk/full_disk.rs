//! A disk that runs full: produce is refused, consume goes on, nothing is half acknowledged, and freeing space is all that it takes. Needs
//! root and loop devices.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use tidelog_client::{Client, NewTopic, PartitionId};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, TopicId, WireError};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::checkers::{ALL, Run, assert_holds};
use tidelog_tests::contents::read_all;
use tidelog_tests::history::History;
use tidelog_tests::loop_disk::LoopDisk;
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::syscall_fault::SyscallFault;
use tidelog_tests::workload::{Workload, create_topic, wait_for_acks};

const DISK_BYTES: u64 = 192 << 20;

fn small_topic() -> NewTopic {
    NewTopic::named("logs").partitions(1).config("segment.bytes", "1048576").config("max.message.bytes", "524288")
}

/// Produces until it is refused; says how.
async fn produce_until_refused(connection: &mut RawConnection, topic: TopicId) -> WireError {
    let value = vec![b'x'; 60 << 10];
    let batch = batch(&[&value], Compression::None);
    wait_until("produce to be refused", async || connection.produce(topic, &batch).await.err()).await
}

async fn wait_until_produced(connection: &mut RawConnection, topic: TopicId) {
    let batch = batch(&[b"again"], Compression::None);
    wait_until("produce to go on", async || connection.produce(topic, &batch).await.ok()).await;
}

fn assert_is_full(error: &WireError) {
    assert_eq!(error.code, ErrorCode::StorageFull, "{error}");
    assert!(error.code.is_retriable() && error.retry_after_ms > 0, "{error:?}");
    assert!(error.message.contains("free space"), "the message must say what to do: {error}");
}

async fn wait_until_ready(broker: &BrokerProcess) {
    wait_until("the broker to be ready", async || (broker.http("/readyz").status == 200).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_produce_serves_reads_and_heals_when_space_is_freed() {
    if !requires("a_full_disk_refuses_produce_serves_reads_and_heals_when_space_is_freed", &[Need::LoopDisk]) {
        return;
    }
    let disk = LoopDisk::new(DISK_BYTES);
    let broker = BrokerSettings::new().data(disk.path().join("data")).start();
    let server = broker.server();
    create_topic(&server, &small_topic()).await.unwrap();
    create_topic(&server, &NewTopic::named("filler").partitions(1)).await.unwrap();
    let history = Arc::new(History::new("full"));
    let workload = Workload { producers: 1, value_bytes: 1_000, ..Workload::on("logs") };
    let load = workload.clone().start(&server, &history).await;
    wait_for_acks(&history, 500).await;

    // Under load, to the last block.
    let ballast = disk.fill(0);
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("filler").await;
    let refusal = produce_until_refused(&mut connection, topic).await;
    assert_is_full(&refusal);
    assert!(disk.free_bytes() < 1 << 20, "the disk has {} bytes left: it was not full", disk.free_bytes());
    load.abandon().await;

    // What cannot be delivered is given up as not written, or unknown, and everything that was acknowledged is there.
    let impatient = Workload {
        delivery_timeout: Duration::from_secs(2),
        // One batch at a time: a batch that was refused must not be overtaken by a later one.
        batches_in_flight: 1,
        ..workload.clone()
    };
    let load = impatient.start(&server, &history).await;
    wait_until("a send that is given up", async || {
        let sent = history.sent();
        sent.iter().any(|sent| format!("{:?}", sent.outcome).contains("StorageFull")).then_some(())
    })
    .await;
    load.stop().await;
    let run = Run { sent: history.sent(), contents: read_all(&server, "logs").await };
    assert_holds(&run, ALL);
    assert_eq!(broker.http("/livez").status, 200);
    assert_eq!(broker.http("/readyz").status, 503, "a broker that takes nothing is not ready");

    drop(ballast);
    wait_until_produced(&mut connection, topic).await;
    let before = history.acked();
    let load = workload.start(&server, &history).await;
    wait_for_acks(&history, before + 500).await;
    load.stop().await;
    wait_until_ready(&broker).await;
    let run = Run { sent: history.sent(), contents: read_all(&server, "logs").await };
    assert_holds(&run, ALL);
}

#[tokio::test(flavor = "multi_thread")]
async fn below_the_low_space_watermark_produce_is_refused_while_the_disk_has_room() {
    if !requires("below_the_low_space_watermark_produce_is_refused_while_the_disk_has_room", &[Need::LoopDisk]) {
        return;
    }
    let disk = LoopDisk::new(DISK_BYTES);
    let settings = BrokerSettings::new().data(disk.path().join("data"));
    let broker = settings.set("disk_free_min_bytes", "64MiB").set("housekeeping_interval_ms", "100").start();
    create_topic(&broker.server(), &small_topic()).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("logs").await;
    wait_until_produced(&mut connection, topic).await;

    let ballast = disk.fill(32 << 20);
    let refusal = produce_until_refused(&mut connection, topic).await;
    assert_is_full(&refusal);
    assert!(refusal.message.contains("disk_free_min_bytes"), "{refusal}");
    assert!(disk.free_bytes() > 8 << 20, "the disk is full: the watermark was not what refused");
    let ready = broker.http("/readyz");
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("FAULT disk-space"), "{}", ready.body);
    assert!(broker.http("/metrics").body.contains("tidelog_disk_full 1"));
    assert!(!read_all(&broker.server(), "logs").await[0].records.is_empty());
    // What frees space must not need any.
    let client = Client::connect(&broker.server()).await.unwrap();
    client.admin().delete_records("logs", PartitionId(0), None).await.unwrap();
    client.admin().delete_topic("logs").await.unwrap();
    // Nothing new is begun that could take nothing.
    let refusal = client.admin().create_topic(&small_topic()).await.unwrap_err();
    assert_eq!(refusal.code(), Some(ErrorCode::StorageFull), "{refusal}");
    assert!(refusal.to_string().contains("nothing was created; free space"), "{refusal}");
    let left = client.admin().metadata().await.unwrap();
    assert!(left.topics.iter().all(|topic| topic.name.as_str().starts_with("__")), "{:?}", left.topics);

    drop(ballast);
    wait_until_ready(&broker).await;
    create_topic(&broker.server(), &small_topic()).await.unwrap();
    let topic = connection.topic_id("logs").await;
    wait_until_produced(&mut connection, topic).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_brokers_own_topics_are_weighed_against_free_space_as_any_other() {
    if !requires("the_brokers_own_topics_are_weighed_against_free_space_as_any_other", &[Need::LoopDisk]) {
        return;
    }
    const LOW_WATER: u64 = 16 << 20;
    let disk = LoopDisk::new(DISK_BYTES);
    let settings = BrokerSettings::new().data(disk.path().join("data")).set("housekeeping_interval_ms", "100");
    let broker = settings.set("disk_free_min_bytes", &LOW_WATER.to_string()).start();
    let server = broker.server();
    create_topic(&server, &small_topic()).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let topic = connection.topic_id("logs").await;
    wait_until_produced(&mut connection, topic).await;
    let patience = Duration::from_secs(3);
    let client = Client::builder().request_timeout(patience).connect(&server).await.unwrap();

    // Enough for what is there, and not for a topic more; then not a block. Nothing is given back between: somebody may still ask for a topic.
    let mut ballast = Vec::new();
    for left in [LOW_WATER + (600 << 10), 0] {
        ballast.push(disk.fill(left));
        let group = client.group("readers").topics(["logs"]).build().await.unwrap_err();
        let transactional = client.transactional_producer("writer").end_timeout(patience).build().await.unwrap_err();
        for refusal in [group.to_string(), transactional.to_string()] {
            assert!(refusal.contains("nothing was created; free space"), "{left} bytes left: {refusal}");
        }
        let there = client.admin().metadata().await.unwrap();
        assert!(!there.topics.iter().any(|topic| topic.name.as_str().starts_with("__")), "{:?}", there.topics);
        if left > 0 {
            wait_until_produced(&mut connection, topic).await;
            assert_eq!(broker.http("/readyz").status, 200, "a reader took what the writers need");
        }
    }
    drop(ballast);
    wait_until_ready(&broker).await;
    drop(client.group("readers").topics(["logs"]).build().await.unwrap());
    drop(client.transactional_producer("writer").build().await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_starts_on_a_full_disk_and_serves_what_is_there() {
    if !requires("a_broker_starts_on_a_full_disk_and_serves_what_is_there", &[Need::LoopDisk]) {
        return;
    }
    for low_water in ["0", "16MiB"] {
        for end in ["killed", "stopped"] {
            let disk = LoopDisk::new(DISK_BYTES);
            let settings = BrokerSettings::new().data(disk.path().join("data"));
            let mut broker = settings.set("disk_free_min_bytes", low_water).start();
            let server = broker.server();
            create_topic(&server, &small_topic()).await.unwrap();
            let history = Arc::new(History::new("full-start"));
            let load = Workload { producers: 1, ..Workload::on("logs") }.start(&server, &history).await;
            wait_for_acks(&history, 2_000).await;
            load.stop().await;
            match end {
                "killed" => broker.kill(),
                _ => assert!(broker.terminate().success()),
            }
            let ballast = disk.fill(0);
            broker.restart();
            let run = Run { sent: history.sent(), contents: read_all(&server, "logs").await };
            assert_holds(&run, ALL);
            let mut connection = RawConnection::introduced(broker.address()).await;
            let topic = connection.topic_id("logs").await;
            assert_is_full(&produce_until_refused(&mut connection, topic).await);

            drop(ballast);
            wait_until_produced(&mut connection, topic).await;
            wait_until_ready(&broker).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_found_no_room_keeps_nobody_from_reading_the_others_after_a_restart() {
    let needs = [Need::LoopDisk, Need::Strace];
    if !requires("a_topic_that_found_no_room_keeps_nobody_from_reading_the_others_after_a_restart", &needs) {
        return;
    }
    let disk = LoopDisk::new(DISK_BYTES);
    let settings = BrokerSettings::new().data(disk.path().join("data"));
    let mut broker = settings.set("disk_free_min_bytes", "0").set("housekeeping_interval_ms", "100").start();
    let server = broker.server();
    create_topic(&server, &small_topic()).await.unwrap();
    let history = Arc::new(History::new("full-late"));
    let load = Workload { producers: 1, ..Workload::on("logs") }.start(&server, &history).await;
    wait_for_acks(&history, 2_000).await;
    load.stop().await;

    // It is created while there is room, which is gone as its folder is to be made.
    let fault = SyscallFault::on(broker.pid(), "mkdir:error=ENOSPC");
    create_topic(&server, &NewTopic::named("late").partitions(1)).await.unwrap();
    let ballast = disk.fill(0);
    assert!(!fault.injected().is_empty(), "no folder was to be made");
    drop(fault);
    assert!(!disk.path().join("data/late-0").exists(), "there was room for the topic");
    // However often: what was never made is not missed.
    for _ in 0..3 {
        broker.kill();
        broker.restart();
    }
    assert!(!disk.path().join("data/late-0").exists(), "there was room for the topic");
    let run = Run { sent: history.sent(), contents: read_all(&server, "logs").await };
    assert_holds(&run, ALL);
    // Nor is one begun for which there is none now, although no watermark is kept.
    let client = Client::connect(&server).await.unwrap();
    let refusal = client.admin().create_topic(&NewTopic::named("later").partitions(1)).await.unwrap_err();
    assert_eq!(refusal.code(), Some(ErrorCode::StorageFull), "{refusal}");
    let mut connection = RawConnection::introduced(broker.address()).await;
    let late = connection.topic_id("late").await;
    for _ in 0..100 {
        assert_is_full(&produce_until_refused(&mut connection, late).await);
    }
    let told = broker.log_lines("how new the metadata are cannot be noted").len();
    assert!(told < 10, "told {told} times");

    drop(ballast);
    wait_until_produced(&mut connection, late).await;
    wait_until_ready(&broker).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_says_at_once_that_a_disk_is_full_and_a_new_folder_there_what_helps() {
    if !requires("readiness_says_at_once_that_a_disk_is_full_and_a_new_folder_there_what_helps", &[Need::LoopDisk]) {
        return;
    }
    let disk = LoopDisk::new(DISK_BYTES);
    let broker = BrokerSettings::new().data(disk.path().join("data")).set("disk_free_min_bytes", "16MiB").start();
    wait_until_ready(&broker).await;
    let ballast = disk.fill(0);
    let told = broker.http("/readyz");
    assert!(told.status == 503 && told.body.contains("FAULT disk-space: "), "{told:?}");
    let refusal = BrokerSettings::new().data(disk.path().join("another")).try_start().unwrap_err().sentence();
    assert!(refusal.contains("No space left") && refusal.contains("free space on its disk"), "{refusal}");
    drop(ballast);
    let told = broker.http("/readyz");
    assert!(told.body.contains("ok    disk-space"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_on_a_full_disk_says_once_what_is_not_closed() {
    if !requires("a_broker_that_stops_on_a_full_disk_says_once_what_is_not_closed", &[Need::LoopDisk]) {
        return;
    }
    let disk = LoopDisk::new(DISK_BYTES);
    let mut broker = BrokerSettings::new().data(disk.path().join("data")).start();
    create_topic(&broker.server(), &NewTopic::named("wide").partitions(16)).await.unwrap();
    let _ballast = disk.fill(0);
    assert!(!broker.terminate().success(), "{}", broker.log_text());
    let told = broker.log_lines("not closed cleanly; recovery runs at the next start");
    assert!(told.len() == 1 && told[0]["partitions"] == 16, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_from_a_disk_without_a_block_left_and_that_makes_room() {
    if !requires("records_are_deleted_from_a_disk_without_a_block_left_and_that_makes_room", &[Need::LoopDisk]) {
        return;
    }
    let disk = LoopDisk::new(DISK_BYTES);
    let settings = BrokerSettings::new().data(disk.path().join("data")).set("housekeeping_interval_ms", "100");
    let broker = settings.start();
    let server = broker.server();
    // What these tests send is from 1970, and would be too old.
    let for_ever = |topic: NewTopic| topic.config("retention.ms", "-1");
    create_topic(&server, &for_ever(small_topic())).await.unwrap();
    create_topic(&server, &for_ever(NewTopic::named("filler").partitions(1))).await.unwrap();
    let mut connection = RawConnection::introduced(broker.address()).await;
    let (topic, filler) = (connection.topic_id("logs").await, connection.topic_id("filler").await);
    let large = batch(&[&vec![b'x'; 400 << 10]], Compression::None);
    for _ in 0..16 {
        connection.produce(topic, &large).await.unwrap();
    }
    let _ballast = disk.fill(0);
    for topic in [topic, filler] {
        assert_is_full(&produce_until_refused(&mut connection, topic).await);
    }
    // To the last block.
    let mut crumbs = File::create(disk.path().join("crumbs")).unwrap();
    while crumbs.write_all(&[1; 512]).and_then(|()| crumbs.sync_data()).is_ok() {}
    assert!(disk.free_bytes() < 4 << 10, "the disk has {} bytes left: it was not full", disk.free_bytes());

    let client = Client::connect(&server).await.unwrap();
    let start = client.admin().delete_records("logs", PartitionId(0), None).await.unwrap();
    assert!(start.0 >= 16, "{start:?}");
    assert!(disk.free_bytes() > 4 << 20, "segments were not unlinked: {} bytes are free", disk.free_bytes());
    wait_until_produced(&mut connection, topic).await;
    wait_until_ready(&broker).await;
    // For the next time.
    wait_until("the reserve to be made again", async || disk.path().join("data/reserve").exists().then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deleting_all_records_frees_their_space_also_where_none_is_left_and_the_watermark_is_kept() {
    let name = "deleting_all_records_frees_their_space_also_where_none_is_left_and_the_watermark_is_kept";
    if !requires(name, &[Need::LoopDisk]) {
        return;
    }
    for low_water in [0, 8 << 20] {
        let disk = LoopDisk::new(DISK_BYTES);
        let settings = BrokerSettings::new().data(disk.path().join("data"));
        let broker = settings.set("disk_free_min_bytes", &low_water.to_string()).start();
        // One segment would take all of the disk.
        let topic = NewTopic::named("logs").partitions(1).config("segment.bytes", "1073741824");
        create_topic(&broker.server(), &topic).await.unwrap();
        let mut connection = RawConnection::introduced(broker.address()).await;
        let topic = connection.topic_id("logs").await;
        let large = batch(&[&vec![b'x'; 900 << 10]], Compression::None);
        let refusal = loop {
            if let Err(refusal) = connection.produce(topic, &large).await {
                break refusal;
            }
        };
        assert_is_full(&refusal);
        // Checkpoints and the like take a little of it.
        assert!(disk.free_bytes() + (1 << 20) >= low_water, "{} bytes are left of {low_water}", disk.free_bytes());
        let ballast = (low_water == 0).then(|| disk.fill(0));
        let before = disk.free_bytes();

        let client = Client::connect(&broker.server()).await.unwrap();
        client.admin().delete_records("logs", PartitionId(0), None).await.unwrap();
        // Little by little, lest it keep the disk from others.
        wait_until("their space", async || (disk.free_bytes() > before + DISK_BYTES / 2).then_some(())).await;
        wait_until_produced(&mut connection, topic).await;
        drop(ballast);
    }
}
