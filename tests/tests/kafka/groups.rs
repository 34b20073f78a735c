//! Classic groups by hand, in every version of their APIs, and what happens to them when brokers stop, die, or coordinate a group of the other
//! kind.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};
use tidelog_client::{Client, NewTopic, Record};
use tidelog_protocol::PartitionId;
use tidelog_protocol::kafka::consumer_protocol::{
    CONSUMER, ConsumerPartitions, ConsumerProtocolAssignment, ConsumerProtocolSubscription,
};
use tidelog_protocol::kafka::delete_groups::DeleteGroupsRequest;
use tidelog_protocol::kafka::describe_groups::DescribeGroupsRequest;
use tidelog_protocol::kafka::find_coordinator::FindCoordinatorRequest;
use tidelog_protocol::kafka::heartbeat::HeartbeatRequest;
use tidelog_protocol::kafka::join_group::{JoinGroupRequest, JoinGroupRequestProtocol, JoinGroupResponse};
use tidelog_protocol::kafka::leave_group::{LeaveGroupRequest, MemberIdentity};
use tidelog_protocol::kafka::list_groups::ListGroupsRequest;
use tidelog_protocol::kafka::offset_commit::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use tidelog_protocol::kafka::offset_delete::{
    OffsetDeleteRequest, OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use tidelog_protocol::kafka::offset_fetch::{
    OffsetFetchRequest, OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchResponsePartition,
};
use tidelog_protocol::kafka::sync_group::{SyncGroupRequest, SyncGroupRequestAssignment};
use tidelog_protocol::kafka::{ApiKey, KafkaError, Message, Request};
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::command::CommandLine;
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_kafka::RawKafka;

/// A member that speaks the versions next to one number.
struct Member {
    kafka: RawKafka,
    group: String,
    version: i16,
    id: String,
    generation: i32,
}

fn of<R: Request>(version: i16) -> i16 {
    version.clamp(*R::API.versions().start(), *R::API.versions().end())
}

/// A message of the consumers' own protocol, behind its version.
fn behind_version<M: Message>(message: &M) -> bytes::Bytes {
    [&1i16.to_be_bytes()[..], &message.to_bytes(1, false)].concat().into()
}

impl Member {
    /// Connected to who coordinates the group, and no member yet.
    async fn open(any: SocketAddr, group: &str, version: i16) -> Self {
        let address = wait_until("a coordinator", async || {
            let mut kafka = RawKafka::open(any).await;
            let request = FindCoordinatorRequest {
                key: group.into(),
                coordinator_keys: vec![group.into()],
                ..Default::default()
            };
            let mut found = kafka.call(&request, of::<FindCoordinatorRequest>(version)).await;
            let several = found.coordinators.pop();
            let (error, host, port) = several.map_or((found.error_code, found.host, found.port), |one| {
                assert_eq!(one.key, group);
                (one.error_code, one.host, one.port)
            });
            (error == 0).then(|| format!("{host}:{port}").parse::<SocketAddr>().unwrap())
        })
        .await;
        let kafka = RawKafka::open(address).await;
        Self { kafka, group: group.into(), version, id: String::new(), generation: -1 }
    }

    async fn call<R: Request>(&mut self, request: &R) -> R::Response {
        self.kafka.call(request, of::<R>(self.version)).await
    }

    fn joining(&self) -> JoinGroupRequest {
        let said = ConsumerProtocolSubscription { topics: vec!["orders".into()], ..Default::default() };
        JoinGroupRequest {
            group_id: self.group.clone(),
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 30_000,
            member_id: self.id.clone(),
            protocol_type: CONSUMER.into(),
            protocols: vec![JoinGroupRequestProtocol { name: "range".into(), metadata: behind_version(&said) }],
            ..Default::default()
        }
    }

    /// Joins, once its coordinator is ready.
    async fn join(&mut self) -> JoinGroupResponse {
        loop {
            let joined = self.call(&self.joining()).await;
            match joined.error_code {
                0 => {
                    (self.id, self.generation) = (joined.member_id.clone(), joined.generation_id);
                    return joined;
                }
                code if code == KafkaError::MemberIdRequired.code() => {
                    assert!(self.version >= 4 && self.id.is_empty());
                    self.id = joined.member_id;
                }
                code if is_moving(code) => self.look_again().await,
                code => panic!("error {code}"),
            }
        }
    }

    /// Nothing tells when a coordinator has read what it keeps, but asking it.
    async fn look_again(&mut self) {
        *self = Self {
            id: std::mem::take(&mut self.id),
            generation: self.generation,
            ..Self::open(self.kafka.socket.peer_addr().unwrap(), &self.group, self.version).await
        };
    }

    /// Says that it reads all three partitions itself.
    async fn sync(&mut self) -> i16 {
        let all = ConsumerPartitions { topic: "orders".into(), partitions: vec![0, 1, 2] };
        let part = ConsumerProtocolAssignment { assigned_partitions: vec![all], user_data: None };
        let assignment = behind_version(&part);
        let assignments =
            vec![SyncGroupRequestAssignment { member_id: self.id.clone(), assignment: assignment.clone() }];
        let request = SyncGroupRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            protocol_type: Some(CONSUMER.into()),
            protocol_name: Some("range".into()),
            assignments,
            ..Default::default()
        };
        let synced = self.call(&request).await;
        assert!(synced.error_code != 0 || synced.assignment == assignment);
        synced.error_code
    }

    async fn heartbeat(&mut self) -> i16 {
        let request = HeartbeatRequest {
            group_id: self.group.clone(),
            generation_id: self.generation,
            member_id: self.id.clone(),
            ..Default::default()
        };
        self.call(&request).await.error_code
    }

    async fn commit(&mut self, partition: i32, offset: i64, metadata: &str) -> i16 {
        let place = OffsetCommitRequestPartition {
            partition_index: partition,
            committed_offset: offset,
            committed_leader_epoch: 3,
            committed_metadata: Some(metadata.into()),
        };
        let request = OffsetCommitRequest {
            group_id: self.group.clone(),
            generation_id_or_member_epoch: self.generation,
            member_id: self.id.clone(),
            topics: vec![OffsetCommitRequestTopic { name: "orders".into(), partitions: vec![place] }],
            ..Default::default()
        };
        self.call(&request).await.topics[0].partitions[0].error_code
    }

    /// What it has committed for a partition.
    async fn committed(&mut self, partition: i32) -> OffsetFetchResponsePartition {
        let topics = Some(vec![OffsetFetchRequestTopic { name: "orders".into(), partition_indexes: vec![partition] }]);
        let group =
            OffsetFetchRequestGroup { group_id: self.group.clone(), topics: topics.clone(), ..Default::default() };
        let request =
            OffsetFetchRequest { group_id: self.group.clone(), topics, groups: vec![group], ..Default::default() };
        let mut found = self.call(&request).await;
        assert_eq!(found.error_code, 0);
        let mut topics = found.groups.pop().map_or(found.topics, |group| {
            assert_eq!(group.error_code, 0);
            group.topics
        });
        topics.remove(0).partitions.remove(0)
    }

    async fn leave(&mut self) {
        let member_id = self.id.clone();
        let members = vec![MemberIdentity { member_id: member_id.clone(), ..Default::default() }];
        let request = LeaveGroupRequest { group_id: self.group.clone(), member_id, members };
        let left = self.call(&request).await;
        let each = left.members.iter().map(|member| member.error_code);
        assert!(each.chain([left.error_code]).all(|code| code == 0), "{left:?}");
    }

    /// The name of the group's state, and how many members it has.
    async fn shown(&mut self) -> (String, usize) {
        let request = DescribeGroupsRequest { groups: vec![self.group.clone()], ..Default::default() };
        let shown = self.call(&request).await.groups.remove(0);
        assert!(shown.error_code == 0 || shown.group_state == "Dead");
        (shown.group_state, shown.members.len())
    }
}

fn is_moving(code: i16) -> bool {
    let moving =
        [KafkaError::NotCoordinator, KafkaError::CoordinatorLoadInProgress, KafkaError::CoordinatorNotAvailable];
    moving.iter().any(|error| error.code() == code)
}

async fn with_orders(server: &str) -> Client {
    let client = Client::connect(server).await.unwrap();
    client.admin().create_topic(&NewTopic::named("orders").partitions(3)).await.unwrap();
    client
}

async fn lives_through(address: SocketAddr, version: i16) {
    let mut member = Member::open(address, &format!("group-{version}"), version).await;
    let joined = member.join().await;
    assert_eq!((joined.leader.as_str(), joined.generation_id), (member.id.as_str(), 1));
    assert_eq!((joined.protocol_name.as_deref(), joined.members.len()), (Some("range"), 1));
    assert_eq!(joined.protocol_type.is_some(), version >= 7);
    assert_eq!(member.commit(0, 9, "").await, KafkaError::RebalanceInProgress.code());
    assert_eq!((member.sync().await, member.heartbeat().await), (0, 0));
    assert_eq!(member.commit(1, 42, "a note").await, 0);
    assert_eq!(member.commit(1, 43, &"x".repeat(5_000)).await, KafkaError::OffsetMetadataTooLarge.code());
    assert_eq!(member.commit(7, 43, "").await, KafkaError::UnknownTopicOrPartition.code());
    let found = member.committed(1).await;
    assert_eq!((found.committed_offset, found.metadata.as_deref(), found.error_code), (42, Some("a note"), 0));
    let commit_says_epoch = of::<OffsetCommitRequest>(version) >= 6 && of::<OffsetFetchRequest>(version) >= 5;
    assert_eq!(found.committed_leader_epoch, if commit_says_epoch { 3 } else { -1 });
    assert_eq!(member.committed(0).await.committed_offset, -1);
    assert_eq!(member.shown().await, ("Stable".into(), 1));
    let listed = member.call(&ListGroupsRequest::default()).await;
    let listed = listed.groups.iter().find(|listed| listed.group_id == member.group).unwrap();
    assert_eq!(listed.protocol_type, CONSUMER);
    assert_eq!(listed.group_state, if version >= 4 { "Stable" } else { "" });
    assert_eq!(listed.group_type, if version >= 5 { "classic" } else { "" });

    member.generation -= 1;
    assert_eq!(member.heartbeat().await, KafkaError::IllegalGeneration.code());
    assert_eq!(member.commit(1, 1, "").await, KafkaError::IllegalGeneration.code());
    member.generation += 1;
    let delete = DeleteGroupsRequest { groups_names: vec![member.group.clone(), "none".into()] };
    let codes = |answer: tidelog_protocol::kafka::delete_groups::DeleteGroupsResponse| {
        answer.results.into_iter().map(|result| result.error_code).collect::<Vec<_>>()
    };
    let refused = [KafkaError::NonEmptyGroup.code(), KafkaError::GroupIdNotFound.code()];
    assert_eq!(codes(member.call(&delete).await), refused);
    member.leave().await;
    assert_eq!(member.heartbeat().await, KafkaError::UnknownMemberId.code());
    assert_eq!(member.shown().await, ("Empty".into(), 0));
    assert_eq!(member.committed(1).await.committed_offset, 42);
    let partitions = vec![OffsetDeleteRequestPartition { partition_index: 1 }];
    let topics = vec![OffsetDeleteRequestTopic { name: "orders".into(), partitions }];
    let forgotten = member.call(&OffsetDeleteRequest { group_id: member.group.clone(), topics }).await;
    assert_eq!((forgotten.error_code, forgotten.topics[0].partitions[0].error_code), (0, 0));
    assert_eq!(member.committed(1).await.committed_offset, -1);
    assert_eq!(codes(member.call(&delete).await), [0, KafkaError::GroupIdNotFound.code()]);
    assert_eq!(member.shown().await.0, "Dead");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_of_the_apis_of_groups_is_answered() {
    let broker = BrokerProcess::start();
    let _client = with_orders(&broker.server()).await;
    for version in ApiKey::JoinGroup.versions() {
        lives_through(broker.address(), version).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_in_its_generation_when_its_coordinator_dies() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let _client = with_orders(&cluster.servers()).await;
    let any = cluster.servers().split(',').next().unwrap().parse().unwrap();
    let mut member = Member::open(any, "movers", 9).await;
    member.join().await;
    assert_eq!((member.sync().await, member.commit(0, 7, "kept").await), (0, 0));
    let address = member.kafka.socket.peer_addr().unwrap();
    let coordinator = (1..=3).find(|id| cluster.address(*id) == address).unwrap();
    let _ = cluster.kill(coordinator);
    let others = (1..=3).filter(|id| *id != coordinator).map(|id| cluster.address(id)).collect::<Vec<_>>();
    // The others come to know of it; until then they name the dead one.
    let mut member = wait_until("another coordinator", async || {
        let mut kafka = RawKafka::open(others[0]).await;
        let request = FindCoordinatorRequest { coordinator_keys: vec!["movers".into()], ..Default::default() };
        let found = kafka.call(&request, 6).await.coordinators.remove(0);
        let address = format!("{}:{}", found.host, found.port).parse::<SocketAddr>().ok()?;
        let (id, generation) = (member.id.clone(), member.generation);
        if !others.contains(&address) {
            return None;
        }
        let kafka = RawKafka::open(address).await;
        let mut moved = Member { kafka, group: "movers".into(), version: 9, id, generation };
        (moved.heartbeat().await == 0).then_some(moved)
    })
    .await;
    let found = member.committed(0).await;
    assert_eq!((found.committed_offset, found.metadata.as_deref()), (7, Some("kept")));
    assert_eq!(member.commit(0, 8, "").await, 0, "without joining again");
    let before = member.generation;
    assert_eq!(member.join().await.generation_id, before + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_stops_does_not_wait_for_members_that_wait() {
    let mut broker = BrokerProcess::start();
    let _client = with_orders(&broker.server()).await;
    let mut first = Member::open(broker.address(), "waiters", 3).await;
    first.join().await;
    let mut second = Member::open(broker.address(), "waiters", 3).await;
    let joining = second.joining();
    let asked = second.kafka.ask(&joining, 3).await;
    wait_until("it to wait", async || {
        (first.heartbeat().await == KafkaError::RebalanceInProgress.code()).then_some(())
    })
    .await;
    let began = Instant::now();
    assert!(broker.terminate().success());
    assert!(began.elapsed().as_secs() < 9, "nobody waited for the end of the time that a stop has");
    let answer = second.kafka.answer::<JoinGroupRequest>(asked, 3).await;
    assert_eq!(answer.error_code, KafkaError::NotCoordinator.code());
}

fn tidelog(server: &str, line: &str) -> tidelog_tests::command::Finished {
    CommandLine::of("tidelog").args(["--server", server, "--output", "json"]).args(line.split_whitespace()).run()
}

fn told(server: &str, line: &str) -> Value {
    serde_json::from_slice(&tidelog(server, line).success()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_show_a_classic_group_and_native_members_go_on_where_it_stopped() {
    let broker = BrokerProcess::start();
    let server = broker.server();
    let client = with_orders(&server).await;
    let producer = client.producer().build().unwrap();
    for value in ["one", "two", "three"] {
        let record = Record::to("orders").partition(PartitionId(1)).value(value);
        producer.send(record).await.unwrap().await.unwrap();
    }
    let mut member = Member::open(broker.address(), "billing", 9).await;
    member.join().await;
    assert_eq!((member.sync().await, member.commit(1, 2, "").await), (0, 0));

    let listed = told(&server, "groups list");
    assert_eq!(listed["groups"], json!([{"group": "billing", "state": "stable", "members": 1}]));
    let shown = told(&server, "groups describe billing");
    assert_eq!((&shown["state"], &shown["epoch"], &shown["assignor"]), (&json!("stable"), &json!(1), &json!("range")));
    let shown = &shown["members"][0];
    assert_eq!((&shown["member_id"], &shown["client_name"]), (&json!(member.id), &json!("raw")));
    assert_eq!(shown["topics"], json!(["orders"]));
    assert_eq!(shown["owned"], json!([{"topic": "orders", "partitions": [0, 1, 2]}]));
    let lag = told(&server, "groups lag billing");
    assert_eq!(lag["lag"], json!(1));
    let partition = &lag["partitions"][1];
    assert_eq!((&partition["committed"], &partition["member_id"]), (&json!(2), &json!(member.id)));

    let native = "consume orders --group billing --from beginning --max 1";
    for refused in [native, "groups reset-offsets billing --topic orders --to beginning", "groups delete billing"] {
        let refused = tidelog(&server, refused);
        assert_ne!(refused.code, Some(0));
        assert!(refused.stderr.contains("1 member"), "{}", refused.stderr);
    }
    member.leave().await;
    let read = told(&server, native);
    assert_eq!((&read["offset"], &read["value"]), (&json!(2), &json!("three")));
}
