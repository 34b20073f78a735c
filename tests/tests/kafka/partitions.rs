//! Partitions by Kafka's APIs, in every version: topics grow, records are deleted, and what is refused of that.

use bytes::Bytes;
use tidelog_protocol::kafka::create_partitions::{
    CreatePartitionsAssignment, CreatePartitionsRequest, CreatePartitionsTopic, CreatePartitionsTopicResult,
};
use tidelog_protocol::kafka::delete_records::{
    DeleteRecordsPartition, DeleteRecordsPartitionResult, DeleteRecordsRequest, DeleteRecordsTopic, HIGH_WATERMARK,
};
use tidelog_protocol::kafka::list_offsets::{EARLIEST, ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic};
use tidelog_protocol::kafka::{ApiKey, KafkaError};
use tidelog_protocol::records::Compression;
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::batch;
use tidelog_tests::raw_kafka::RawKafka;

fn ten() -> Bytes {
    batch(&[b"value".as_slice(); 10], Compression::None)
}

fn topic(name: &str, count: i32) -> CreatePartitionsTopic {
    CreatePartitionsTopic { name: name.into(), count, assignments: None }
}

async fn grow(
    kafka: &mut RawKafka,
    topics: Vec<CreatePartitionsTopic>,
    (validate_only, version): (bool, i16),
) -> Vec<CreatePartitionsTopicResult> {
    let request = CreatePartitionsRequest { topics, timeout_ms: 30_000, validate_only };
    kafka.call(&request, version).await.results
}

async fn partitions(kafka: &mut RawKafka, topic: &str) -> usize {
    kafka.make(topic).await.topics[0].partitions.len()
}

async fn delete(
    kafka: &mut RawKafka,
    topic: &str,
    places: &[(i32, i64)],
    version: i16,
) -> Vec<DeleteRecordsPartitionResult> {
    let place = |(partition_index, offset): &(i32, i64)| DeleteRecordsPartition {
        partition_index: *partition_index,
        offset: *offset,
    };
    let topics = vec![DeleteRecordsTopic { name: topic.into(), partitions: places.iter().map(place).collect() }];
    let mut answer = kafka.call(&DeleteRecordsRequest { topics, timeout_ms: 30_000 }, version).await;
    assert_eq!(answer.topics[0].name, topic);
    answer.topics.remove(0).partitions
}

async fn earliest(kafka: &mut RawKafka, topic: &str) -> i64 {
    let partitions = vec![ListOffsetsPartition { timestamp: EARLIEST, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: topic.into(), partitions }];
    kafka.call(&ListOffsetsRequest { topics, ..Default::default() }, 5).await.topics[0].partitions[0].offset
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_grow_and_never_shrink() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("grown").await;
    let mut total = 1;
    for version in ApiKey::CreatePartitions.versions() {
        let foreseen = grow(&mut kafka, vec![topic("grown", total + 1)], (true, version)).await;
        assert_eq!((foreseen[0].error_code, foreseen[0].error_message.as_deref()), (0, None));
        assert_eq!(partitions(&mut kafka, "grown").await, total as usize, "version {version} did what it was to check");
        total += 1;
        let grown = grow(&mut kafka, vec![topic("grown", total)], (false, version)).await;
        assert_eq!((grown[0].error_code, &*grown[0].name), (0, "grown"), "version {version}");
        assert_eq!(partitions(&mut kafka, "grown").await, total as usize);
    }
    let chosen = CreatePartitionsTopic {
        assignments: Some(vec![CreatePartitionsAssignment { broker_ids: vec![1] }]),
        ..topic("grown", total + 1)
    };
    for (asked, error, word) in [
        (topic("grown", total), KafkaError::InvalidPartitions, "can only grow"),
        (topic("grown", 1), KafkaError::InvalidPartitions, "can only grow"),
        (topic("grown", 0), KafkaError::InvalidPartitions, "can only grow"),
        (topic("grown", -1), KafkaError::InvalidPartitions, "-1 partitions"),
        (topic("grown", i32::MAX), KafkaError::InvalidPartitions, "create"),
        (topic("nowhere", 3), KafkaError::UnknownTopicOrPartition, "'nowhere'"),
        (topic("no/name", 3), KafkaError::InvalidTopic, "not '/'"),
        (chosen, KafkaError::InvalidReplicaAssignment, "reassign"),
    ] {
        for validate_only in [true, false] {
            let told = grow(&mut kafka, vec![asked.clone()], (validate_only, 3)).await.remove(0);
            assert_eq!(told.error_code, error.code(), "{asked:?}: {told:?}");
            assert!(told.error_message.as_ref().is_some_and(|said| said.contains(word)), "{told:?}");
        }
    }
    // One that is in order is done beside those that are not; one that is named twice is not.
    let both = vec![topic("nowhere", 9), topic("grown", 9), topic("twice", 9), topic("twice", 9)];
    let codes: Vec<_> = grow(&mut kafka, both, (false, 3)).await.iter().map(|told| told.error_code).collect();
    let twice = KafkaError::InvalidRequest.code();
    assert_eq!(codes, [KafkaError::UnknownTopicOrPartition.code(), 0, twice, twice]);
    assert_eq!(partitions(&mut kafka, "grown").await, 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_are_deleted_up_to_what_is_settled() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    kafka.make("deleted").await;
    let mut end = 0;
    for version in ApiKey::DeleteRecords.versions() {
        kafka.produce("deleted", ten()).await;
        end += 10;
        for (asked, expected) in [(end - 3, end - 3), (0, end - 3), (HIGH_WATERMARK, end)] {
            let told = delete(&mut kafka, "deleted", &[(0, asked)], version).await;
            assert_eq!((told[0].error_code, told[0].low_watermark), (0, expected), "version {version} to {asked}");
            assert_eq!(earliest(&mut kafka, "deleted").await, expected);
        }
    }
    let refused = [
        ((0, end + 1), KafkaError::OffsetOutOfRange),
        ((0, i64::MAX), KafkaError::OffsetOutOfRange),
        ((0, -2), KafkaError::OffsetOutOfRange),
        ((1, 0), KafkaError::UnknownTopicOrPartition),
        ((-1, 0), KafkaError::UnknownTopicOrPartition),
    ];
    let places: Vec<_> = refused.iter().map(|(place, _)| *place).collect();
    let told = delete(&mut kafka, "deleted", &places, 2).await;
    for (told, (place, error)) in told.iter().zip(refused) {
        assert_eq!((told.partition_index, told.low_watermark), (place.0, -1));
        assert_eq!(told.error_code, error.code(), "{place:?}");
    }
    let nowhere = delete(&mut kafka, "nowhere", &[(0, HIGH_WATERMARK)], 2).await;
    assert_eq!(nowhere[0].error_code, KafkaError::UnknownTopicOrPartition.code());
    // What coordinators keep there is not deleted by hand.
    let group = tidelog_protocol::kafka::find_coordinator::FindCoordinatorRequest {
        key: "g".into(),
        coordinator_keys: vec!["g".into()],
        ..Default::default()
    };
    wait_until("the topic of groups", async || {
        (kafka.call(&group, 4).await.coordinators[0].error_code == 0).then_some(())
    })
    .await;
    let told = delete(&mut kafka, "__groups", &[(0, HIGH_WATERMARK)], 2).await;
    assert_eq!(told[0].error_code, KafkaError::InvalidTopic.code());
    assert_eq!(earliest(&mut kafka, "deleted").await, end);
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_leader_deletes_and_what_it_deleted_is_gone_everywhere() {
    let cluster = Cluster::start(ClusterSettings::of(3)).await;
    RawKafka::open(cluster.address(1)).await.make("led").await;
    let (leader, _) = cluster.leader("led", 0).await;
    let mut led = RawKafka::open(cluster.address(leader)).await;
    // The leader may hear of the topic a moment after the broker that made it.
    wait_until("the leader to know that it leads", async || {
        (led.produce("led", ten()).await.error_code == 0).then_some(())
    })
    .await;
    let other = (1..=3).find(|id| *id != leader).unwrap();
    let mut follows = RawKafka::open(cluster.address(other)).await;
    let refused = delete(&mut follows, "led", &[(0, HIGH_WATERMARK)], 2).await;
    assert_eq!(refused[0].error_code, KafkaError::NotLeaderOrFollower.code());
    assert_eq!(earliest(&mut led, "led").await, 0);
    let told = delete(&mut led, "led", &[(0, 7)], 2).await;
    assert_eq!((told[0].error_code, told[0].low_watermark), (0, 7));
    assert_eq!(earliest(&mut led, "led").await, 7);
}
