//! The end of a broker: what was acknowledged stays, the next start has nothing to look for, clients come back by themselves.

use std::sync::Arc;

use rustix::process::Signal;
use tidelog_broker::config::PathText;
use tidelog_broker::{Broker, Config};
use tidelog_client::{Client, NewTopic, Record, Start};
use tidelog_protocol::api::Api;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::find_coordinator::FindCoordinatorRequest;
use tidelog_protocol::kafka::join_group::{JoinGroupRequest, JoinGroupRequestProtocol};
use tidelog_protocol::messages::{Acks, CommittedOffset, ProduceRequest, WaitForRequest};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, Message, Offset, PartitionId, ProtocolVersion, TopicId};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::broker_process::BrokerSettings;
use tidelog_tests::checkers::{ALL, Run, assert_holds, duplicates};
use tidelog_tests::contents::read_all;
use tidelog_tests::history::History;
use tidelog_tests::patience::{LIMIT, wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, batch, produce_request};
use tidelog_tests::raw_kafka::RawKafka;
use tidelog_tests::workload::{Workload, create_topic, wait_for_acks};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

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
    // What the broker took it answered, and what it did not take it never saw: nothing was sent twice.
    assert_eq!(duplicates(&run), 0);
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
async fn a_consumer_reads_on_through_ends_of_every_kind_without_a_gap() {
    let mut broker = BrokerProcess::start();
    let server = broker.server();
    create_topic(&server, &NewTopic::named("load")).await.unwrap();
    let client = Client::connect(&server).await.unwrap();
    let mut consumer = client.consumer().topic("load").start(Start::Beginning).build().await.unwrap();
    let history = Arc::new(History::new("consumer"));
    let load = Workload { producers: 1, ..Workload::on("load") }.start(&server, &history).await;
    let mut expected = 0;
    let mut read_on = async |more: u64| {
        let goal = expected + more;
        while expected < goal {
            let record = within_limit("a record", consumer.next()).await.unwrap().unwrap();
            assert_eq!(record.offset.0, expected);
            expected += 1;
        }
    };
    read_on(500).await;
    assert!(broker.terminate().success());
    broker.restart();
    read_on(1_000).await;
    broker.kill();
    broker.restart();
    read_on(1_000).await;
    load.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_ends_leaves_its_folder_to_another() {
    let folder = tempfile::tempdir().unwrap();
    let settings = || BrokerSettings::new().data(folder.path().join("data"));
    let mut first = settings().start();
    create_topic(&first.server(), &NewTopic::named("kept")).await.unwrap();
    assert_eq!(settings().try_start().unwrap_err().code, Some(1));
    assert!(first.terminate().success());
    let second = settings().start();
    assert_ne!(first.address(), second.address());
    assert_eq!(read_all(&second.server(), "kept").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_does_not_wait_for_a_client_that_does_not_take_its_answers() {
    let mut broker = BrokerSettings::new().set("shutdown_timeout_ms", "600000").start();
    let server = broker.server();
    create_topic(&server, &NewTopic::named("load")).await.unwrap();
    let history = Arc::new(History::new("second-signal"));
    let load = Workload { value_bytes: 10_000, ..Workload::on("load") }.start(&server, &history).await;
    wait_for_acks(&history, 2_000).await;
    load.stop().await;
    // So much is on its way to this client that the broker cannot finish with it.
    let mut connection = tidelog_tests::raw_connection::RawConnection::introduced(broker.address()).await;
    let topic_id = connection.topic_id("load").await;
    let subscribe = tidelog_protocol::messages::SubscribeRequest {
        topic_id,
        partition: tidelog_protocol::PartitionId(0),
        position: tidelog_protocol::messages::Position::EARLIEST,
        leader_epoch: None,
        isolation: tidelog_protocol::messages::Isolation::ReadUncommitted,
        credit_bytes: 1 << 30,
        item_bytes_max: 4 << 20,
        last_epoch: None,
        nearby: false,
        settled: false,
    };
    let _ = connection.ask(&subscribe, &[]).await;
    wait_until("bytes on their way", async || {
        let metrics = broker.http("/metrics").body;
        metrics
            .lines()
            .any(|line| line.starts_with("tidelog_topic_out_bytes_total") && !line.ends_with(" 0"))
            .then_some(())
    })
    .await;
    broker.signal(Signal::TERM);
    wait_until("the drain", async || (!broker.log_lines("SIGTERM: shutting down").is_empty()).then_some(())).await;
    assert!(broker.is_alive(), "it drains");
    // What follows the first signal at once counts as the same.
    wait_until("a second signal to be heard", async || {
        let ended = !broker.is_alive();
        if !ended {
            broker.signal(Signal::TERM);
        }
        ended.then_some(())
    })
    .await;
    assert_eq!(broker.wait_for_end().code(), Some(1));
    assert!(broker.log_text().contains("a second signal"), "{}", broker.log_text());
    broker.restart();
    let run = Run { sent: history.sent(), contents: read_all(&server, "load").await };
    assert_holds(&run, ALL);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn clients_that_never_stop_sending_are_told_to_go_all_the_same() {
    let settings = BrokerSettings::new().set("network_threads", "1").set("shutdown_timeout_ms", "600000");
    let mut broker = settings.start();
    create_topic(&broker.server(), &NewTopic::named("load").config("durability", "written")).await.unwrap();
    let mut sending = Vec::new();
    for _ in 0..3 {
        let mut raw = RawConnection::introduced(broker.address()).await;
        let request = ProduceRequest { acks: Acks::None, ..produce_request(raw.topic_id("load").await) };
        let body = request.to_body(ProtocolVersion::CURRENT);
        let payload = batch(&[b"value"], Compression::None);
        let header = raw.header(Api::Produce as u16, &body, &payload);
        let frames = [&header.encode(&[&body])[..], &body, &payload].concat().repeat(1_000);
        let (mut reads, mut writes) = raw.socket.into_split();
        let writing = tokio::spawn(async move { while writes.write_all(&frames).await.is_ok() {} });
        let farewell = tokio::spawn(async move { reads.read_u8().await.is_ok() });
        sending.push((writing, farewell));
    }
    wait_until("records", async || {
        let metrics = broker.http("/metrics").body;
        let line = metrics.lines().find_map(|line| line.strip_prefix("tidelog_topic_records_in_total"));
        line.is_some_and(|line| !line.ends_with(" 0")).then_some(())
    })
    .await;
    broker.signal(Signal::TERM);
    for (writing, farewell) in sending {
        assert!(within_limit("a farewell", farewell).await.unwrap(), "it says something before it closes");
        writing.abort();
    }
    assert!(broker.wait_for_end().success(), "{}", broker.log_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_says_anything_keeps_no_broker_from_ending() {
    let settings = BrokerSettings::new().set("handshake_timeout_ms", "600000").set("shutdown_timeout_ms", "600000");
    let mut broker = settings.start();
    let mut silent = tokio::net::TcpStream::connect(broker.address()).await.unwrap();
    let mut halfway = tokio::net::TcpStream::connect(broker.address()).await.unwrap();
    halfway.write_all(&[0]).await.unwrap();
    let metrics = || broker.http("/metrics").body;
    wait_until("both connections", async || metrics().contains("tidelog_connections 2").then_some(())).await;
    assert!(broker.terminate().success(), "{}", broker.log_text());
    for socket in [&mut silent, &mut halfway] {
        assert!(socket.read_u8().await.is_err(), "it is closed");
    }
}

fn committed(topic_id: TopicId, offset: u64) -> CommittedOffset {
    let (partition, offset) = (PartitionId(0), Offset(offset));
    CommittedOffset { topic_id, partition, offset, leader_epoch: None, metadata: String::new() }
}

fn join() -> JoinGroupRequest {
    JoinGroupRequest {
        group_id: "joined".into(),
        session_timeout_ms: 300_000,
        rebalance_timeout_ms: 300_000,
        protocol_type: "consumer".into(),
        protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: Vec::new().into() }],
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_group_hears_at_once_that_the_broker_ends_and_asks_the_next_life() {
    let settings = BrokerSettings::new().set("shutdown_timeout_ms", "600000");
    let mut broker = settings.start();
    create_topic(&broker.server(), &NewTopic::named("logs")).await.unwrap();
    let client = Client::connect(&broker.server()).await.unwrap();
    client.producer().build().unwrap().send(Record::to("logs").value("one")).await.unwrap().await.unwrap();
    let mut native = RawConnection::introduced(broker.address()).await;
    let topic_id = native.topic_id("logs").await;
    client.admin().set_group_offsets("readers", vec![committed(topic_id, 0)]).await.unwrap();
    let (partition, offset) = (PartitionId(0), Offset(0));
    let request = WaitForRequest { group: "readers".into(), topic_id, partition, offset };
    let native_wait = native.ask(&request, &[]).await;
    // The generation of the first has begun; the second waits for it to join again.
    let mut kafka = RawKafka::open(broker.address()).await;
    wait_until("a coordinator", async || {
        let find = FindCoordinatorRequest { coordinator_keys: vec!["joined".into()], ..Default::default() };
        kafka.call(&find, 6).await;
        (kafka.call(&join(), 3).await.error_code == KafkaError::None.code()).then_some(())
    })
    .await;
    let kafka_wait = kafka.ask(&join(), 3).await;
    let waiting = {
        let admin = client.admin();
        tokio::spawn(async move { admin.wait_for_group("readers", "logs", partition, offset, LIMIT).await })
    };
    wait_until("all three to wait", async || {
        let metrics = broker.http("/metrics").body;
        metrics.lines().any(|line| line == "tidelog_requests_under_way 3").then_some(())
    })
    .await;

    broker.signal(Signal::TERM);
    let told = RawConnection::outcome(&native.answer(native_wait).await).unwrap_err();
    assert_eq!(told.code, ErrorCode::ShuttingDown, "{told}");
    let told = kafka.answer::<JoinGroupRequest>(kafka_wait, 3).await;
    assert_eq!(told.error_code, KafkaError::NotCoordinator.code());
    assert!(broker.wait_for_end().success(), "{}", broker.log_text());
    assert!(broker.log_lines("some requests were not done in time").is_empty(), "{}", broker.log_text());

    broker.restart();
    client.admin().set_group_offsets("readers", vec![committed(topic_id, 1)]).await.unwrap();
    assert_eq!(within_limit("the next life to answer", waiting).await.unwrap().unwrap(), Offset(1));
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
    assert_eq!(contents[0].records.len(), 1);
    broker.shutdown().await.unwrap();
}
