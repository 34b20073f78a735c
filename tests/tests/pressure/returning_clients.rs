//! Clients that send half of a large frame, fall silent, are given up, and come back at once: whoever sends large frames beside them waits for
//! few of them.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tidelog_client::NewTopic;
use tidelog_protocol::api::Api;
use tidelog_protocol::records::Compression;
use tidelog_protocol::{Message, ProtocolVersion, TopicId};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, batch, produce_request};
use tidelog_tests::workload::create_topic;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

/// In which frames of 16 MiB are completed, or several of less.
const BUDGET_BYTES: u64 = 64 << 20;
pub(crate) const SILENT: usize = 50;
/// So many frames are sent beside them, each on a connection of its own.
const FRAMES: usize = 8;

/// A broker that gives nobody up but those whom others wait for, with a topic that takes large batches.
pub(crate) async fn broker() -> BrokerProcess {
    let settings = BrokerSettings::new().set("frame_timeout_ms", "3600000").set("write_timeout_ms", "3600000");
    let broker = settings.set("memory_budget_bytes", &BUDGET_BYTES.to_string()).start();
    let topic = NewTopic::named("large").config("max.message.bytes", "8388608").config("durability", "written");
    create_topic(&broker.server(), &topic).await.unwrap();
    broker
}

/// The length of a produce request of Kafka's protocol, and its beginning.
fn head(frame_bytes: usize) -> Vec<u8> {
    let length = u32::try_from(frame_bytes).unwrap() - 4;
    [&length.to_be_bytes()[..], &0_u16.to_be_bytes(), &3_u16.to_be_bytes(), &1_u32.to_be_bytes(), &[0xff, 0xff]]
        .concat()
}

/// Comes from there with half of a frame, waits in silence until the broker has had enough, and comes again.
pub(crate) async fn come_back(broker: SocketAddr, from: Ipv4Addr, frame_bytes: usize, given_up: Arc<AtomicUsize>) {
    let half = [head(frame_bytes), vec![0; frame_bytes / 2]].concat();
    loop {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let mut stream = socket.connect(broker).await.unwrap();
        if stream.write_all(&half).await.is_ok() {
            let _ = stream.read_to_end(&mut Vec::new()).await;
        }
        given_up.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends a batch on a connection of its own; true where it was acknowledged.
async fn is_taken(broker: &BrokerProcess, topic_id: TopicId, payload: &[u8]) -> bool {
    let mut connection = RawConnection::introduced(broker.address()).await;
    let body = produce_request(topic_id).to_body(ProtocolVersion::CURRENT);
    let header = connection.header(Api::Produce as u16, &body, payload);
    connection.send(&[&header.encode(&[&body])[..], &body, payload].concat()).await;
    connection.next_frame().await.is_some_and(|frame| frame.header.api == Api::Produce as u16)
}

/// How many wait for memory in which large frames arrive.
pub(crate) fn waiting(broker: &BrokerProcess) -> usize {
    let metrics = broker.http("/metrics").body;
    let key = "tidelog_budget_waiting{pool=\"large_frames\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(key)?.parse().ok()).unwrap()
}

/// Sends frames of 6 MiB beside clients that come back from there with halves of so many bytes. Each of them waits for few others.
async fn waits_for_few(from: Ipv4Addr, frame_bytes: usize) {
    let broker = broker().await;
    let topic_id = RawConnection::introduced(broker.address()).await.topic_id("large").await;
    let payload = batch(&[&vec![b'x'; 6 << 20]], Compression::None);
    let given_up = Arc::new(AtomicUsize::new(0));
    let mut silent = JoinSet::new();
    for _ in 0..SILENT {
        silent.spawn(come_back(broker.address(), from, frame_bytes, given_up.clone()));
    }
    // Some have come back already.
    wait_until("many to wait", async || {
        (waiting(&broker) > SILENT / 2 && given_up.load(Ordering::Relaxed) > 5).then_some(())
    })
    .await;
    let mut first = Vec::new();
    for _ in 0..FRAMES {
        let before = given_up.load(Ordering::Relaxed);
        within_limit("a frame to be acknowledged", async {
            // One that pauses, on a machine that is busy, is given up as well, and sent again.
            while !is_taken(&broker, topic_id, &payload).await {}
        })
        .await;
        first.push(given_up.load(Ordering::Relaxed) - before);
    }
    println!("of those that come back so many were first: {first:?}");
    assert!(waiting(&broker) > SILENT / 2, "nobody was in the way to the end");
    // Where they were served in the order in which they came, each time it would be all of them, or half where every other one of the last came first.
    first.sort_unstable();
    assert!(first[FRAMES / 2] <= SILENT / 6 && first[FRAMES - 1] <= SILENT / 2, "they waited for too many: {first:?}");
    silent.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_frames_wait_for_few_of_those_that_come_back_with_larger_ones() {
    waits_for_few(Ipv4Addr::LOCALHOST, 15 << 20).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn large_frames_wait_for_few_of_those_that_come_back_from_elsewhere() {
    waits_for_few(Ipv4Addr::new(127, 0, 0, 2), 6 << 20).await;
}
