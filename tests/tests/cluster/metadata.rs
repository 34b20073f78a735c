//! Changes of metadata under bad conditions: impatient clients, kills in the middle, folders that are gone.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;

use tidelog_broker::Broker;
use tidelog_broker::config::{Config, PathText};
use tidelog_client::{Client, NewTopic};
use tidelog_protocol::ProtocolVersion;
use tidelog_protocol::api::{Api, Request};
use tidelog_protocol::frame::Flags;
use tidelog_protocol::messages::{
    CreateTopicRequest, Fault, ListOffsetsRequest, MetadataRequest, OffsetQuery, Position,
};
use tidelog_protocol::{ErrorCode, Message, PartitionId, TopicId, WireError};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::chance::seeded;
use tidelog_tests::contents::read_all;
use tidelog_tests::http::http_get;
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::RawConnection;
use tidelog_tests::stalling_disk::{Call, StallingDisk};
use tidelog_tests::workload::create_topic;

async fn produce(server: &str, topic: &str, records: usize) {
    let client = Client::connect(server).await.unwrap();
    let producer = client.producer().build().unwrap();
    let topic = producer.topic(topic).await.unwrap();
    for number in 0..records {
        topic.send(None, number.to_string().as_bytes()).await.unwrap().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_stop_waiting_cannot_make_two_topics_of_one_name() {
    let mut broker = BrokerProcess::start();
    let mut raw = RawConnection::introduced(broker.address()).await;
    let mut waiting = HashSet::new();
    for topic in 0..100 {
        for attempt in 0..4 {
            let name = format!("race-{topic}");
            let request = CreateTopicRequest {
                name,
                partitions: None,
                replication_factor: None,
                configs: vec![],
                validate_only: false,
            };
            let body = request.to_body(ProtocolVersion::CURRENT);
            let mut header = raw.header(CreateTopicRequest::API as u16, &body, &[]);
            header.timeout_ms = attempt + 1;
            raw.send(&[&header.encode(&[&body])[..], &body].concat()).await;
            waiting.insert(header.correlation);
        }
    }
    let mut gave_up = 0;
    while !waiting.is_empty() {
        let frame = raw.next_frame().await.unwrap();
        assert!(waiting.remove(&frame.header.correlation), "one answer each: {frame:?}");
        if frame.header.flags.contains(Flags::FAULT) {
            let fault: WireError = Fault::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap().into();
            gave_up += usize::from(fault.code == ErrorCode::DeadlineExceeded);
        }
    }
    assert!(gave_up > 0, "nobody stopped waiting");
    // The broker still changes metadata, and starts again on what it wrote.
    create_topic(&broker.server(), &NewTopic::named("after")).await.unwrap();
    broker.kill();
    broker.restart();
    create_topic(&broker.server(), &NewTopic::named("later")).await.unwrap();
    let client = Client::connect(&broker.server()).await.unwrap();
    let names: Vec<_> = client.admin().metadata().await.unwrap().topics.into_iter().map(|topic| topic.name).collect();
    let once: HashSet<_> = names.iter().collect();
    assert_eq!(names.len(), once.len(), "{names:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_during_a_deletion_leaves_neither_folders_nor_a_lost_name() {
    let mut rng = seeded("a_kill_during_a_deletion_leaves_neither_folders_nor_a_lost_name");
    let mut broker = BrokerProcess::start();
    for round in 0..3 {
        let topic = NewTopic::named("many").partitions(60).config("durability", "written");
        create_topic(&broker.server(), &topic).await.unwrap();
        let client = Client::connect(&broker.server()).await.unwrap();
        let deletion = tokio::spawn(async move { client.admin().delete_topic("many").await });
        tokio::time::sleep(std::time::Duration::from_micros(rng.u64(..40_000))).await;
        broker.kill();
        // Answered or not: the kill may have come first.
        let _ = deletion.await;
        broker.restart();
        let client = Client::connect(&broker.server()).await.unwrap();
        let left = fs::read_dir(broker.data())
            .unwrap()
            .filter(|entry| entry.as_ref().is_ok_and(|entry| entry.file_name().to_string_lossy().starts_with("many-")));
        let left = left.count();
        match client.admin().delete_topic("many").await {
            Ok(_) => assert_eq!(left, 60, "round {round}: the topic is there, and so are its folders"),
            Err(_) => assert_eq!(left, 0, "round {round}: the topic is gone, and so are its folders"),
        }
        create_topic(&broker.server(), &NewTopic::named("many").partitions(60)).await.unwrap();
        produce(&broker.server(), "many", 5).await;
        client.admin().delete_topic("many").await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_gone_is_told_not_replaced() {
    let mut broker = BrokerProcess::start();
    for topic in ["kept", "lost"] {
        create_topic(&broker.server(), &NewTopic::named(topic)).await.unwrap();
        produce(&broker.server(), topic, 3).await;
    }
    // A start with everything in its place: from then on a missing folder is a loss.
    assert!(broker.terminate().success());
    broker.restart();
    assert!(broker.terminate().success());
    fs::remove_dir_all(broker.data().join("lost-0")).unwrap();
    broker.restart();
    let ready = broker.http("/readyz");
    assert!(ready.body.contains("1 partition that could not be opened"), "{ready:?}");
    assert_eq!(read_all(&broker.server(), "kept").await[0].records.len(), 3);
    assert!(!broker.data().join("lost-0").exists());

    assert!(broker.terminate().success());
    fs::remove_dir_all(broker.data().join("__cluster_metadata-0")).unwrap();
    let refusal = BrokerSettings::new().data(broker.data()).try_start().expect_err("there is no metadata");
    assert!(refusal.sentence().contains("holds partitions but no metadata"), "{refusal:?}");
    assert!(broker.data().join("kept-0").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_the_metadata_costs_no_data() {
    let mut broker = BrokerProcess::start();
    create_topic(&broker.server(), &NewTopic::named("early")).await.unwrap();
    assert!(broker.terminate().success());
    let metadata = broker.data().join("__cluster_metadata-0");
    let copy = tempfile::tempdir().unwrap();
    copy_files(&metadata, copy.path());
    broker.restart();
    create_topic(&broker.server(), &NewTopic::named("later")).await.unwrap();
    produce(&broker.server(), "later", 3).await;
    assert!(broker.terminate().success());
    let newest = tempfile::tempdir().unwrap();
    copy_files(&metadata, newest.path());

    fs::remove_dir_all(&metadata).unwrap();
    fs::create_dir(&metadata).unwrap();
    copy_files(copy.path(), &metadata);
    let refusal = BrokerSettings::new().data(broker.data()).try_start().expect_err("the metadata are old");
    assert!(refusal.sentence().contains("is an old copy"), "{refusal:?}");

    fs::remove_dir_all(&metadata).unwrap();
    fs::create_dir(&metadata).unwrap();
    copy_files(newest.path(), &metadata);
    broker.restart();
    assert_eq!(read_all(&broker.server(), "later").await[0].records.len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn folders_that_somebody_put_into_the_data_folder_stay() {
    let mut broker = BrokerProcess::start();
    create_topic(&broker.server(), &NewTopic::named("mine")).await.unwrap();
    produce(&broker.server(), "mine", 3).await;
    assert!(broker.terminate().success());
    let data = broker.data().to_owned();
    fs::create_dir_all(data.join("notes-2026/drafts")).unwrap();
    fs::write(data.join("notes-2026/todo.txt"), "precious").unwrap();
    // As an operator does who is told to move a folder away.
    fs::rename(data.join("mine-0"), data.join("mine.aside-0")).unwrap();
    broker.restart();
    assert_eq!(fs::read_to_string(data.join("notes-2026/todo.txt")).unwrap(), "precious");
    assert!(fs::metadata(data.join("mine.aside-0/00000000000000000000.log")).unwrap().len() > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_does_not_grow_with_how_often_a_name_is_asked_for() {
    let broker = BrokerProcess::start();
    create_topic(&broker.server(), &NewTopic::named("t").partitions(20)).await.unwrap();
    let mut raw = RawConnection::introduced(broker.address()).await;
    let names = vec![tidelog_protocol::TopicName::new("t").unwrap(); 50_000];
    let answer = raw.call(&MetadataRequest { topics: Some(names) }, &[]).await.unwrap();
    assert_eq!(answer.topics.len(), 1);
}

fn copy_files(from: &std::path::Path, to: &std::path::Path) {
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_takes_stay_within_the_budget() {
    let broker = BrokerSettings::new().set("memory_budget_bytes", "16777216").start();
    create_topic(&broker.server(), &NewTopic::named("topic")).await.unwrap();
    let mut raw = RawConnection::introduced(broker.address()).await;
    let topic_id: TopicId = raw.topic_id("topic").await;
    let before = broker.figures().anonymous_bytes;
    // Each answer is larger than its question; none is read.
    let query = OffsetQuery { partition: PartitionId(9), position: Position::LATEST };
    let request = ListOffsetsRequest { topic_id, queries: vec![query; 10_000], committed_only: false, settled: false };
    let body = request.to_body(ProtocolVersion::CURRENT);
    let flood = async {
        for _ in 0..500 {
            let header = raw.header(Api::ListOffsets as u16, &body, &[]);
            raw.send(&[&header.encode(&[&body])[..], &body].concat()).await;
        }
    };
    // It gets stuck, as it should.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(12), flood).await;
    let grown = broker.figures().anonymous_bytes.saturating_sub(before);
    println!("{grown} bytes");
    assert!(grown < 80 << 20, "{grown} bytes for one client that does not read");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_metadata_log_whose_flush_failed_takes_no_more_changes_and_says_so() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), StallingDisk::default());
    let config = Config {
        listen: ([127, 0, 0, 1], 0).into(),
        admin_listen: ([127, 0, 0, 1], 0).into(),
        data: PathText(folder.path().join("data")),
        disk_free_min_bytes: 0,
        ..Config::default()
    };
    let broker = Broker::start_on(config.clone(), Arc::new(disk.clone())).await.unwrap();
    let server = broker.address().to_string();
    create_topic(&server, &NewTopic::named("before")).await.unwrap();
    // Producers get their ids from a block that the metadata gave: this broker has one now.
    produce(&server, "before", 3).await;
    let mut raw = RawConnection::introduced(broker.address()).await;
    let create = |name: &str| CreateTopicRequest {
        name: name.into(),
        partitions: None,
        replication_factor: None,
        configs: vec![],
        validate_only: false,
    };
    let ready = http_get(broker.admin_address(), "/readyz").unwrap();
    assert!(ready.status == 200 && ready.body.contains("ok    metadata"), "{ready:?}");

    disk.fail_next(Call::Flush, "__cluster_metadata-0");
    let error = raw.call(&create("struck"), &[]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::StorageFailed, "whether it holds is unknown: {error}");
    assert!(disk.has_failed());
    for name in ["struck", "after"] {
        let error = raw.call(&create(name), &[]).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::OutOfService, "{error}");
        assert!(error.message.contains("nothing was changed"), "{error}");
    }
    let ready = http_get(broker.admin_address(), "/readyz").unwrap();
    assert_eq!(ready.status, 503);
    assert!(ready.body.contains("FAULT metadata: the metadata log failed"), "{ready:?}");
    // What is there is served on.
    produce(&server, "before", 3).await;
    drop(raw);
    broker.shutdown().await.unwrap_err();

    let broker = Broker::start(config).await.unwrap();
    let server = broker.address().to_string();
    assert_eq!(read_all(&server, "before").await[0].records.len(), 6);
    // What was refused is not there; what failed may be, and either way changes go on.
    create_topic(&server, &NewTopic::named("after")).await.unwrap();
    let struck = create_topic(&server, &NewTopic::named("struck")).await.map_err(|error| error.code());
    assert!(matches!(struck, Ok(_) | Err(Some(ErrorCode::TopicExists))), "{struck:?}");
    broker.shutdown().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_topic_gives_its_disk_space_back_at_once() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    create_topic(&server, &NewTopic::named("short-lived")).await.unwrap();
    produce(&server, "short-lived", 3).await;
    read_all(&server, "short-lived").await;
    Client::connect(&server).await.unwrap().admin().delete_topic("short-lived").await.unwrap();
    // An open descriptor keeps the blocks of a file that has no name any more.
    wait_until("the files to be closed", async || {
        let open = fs::read_dir(format!("/proc/{}/fd", broker.pid())).unwrap();
        let gone = |link: &std::path::PathBuf| link.to_string_lossy().ends_with(".log (deleted)");
        let held = open.filter_map(|entry| fs::read_link(entry.unwrap().path()).ok()).filter(gone).count();
        (held == 0).then_some(())
    })
    .await;
}
