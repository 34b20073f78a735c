//! What an operator asks of a cluster of three brokers, each time of one that does not run the controller: replicas move, leaders change,
//! brokers are emptied and removed, and how everything stands is told.

#![allow(clippy::unwrap_used, clippy::panic)] // Tests only; clippy sees just the functions marked as one.

use tidelog_client::{Client, NewTopic, Record, Start};
use tidelog_protocol::messages::{
    BalanceRequest, BrokerStanding, ChangeVotersRequest, CreateTopicRequest, DescribeBrokerRequest,
    DescribeClusterRequest, DescribeClusterResponse, DescribePartitionsRequest, DrainBrokerRequest, ElectLeaderRequest,
    NamedPartition, PartitionFilter, PartitionReplicas, ReassignRequest, RemoveBrokerRequest, ReplicaAssignment,
    VoterChange,
};
use tidelog_protocol::{BrokerId, ErrorCode, PartitionId, TopicName, WireError};
use tidelog_tests::joined_cluster::JoinedCluster;
use tidelog_tests::patience::wait_until;

fn ids(brokers: &[u32]) -> Vec<BrokerId> {
    brokers.iter().copied().map(BrokerId).collect()
}

fn one(topic: &str, partition: u32, replicas: Option<&[u32]>) -> ReassignRequest {
    let assignment =
        ReplicaAssignment { topic: topic.into(), partition: PartitionId(partition), replicas: replicas.map(ids) };
    ReassignRequest { assignments: vec![assignment], validate_only: false }
}

async fn create(cluster: &JoinedCluster, name: &str, partitions: u32, replicas: u16) {
    let client = Client::connect(&cluster.addresses()).await.unwrap();
    let topic = NewTopic::named(name).partitions(partitions).replication_factor(replicas);
    client.admin().create_topic(&topic).await.unwrap();
}

async fn partitions(cluster: &JoinedCluster, asked: u32, filter: PartitionFilter) -> Vec<PartitionReplicas> {
    let request = DescribePartitionsRequest { topics: None, filter };
    cluster.ask(asked, &request).await.unwrap().partitions
}

async fn described(cluster: &JoinedCluster, asked: u32) -> DescribeClusterResponse {
    cluster.ask(asked, &DescribeClusterRequest {}).await.unwrap()
}

async fn refused<R: tidelog_protocol::api::Request>(cluster: &JoinedCluster, request: &R) -> WireError {
    cluster.ask(2, request).await.unwrap_err()
}

/// A topic of one replica for each partition, and a partition that the broker of the controller leads.
async fn led_by_the_controller(cluster: &JoinedCluster, topic: &str) -> PartitionId {
    create(cluster, topic, 3, 1).await;
    let all = partitions(cluster, 1, PartitionFilter::All).await;
    let led = all.iter().find(|partition| partition.leader == Some(BrokerId(1)));
    led.expect("three partitions are spread over three brokers").partition
}

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_moves_with_its_records_and_a_plan_moves_nothing() {
    let cluster = JoinedCluster::start(3).await;
    let moved = led_by_the_controller(&cluster, "logs").await;
    let client = Client::connect(&cluster.addresses()).await.unwrap();
    let producer = client.producer().build().unwrap();
    for value in 0..100 {
        drop(producer.send(Record::to("logs").partition(moved).value(format!("{value}"))).await.unwrap());
    }
    producer.close().await.unwrap();

    let request = one("logs", moved.0, Some(&[2]));
    let places = async || {
        let all = partitions(&cluster, 2, PartitionFilter::All).await;
        all.into_iter().map(|held| (held.partition, held.replicas, held.adding)).collect::<Vec<_>>()
    };
    let before = places().await;
    let planned = cluster.ask(2, &ReassignRequest { validate_only: true, ..request.clone() }).await.unwrap();
    assert_eq!((planned.copying, planned.done), (1, 0));
    assert_eq!(places().await, before, "a plan moves nothing");

    let moving = cluster.ask(2, &request).await.unwrap();
    assert_eq!((moving.copying, moving.done), (1, 0));
    let state = wait_until("the partition to move", async || {
        let all = partitions(&cluster, 2, PartitionFilter::All).await;
        all.into_iter().find(|held| held.partition == moved && held.replicas == ids(&[2]) && held.leader.is_some())
    })
    .await;
    assert_eq!((state.in_sync, state.leader, state.adding.len()), (ids(&[2]), Some(BrokerId(2)), 0));
    wait_until("nothing to be unsettled", async || {
        partitions(&cluster, 2, PartitionFilter::Unsettled).await.is_empty().then_some(())
    })
    .await;

    let moved_ones = client.consumer().partition_from("logs", moved, Start::Beginning).until_end();
    let mut consumer = moved_ones.build().await.unwrap();
    for value in 0..100 {
        let record = consumer.next().await.expect("every record moved").unwrap();
        assert_eq!(record.value.clone().unwrap(), format!("{value}"));
    }
    let again = cluster.ask(2, &request).await.unwrap();
    assert_eq!((again.copying, again.done), (0, 0), "asked again it changes nothing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_moved_is_refused_whole_and_with_the_reason() {
    let cluster = JoinedCluster::start(3).await;
    create(&cluster, "logs", 3, 1).await;
    let before = partitions(&cluster, 2, PartitionFilter::All).await;
    let with = |others: ReassignRequest| {
        let mut assignments = one("logs", 1, Some(&[1, 2])).assignments;
        assignments.extend(others.assignments);
        ReassignRequest { assignments, validate_only: false }
    };
    let cases = [
        (with(one("logs", 0, Some(&[9]))), ErrorCode::UnknownBroker, "registered are: 1, 2, 3"),
        (with(one("logs", 0, Some(&[2, 2]))), ErrorCode::InvalidReassignment, "stands twice"),
        (with(one("logs", 0, Some(&[]))), ErrorCode::InvalidReassignment, "min.insync.replicas"),
        (with(one("logs", 9, Some(&[2]))), ErrorCode::UnknownPartition, "no partition 9"),
        (with(one("other", 0, Some(&[2]))), ErrorCode::UnknownTopic, "'other'"),
        (with(one("logs", 1, Some(&[3]))), ErrorCode::InvalidReassignment, "stands twice in the request"),
        (one("logs", 0, None), ErrorCode::InvalidReassignment, "not being moved"),
        (ReassignRequest { assignments: vec![], validate_only: false }, ErrorCode::InvalidReassignment, "1 to 10000"),
        (
            ReassignRequest {
                assignments: vec![one("logs", 0, None).assignments[0].clone(); 10_001],
                validate_only: false,
            },
            ErrorCode::InvalidReassignment,
            "1 to 10000",
        ),
    ];
    for (request, code, part) in cases {
        let error = refused(&cluster, &request).await;
        assert_eq!(error.code, code, "{error}");
        assert!(error.message.contains(part), "{error}");
    }
    let unclean = |partition| ElectLeaderRequest { partition, unclean: Some(BrokerId(2)) };
    let error = refused(&cluster, &unclean(None)).await;
    assert_eq!(error.code, ErrorCode::InvalidElection, "{error}");
    let named = NamedPartition { topic: "logs".into(), partition: PartitionId(0) };
    let error = refused(&cluster, &unclean(Some(named))).await;
    assert!(error.code == ErrorCode::InvalidElection && error.message.contains("leads it"), "{error}");
    let too_many = CreateTopicRequest {
        name: "wide".into(),
        partitions: None,
        replication_factor: Some(4),
        configs: vec![],
        validate_only: false,
    };
    let error = refused(&cluster, &too_many).await;
    assert!(error.code == ErrorCode::InvalidReplication && error.message.contains("on 3 live brokers"), "{error}");
    assert_eq!(partitions(&cluster, 2, PartitionFilter::All).await, before, "nothing was half done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_is_drained_kept_and_filled_again() {
    let cluster = JoinedCluster::start(3).await;
    create(&cluster, "logs", 6, 1).await;
    let drain = DrainBrokerRequest { broker_id: BrokerId(1), cancel: false, validate_only: false };
    let plan = DrainBrokerRequest { validate_only: true, ..drain.clone() };
    let planned = cluster.ask(3, &plan).await.unwrap();
    assert_eq!((planned.copying, planned.done), (2, 0), "two of six partitions are on broker 1");
    assert!(!described(&cluster, 3).await.brokers[0].draining);

    assert_eq!(cluster.ask(3, &drain).await.unwrap(), planned);
    wait_until("broker 1 to be empty", async || {
        let cluster = described(&cluster, 3).await;
        (cluster.brokers[0].replicas == 0 && cluster.partitions.moving == 0).then_some(())
    })
    .await;
    let error = refused(&cluster, &RemoveBrokerRequest { broker_id: BrokerId(1) }).await;
    assert!(error.code == ErrorCode::BrokerInUse && error.message.contains("still serves"), "{error}");
    assert_eq!(described(&cluster, 2).await.voters.len(), 3, "nothing was half done");

    let keep = DrainBrokerRequest { cancel: true, ..drain };
    cluster.ask(3, &keep).await.unwrap();
    let error = refused(&cluster, &keep).await;
    assert_eq!(error.code, ErrorCode::InvalidReassignment, "{error}");
    let error = refused(&cluster, &DrainBrokerRequest { broker_id: BrokerId(7), ..keep }).await;
    assert_eq!(error.code, ErrorCode::UnknownBroker, "{error}");

    let balance = BalanceRequest { copies_max: 1, validate_only: true };
    let planned = cluster.ask(2, &balance).await.unwrap();
    assert_eq!((planned.copying, planned.copies), (1, 1));
    assert_eq!(described(&cluster, 2).await.partitions.moving, 0, "a plan moves nothing");
    let planned = cluster.ask(2, &BalanceRequest { copies_max: 0, ..balance }).await.unwrap();
    assert_eq!((planned.copying, planned.copies), (2, 2), "two each, as before");
}

#[tokio::test(flavor = "multi_thread")]
async fn preferred_leaders_are_elected_and_the_order_of_replicas_says_who_that_is() {
    let cluster = JoinedCluster::start(3).await;
    create(&cluster, "logs", 1, 3).await;
    let held = partitions(&cluster, 2, PartitionFilter::All).await.remove(0);
    let mut order: Vec<u32> = held.replicas.iter().map(|broker| broker.0).collect();
    order.rotate_left(1);
    let turned = cluster.ask(3, &one("logs", 0, Some(&order))).await.unwrap();
    assert_eq!((turned.copying, turned.done), (0, 1), "no record is copied for another order");
    let held = partitions(&cluster, 3, PartitionFilter::All).await.remove(0);
    assert_eq!((held.replicas, held.leader), (ids(&order), Some(BrokerId(order[0]))));
    let elected = cluster.ask(2, &ElectLeaderRequest { partition: None, unclean: None }).await.unwrap();
    assert_eq!(elected.elected, 0, "it leads already");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_is_described_by_any_broker_and_without_a_controller_too() {
    let mut cluster = JoinedCluster::start(3).await;
    create(&cluster, "logs", 3, 3).await;
    for asked in 1..=3 {
        let described = described(&cluster, asked).await;
        assert_eq!(described.controller, Some(BrokerId(1)), "broker {asked}");
        assert_eq!(described.voters, ids(&[1, 2, 3]));
        assert_eq!((described.partitions.partitions, described.partitions.offline), (3, 0));
        for broker in &described.brokers {
            assert_eq!((broker.standing, broker.replicas, broker.leaders), (BrokerStanding::Serving, 3, 1));
        }
        // A lease is counted from the first look at it on.
        wait_until("the leases of all brokers", async || {
            let described = self::described(&cluster, asked).await;
            described.brokers.iter().all(|broker| broker.lease_left_ms.is_some_and(|left| left > 0)).then_some(())
        })
        .await;
        // The answer to the creation came from one of them, which does not wait for the others.
        wait_until("what the broker holds", async || {
            let this = cluster.ask(asked, &DescribeBrokerRequest {}).await.unwrap();
            ((this.leads, this.partitions, this.unsettled_records) == (1, 3, 0)).then_some(())
        })
        .await;
    }
    let names = vec![TopicName::new("logs").unwrap(), TopicName::new("nowhere").unwrap()];
    let request = DescribePartitionsRequest { topics: Some(names.clone()), filter: PartitionFilter::All };
    let named = cluster.ask(2, &request).await.unwrap();
    assert_eq!((named.partitions.len(), named.unknown), (3, vec![names[1].clone()]));

    cluster.stop(1).await;
    cluster.stop(2).await;
    wait_until("no controller to be found", async || {
        let described = described(&cluster, 3).await;
        assert_eq!(described.brokers.len(), 3, "what is known is told");
        described.controller.is_none().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_is_gone_for_good_leaves_metadata_and_quorum() {
    let mut cluster = JoinedCluster::start(3).await;
    create(&cluster, "logs", 3, 1).await;
    let remove = RemoveBrokerRequest { broker_id: BrokerId(3) };
    cluster.stop(3).await;
    let error = refused(&cluster, &remove).await;
    assert!(error.code == ErrorCode::BrokerInUse && error.message.contains("drain it first"), "{error}");
    assert_eq!(described(&cluster, 2).await.voters, ids(&[1, 2, 3]), "nothing was half done");

    cluster.start_again(3).await;
    let drain = DrainBrokerRequest { broker_id: BrokerId(3), cancel: false, validate_only: false };
    cluster.ask(2, &drain).await.unwrap();
    wait_until("broker 3 to be empty", async || (described(&cluster, 2).await.brokers[2].replicas == 0).then_some(()))
        .await;
    cluster.stop(3).await;
    cluster.ask(2, &remove).await.unwrap();
    let described = described(&cluster, 1).await;
    assert_eq!((described.voters, described.brokers.len()), (ids(&[1, 2]), 2));
    let error = refused(&cluster, &remove).await;
    assert!(error.code == ErrorCode::UnknownBroker && error.message.contains("registered are: 1, 2"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_voter_is_neither_demoted_nor_removed() {
    let cluster = JoinedCluster::learners(2).await;
    let last = |change| ChangeVotersRequest { broker_id: BrokerId(1), change };
    for change in [VoterChange::Demote, VoterChange::Remove] {
        let error = refused(&cluster, &last(change)).await;
        assert_eq!(error.code, ErrorCode::InvalidVoters, "{error}");
    }
    let error = refused(&cluster, &RemoveBrokerRequest { broker_id: BrokerId(1) }).await;
    assert!(error.code == ErrorCode::InvalidVoters && error.message.contains("last voter"), "{error}");
    let error = refused(&cluster, &RemoveBrokerRequest { broker_id: BrokerId(7) }).await;
    assert_eq!(error.code, ErrorCode::UnknownBroker, "{error}");
    let described = described(&cluster, 2).await;
    assert_eq!((described.voters, described.brokers.len()), (ids(&[1]), 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_has_as_many_replicas_as_there_are_brokers_and_three_at_most() {
    let mut cluster = JoinedCluster::learners(1).await;
    for (brokers, replicas) in [(1, 1), (2, 2), (3, 3), (4, 3)] {
        while cluster.living().count() < brokers {
            cluster.add().await;
        }
        let request = CreateTopicRequest {
            name: format!("by-{brokers}"),
            partitions: None,
            replication_factor: None,
            configs: vec![],
            validate_only: false,
        };
        cluster.ask(brokers as u32, &request).await.unwrap();
        let all = partitions(&cluster, brokers as u32, PartitionFilter::All).await;
        assert_eq!(all.last().unwrap().replicas.len(), replicas, "of {brokers} brokers");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_three_replicas_acks_all_means_two_of_them_unless_somebody_says_otherwise() {
    let cluster = JoinedCluster::start(3).await;
    let client = Client::connect(&cluster.addresses()).await.unwrap();
    let admin = client.admin();
    let one = NewTopic::named("one-said").config("min.insync.replicas", "1");
    let two = NewTopic::named("two-replicas").replication_factor(2);
    for topic in [NewTopic::named("nothing-said"), one, two] {
        admin.create_topic(&topic).await.unwrap();
    }
    for (name, minimum) in [("nothing-said", "2"), ("one-said", "1"), ("two-replicas", "1")] {
        let [topic] = &admin.describe_topics(&[name]).await.unwrap()[..] else { panic!("one topic") };
        let found = topic.configs.iter().find(|config| config.key == "min.insync.replicas").unwrap();
        assert_eq!(found.value, minimum, "{name}");
    }
}
