//! What no honest Kafka client sends: an error or a closed connection, bounded memory, and a broker that goes on.

use tidelog_protocol::kafka::api_versions::ApiVersionsRequest;
use tidelog_protocol::kafka::header::read_answer;
use tidelog_protocol::kafka::{ApiKey, KafkaError};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::RawConnection;
use tidelog_tests::raw_kafka::RawKafka;

/// A request with this body.
fn request(api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let header = [&api.to_be_bytes()[..], &version.to_be_bytes(), &[0, 0, 0, 9, 0xff, 0xff]].concat();
    let length = u32::try_from(header.len() + body.len()).unwrap();
    [&length.to_be_bytes()[..], &header, body].concat()
}

async fn serves(broker: &BrokerProcess) {
    let mut kafka = RawKafka::open(broker.address()).await;
    assert_eq!(kafka.call(&ApiVersionsRequest::default(), 0).await.error_code, 0);
    RawConnection::introduced(broker.address()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lies_close_the_connection_and_cost_nothing() {
    // Each of them, also where another of its kind was told just before.
    let settings = BrokerSettings::new().set("log_level", "info,tidelog_broker::net::news=debug");
    let mut broker = settings.start();
    serves(&broker).await;
    let before = broker.figures().resident_bytes;
    let lies: &[(&str, Vec<u8>)] = &[
        ("a list of two billion topics", request(3, 1, &[0x7f, 0xff, 0xff, 0xff])),
        ("the same, compact", request(3, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0x07])),
        ("a list of minus two", request(3, 1, &[0xff, 0xff, 0xff, 0xfe])),
        ("a name of minus two bytes", request(3, 1, &[0, 0, 0, 1, 0xff, 0xfe])),
        ("null where nothing may be null", request(3, 0, &[0xff, 0xff, 0xff, 0xff])),
        ("a name that is no text", request(3, 1, &[0, 0, 0, 1, 0, 1, 0xff])),
        ("a number that does not end", request(3, 9, &[0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])),
        ("a message cut short", request(3, 4, &[0, 0, 0, 1, 0, 5, b'n'])),
        ("batches of two billion partitions", request(0, 3, &[0xff, 0xff, 0, 1, 0, 0, 0, 9, 0x7f, 0xff, 0xff, 0xff])),
        (
            "two billion topics in a transaction",
            request(24, 0, &[0, 1, b't', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x7f, 0xff, 0xff, 0xff]),
        ),
        (
            "partitions of a transaction, cut short",
            request(24, 3, &[2, b't', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 2, 2, b'n', 9]),
        ),
        ("a transaction that commits offsets of a group without name", request(25, 0, &[0xff; 12])),
        ("an end that is neither", request(26, 0, &[0, 1, b't', 0, 0, 0, 0])),
        ("an end of a name of minus two bytes", request(26, 0, &[0xff, 0xfe, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 1])),
        (
            "two billion offsets in a transaction",
            request(28, 0, &[0, 1, b't', 0, 1, b'g', 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0x7f, 0xff, 0xff, 0xff]),
        ),
        ("two billion transactional ids", request(65, 0, &[0xff, 0xff, 0xff, 0xff, 0x0f])),
        ("states that do not end", request(66, 1, &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80])),
        ("a version that only brokers of Kafka ask each other", request(24, 4, &[0; 40])),
        ("an API that does not exist", request(99, 0, &[])),
        ("an API that only brokers of Kafka ask each other", request(4, 0, &[0; 40])),
        ("a version of the future", request(3, 99, &[0; 40])),
        ("a version of the past", request(1, 3, &[0; 40])),
        ("a tagged field beyond the header", request(3, 9, &[1, 0, 0x7f])),
    ];
    for (lie, bytes) in lies {
        let mut kafka = RawKafka::open(broker.address()).await;
        kafka.send(bytes).await;
        assert_eq!(kafka.frame().await, None, "{lie} is answered");
    }
    for length in [[0, 0, 0, 4], [0xff; 4], [0x80, 0, 0, 0], [0, 0, 0, 7]] {
        // Behind a good request, since a connection that begins like that speaks no protocol at all.
        let mut kafka = RawKafka::open(broker.address()).await;
        kafka.call(&ApiVersionsRequest::default(), 0).await;
        kafka.send(&[&length[..], &[0; 40]].concat()).await;
        kafka.expect_closed().await;
    }
    // As large as batches may be, and no batches.
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.send(&[&(60u32 << 20).to_be_bytes()[..], &[0, 3, 0, 1]].concat()).await;
    kafka.expect_closed().await;
    serves(&broker).await;
    let after = broker.figures().resident_bytes;
    assert!(after < before + (64 << 20), "{before} bytes became {after}");
    assert!(broker.is_alive());
    for line in ["does not parse", "is not served here", "cannot have a length of", "is over the limit of"] {
        wait_until("the log to say it", async || broker.log_text().contains(line).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_of_the_future_learns_which_versions_there_are() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    // A body that nobody can read yet.
    kafka.send(&request(18, 77, &[0xff; 30])).await;
    let (correlation_id, answer) = read_answer::<ApiVersionsRequest>(&kafka.frame().await.unwrap(), 0).unwrap();
    assert_eq!((correlation_id, answer.error_code), (9, KafkaError::UnsupportedVersion.code()));
    let row = answer.api_keys.iter().find(|row| row.api_key == ApiKey::ApiVersions as i16).unwrap();
    assert_eq!((row.min_version, row.max_version), (0, 4));
    // On the same connection, in a version that is served.
    assert_eq!(kafka.call(&ApiVersionsRequest::default(), row.max_version).await.error_code, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_comes_in_drops_is_answered_all_the_same() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    for byte in request(18, 0, &[]) {
        kafka.send(&[byte]).await;
    }
    assert!(kafka.frame().await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn half_a_request_holds_no_connection_for_ever() {
    let broker = BrokerSettings::new().set("frame_timeout_ms", "300").start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.send(&request(0, 3, &[0; 5_000])[..1_000]).await;
    kafka.expect_closed().await;
    wait_until("the connection to be counted out", async || {
        broker.http("/metrics").body.contains("tidelog_connections 0").then_some(())
    })
    .await;
}
