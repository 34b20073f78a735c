//! What no client would send, over raw sockets against a running broker: each gets one clear error, costs bounded memory, and the broker
//! serves on.

use std::time::Duration;

use tidelog_client::NewTopic;
use tidelog_protocol::api::Api;
use tidelog_protocol::frame::{FrameKind, HEADER_BYTES, Header, Preface};
use tidelog_protocol::messages::{CreateTopicRequest, HelloRequest, PingRequest, SubscribeRequest, UnsubscribeRequest};
use tidelog_protocol::messages::{Isolation, Position};
use tidelog_protocol::records::{BatchBuilder, Compression, NO_HEADERS};
use tidelog_protocol::{CorrelationId, ErrorCode, Message, PartitionId, ProtocolVersion, Timestamp, TopicId};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::contents::read_all;
use tidelog_tests::patience::{wait_for, wait_until};
use tidelog_tests::raw_connection::{RawConnection, batch, produce_request};
use tidelog_tests::workload::create_topic;

const HELLO: u16 = Api::Hello as u16;
const PING: u16 = Api::Ping as u16;
/// What all the bad input of a test may add to the broker's own memory.
const GROWTH_BYTES: u64 = 64 << 20;

/// A broker with a topic, and what proves at the end that it took no harm.
struct Subject {
    broker: BrokerProcess,
    topic: TopicId,
    memory_before: u64,
}

impl Subject {
    async fn start(settings: BrokerSettings) -> Self {
        let broker = settings.start();
        create_topic(&broker.server(), &NewTopic::named("logs")).await.unwrap();
        let mut connection = RawConnection::introduced(broker.address()).await;
        let topic = connection.topic_id("logs").await;
        connection.produce(topic, &batch(&[b"before"], Compression::None)).await.unwrap();
        let memory_before = broker.figures().anonymous_bytes;
        Self { broker, topic, memory_before }
    }

    async fn open(&self) -> RawConnection {
        RawConnection::open(self.broker.address()).await
    }

    async fn introduced(&self) -> RawConnection {
        RawConnection::introduced(self.broker.address()).await
    }

    /// Serves as before, has not grown, and holds exactly these records.
    async fn assert_unharmed(mut self, records: &[&str]) {
        assert!(self.broker.is_alive());
        let mut connection = self.introduced().await;
        connection.produce(self.topic, &batch(&[b"after"], Compression::None)).await.unwrap();
        let read = read_all(&self.broker.server(), "logs").await.remove(0).records;
        let values: Vec<&str> = read.iter().map(|(_, value)| value.as_str()).collect();
        assert_eq!(values, [&["before"], records, &["after"]].concat());
        // The allocator gives back what is free while a thread works, so each of them must have something to do.
        wait_until("the memory to be given back", async || {
            let mut pings = tokio::task::JoinSet::new();
            for _ in 0..8 {
                let mut connection = self.introduced().await;
                pings.spawn(async move { connection.call(&PingRequest {}, &[]).await.map(|_| ()).unwrap() });
            }
            pings.join_all().await;
            (self.broker.figures().anonymous_bytes < self.memory_before + GROWTH_BYTES).then_some(())
        })
        .await;
        assert!(!self.broker.log_text().contains("panicked"), "{}", self.broker.log_text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_on_the_port_is_cut_off_and_logged() {
    let settings = BrokerSettings::new().set("log_level", "info,tidelog_broker::net::news=debug");
    let subject = Subject::start(settings).await;
    // HTTP, again and again; TLS, SSH, noise; and a half preface.
    let request = &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..];
    let others: [&[u8]; 3] = [b"\x16\x03\x01\x02\x00\x01\x00\x01", b"SSH-2.0-OpenSSH_9.2\r\n", &[0xff; 4096]];
    for greeting in [request; 20].into_iter().chain(others) {
        let mut connection = subject.open().await;
        connection.send(greeting).await;
        assert!(connection.until_closed().await.is_empty());
    }
    let is_http = |line: &serde_json::Value| line["ended"].as_str().unwrap().starts_with("HTTP on the native port");
    let (http, others) = wait_for("a log line of each", || {
        let lines = subject.broker.log_lines("connection cut off").into_iter();
        let (http, others): (Vec<_>, Vec<_>) = lines.partition(is_http);
        (others.len() == 3 && http.len() == 20).then_some((http, others))
    });
    for line in others {
        assert!(line["ended"].as_str().unwrap().contains("does not speak the Tidelog protocol"), "{line}");
    }
    // One in a while, however slow this is.
    let told = http.iter().filter(|line| line["level"] == "WARN").count();
    assert!((1..10).contains(&told) && http[0]["ended"].as_str().unwrap().contains("the admin port is "), "{http:?}");
    let mut half = subject.open().await;
    half.send(b"TID").await;
    drop(half);
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_nobody_speaks_is_answered_with_zero() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let mut connection = subject.open().await;
    connection.send(&Preface { version: ProtocolVersion(0), features: 0 }.encode()).await;
    let answer = connection.until_closed().await;
    assert_eq!(Preface::decode(answer.try_into().unwrap()).unwrap().version, ProtocolVersion(0));
    // A newer client is offered the newest version there is, whatever features it has.
    let mut connection = subject.open().await;
    connection.send(&Preface { version: ProtocolVersion(u16::MAX), features: u16::MAX }.encode()).await;
    let mut answer = [0; 8];
    tokio::io::AsyncReadExt::read_exact(&mut connection.socket, &mut answer).await.unwrap();
    assert_eq!(Preface::decode(answer).unwrap().version, ProtocolVersion::CURRENT);
    subject.assert_unharmed(&[]).await;
}

/// A whole Ping frame, then changed.
fn ping_frame(change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let header = Header {
        kind: FrameKind::Request,
        flags: Default::default(),
        api: PING,
        correlation: CorrelationId(77),
        timeout_ms: 0,
        body_bytes: 0,
        payload_bytes: 0,
    };
    let mut bytes = header.encode(&[]).to_vec();
    change(&mut bytes);
    bytes
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_lie_end_their_connection_with_the_reason() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let length = |bytes: u32| ping_frame(|frame| frame[..4].copy_from_slice(&bytes.to_le_bytes()));
    let body = |bytes: u32| ping_frame(|frame| frame[20..24].copy_from_slice(&bytes.to_le_bytes()));
    for (frame, reason) in [
        (length(u32::MAX), "over the limit"),
        (length(i32::MAX as u32), "over the limit"),
        (length((64 << 20) + 1), "over the limit"),
        (length(0), "0"),
        (length(27), "27"),
        (body(u32::MAX), "over the limit"),
        (body(5), "5"),
        (ping_frame(|frame| frame[24] ^= 1), "checksum"),
        (ping_frame(|frame| frame[9] ^= 1), "checksum"),
        (ping_frame(|frame| frame[4] = 9), "kind"),
        (ping_frame(|frame| frame[5] = 0x80), "flag"),
    ] {
        let mut connection = subject.introduced().await;
        connection.send(&frame).await;
        let said = connection.last_words().await;
        assert!(said.to_lowercase().contains(reason), "{said:?} does not speak of {reason:?}");
    }
    // A kind that only brokers send.
    let mut connection = subject.introduced().await;
    let mut header = connection.header(PING, &[], &[]);
    header.kind = FrameKind::Push;
    connection.send(&header.encode(&[])).await;
    assert!(connection.last_words().await.contains("requests and signals"));
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_cut_short_at_any_byte_cost_nothing() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let payload = batch(&[b"never whole"], Compression::None);
    let mut connection = subject.introduced().await;
    let body = produce_request(subject.topic).to_body(ProtocolVersion::CURRENT);
    let header = connection.header(Api::Produce as u16, &body, &payload);
    let frame = [&header.encode(&[&body])[..], &body, &payload].concat();
    for cut in (0..frame.len()).step_by(7).chain([HEADER_BYTES, HEADER_BYTES + body.len(), frame.len() - 1]) {
        let mut connection = subject.introduced().await;
        connection.send(&frame[..cut]).await;
    }
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_hello_is_answered_before_hello() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let mut connection = RawConnection::prefaced(subject.broker.address()).await;
    connection.ask(&PingRequest {}, &[]).await;
    assert!(connection.last_words().await.contains("first request must be Hello"));
    // A peer that has not said hello gets a small limit.
    let mut connection = RawConnection::prefaced(subject.broker.address()).await;
    let body = vec![0; 64 << 10];
    connection.request(HELLO, &body, &[]).await;
    assert!(connection.last_words().await.contains("over the limit"));
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_hello_lists_is_served_and_nothing_else() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let mut connection = RawConnection::prefaced(subject.broker.address()).await;
    let hello = HelloRequest { client_id: "raw".into(), software: "tidelog-tests".into(), peer: None };
    let listed: Vec<u16> = connection.call(&hello, &[]).await.unwrap().apis.iter().map(|api| api.api).collect();
    for api in Api::ALL.iter().map(|api| *api as u16) {
        let is_signal = [Api::Credit as u16, Api::ReplicaProgress as u16].contains(&api);
        let mut connection = subject.introduced().await;
        let said = if is_signal {
            let header = Header { kind: FrameKind::Signal, timeout_ms: 0, ..connection.header(api, &[], &[]) };
            connection.send(&header.encode(&[&[]])).await;
            connection.last_words().await
        } else {
            let id = connection.request(api, &[], &[]).await;
            let answer = connection.answer(id).await;
            RawConnection::outcome(&answer).err().map(|error| error.to_string()).unwrap_or_default()
        };
        let is_served = !said.contains("answers no requests of API") && !said.contains("is no signal");
        assert_eq!(listed.contains(&api), is_served, "API {api}: {said}");
    }
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_brokers_ask_each_other_is_not_even_looked_at_from_a_client() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let mut connection = subject.introduced().await;
    for api in [
        Api::RegisterBroker,
        Api::BrokerHeartbeat,
        Api::EpochEnd,
        Api::ReplicaSubscribe,
        Api::RaftVote,
        Api::RaftAppend,
        Api::RaftSnapshot,
        Api::Forward,
        Api::WriteMarkers,
    ] {
        let error = connection.refusal(api as u16, &[0xff; 40], &[]).await;
        assert!(error.code == ErrorCode::Unsupported && error.message.contains("only brokers"), "{api:?}: {error}");
    }
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_make_no_sense_are_refused_one_by_one_on_one_connection() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let mut connection = subject.introduced().await;
    for api in [0, 99, u16::MAX, Api::StreamItem as u16] {
        let error = connection.refusal(api, &[], &[]).await;
        assert_eq!(error.code, ErrorCode::Unsupported, "{error}");
    }
    // What only brokers ask is not looked at, whatever it says.
    for api in [40, 41, 60, 61, 80, 81, 82, 92, 112] {
        for body in [&[][..], &[0xff; 12]] {
            let error = connection.refusal(api, body, &[]).await;
            assert_eq!(error.code, ErrorCode::Unsupported, "{api}: {error}");
        }
    }
    // Bodies that end too early, and arrays that promise more than there is.
    for api in [Api::Hello, Api::CreateTopic, Api::Produce, Api::Subscribe, Api::ListOffsets, Api::DeleteRecords] {
        let error = connection.refusal(api as u16, &[], &[]).await;
        assert_eq!(error.code, ErrorCode::Malformed, "{error}");
        let error = connection.refusal(api as u16, &[0xff; 12], &[]).await;
        assert_eq!(error.code, ErrorCode::Malformed, "{error}");
    }
    let error = connection.refusal(Api::Metadata as u16, &[1, 0xff, 0xff, 0xff, 0xff, 0x0f], &[]).await;
    assert_eq!(error.code, ErrorCode::Malformed, "{error}");
    let error = connection.call(&UnsubscribeRequest { stream: CorrelationId(123_456) }, &[]).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::UnknownStream, "{error}");
    connection.call(&PingRequest {}, &[]).await.unwrap();
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_lie_are_refused_whole_and_leave_nothing_behind() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let mut connection = subject.introduced().await;
    let good = batch(&[b"one", b"two", b"three"], Compression::None).to_vec();
    let seal = |mut bytes: Vec<u8>| {
        let checksum = crc32c::crc32c(&bytes[21..]);
        bytes[17..21].copy_from_slice(&checksum.to_be_bytes());
        bytes
    };
    let with = |at: usize, new: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + new.len()].copy_from_slice(new);
        bytes
    };
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("flipped bit", with(good.len() - 2, &[0x55])),
        ("wrong checksum", with(17, &[1, 2, 3, 4])),
        ("count too large", seal(with(57, &4i32.to_be_bytes()))),
        ("count too small", seal(with(57, &2i32.to_be_bytes()))),
        ("count negative", seal(with(57, &(-1i32).to_be_bytes()))),
        ("count enormous", seal(with(57, &i32::MAX.to_be_bytes()))),
        ("last offset delta beyond the count", seal(with(23, &9i32.to_be_bytes()))),
        (
            "count and delta agree on a lie",
            seal({
                let bytes = with(23, &999i32.to_be_bytes());
                let mut bytes = bytes;
                bytes[57..61].copy_from_slice(&1000i32.to_be_bytes());
                bytes
            }),
        ),
        ("base offset taken", with(0, &5i64.to_be_bytes())),
        ("length too long", with(8, &(good.len() as i32).to_be_bytes())),
        ("length too short", with(8, &50i32.to_be_bytes())),
        ("length negative", with(8, &(-5i32).to_be_bytes())),
        ("length enormous", with(8, &i32::MAX.to_be_bytes())),
        ("old format", with(16, &[1])),
        ("unknown compression", seal(with(21, &7u16.to_be_bytes()))),
        ("control batch", seal(with(21, &0x20u16.to_be_bytes()))),
        ("says it is compressed but is not", seal(with(21, &4u16.to_be_bytes()))),
        ("record length lies", seal(with(61, &[0x7e]))),
        ("half a batch", good[..good.len() / 2].to_vec()),
        ("half a header", good[..30].to_vec()),
        ("a good one, then garbage", [&good[..], &[0xee; 100]].concat()),
        ("a good one, then a bad one", [&good[..], &with(17, &[0; 4])].concat()),
        ("nothing", Vec::new()),
    ];
    for (lie, payload) in lies {
        let error = connection.produce(subject.topic, &payload).await.expect_err(lie);
        let fits = [ErrorCode::InvalidBatch, ErrorCode::Corrupt, ErrorCode::Malformed, ErrorCode::TooLarge];
        assert!(fits.contains(&error.code), "{lie}: {error}");
        let names_a_remedy = ["send it again", "mend that client", "send smaller batches"]
            .iter()
            .any(|remedy| error.message.contains(remedy));
        assert!(names_a_remedy && error.message.contains("nothing was written"), "{lie}: {error}");
    }
    let nobodys = seal(with(21, &0x10u16.to_be_bytes()));
    let error = connection.produce(subject.topic, &nobodys).await.expect_err("a transaction without its id");
    assert_eq!(error.code, ErrorCode::InvalidTransactionalId, "{error}");
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn decompression_bombs_are_refused_in_bounded_memory() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let mut connection = subject.introduced().await;
    let zeros = vec![0; 31 << 20];
    // Twice as much as any batch may become, in a batch that is small on the wire.
    let large: Vec<&[u8]> = vec![&zeros[..]];
    for codec in [Compression::Gzip, Compression::Zstd, Compression::Lz4, Compression::Snappy] {
        let once = batch(&large, codec).to_vec();
        // A batch of five times the records: the payload repeated is no valid frame of most codecs, but no decoder may run away on it.
        let mut bomb = once.clone();
        for _ in 0..4 {
            bomb.extend_from_slice(&once[61..]);
        }
        let length = i32::try_from(bomb.len() - 12).unwrap();
        bomb[8..12].copy_from_slice(&length.to_be_bytes());
        let checksum = crc32c::crc32c(&bomb[21..]);
        bomb[17..21].copy_from_slice(&checksum.to_be_bytes());
        let error = connection.produce(subject.topic, &bomb).await.expect_err("a bomb");
        assert!(!error.code.is_retriable(), "{codec:?}: {error}");
    }
    // Twenty at once, each in a batch that is whole and right but for what it becomes: together they would be 1.8 GB.
    let mut larger = BatchBuilder::new(100 << 20);
    for _ in 0..3 {
        larger.append(Timestamp(1_000), None, Some(&zeros), NO_HEADERS).unwrap();
    }
    let larger = larger.finish(Compression::Zstd).unwrap();
    assert!(larger.len() < 100_000, "small on the wire");
    let mut attempts = Vec::new();
    for _ in 0..20 {
        let (mut connection, topic, larger) = (subject.introduced().await, subject.topic, larger.clone());
        attempts.push(tokio::spawn(async move { connection.produce(topic, &larger).await }));
    }
    for attempt in attempts {
        let error = attempt.await.unwrap().expect_err("a bomb");
        assert!(!error.code.is_retriable(), "{error}");
    }
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_and_frames_over_their_limits_say_the_limit() {
    let subject = Subject::start(BrokerSettings::new().set("frame_bytes_max", "4MiB")).await;
    let mut connection = subject.introduced().await;
    let large = vec![b'x'; 2 << 20];
    let error = connection.produce(subject.topic, &batch(&[&large], Compression::None)).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::TooLarge, "{error}");
    assert!(error.message.contains("1048588") && error.message.contains("nothing was written"), "{error}");
    connection.call(&PingRequest {}, &[]).await.unwrap();
    let larger = vec![b'x'; 5 << 20];
    connection.ask(&produce_request(subject.topic), &batch(&[&larger], Compression::None)).await;
    assert!(connection.last_words().await.contains("4194304"));
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn promised_payloads_that_never_come_take_no_memory_beyond_the_budget() {
    let settings = BrokerSettings::new().set("memory_budget_bytes", "16MiB").set("frame_timeout_ms", "3000");
    let subject = Subject::start(settings).await;
    let body = produce_request(subject.topic).to_body(ProtocolVersion::CURRENT);
    let mut connections = Vec::new();
    for _ in 0..50 {
        let mut connection = subject.introduced().await;
        let mut header = connection.header(Api::Produce as u16, &body, &[]);
        header.payload_bytes = 60 << 20;
        connection.send(&header.encode(&[&body])).await;
        connection.send(&body).await;
        connection.send(&[0; 64 << 10]).await;
        connections.push(connection);
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    let grown = subject.broker.figures().anonymous_bytes.saturating_sub(subject.memory_before);
    assert!(grown < GROWTH_BYTES, "{grown} bytes for promises of 3 GB");
    for mut connection in connections {
        let said = connection.last_words().await;
        // Those that hold their share of the memory stall by themselves, the others wait for it.
        let expected = ["not complete within", "out of memory for a frame", "too little progress"];
        assert!(expected.iter().any(|words| said.contains(words)), "{said}");
    }
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_topics_partitions_and_offsets_are_named() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let mut connection = subject.introduced().await;
    let payload = batch(&[b"x"], Compression::None);
    let error = connection.produce(TopicId([9; 16]), &payload).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::UnknownTopic, "{error}");
    let mut request = produce_request(subject.topic);
    request.partition = PartitionId(u32::MAX);
    let error = connection.call(&request, &payload).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::UnknownPartition, "{error}");
    for position in [Position::offset(tidelog_protocol::Offset(10)), Position::offset(tidelog_protocol::Offset::MAX)] {
        let subscribe = SubscribeRequest {
            topic_id: subject.topic,
            partition: PartitionId(0),
            position,
            leader_epoch: None,
            isolation: Isolation::ReadUncommitted,
            credit_bytes: 1000,
            item_bytes_max: 0,
            last_epoch: None,
            nearby: false,
            settled: false,
        };
        let error = connection.call(&subscribe, &[]).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::OffsetOutOfRange, "{error}");
        assert!(error.range.is_some());
    }
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_topic_names_never_reach_the_file_system() {
    let subject = Subject::start(BrokerSettings::new()).await;
    let folders = || {
        let names = std::fs::read_dir(subject.broker.data()).unwrap();
        let mut names: Vec<_> = names.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let before = folders();
    let mut connection = subject.introduced().await;
    let (long, longer) = ("n".repeat(250), "n".repeat(100_000));
    for name in
        ["", ".", "..", "../evil", "/etc/passwd", "a/b", "a\\b", "a\0b", "a b", "é", "a\nb", "%2e%2e", &long, &longer]
    {
        let request = CreateTopicRequest {
            name: name.into(),
            partitions: None,
            replication_factor: None,
            configs: Vec::new(),
            validate_only: false,
        };
        let error = connection.call(&request, &[]).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::InvalidName, "{name:.20}: {error}");
        assert!(error.message.len() < 1_000, "the message repeats the name: {} bytes", error.message.len());
    }
    assert_eq!(folders(), before);
    subject.assert_unharmed(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_many_connections_harms_nobody() {
    let mut rng = tidelog_tests::chance::seeded("noise_on_many_connections_harms_nobody");
    let subject = Subject::start(BrokerSettings::new()).await;
    for _ in 0..tidelog_tests::chance::rounds(300) {
        let mut connection = subject.introduced().await;
        let body = produce_request(subject.topic).to_body(ProtocolVersion::CURRENT).to_vec();
        let payload = batch(&[b"noise"], Compression::None).to_vec();
        let header = connection.header(rng.u16(..30), &body, &payload);
        let mut frame = [&header.encode(&[&body])[..], &body, &payload].concat();
        for _ in 0..rng.usize(1..4) {
            let at = rng.usize(..HEADER_BYTES + body.len());
            frame[at] = rng.u8(..);
        }
        connection.send(&frame).await;
    }
    // Some of the frames are whole and right, or wrong where nothing looks: their records are there.
    let mut connection = subject.introduced().await;
    connection.call(&PingRequest {}, &[]).await.unwrap();
    let read = read_all(&subject.broker.server(), "logs").await.remove(0).records;
    let noise: Vec<&str> = read[1..].iter().map(|(_, value)| value.as_str()).collect();
    assert!(noise.iter().all(|value| *value == "noise"), "{noise:?}");
    drop(connection);
}
