//! The memory budget under those who hold on to it: half frames, answers that nobody takes, payloads that nobody asked for. The others
//! are served on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tidelog_client::NewTopic;
use tidelog_protocol::api::Api;
use tidelog_protocol::frame::Flags;
use tidelog_protocol::messages::{Fault, ListOffsetsRequest, OffsetQuery, Position};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{ErrorCode, Message, PartitionId, ProtocolVersion, TopicId, WireError};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::patience::{wait_until, within_limit};
use tidelog_tests::raw_connection::{RawConnection, RawFrame, batch, produce_request};
use tidelog_tests::workload::create_topic;
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;

use crate::slow_clients::steadily;

const BUDGET_BYTES: u64 = 16 << 20;
/// What requests that bring no batches have where they have enough to fill an outbox.
const REQUESTS_BYTES: u64 = 9 * BUDGET_BYTES / 32;

/// A broker with a topic that takes large batches.
async fn broker(settings: BrokerSettings) -> (BrokerProcess, TopicId) {
    broker_with_memory(settings, BUDGET_BYTES).await
}

async fn broker_with_memory(settings: BrokerSettings, budget_bytes: u64) -> (BrokerProcess, TopicId) {
    let broker = settings.set("memory_budget_bytes", &budget_bytes.to_string()).start();
    let topic = NewTopic::named("large").config("max.message.bytes", "8388608").config("durability", "written");
    create_topic(&broker.server(), &topic).await.unwrap();
    let topic_id = RawConnection::introduced(broker.address()).await.topic_id("large").await;
    (broker, topic_id)
}

/// A produce request as it goes over the wire.
fn frame(connection: &mut RawConnection, topic_id: TopicId, value_bytes: usize) -> Vec<u8> {
    let body = produce_request(topic_id).to_body(ProtocolVersion::CURRENT);
    let payload = batch(&[&vec![b'x'; value_bytes]], Compression::None);
    let header = connection.header(Api::Produce as u16, &body, &payload);
    [&header.encode(&[&body])[..], &body, &payload].concat()
}

/// Connections that each sent the first bytes of a large frame, and what they have not sent yet.
async fn half_frames(
    broker: &BrokerProcess,
    topic_id: TopicId,
    count: usize,
    value_bytes: usize,
    sent: usize,
) -> Vec<(RawConnection, Vec<u8>)> {
    let mut half = Vec::new();
    for _ in 0..count {
        let mut connection = RawConnection::introduced(broker.address()).await;
        let mut bytes = frame(&mut connection, topic_id, value_bytes);
        let rest = bytes.split_off(sent);
        connection.send(&bytes).await;
        half.push((connection, rest));
    }
    half
}

/// Sends the rests, all at once, and waits for the acks.
async fn complete(half: Vec<(RawConnection, Vec<u8>)>) {
    let tasks: Vec<_> = half
        .into_iter()
        .map(|(mut connection, rest)| {
            tokio::spawn(async move {
                connection.send(&rest).await;
                let frame = within_limit("an ack", connection.next_frame()).await.expect("an ack");
                assert_eq!(frame.header.api, Api::Produce as u16);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Sends a frame until it is acknowledged: one that pauses while others wait is given up, and sent again.
async fn deliver(address: SocketAddr, topic_id: TopicId, value_bytes: usize) {
    let delivery = async {
        loop {
            let mut connection = RawConnection::introduced(address).await;
            let bytes = frame(&mut connection, topic_id, value_bytes);
            connection.send(&bytes).await;
            if connection.next_frame().await.is_some_and(|frame| frame.header.api == Api::Produce as u16) {
                return;
            }
        }
    };
    within_limit("a frame to be acknowledged", delivery).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_together_outgrow_the_memory_are_completed_one_after_the_other() {
    let (broker, topic_id) = broker(endless()).await;
    // Few large ones, and many that are only just over what a busy connection reads at once.
    for (count, value_bytes) in [(6, 6 << 20), (64, 280 << 10)] {
        let mut tasks = JoinSet::new();
        for _ in 0..count {
            tasks.spawn(deliver(broker.address(), topic_id, value_bytes));
        }
        tasks.join_all().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_closes_while_its_frame_waits_for_memory_gives_back_what_it_holds() {
    let (broker, topic_id) = broker(endless()).await;
    let half = half_frames(&broker, topic_id, 6, 6 << 20, 3 << 20).await;
    wait_until("frames to wait", async || (pool(&broker, "waiting", "large_frames") > 0).then_some(())).await;
    drop(half);
    wait_until("their end", async || broker.http("/metrics").body.contains("tidelog_connections 0\n").then_some(()))
        .await;
    complete(half_frames(&broker, topic_id, 1, 6 << 20, 3 << 20).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_never_get_the_memory_they_wait_for_are_given_up() {
    let settings = BrokerSettings::new().set("frame_timeout_ms", "1000");
    let (broker, topic_id) = broker(settings).await;
    let half = half_frames(&broker, topic_id, 8, 6 << 20, 3 << 20).await;
    for (mut connection, _rest) in half {
        let said = connection.last_words().await;
        let expected = ["not complete within", "out of memory", "too little progress"];
        assert!(expected.iter().any(|words| said.contains(words)), "{said}");
    }
    complete(half_frames(&broker, topic_id, 1, 6 << 20, 3 << 20).await).await;
}

/// Half frames may stay for an hour here: whoever is served beside them is served in spite of them.
fn endless() -> BrokerSettings {
    let settings = BrokerSettings::new().set("frame_timeout_ms", "3600000").set("write_timeout_ms", "3600000");
    // Every connection that is cut off, not one in a while.
    settings.set("log_level", "info,tidelog_broker::net::news=debug")
}

#[tokio::test(flavor = "multi_thread")]
async fn large_half_frames_keep_no_small_frame_waiting() {
    let (broker, topic_id) = broker(endless()).await;
    let half = half_frames(&broker, topic_id, 8, 6 << 20, 3 << 20).await;
    // The two shares of large frames are used up, and others wait for them.
    wait_until("large frames to wait", async || (pool(&broker, "waiting", "large_frames") > 0).then_some(())).await;
    let mut connection = RawConnection::introduced(broker.address()).await;
    let payload = batch(&[&[b'x'; 300_000]], Compression::None);
    for _ in 0..20 {
        connection.produce(topic_id, &payload).await.unwrap();
    }
    assert_eq!(pool(&broker, "waiting", "small_frames"), 0);
    drop(half);
}

#[tokio::test(flavor = "multi_thread")]
async fn silent_clients_lose_the_memory_that_others_wait_for() {
    let (broker, topic_id) = broker(endless()).await;
    for (count, value_bytes, sent, name) in
        [(24, 400 << 10, 390 << 10, "small_frames"), (6, 6 << 20, 3 << 20, "large_frames")]
    {
        let half = half_frames(&broker, topic_id, count, value_bytes, sent).await;
        wait_until("frames to wait", async || (pool(&broker, "waiting", name) > 0).then_some(())).await;
        assert!(pool(&broker, "lent_bytes", name) > 0);
        // One that behaves comes through, behind all of them.
        complete(half_frames(&broker, topic_id, 1, value_bytes, 1_000).await).await;
        wait_until("the reason", async || is_cut_off(&broker, "too little progress").then_some(())).await;
        drop(half);
        wait_until("their end", async || (pool(&broker, "waiting", name) == 0).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_takes_no_answers_loses_the_memory_that_others_wait_for() {
    let (broker, topic_id) = roomy(endless()).await;
    let _jammed = jammed(&broker, topic_id).await;
    let mut other = RawConnection::introduced(broker.address()).await;
    other.call(&many_offsets(topic_id), &[]).await.unwrap();
    wait_until("the reason", async || is_cut_off(&broker, "took none").then_some(())).await;
}

/// Sends a byte from time to time until the broker has had enough.
async fn drip(mut connection: RawConnection, rest: Vec<u8>) {
    for byte in rest {
        if connection.socket.write_all(&[byte]).await.is_err() {
            break;
        }
        // It is a drip by this alone.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn large_frames_do_not_wait_for_each_of_many_that_stalled_before() {
    /// To wait a second for each would be longer than any test waits.
    const STALLED: usize = 120;
    let (broker, topic_id) = broker(endless()).await;
    let mut half = half_frames(&broker, topic_id, STALLED, 6 << 20, 1 << 20).await;
    let drips: JoinSet<_> = half.split_off(STALLED / 2).into_iter().map(|(c, rest)| drip(c, rest)).collect();
    wait_until("frames to wait", async || (pool(&broker, "waiting", "large_frames") > 10).then_some(())).await;
    for _ in 0..3 {
        deliver(broker.address(), topic_id, 6 << 20).await;
    }
    assert!(pool(&broker, "waiting", "large_frames") > 0, "nobody was in the way to the end");
    wait_until("the reason", async || is_cut_off(&broker, "too little progress").then_some(())).await;
    // The one that all wait for is judged sooner than the others.
    wait_until("one that was to be completed", async || is_cut_off(&broker, "came within 500.0ms").then_some(())).await;
    drop((half, drips));
}

#[tokio::test(flavor = "multi_thread")]
async fn large_frames_do_not_wait_for_each_of_many_that_come_slowly_but_steadily() {
    let (broker, topic_id) = broker(endless()).await;
    // Enough for a small frame; each would take a minute, one after the other.
    let half = half_frames(&broker, topic_id, 40, 6 << 20, 1 << 10).await;
    let crawls: JoinSet<_> =
        half.into_iter().map(async |(mut connection, rest)| steadily(&mut connection, &rest, 12 << 10).await).collect();
    wait_until("frames to wait", async || (pool(&broker, "waiting", "large_frames") > 0).then_some(())).await;
    for _ in 0..3 {
        deliver(broker.address(), topic_id, 6 << 20).await;
    }
    // As long as only such wait, a little is enough. For others that are faster more is asked, and sooner of the one that all wait for.
    wait_until("one that was too slow for others", async || is_cut_off(&broker, "came within 250.0ms").then_some(()))
        .await;
    drop(crawls);
}

/// Sends frames without end, slowly but steadily, and counts those that came to an end: whole, or given up by the broker.
async fn trickle(address: SocketAddr, topic_id: TopicId, value_bytes: usize, ended: Arc<AtomicUsize>) {
    loop {
        let mut connection = RawConnection::introduced(address).await;
        let bytes = frame(&mut connection, topic_id, value_bytes);
        if steadily(&mut connection, &bytes, 32 << 10).await {
            connection.next_frame().await;
        }
        ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_come_quickly_do_not_wait_for_those_that_come_slowly() {
    let (broker, topic_id) = broker_with_memory(endless(), 64 << 20).await;
    for (slow_bytes, quick_bytes, name) in
        [(900 << 10, 800 << 10, "small_frames"), (1_900 << 10, 1_800 << 10, "large_frames")]
    {
        let ended = Arc::new(AtomicUsize::new(0));
        let mut slow = JoinSet::new();
        for _ in 0..40 {
            slow.spawn(trickle(broker.address(), topic_id, slow_bytes, ended.clone()));
        }
        wait_until("frames to wait", async || (pool(&broker, "waiting", name) > 10).then_some(())).await;
        let before = ended.load(Ordering::Relaxed);
        let mut connection = RawConnection::introduced(broker.address()).await;
        let payload = batch(&[&vec![b'x'; quick_bytes]], Compression::None);
        for _ in 0..40 {
            connection.produce(topic_id, &payload).await.unwrap();
        }
        // In the order in which they came, ten and more of them would be first each time.
        let first = ended.load(Ordering::Relaxed) - before;
        assert!(first < 20, "{first} of those that come slowly were first ({name})");
        slow.shutdown().await;
        wait_until("their end", async || (pool(&broker, "waiting", name) == 0).then_some(())).await;
    }
}

/// Sends frames without end: one at once that is no good request, then one that begins quickly and goes on slowly. Counts those that
/// came to an end.
async fn show_off(address: SocketAddr, topic_id: TopicId, value_bytes: usize, ended: Arc<AtomicUsize>) {
    loop {
        let mut connection = RawConnection::introduced(address).await;
        let mut bad = frame(&mut connection, topic_id, 200 << 10);
        // The checksum of its batch does not match.
        if let Some(last) = bad.last_mut() {
            *last ^= 1;
        }
        connection.send(&bad).await;
        let Some(answer) = connection.next_frame().await else { continue };
        assert!(answer.header.flags.contains(Flags::FAULT));
        let bytes = frame(&mut connection, topic_id, value_bytes);
        let (burst, rest) = bytes.split_at(100 << 10);
        if connection.socket.write_all(burst).await.is_ok() && steadily(&mut connection, rest, 28 << 10).await {
            connection.next_frame().await;
        }
        ended.fetch_add(1, Ordering::Relaxed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_come_quickly_do_not_wait_for_those_who_only_showed_that_they_can() {
    let (broker, topic_id) = broker_with_memory(endless(), 64 << 20).await;
    let ended = Arc::new(AtomicUsize::new(0));
    let mut slow = JoinSet::new();
    for _ in 0..60 {
        slow.spawn(show_off(broker.address(), topic_id, 1_300 << 10, ended.clone()));
    }
    wait_until("frames to wait", async || (pool(&broker, "waiting", "large_frames") > 20).then_some(())).await;
    let before = ended.load(Ordering::Relaxed);
    let mut connection = RawConnection::introduced(broker.address()).await;
    let payload = batch(&[&vec![b'x'; 1_800 << 10]], Compression::None);
    for _ in 0..20 {
        connection.produce(topic_id, &payload).await.unwrap();
    }
    let first = ended.load(Ordering::Relaxed) - before;
    println!("{first} of them were first");
    assert!(first < 20, "{first} of those that come slowly were first");
    slow.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_long_for_memory_is_seen_where_operators_look() {
    let (broker, topic_id) = broker(endless()).await;
    assert_eq!(broker.http("/readyz").status, 200);
    // One after the other is completed, or given up where the machine makes it slow: both take a while.
    let half = half_frames(&broker, topic_id, 40, 6 << 20, 1 << 20).await;
    // As fast as is asked of anybody while others wait, and no faster.
    let trickles: JoinSet<_> = half
        .into_iter()
        .map(async |(mut connection, rest)| steadily(&mut connection, &rest, 512 << 10).await)
        .collect();
    let told = wait_until("the probe to tell", async || {
        let ready = broker.http("/readyz");
        (ready.status == 503).then_some(ready.body)
    })
    .await;
    let line = told.lines().find(|line| line.starts_with("FAULT")).unwrap();
    assert!(line.starts_with("FAULT memory: "), "{told}");
    assert!(line.contains("connections wait for memory (large_frames)"), "{told}");
    assert!(line.contains("memory_budget_bytes"), "what can be done about it: {told}");
    drop(trickles);
    wait_until("their end", async || (broker.http("/readyz").status == 200).then_some(())).await;
}

/// True where the log says of some connection that it was cut off for this.
fn is_cut_off(broker: &BrokerProcess, why: &str) -> bool {
    let told = broker.log_lines("connection cut off");
    told.iter().any(|line| line["ended"].as_str().is_some_and(|said| said.contains(why)))
}

/// A request that takes memory, and has an answer that does.
fn many_offsets(topic_id: TopicId) -> ListOffsetsRequest {
    let query = OffsetQuery { partition: PartitionId(0), position: Position::LATEST };
    ListOffsetsRequest { topic_id, queries: vec![query; 10_000], committed_only: false, settled: false }
}

/// A broker where [`jammed`] can be.
async fn roomy(settings: BrokerSettings) -> (BrokerProcess, TopicId) {
    broker_with_memory(settings, 32 * REQUESTS_BYTES).await
}

/// A connection that takes none of its answers, with requests that wait behind them and hold all the memory there is for requests.
async fn jammed(broker: &BrokerProcess, topic_id: TopicId) -> RawConnection {
    async fn patient(connection: &mut RawConnection, api: Api, body: &[u8]) {
        let mut header = connection.header(api as u16, body, &[]);
        header.timeout_ms = 0;
        connection.send(&[&header.encode(&[body])[..], body].concat()).await;
    }
    let mut connection = RawConnection::introduced(broker.address()).await;
    let body = many_offsets(topic_id).to_body(ProtocolVersion::CURRENT);
    // As many fit; to look after each of them takes a slow machine too long.
    for _ in 0..REQUESTS_BYTES / body.len() as u64 {
        patient(&mut connection, Api::ListOffsets, &body).await;
    }
    wait_until("all memory to be held", async || {
        if lent_bytes(broker) + body.len() as u64 > REQUESTS_BYTES {
            return Some(());
        }
        patient(&mut connection, Api::ListOffsets, &body).await;
        None
    })
    .await;
    connection
}

/// What is lent to requests under way.
fn lent_bytes(broker: &BrokerProcess) -> u64 {
    pool(broker, "lent_bytes", "requests")
}

/// What the metrics say of a part of the memory budget.
fn pool(broker: &BrokerProcess, metric: &str, name: &str) -> u64 {
    let metrics = broker.http("/metrics").body;
    let key = format!("tidelog_budget_{metric}{{pool=\"{name}\"}} ");
    let value = metrics.lines().find_map(|line| line.strip_prefix(&key)?.parse().ok());
    value.unwrap_or_else(|| panic!("it is missing in {metrics}"))
}

fn fault(frame: &RawFrame) -> WireError {
    assert!(frame.header.flags.contains(Flags::FAULT), "it succeeded: {frame:?}");
    Fault::from_body(&frame.body, ProtocolVersion::CURRENT).unwrap().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_wait_their_turn_give_their_memory_back_when_their_client_closes() {
    let (broker, topic_id) = roomy(BrokerSettings::new()).await;
    let jammed = jammed(&broker, topic_id).await;
    drop(jammed);
    complete(half_frames(&broker, topic_id, 1, 1 << 20, 1_000).await).await;
    wait_until("the memory", async || (lent_bytes(&broker) == 0).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_hold_all_there_is_for_them_keep_no_batch_waiting() {
    let (broker, topic_id) = roomy(endless()).await;
    let _jammed = jammed(&broker, topic_id).await;
    let mut connection = RawConnection::introduced(broker.address()).await;
    for _ in 0..4 {
        connection.produce(topic_id, &batch(&[&vec![b'x'; 6 << 20]], Compression::None)).await.unwrap();
    }
    assert!(lent_bytes(&broker) > 0 && !is_cut_off(&broker, "took none"), "{}", broker.log_text());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_deadline_passes_while_it_waits_for_memory_is_not_carried_out() {
    let (broker, topic_id) = roomy(BrokerSettings::new()).await;
    let mut jammed = jammed(&broker, topic_id).await;
    let mut late = RawConnection::introduced(broker.address()).await;
    let body = many_offsets(topic_id).to_body(ProtocolVersion::CURRENT);
    let mut header = late.header(Api::ListOffsets as u16, &body, &[]);
    header.timeout_ms = 200;
    late.send(&[&header.encode(&[&body])[..], &body].concat()).await;
    // Time is what this is about.
    tokio::time::sleep(Duration::from_millis(600)).await;
    // From now on the answers are taken.
    let reading = tokio::spawn(async move { while jammed.next_frame().await.is_some() {} });
    let error = fault(&late.answer(header.correlation).await);
    assert_eq!(error.code, ErrorCode::DeadlineExceeded, "{error}");
    assert!(error.message.contains("nothing was done"), "{error}");
    reading.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_produce_may_carry_a_payload() {
    let (broker, topic_id) = broker(BrokerSettings::new()).await;
    let mut connection = RawConnection::introduced(broker.address()).await;
    for api in [Api::Ping, Api::Metadata, Api::Subscribe, Api::DeleteTopic] {
        let error = connection.refusal(api as u16, &[], &[0; 100_000]).await;
        assert_eq!(error.code, ErrorCode::Malformed, "{error}");
        assert!(error.message.contains("payload"), "{error}");
    }
    connection.produce(topic_id, &batch(&[b"value"], Compression::None)).await.unwrap();
}
