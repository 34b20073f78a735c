//! What lies where, who leads it and where it moves, by Kafka's APIs, in every version.

use std::time::{Duration, Instant};

use tidelog_protocol::kafka::alter_partition_reassignments::{
    AlterPartitionReassignmentsRequest, ReassignablePartition, ReassignableTopic,
};
use tidelog_protocol::kafka::create_topics::{CreatableTopic, CreateTopicsRequest};
use tidelog_protocol::kafka::describe_log_dirs::{DescribableLogDirTopic, DescribeLogDirsRequest};
use tidelog_protocol::kafka::elect_leaders::{
    ElectLeadersRequest, ElectLeadersResponse, PREFERRED, TopicPartitions, UNCLEAN,
};
use tidelog_protocol::kafka::list_partition_reassignments::{
    ListPartitionReassignmentsRequest, ListPartitionReassignmentsTopics, OngoingTopicReassignment,
};
use tidelog_protocol::kafka::{ApiKey, KafkaError};
use tidelog_protocol::records::Compression;
use tidelog_tests::broker_process::BrokerProcess;
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::patience::wait_until;
use tidelog_tests::raw_connection::batch;
use tidelog_tests::raw_kafka::RawKafka;

async fn create(kafka: &mut RawKafka, name: &str, partitions: i32, replicas: i16) {
    let topic = CreatableTopic {
        name: name.into(),
        num_partitions: partitions,
        replication_factor: replicas,
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], timeout_ms: 30_000, ..Default::default() };
    let made = kafka.call(&request, 7).await.topics.remove(0);
    assert_eq!((made.error_code, made.error_message), (0, None));
}

/// Who leads the first partition of a topic, and who holds it, the preferred leader first.
async fn held(kafka: &mut RawKafka, topic: &str) -> (i32, Vec<i32>) {
    let partition = kafka.make(topic).await.topics.remove(0).partitions.remove(0);
    (partition.leader_id, partition.replica_nodes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_says_what_lies_in_its_folder() {
    let broker = BrokerProcess::start();
    let mut kafka = RawKafka::open(broker.address()).await;
    create(&mut kafka, "empty", 3, 1).await;
    create(&mut kafka, "full", 2, 1).await;
    let records = batch(&[&[0; 10_000]], Compression::None);
    let written = records.len() as i64;
    kafka.produce("full", records).await;
    for version in ApiKey::DescribeLogDirs.versions() {
        let answer = kafka.call(&DescribeLogDirsRequest { topics: None }, version).await;
        assert_eq!((answer.error_code, answer.results.len()), (0, 1), "version {version}");
        let folder = &answer.results[0];
        assert_eq!((folder.error_code, &*folder.log_dir), (0, broker.data().to_str().unwrap()));
        let found: Vec<_> = folder
            .topics
            .iter()
            .map(|topic| (&*topic.name, topic.partitions.iter().map(|p| p.partition_index).collect::<Vec<_>>()))
            .collect();
        assert_eq!(found, [("empty", vec![0, 1, 2]), ("full", vec![0, 1])], "version {version}");
        let sizes: Vec<_> =
            folder.topics[1].partitions.iter().map(|p| (p.partition_size, p.offset_lag, p.is_future_key)).collect();
        assert_eq!(sizes, [(written, 0, false), (0, 0, false)]);
        if version >= 4 {
            assert!(0 < folder.usable_bytes && folder.usable_bytes < folder.total_bytes, "{folder:?}");
        }
        let asked = |topic: &str, partitions: &[i32]| DescribableLogDirTopic {
            topic: topic.into(),
            partitions: partitions.to_vec(),
        };
        let some = DescribeLogDirsRequest {
            topics: Some(vec![asked("full", &[1, 1, 7, -1]), asked("nowhere", &[0]), asked("full", &[1])]),
        };
        let answer = kafka.call(&some, version).await;
        let found = &answer.results[0].topics;
        assert_eq!((found.len(), found[0].partitions.len(), found[0].partitions[0].partition_index), (1, 1, 1));
    }
}

async fn elect(
    kafka: &mut RawKafka,
    election_type: i8,
    places: Option<&[(&str, i32)]>,
    version: i16,
) -> ElectLeadersResponse {
    let topic_partitions = places.map(|places| {
        let place =
            |(topic, partition): &(&str, i32)| TopicPartitions { topic: (*topic).into(), partitions: vec![*partition] };
        places.iter().map(place).collect()
    });
    kafka.call(&ElectLeadersRequest { election_type, topic_partitions, timeout_ms: 30_000 }, version).await
}

/// The error codes of partitions, in order.
fn codes(answer: &ElectLeadersResponse) -> Vec<i16> {
    let of = |topic: &tidelog_protocol::kafka::elect_leaders::ReplicaElectionResult| {
        topic.partition_result.iter().map(|partition| partition.error_code).collect::<Vec<_>>()
    };
    answer.replica_election_results.iter().flat_map(of).collect()
}

/// Brokers that give the lead back only when they are asked to.
fn patient(brokers: u32) -> ClusterSettings {
    ClusterSettings::of(brokers).set("preferred_leader_interval_ms", "86400000")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_preferred_replica_leads_again_once_it_can() {
    let mut cluster = Cluster::start(patient(3)).await;
    create(&mut RawKafka::open(cluster.address(1)).await, "led", 1, 3).await;
    for version in ApiKey::ElectLeaders.versions() {
        let (preferred, _) = cluster.leader("led", 0).await;
        let other = preferred % 3 + 1;
        let mut kafka = RawKafka::open(cluster.address(other)).await;
        let not_needed = KafkaError::ElectionNotNeeded.code();
        assert_eq!(codes(&elect(&mut kafka, PREFERRED, Some(&[("led", 0)]), version).await), [not_needed]);
        let everywhere = elect(&mut kafka, PREFERRED, None, version).await;
        assert_eq!((everywhere.error_code, codes(&everywhere)), (0, vec![]), "version {version}");
        cluster.kill(preferred);
        cluster.next_leader("led", 0, preferred).await;
        let away = KafkaError::PreferredLeaderNotAvailable.code();
        let refused = elect(&mut kafka, PREFERRED, Some(&[("led", 0)]), version).await;
        assert_eq!(codes(&refused), [away]);
        let said = refused.replica_election_results[0].partition_result[0].error_message.as_ref().unwrap();
        assert!(said.contains("start it first"), "{said}");
        assert_eq!(codes(&elect(&mut kafka, PREFERRED, None, version).await), [away]);
        cluster.restart(preferred);
        cluster.wait_in_sync(("led", 0), &[1, 2, 3], other).await;
        let places = if version == 1 { None } else { Some(&[("led", 0)][..]) };
        // It can lead once it has a lease, which comes a moment after it is in sync at the latest.
        wait_until("the election", async || {
            (codes(&elect(&mut kafka, PREFERRED, places, version).await) == [0]).then_some(())
        })
        .await;
        assert_eq!(cluster.leader("led", 0).await.0, preferred, "version {version}");
    }
    let mut any = RawKafka::open(cluster.address(1)).await;
    let unknown = KafkaError::UnknownTopicOrPartition.code();
    let places = [("nowhere", 0), ("led", 7), ("led", -1)];
    for kind in [PREFERRED, UNCLEAN] {
        assert_eq!(codes(&elect(&mut any, kind, Some(&places), 2).await), [unknown; 3], "{kind}");
    }
    let invalid = KafkaError::InvalidRequest.code();
    assert_eq!(elect(&mut any, 7, Some(&[("led", 0)]), 2).await.error_code, invalid);
    assert_eq!(elect(&mut any, UNCLEAN, None, 2).await.error_code, invalid);
}

/// The offset of a record, once its leader takes it: it may just have lost its lease with the controller, or not know yet that it leads.
async fn written(led: &mut RawKafka, topic: &str, value: &[u8]) -> i64 {
    wait_until("the leader to take a record", async || {
        let answer = led.produce(topic, batch(&[value], Compression::None)).await;
        (answer.error_code == 0).then_some(answer.base_offset)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_may_lack_records_leads_only_where_nobody_else_does() {
    let mut cluster = Cluster::start(patient(3)).await;
    let mut any = RawKafka::open(cluster.address(1)).await;
    create(&mut any, "lost", 1, 2).await;
    let (_, holders) = held(&mut any, "lost").await;
    let holders: Vec<u32> = holders.iter().map(|id| *id as u32).collect();
    let (leader, _) = cluster.leader("lost", 0).await;
    let follower = *holders.iter().find(|id| **id != leader).unwrap();
    let asked = (1..=3).find(|id| !holders.contains(id)).unwrap();
    let mut kafka = RawKafka::open(cluster.address(asked)).await;
    let place = Some(&[("lost", 0)][..]);
    assert_eq!(codes(&elect(&mut kafka, UNCLEAN, place, 2).await), [KafkaError::ElectionNotNeeded.code()]);
    // The follower misses what is written while it is away, and comes back when the other one is gone.
    let mut led = RawKafka::open(cluster.address(leader)).await;
    let kept = written(&mut led, "lost", b"kept").await;
    cluster.wait_settled("lost").await;
    cluster.kill(follower);
    cluster.wait_in_sync(("lost", 0), &[leader], asked).await;
    assert!(written(&mut led, "lost", b"missed").await > kept);
    cluster.kill(leader);
    cluster.restart(follower);
    wait_until("nobody to lead", async || (held(&mut kafka, "lost").await.0 == -1).then_some(())).await;
    wait_until("the election", async || (codes(&elect(&mut kafka, UNCLEAN, place, 1).await) == [0]).then_some(()))
        .await;
    assert_eq!(cluster.leader("lost", 0).await.0, follower);
    // What it led from is without the record that it had missed.
    let mut led = RawKafka::open(cluster.address(follower)).await;
    assert_eq!(written(&mut led, "lost", b"next").await, kept + 1);
}

fn place(partition_index: i32, replicas: Option<&[i32]>) -> ReassignablePartition {
    ReassignablePartition { partition_index, replicas: replicas.map(<[i32]>::to_vec) }
}

async fn reassign(
    kafka: &mut RawKafka,
    topic: &str,
    partitions: Vec<ReassignablePartition>,
    (allow_replication_factor_change, version): (bool, i16),
) -> Vec<(i16, String)> {
    let request = AlterPartitionReassignmentsRequest {
        timeout_ms: 30_000,
        allow_replication_factor_change,
        topics: vec![ReassignableTopic { name: topic.into(), partitions }],
    };
    let mut answer = kafka.call(&request, version).await;
    assert_eq!((answer.error_code, answer.error_message), (0, None));
    let told = answer.responses.remove(0).partitions;
    told.into_iter().map(|told| (told.error_code, told.error_message.unwrap_or_default())).collect()
}

async fn moving(kafka: &mut RawKafka, asked: Option<(&str, &[i32])>) -> Vec<OngoingTopicReassignment> {
    let topics = asked.map(|(name, indexes)| {
        vec![ListPartitionReassignmentsTopics { name: name.into(), partition_indexes: indexes.to_vec() }]
    });
    let answer = kafka.call(&ListPartitionReassignmentsRequest { timeout_ms: 30_000, topics }, 0).await;
    assert_eq!((answer.error_code, answer.error_message), (0, None));
    answer.topics
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_move_each_for_itself_and_can_be_taken_back() {
    let mut cluster = Cluster::start(patient(4)).await;
    let controller = cluster.controller().await;
    let mut kafka = RawKafka::open(cluster.address(controller)).await;
    create(&mut kafka, "moved", 3, 1).await;
    let done = (0, String::new());
    // Two moves within one request stand though a third is refused.
    let (to, other) = (controller as i32, (controller % 4 + 1) as i32);
    for version in ApiKey::AlterPartitionReassignments.versions() {
        let target = if version == 0 { to } else { other };
        let asked = vec![place(0, Some(&[target])), place(1, Some(&[9])), place(2, Some(&[target]))];
        let told = reassign(&mut kafka, "moved", asked, (true, version)).await;
        assert_eq!((&told[0], &told[2]), (&done, &done), "version {version}");
        assert_eq!(told[1].0, KafkaError::InvalidReplicaAssignment.code());
        assert!(told[1].1.contains("no broker 9"), "{told:?}");
        wait_until("the move", async || (held(&mut kafka, "moved").await.1 == [target]).then_some(())).await;
        wait_until("the end of all moves", async || moving(&mut kafka, None).await.is_empty().then_some(())).await;
    }
    for (asked, allow, error, word) in [
        (place(0, None), true, KafkaError::NoReassignmentInProgress, "not being moved"),
        (place(0, Some(&[to, to])), true, KafkaError::InvalidReplicaAssignment, "twice"),
        (place(0, Some(&[])), true, KafkaError::InvalidReplicaAssignment, "fewer"),
        (place(0, Some(&[-1])), true, KafkaError::InvalidReplicaAssignment, "broker -1"),
        (place(0, Some(&[to, other])), false, KafkaError::InvalidReplicationFactor, "would have 2"),
        (place(7, Some(&[to])), true, KafkaError::UnknownTopicOrPartition, "no partition 7"),
        (place(-1, Some(&[to])), true, KafkaError::UnknownTopicOrPartition, "no partition -1"),
    ] {
        let told = reassign(&mut kafka, "moved", vec![asked.clone()], (allow, 1)).await;
        assert_eq!(told[0].0, error.code(), "{asked:?}: {told:?}");
        assert!(told[0].1.contains(word), "{told:?}");
    }
    let nowhere = reassign(&mut kafka, "nowhere", vec![place(0, Some(&[to]))], (true, 1)).await;
    assert_eq!(nowhere[0].0, KafkaError::UnknownTopicOrPartition.code());
    let twice = reassign(&mut kafka, "moved", vec![place(0, Some(&[to])); 2], (true, 1)).await;
    assert_eq!((twice[0].0, twice[1].0), (KafkaError::InvalidRequest.code(), KafkaError::InvalidRequest.code()));
    assert_eq!(held(&mut kafka, "moved").await.1, [other]);

    // A copy that does not come about is under way for as long as the test wants.
    let still = (1..=4).find(|id| ![controller, other as u32].contains(id)).unwrap();
    let target = [still as i32];
    wait_until("a move to one that stands still", async || {
        cluster.pause(still);
        let told = reassign(&mut kafka, "moved", vec![place(0, Some(&target))], (true, 1)).await;
        // It was fenced before it was asked for.
        if told[0].0 != 0 {
            cluster.resume(still);
        }
        (told[0].0 == 0).then_some(())
    })
    .await;
    for asked in [None, Some(("moved", &[0, 0, 5][..]))] {
        let found = moving(&mut kafka, asked).await;
        assert_eq!((found.len(), &*found[0].name, found[0].partitions.len()), (1, "moved", 1));
        let partition = &found[0].partitions[0];
        assert_eq!((partition.partition_index, &partition.replicas), (0, &vec![target[0], other]));
        assert_eq!((&partition.adding_replicas, &partition.removing_replicas), (&target.to_vec(), &vec![other]));
    }
    assert!(moving(&mut kafka, Some(("moved", &[1]))).await.is_empty());
    assert!(moving(&mut kafka, Some(("nowhere", &[0]))).await.is_empty());
    assert_eq!(reassign(&mut kafka, "moved", vec![place(0, None)], (true, 1)).await, [done]);
    assert!(moving(&mut kafka, None).await.is_empty());
    assert_eq!(held(&mut kafka, "moved").await.1, [other]);
    cluster.resume(still);
    cluster.assert_alive();
}

/// The C library ends whatever it has to do with a broker that is not named, and may wait for it for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_was_killed_is_named_for_a_while_though_others_lead() {
    let mut cluster = Cluster::start(ClusterSettings::three()).await;
    let mut kafka = RawKafka::open(cluster.address(1)).await;
    create(&mut kafka, "led", 12, 3).await;
    cluster.wait_healed("led").await;
    let evidence = cluster.kill(3);
    evidence.assert_happened();
    let killed_at = Instant::now();
    // Whether any partition is led by it, and whether it is named.
    let look = async |kafka: &mut RawKafka| {
        let told = kafka.make("led").await;
        let leads = told.topics[0].partitions.iter().any(|partition| partition.leader_id == 3);
        (leads, told.brokers.iter().any(|broker| broker.node_id == 3))
    };
    wait_until("others to lead", async || (!look(&mut kafka).await.0).then_some(())).await;
    let moved_within = killed_at.elapsed();
    assert!(look(&mut kafka).await.1 || moved_within > Duration::from_secs(9), "it went after {moved_within:?}");
    wait_until("it to be named no more", async || (!look(&mut kafka).await.1).then_some(())).await;
    assert!(killed_at.elapsed() >= Duration::from_secs(9), "it was named for {:?}", killed_at.elapsed());
    cluster.restart(3);
    wait_until("it to be named again", async || look(&mut kafka).await.1.then_some(())).await;
}
