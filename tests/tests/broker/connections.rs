//! How connections end, and what an operator hears of it.

use tidelog_client::NewTopic;
use tidelog_protocol::messages::{HelloRequest, Isolation, PeerHello, Position, SubscribeRequest};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{BrokerId, ClusterId, ErrorCode, IncarnationId, PartitionId};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::command::CommandLine;
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::requirements::{Need, requires};
use tidelog_tests::workload::create_topic;
use tokio::io::AsyncReadExt;

/// Ends a connection as a process does that closes it with bytes unread.
fn reset(connection: RawConnection) {
    connection.socket.set_zero_linger().unwrap();
}

async fn connections(broker: &BrokerProcess, count: usize) {
    let line = format!("tidelog_connections {count}");
    wait_until("connections to end", async || broker.http("/metrics").body.contains(&line).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_without_a_farewell_is_no_news_and_one_that_breaks_off_is() {
    let broker = BrokerProcess::start();
    create_topic(&broker.server(), &NewTopic::named("news")).await.unwrap();
    let mut raw = RawConnection::introduced(broker.address()).await;
    let topic_id = raw.topic_id("news").await;
    raw.produce(topic_id, &batch(&[&[7; 100_000]], Compression::None)).await.unwrap();
    let subscribe = SubscribeRequest {
        topic_id,
        partition: PartitionId(0),
        leader_epoch: None,
        position: Position::EARLIEST,
        isolation: Isolation::ReadUncommitted,
        credit_bytes: 1 << 20,
        item_bytes_max: 1 << 20,
        last_epoch: None,
        nearby: false,
        settled: false,
    };
    raw.call(&subscribe, &[]).await.unwrap();
    raw.next_frame().await.unwrap();
    let idle = RawConnection::introduced(broker.address()).await;
    reset(raw);
    reset(idle);
    connections(&broker, 0).await;
    assert_eq!(broker.log_lines("connection lost").len(), 0, "{}", broker.log_text());

    // The other way round: half a frame is a loss.
    let mut broken = RawConnection::introduced(broker.address()).await;
    let header = broken.header(1, &[0; 100], &[]);
    broken.send(&header.encode(&[&[0; 100]])).await;
    drop(broken);
    wait_until("the news", async || (broker.log_lines("connection lost").len() == 1).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_clients_cause_again_and_again_is_told_once_in_a_while() {
    const TIMES: usize = 60;
    let settings = BrokerSettings::new().set("connections_max", "2");
    let broker = settings.start();
    // Each is over before the next.
    for _ in 0..TIMES {
        let mut stray = RawConnection::open(broker.address()).await;
        stray.send(&[0xff; 64]).await;
        stray.until_closed().await;
        connections(&broker, 0).await;
    }
    for _ in 0..TIMES {
        let mut broken = RawConnection::introduced(broker.address()).await;
        let header = broken.header(1, &[0; 100], &[]);
        broken.send(&header.encode(&[&[0; 100]])).await;
        drop(broken);
        connections(&broker, 0).await;
    }
    let _all_there_may_be =
        [RawConnection::introduced(broker.address()).await, RawConnection::introduced(broker.address()).await];
    for _ in 0..TIMES {
        let mut refused = tokio::net::TcpStream::connect(broker.address()).await.unwrap();
        let _ = refused.read(&mut [0; 1]).await;
    }
    wait_until("all to be refused", async || {
        broker.http("/metrics").body.contains(&format!("tidelog_connections_refused_total {TIMES}")).then_some(())
    })
    .await;
    for message in ["connection cut off", "connection lost", "connection refused"] {
        let told = broker.log_lines(message).len();
        // One at once and then one in ten seconds, however slow this is.
        assert!((1..TIMES / 3).contains(&told), "{message}: told {told} times");
    }
    // And whoever is refused is not sent to look for a broker that is there.
    let refused = CommandLine::of("tidelog").args(["--server", &broker.server(), "--timeout", "2s", "ping"]).run();
    let told = refused.expect_code(4).stderr;
    assert!(told.contains("connections_max") && !told.contains("Start one"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_short_of_descriptors_takes_as_many_connections_as_it_can_serve_and_says_why_no_more() {
    let name = "a_broker_short_of_descriptors_takes_as_many_connections_as_it_can_serve_and_says_why_no_more";
    if !requires(name, &[Need::Prlimit]) {
        return;
    }
    let broker = BrokerSettings::new().under(["prlimit", "--nofile=256:256"]).start();
    let mut open = Vec::new();
    // What is left of them beside what the broker itself has open.
    for _ in 0..128 {
        open.push(RawConnection::introduced(broker.address()).await);
    }
    let ping = || CommandLine::of("tidelog").args(["--server", &broker.server(), "ping"]).run();
    for _ in 0..3 {
        let told = ping().expect_code(4).stderr;
        assert!(told.contains("128 connections are open") && told.contains("ulimit -n"), "{told}");
        assert!(!told.contains("Start one"), "{told}");
    }
    // Another broker is served all the same; this one belongs elsewhere, and is told so.
    let mut peer = RawConnection::prefaced(broker.address()).await;
    let elsewhere = PeerHello {
        cluster_id: ClusterId([9; 16]),
        broker_id: BrokerId(7),
        incarnation: IncarnationId([7; 16]),
        expects: Some(BrokerId(1)),
    };
    let hello = HelloRequest { client_id: String::new(), software: String::new(), peer: Some(elsewhere) };
    assert_eq!(peer.call(&hello, &[]).await.unwrap_err().code, ErrorCode::WrongPeer);
    drop(peer);
    connections(&broker, 128).await;
    // Who says nothing is told nothing, however many they are, and keeps no descriptor for long.
    let mut silent = Vec::new();
    for _ in 0..300 {
        silent.push(tokio::net::TcpStream::connect(broker.address()).await.unwrap());
    }
    for mut socket in silent {
        let end = within_limit("the end of a connection that is too many", socket.read(&mut [0])).await;
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    assert_eq!(broker.log_lines("connection refused").len(), 1, "{}", broker.log_text());
    assert!(broker.log_lines("cannot accept").is_empty(), "{}", broker.log_text());
    drop(open.pop());
    connections(&broker, 127).await;
    let _ = ping().success();
}
