//! A cluster in which one broker is not upgraded yet: what that one does not know begins nowhere, and whoever asks for it hears why. Once it is
//! upgraded, it does.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use tidelog_client::{Client, NewTopic};
use tidelog_protocol::api::Request;
use tidelog_protocol::kafka::KafkaError;
use tidelog_protocol::kafka::find_coordinator::FindCoordinatorRequest as KafkaFindCoordinatorRequest;
use tidelog_protocol::kafka::join_group::JoinGroupRequest;
use tidelog_protocol::messages::{
    Coordinated, DescribeClusterRequest, FindCoordinatorRequest, ReassignRequest, ReplicaAssignment,
};
use tidelog_protocol::{BrokerId, ErrorCode, PartitionId, ProtocolVersion};
use tidelog_tests::broker_process::{BrokerProcess, BrokerSettings};
use tidelog_tests::capping_proxy::CappingProxy;
use tidelog_tests::patience::{insist, wait_until};
use tidelog_tests::question::{NoAnswer, ask};
use tidelog_tests::raw_kafka::RawKafka;

/// The last version that knew no transactions.
const V3: ProtocolVersion = ProtocolVersion(3);
/// The last version that knew no reassignment which can be taken back.
const V4: ProtocolVersion = ProtocolVersion(4);
/// The last version that knew no classic groups.
const V6: ProtocolVersion = ProtocolVersion(6);

async fn level(broker: &BrokerProcess) -> u16 {
    ask(broker.address(), &DescribeClusterRequest {}).await.unwrap().feature_level
}

/// Refused since broker 2 is too old.
async fn is_too_new<R: Request>(broker: &BrokerProcess, request: &R) {
    let before = level(broker).await;
    let NoAnswer::Fault(refused) = ask(broker.address(), request).await.err().unwrap() else { panic!("no answer") };
    assert_eq!(refused.code, ErrorCode::Unsupported, "{refused}");
    assert!(refused.message.contains("broker 2 runs a release that does not know this"), "{refused}");
    assert_eq!(level(broker).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_begins_that_a_broker_does_not_know_until_that_is_upgraded() {
    let proxy = CappingProxy::open(V3).await;
    let address = proxy.address().to_string();
    let first = BrokerSettings::new().set("advertise", &address).set("broker_id", "1").start();
    proxy.lead_to(first.address());
    let second = BrokerSettings::new().set("join", &address).set("broker_id", "2").start();
    let client = Client::connect(&second.server()).await.unwrap();
    client.admin().create_topic(&NewTopic::named("logs").replication_factor(1)).await.unwrap();
    let kept = insist("the topic", async || {
        let metadata = client.admin().metadata().await.map_err(|error| error.to_string())?;
        let topic = metadata.topics.iter().find(|topic| topic.name.as_str() == "logs").ok_or("no topic")?;
        topic.partitions[0].leader.ok_or("no leader".to_owned())
    })
    .await;

    let transactions = FindCoordinatorRequest { kind: Coordinated::Transaction, key: "billing".into(), classic: false };
    let to = BrokerId(3 - kept.0);
    let assignment = ReplicaAssignment { topic: "logs".into(), partition: PartitionId(0), replicas: Some(vec![to]) };
    let moving = ReassignRequest { assignments: vec![assignment], validate_only: false };
    is_too_new(&first, &transactions).await;
    is_too_new(&first, &moving).await;
    is_too_new(&first, &ReassignRequest { validate_only: true, ..moving.clone() }).await;

    // Half of the way: what it knows begins.
    proxy.cut(V4).await;
    wait_until("transactions", async || ask(first.address(), &transactions).await.ok()).await;
    assert_eq!(level(&first).await, 4);
    is_too_new(&first, &moving).await;

    proxy.cut(V6).await;
    wait_until("the move to begin", async || ask(first.address(), &moving).await.ok()).await;
    assert_eq!(level(&first).await, 5);
    let (first_logs, second_logs) = (first.data().join("logs-0"), second.data().join("logs-0"));
    let (from, to) = if kept == BrokerId(1) { (first_logs, second_logs) } else { (second_logs, first_logs) };
    wait_until("the replica to move", async || (to.exists() && !from.exists()).then_some(())).await;

    let mut kafka = RawKafka::open(first.address()).await;
    let group = KafkaFindCoordinatorRequest { coordinator_keys: vec!["readers".into()], ..Default::default() };
    let refused = kafka.call(&group, 6).await.coordinators.remove(0);
    assert_eq!(refused.error_code, KafkaError::CoordinatorNotAvailable.code());
    let sentence = refused.error_message.unwrap();
    assert!(sentence.contains("broker 2 runs a release that does not know this"), "{sentence}");
    let join = kafka.call(&JoinGroupRequest { group_id: "readers".into(), ..Default::default() }, 9).await;
    assert_eq!((join.error_code, level(&first).await), (KafkaError::CoordinatorNotAvailable.code(), 5));
    proxy.cut(ProtocolVersion::CURRENT).await;
    wait_until("classic groups", async || (kafka.call(&group, 6).await.coordinators[0].error_code == 0).then_some(()))
        .await;
    assert!(level(&first).await >= 7);
    // What nobody asks for had to wait all the while.
    wait_until("the stamps of folders", async || (level(&first).await == 11).then_some(())).await;
}
