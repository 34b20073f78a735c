//! Groups whose coordinator assigns (KIP-848), by hand in both versions of their heartbeat: what is refused, and in which words.

use tidelog_protocol::kafka::codec::Uuid;
use tidelog_protocol::kafka::consumer_group_describe::ConsumerGroupDescribeRequest;
use tidelog_protocol::kafka::consumer_group_heartbeat::{
    ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse, ConsumerGroupHeartbeatTopicPartitions,
};
use tidelog_protocol::kafka::find_coordinator::FindCoordinatorRequest;
use tidelog_protocol::kafka::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::kafka::{KafkaError, Request};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_kafka::RawKafka;

const GROUP: &str = "assigned";

fn joining() -> ConsumerGroupHeartbeatRequest {
    ConsumerGroupHeartbeatRequest {
        group_id: GROUP.into(),
        member_id: "first".into(),
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["orders".into()]),
        topic_partitions: Some(Vec::new()),
        ..Default::default()
    }
}

/// A connection to who coordinates the group, and a topic for it.
async fn coordinator(broker: &BrokerProcess) -> (RawKafka, Uuid) {
    let mut kafka = RawKafka::open(broker.address()).await;
    let made = kafka.make("orders").await.topics[0].topic_id;
    wait_until("a coordinator", async || {
        let request = FindCoordinatorRequest { coordinator_keys: vec![GROUP.into()], ..Default::default() };
        let found = kafka.call(&request, 6).await.coordinators;
        (found[0].error_code == 0).then_some(())
    })
    .await;
    (kafka, made)
}

/// Asks once its coordinator is ready.
async fn beat(
    kafka: &mut RawKafka,
    request: &ConsumerGroupHeartbeatRequest,
    version: i16,
) -> ConsumerGroupHeartbeatResponse {
    wait_until("the coordinator to have read what it keeps", async || {
        let told = kafka.call(request, version).await;
        (told.error_code != KafkaError::CoordinatorLoadInProgress.code()).then_some(told)
    })
    .await
}

fn owned(told: &ConsumerGroupHeartbeatResponse) -> Option<Vec<i32>> {
    let parts = told.assignment.as_ref()?.topic_partitions.iter();
    Some(parts.flat_map(|topic| topic.partitions.clone()).collect())
}

async fn commit(kafka: &mut RawKafka, member: &str, epoch: i32) -> i16 {
    let partition = OffsetCommitRequestPartition { committed_offset: 1, ..Default::default() };
    let request = OffsetCommitRequest {
        group_id: GROUP.into(),
        generation_id_or_member_epoch: epoch,
        member_id: member.into(),
        topics: vec![OffsetCommitRequestTopic { name: "orders".into(), partitions: vec![partition] }],
        ..Default::default()
    };
    kafka.call(&request, 9).await.topics[0].partitions[0].error_code
}

#[tokio::test(flavor = "multi_thread")]
async fn members_join_are_assigned_commit_and_leave_in_each_version() {
    for version in ConsumerGroupHeartbeatRequest::API.versions() {
        let broker = BrokerProcess::start();
        let (mut kafka, topic_id) = coordinator(&broker).await;
        // The first version has the broker name whoever joins without an id.
        let member_id = if version == 0 { String::new() } else { "first".into() };
        let joined = beat(&mut kafka, &ConsumerGroupHeartbeatRequest { member_id, ..joining() }, version).await;
        assert_eq!((joined.error_code, owned(&joined)), (0, Some(vec![0])), "{joined:?}");
        let member = joined.member_id.clone().expect("an id");
        assert!(!member.is_empty() && joined.member_epoch > 0 && joined.heartbeat_interval_ms > 0, "{joined:?}");

        let own = ConsumerGroupHeartbeatTopicPartitions { topic_id, partitions: vec![0] };
        let stay = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: member.clone(),
            member_epoch: joined.member_epoch,
            topic_partitions: Some(vec![own]),
            ..Default::default()
        };
        let stayed = beat(&mut kafka, &stay, version).await;
        assert_eq!((stayed.error_code, stayed.member_epoch, stayed.assignment), (0, joined.member_epoch, None));
        assert_eq!(commit(&mut kafka, &member, joined.member_epoch).await, 0);
        assert_eq!(commit(&mut kafka, &member, joined.member_epoch + 1).await, KafkaError::StaleMemberEpoch.code());
        assert_eq!(commit(&mut kafka, "stranger", 1).await, KafkaError::UnknownMemberId.code());

        let describe =
            ConsumerGroupDescribeRequest { group_ids: vec![GROUP.into(), "none".into()], ..Default::default() };
        let described = kafka.call(&describe, version).await.groups;
        let found = &described[0];
        assert_eq!((found.group_state.as_str(), found.assignor_name.as_str()), ("Stable", "uniform"), "{found:?}");
        assert_eq!(found.members[0].assignment.topic_partitions[0].topic_name, "orders", "{found:?}");
        assert_eq!(found.members[0].target_assignment, found.members[0].assignment, "{found:?}");
        assert_eq!(described[1].error_code, KafkaError::GroupIdNotFound.code(), "{:?}", described[1]);

        let left = beat(&mut kafka, &ConsumerGroupHeartbeatRequest { member_epoch: -1, ..stay.clone() }, version).await;
        assert_eq!((left.error_code, left.member_epoch), (0, -1));
        let unknown = beat(&mut kafka, &stay, version).await;
        assert_eq!(unknown.error_code, KafkaError::UnknownMemberId.code(), "{unknown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_is_said_in_codes_that_clients_know_and_changes_nothing() {
    let broker = BrokerProcess::start();
    let (mut kafka, _) = coordinator(&broker).await;
    let joined = beat(&mut kafka, &joining(), 1).await;
    let epoch = joined.member_epoch;
    let stays = ConsumerGroupHeartbeatRequest { member_epoch: epoch, ..joining() };
    let below = ConsumerGroupHeartbeatTopicPartitions { topic_id: [7; 16], partitions: vec![-1] };
    for (request, error, sentence) in [
        (
            ConsumerGroupHeartbeatRequest { server_assignor: Some("best".into()), ..stays.clone() },
            KafkaError::UnsupportedAssignor,
            "there are uniform and range",
        ),
        (
            ConsumerGroupHeartbeatRequest { subscribed_topic_regex: Some("a(".into()), ..stays.clone() },
            KafkaError::InvalidRegularExpression,
            "a(",
        ),
        (
            ConsumerGroupHeartbeatRequest { member_epoch: epoch + 5, ..stays.clone() },
            KafkaError::FencedMemberEpoch,
            "join again",
        ),
        (ConsumerGroupHeartbeatRequest { member_epoch: -7, ..stays.clone() }, KafkaError::InvalidRequest, "0 joins"),
        (
            ConsumerGroupHeartbeatRequest { topic_partitions: Some(vec![below]), ..stays.clone() },
            KafkaError::InvalidRequest,
            "below 0",
        ),
        (
            ConsumerGroupHeartbeatRequest { member_id: "m".repeat(65), ..joining() },
            KafkaError::InvalidRequest,
            "member id",
        ),
        (
            ConsumerGroupHeartbeatRequest { subscribed_topic_names: None, member_id: "second".into(), ..joining() },
            KafkaError::InvalidRequest,
            "what it wants to read",
        ),
    ] {
        let told = beat(&mut kafka, &request, 1).await;
        assert_eq!(told.error_code, error.code(), "{told:?}");
        assert!(told.error_message.as_deref().is_some_and(|message| message.contains(sentence)), "{told:?}");
        assert_eq!(told.assignment, None);
    }
    let stayed = beat(&mut kafka, &stays, 1).await;
    assert_eq!((stayed.error_code, stayed.member_epoch), (0, epoch), "{stayed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_regular_expression_takes_in_topics_that_come_later() {
    let broker = BrokerProcess::start();
    let (mut kafka, _) = coordinator(&broker).await;
    let matching = ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some("ord.*|later".into()),
        ..joining()
    };
    let mut told = beat(&mut kafka, &matching, 1).await;
    assert_eq!(owned(&told), Some(vec![0]), "{told:?}");
    kafka.make("later").await;
    let mut epoch = told.member_epoch;
    wait_until("both topics", async || {
        let stay = ConsumerGroupHeartbeatRequest {
            group_id: GROUP.into(),
            member_id: "first".into(),
            member_epoch: epoch,
            ..Default::default()
        };
        told = beat(&mut kafka, &stay, 1).await;
        epoch = told.member_epoch;
        (owned(&told)?.len() == 2).then_some(())
    })
    .await;
}
