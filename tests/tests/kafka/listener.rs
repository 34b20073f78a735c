//! The Kafka protocol on the native port, by hand: what its clients send, in every version that is served.

use std::time::{Duration, Instant};

use bytes::Bytes;
use tidelog_protocol::kafka::api_versions::ApiVersionsRequest;
use tidelog_protocol::kafka::create_topics::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use tidelog_protocol::kafka::delete_topics::DeleteTopicsRequest;
use tidelog_protocol::kafka::describe_cluster::DescribeClusterRequest;
use tidelog_protocol::kafka::fetch::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData};
use tidelog_protocol::kafka::init_producer_id::InitProducerIdRequest;
use tidelog_protocol::kafka::list_offsets::{
    EARLIEST, LATEST, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic, MAX_TIMESTAMP,
};
use tidelog_protocol::kafka::metadata::{MetadataRequest, MetadataRequestTopic};
use tidelog_protocol::kafka::offset_for_leader_epoch::{
    OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic,
};
use tidelog_protocol::kafka::{ApiKey, KafkaError};
use tidelog_protocol::records::{BatchBuilder, Batches, Compression, NO_HEADERS, Producer};
use tidelog_protocol::{ProducerEpoch, ProducerId, Sequence, Timestamp};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::raw_kafka::{RawKafka, produce};

fn values(count: u8) -> Bytes {
    let values: Vec<[u8; 1]> = (0..count).map(|value| [value]).collect();
    batch(&values.iter().map(<[u8; 1]>::as_slice).collect::<Vec<_>>(), Compression::None)
}

fn fetch(topic: &str, offset: i64) -> FetchRequest {
    let place = FetchPartition { fetch_offset: offset, partition_max_bytes: 1 << 20, ..Default::default() };
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 50 << 20,
        session_epoch: -1,
        topics: vec![FetchTopic { topic: topic.into(), partitions: vec![place], ..Default::default() }],
        ..Default::default()
    }
}

fn only(mut response: FetchResponse) -> PartitionData {
    assert_eq!(response.error_code, 0);
    response.responses.remove(0).partitions.remove(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_every_api_is_answered_and_what_is_said_to_be_served_is() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("every").await;
    kafka.produce("every", values(3)).await;
    for version in ApiKey::ApiVersions.versions() {
        let request = ApiVersionsRequest { client_software_name: "raw".into(), client_software_version: "1".into() };
        let served = kafka.call(&request, version).await;
        assert_eq!((served.error_code, served.api_keys.len()), (0, ApiKey::ALL.len()));
        for row in served.api_keys {
            let api = ApiKey::from_i16(row.api_key).unwrap();
            assert_eq!((row.min_version, row.max_version), (api.advertised_from(), *api.versions().end()));
        }
    }
    for version in ApiKey::Metadata.versions() {
        let asked = MetadataRequestTopic { name: Some("every".into()), ..Default::default() };
        let found = kafka.call(&MetadataRequest { topics: Some(vec![asked]), ..Default::default() }, version).await;
        assert_eq!(found.topics[0].partitions[0].leader_id, 1, "version {version}");
        assert_eq!(
            (&*found.brokers[0].host, found.brokers[0].port),
            (&*broker.address().ip().to_string(), i32::from(broker.address().port()))
        );
    }
    let topic_id = kafka.make("every").await.topics[0].topic_id;
    for version in ApiKey::Produce.versions() {
        let answer = kafka.call(&produce("every", Some(values(3))), version).await;
        let answer = &answer.responses[0].partition_responses[0];
        assert_eq!((answer.error_code, answer.base_offset), (0, 3 * i64::from(version - 2)), "version {version}");
    }
    for version in ApiKey::Fetch.versions() {
        let mut request = fetch("every", 1);
        request.topics[0].topic_id = topic_id;
        let data = only(kafka.call(&request, version).await);
        let records = data.records.unwrap();
        let batches: Vec<_> = Batches::new(&records).map(|batch| batch.unwrap().header().base_offset.0).collect();
        // An offset within a batch gives the whole batch.
        assert_eq!(batches, (0..10).map(|batch| batch * 3).collect::<Vec<_>>(), "version {version}");
        assert_eq!((data.error_code, data.high_watermark, data.last_stable_offset), (0, 30, 30));
    }
    for version in ApiKey::ListOffsets.versions() {
        for (timestamp, offset) in [(EARLIEST, 0), (LATEST, 30), (MAX_TIMESTAMP, 0), (0, 0), (i64::MAX, -1)] {
            let partitions = vec![ListOffsetsPartition { timestamp, ..Default::default() }];
            let topics = vec![ListOffsetsTopic { name: "every".into(), partitions }];
            let found = kafka.call(&ListOffsetsRequest { topics, ..Default::default() }, version).await;
            let found = &found.topics[0].partitions[0];
            assert_eq!((found.error_code, found.offset), (0, offset), "version {version} of {timestamp}");
        }
    }
    for version in ApiKey::OffsetForLeaderEpoch.versions() {
        for (leader_epoch, end_offset) in [(0, 30), (9, -1), (-1, -1)] {
            let partitions = vec![OffsetForLeaderPartition { leader_epoch, ..Default::default() }];
            let topics = vec![OffsetForLeaderTopic { topic: "every".into(), partitions }];
            let found = kafka.call(&OffsetForLeaderEpochRequest { topics, ..Default::default() }, version).await;
            let found = &found.topics[0].partitions[0];
            assert_eq!((found.error_code, found.end_offset), (0, end_offset), "version {version} of {leader_epoch}");
        }
    }
    let mut ids = std::collections::BTreeSet::new();
    for version in ApiKey::InitProducerId.versions() {
        // As clients without transactions send it.
        let request = InitProducerIdRequest { transaction_timeout_ms: -1, ..Default::default() };
        let identity = kafka.call(&request, version).await;
        assert!(identity.error_code == 0 && identity.producer_epoch == 0 && ids.insert(identity.producer_id));
    }
    for version in ApiKey::CreateTopics.versions() {
        let topic = CreatableTopic {
            name: format!("made-{version}"),
            num_partitions: if version < 4 { 2 } else { -1 },
            replication_factor: -1,
            configs: vec![CreatableTopicConfig { name: "retention.ms".into(), value: Some("1000".into()) }],
            ..Default::default()
        };
        let made = kafka.call(&CreateTopicsRequest { topics: vec![topic], ..Default::default() }, version).await;
        let made = &made.topics[0];
        assert_eq!((made.error_code, made.error_message.as_deref()), (0, None), "version {version}");
        if version >= 5 {
            assert_eq!((made.num_partitions, made.replication_factor), (1, 1));
            let configs = made.configs.as_ref().unwrap();
            let retention = configs.iter().find(|config| config.name == "retention.ms").unwrap();
            assert_eq!((retention.value.as_deref(), retention.config_source), (Some("1000"), 1));
        }
    }
    for version in ApiKey::DeleteTopics.versions() {
        let (name, missing) = (format!("made-{}", version.max(2)), "never-made".to_owned());
        let by_state = |name: &String| tidelog_protocol::kafka::delete_topics::DeleteTopicState {
            name: Some(name.clone()),
            ..Default::default()
        };
        let names = [name, missing];
        let request = DeleteTopicsRequest {
            topics: names.iter().map(by_state).collect(),
            topic_names: names.to_vec(),
            timeout_ms: 30_000,
        };
        let gone = kafka.call(&request, version).await;
        let codes: Vec<_> = gone.responses.iter().map(|topic| topic.error_code).collect();
        // The first two versions delete the same topic.
        let first = if version == 2 { KafkaError::UnknownTopicOrPartition.code() } else { 0 };
        assert_eq!(codes, [first, KafkaError::UnknownTopicOrPartition.code()], "version {version}");
    }
    for version in ApiKey::DescribeCluster.versions() {
        let cluster = kafka.call(&DescribeClusterRequest::default(), version).await;
        assert_eq!((cluster.error_code, cluster.controller_id, cluster.brokers.len()), (0, 1, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn both_protocols_see_the_same_records() {
    let broker = BrokerProcess::start();
    let (mut kafka, mut native) =
        (RawKafka::open(broker.address()).await, RawConnection::introduced(broker.address()).await);
    kafka.make("both").await;
    let topic_id = native.topic_id("both").await;
    assert_eq!(kafka.produce("both", values(2)).await.base_offset, 0);
    assert_eq!(native.produce(topic_id, &values(3)).await.unwrap().base_offset.0, 2);
    let records = only(kafka.call(&fetch("both", 0), 12).await).records.unwrap();
    let batches: Vec<_> = Batches::new(&records).map(|batch| batch.unwrap().bytes()[61..].to_vec()).collect();
    assert_eq!(batches, [values(2)[61..].to_vec(), values(3)[61..].to_vec()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_waits_for_records_and_answers_come_in_order() {
    let broker = BrokerProcess::start();
    let (mut reader, mut writer) = (RawKafka::open(broker.address()).await, RawKafka::open(broker.address()).await);
    writer.make("waited-for").await;
    let begun = Instant::now();
    let waiting = FetchRequest { max_wait_ms: 60_000, ..fetch("waited-for", 0) };
    let first = reader.ask(&waiting, 12).await;
    // Asked while the first one waits: answered behind it, however early it could be.
    let second = reader.ask(&ApiVersionsRequest::default(), 3).await;
    writer.produce("waited-for", values(1)).await;
    let data = only(reader.answer::<FetchRequest>(first, 12).await);
    assert_eq!((data.error_code, data.high_watermark), (0, 1));
    assert_eq!(data.records.unwrap().len(), values(1).len());
    assert!(begun.elapsed() < Duration::from_secs(50), "it waited for its deadline");
    reader.answer::<ApiVersionsRequest>(second, 3).await;
    // Nothing came, and the wait is over.
    let empty = only(reader.call(&FetchRequest { max_wait_ms: 50, ..fetch("waited-for", 1) }, 12).await);
    assert_eq!((empty.error_code, empty.records.unwrap().len()), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_ends_the_wait_of_a_fetch() {
    let mut broker = BrokerProcess::start();
    RawKafka::open(broker.address()).await.make("errors").await;
    // The partition is led anew, so that there is an earlier leadership.
    broker.terminate();
    broker.restart();
    let mut kafka = RawKafka::open(broker.address()).await;
    let epoch = |current_leader_epoch| {
        let mut request = FetchRequest { max_wait_ms: 60_000, ..fetch("errors", 0) };
        request.topics[0].partitions[0].current_leader_epoch = current_leader_epoch;
        request
    };
    let begun = Instant::now();
    for (request, error) in [
        (FetchRequest { max_wait_ms: 60_000, ..fetch("errors", 5) }, KafkaError::OffsetOutOfRange),
        (FetchRequest { max_wait_ms: 60_000, ..fetch("nowhere", 0) }, KafkaError::UnknownTopicOrPartition),
        (epoch(0), KafkaError::FencedLeaderEpoch),
        (epoch(7), KafkaError::UnknownLeaderEpoch),
    ] {
        assert_eq!(only(kafka.call(&request, 12).await).error_code, error.code());
    }
    let unknown_id = FetchRequest {
        topics: vec![FetchTopic { topic_id: [7; 16], ..fetch("", 0).topics.remove(0) }],
        ..fetch("", 0)
    };
    assert_eq!(only(kafka.call(&unknown_id, 13).await).error_code, KafkaError::UnknownTopicId.code());
    let in_session = FetchRequest { session_id: 7, ..fetch("errors", 0) };
    assert_eq!(kafka.call(&in_session, 12).await.error_code, KafkaError::FetchSessionIdNotFound.code());
    assert!(begun.elapsed() < Duration::from_secs(50), "one of them waited");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_of_another_leadership_is_told_where_it_parts() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("parted").await;
    kafka.produce("parted", values(2)).await;
    let mut request = fetch("parted", 2);
    request.topics[0].partitions[0].last_fetched_epoch = 5;
    let data = only(kafka.call(&request, 12).await);
    assert_eq!((data.error_code, data.diverging_epoch.epoch, data.diverging_epoch.end_offset), (0, 0, 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_breaks_a_rule_is_refused_with_the_code_that_clients_know() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("rules").await;
    let compacted = CreatableTopic {
        name: "compacted".into(),
        num_partitions: 1,
        replication_factor: 1,
        configs: vec![CreatableTopicConfig { name: "cleanup.policy".into(), value: Some("compact".into()) }],
        ..Default::default()
    };
    kafka.call(&CreateTopicsRequest { topics: vec![compacted], ..Default::default() }, 7).await;
    let mut damaged = values(1).to_vec();
    *damaged.last_mut().unwrap() ^= 1;
    let two = [values(1), values(1)].concat();
    let large = batch(&[&[0; 2 << 20]], Compression::None);
    let mut cut = values(3).to_vec();
    cut.truncate(70);
    for (topic, records, error) in [
        ("rules", damaged.into(), KafkaError::CorruptMessage),
        ("rules", two.into(), KafkaError::InvalidRecord),
        ("rules", large, KafkaError::MessageTooLarge),
        ("rules", cut.into(), KafkaError::InvalidRecord),
        ("rules", Bytes::new(), KafkaError::InvalidRecord),
        ("compacted", values(1), KafkaError::InvalidRecord),
        ("nowhere", values(1), KafkaError::UnknownTopicOrPartition),
        ("__groups", values(1), KafkaError::UnknownTopicOrPartition),
    ] {
        let answer = kafka.produce(topic, records).await;
        assert_eq!((answer.error_code, answer.base_offset), (error.code(), -1), "{:?}", answer.error_message);
        assert!(answer.error_message.is_some());
    }
    let null = kafka.call(&produce("rules", None), 11).await;
    assert_eq!(null.responses[0].partition_responses[0].error_code, KafkaError::InvalidRecord.code());
    let mut odd = produce("rules", Some(values(1)));
    odd.acks = 2;
    let odd = kafka.call(&odd, 11).await;
    assert_eq!(odd.responses[0].partition_responses[0].error_code, KafkaError::InvalidRequiredAcks.code());
    assert_eq!(kafka.produce("rules", values(1)).await.base_offset, 0, "something of all that was written");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_twice_is_written_once() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("once").await;
    let identity = kafka.call(&InitProducerIdRequest::default(), 4).await;
    let numbered = |sequence| {
        let mut builder = BatchBuilder::new(1 << 20);
        let id = ProducerId(identity.producer_id);
        builder.set_producer(Producer { id, epoch: ProducerEpoch(0), base_sequence: Sequence(sequence) });
        builder.append(Timestamp(1_700_000_000_000), None, Some(b"value"), NO_HEADERS).unwrap();
        builder.finish(Compression::None).unwrap()
    };
    for (sequence, expected) in [(0, 0), (1, 1), (1, 1), (0, 0), (2, 2)] {
        let answer = kafka.produce("once", numbered(sequence)).await;
        assert_eq!((answer.error_code, answer.base_offset), (0, expected));
    }
    let gap = kafka.produce("once", numbered(7)).await;
    assert_eq!(gap.error_code, KafkaError::OutOfOrderSequenceNumber.code());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_acks_there_is_no_answer_and_an_error_closes() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("silent").await;
    let mut request = produce("silent", Some(values(1)));
    request.acks = 0;
    kafka.ask(&request, 9).await;
    // The next answer is the one to the next request, and the record is there.
    let data = only(kafka.call(&FetchRequest { max_wait_ms: 60_000, ..fetch("silent", 0) }, 12).await);
    assert_eq!(data.records.unwrap().len(), values(1).len());
    request.topic_data[0].name = "nowhere".into();
    kafka.ask(&request, 9).await;
    kafka.expect_closed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_are_made_for_those_who_want_it_where_it_is_allowed() {
    let asked = |name: &str, allow_auto_topic_creation| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { name: Some(name.into()), ..Default::default() }]),
        allow_auto_topic_creation,
        ..Default::default()
    };
    let missing = KafkaError::UnknownTopicOrPartition.code();
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    assert_eq!(kafka.call(&asked("asked-for", false), 9).await.topics[0].error_code, missing);
    let made = kafka.call(&asked("asked-for", true), 9).await;
    assert_eq!((made.topics[0].error_code, made.topics[0].partitions.len()), (0, 1));
    let bad = kafka.call(&asked("no/name", true), 9).await;
    assert_eq!(bad.topics[0].error_code, KafkaError::InvalidTopic.code());
    let strict = BrokerSettings::new().set("kafka_auto_create_topics", "false").start();
    let mut kafka = RawKafka::open(strict.address()).await;
    assert_eq!(kafka.call(&asked("asked-for", true), 9).await.topics[0].error_code, missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_that_is_configured_is_told_instead_of_the_one_that_was_dialled() {
    let broker = BrokerSettings::new().set("advertise", "broker.example:9999").start();
    let mut kafka = RawKafka::open(broker.address()).await;
    let found = kafka.call(&MetadataRequest::default(), 9).await;
    assert_eq!((&*found.brokers[0].host, found.brokers[0].port), ("broker.example", 9999));
    let cluster = kafka.call(&DescribeClusterRequest::default(), 2).await;
    assert_eq!((&*cluster.brokers[0].host, cluster.brokers[0].port), ("broker.example", 9999));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_shuts_down_answers_those_who_wait() {
    let mut broker = BrokerSettings::new().set("shutdown_timeout_ms", "120000").start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("closing").await;
    let waiting = kafka.ask(&FetchRequest { max_wait_ms: 60_000, ..fetch("closing", 0) }, 12).await;
    // So that the first one is being worked on: what is asked on another connection is answered meanwhile.
    RawKafka::open(broker.address()).await.call(&MetadataRequest::default(), 9).await;
    let begun = Instant::now();
    assert!(broker.terminate().success());
    assert!(begun.elapsed() < Duration::from_secs(50), "the wait of a client held the shutdown up");
    if let Some(frame) = kafka.frame().await {
        let (answered, _) = tidelog_protocol::kafka::header::read_answer::<FetchRequest>(&frame, 12).unwrap();
        assert_eq!(answered, waiting);
    }
    kafka.expect_closed().await;
}
