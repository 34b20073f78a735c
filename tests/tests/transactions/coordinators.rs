//! What coordinators keep: offsets of groups survive the loss of the broker that coordinates them, and whoever waits for a group hears of it.

use std::time::Duration;

use tidelog_client::messages::CommittedOffset;
use tidelog_client::{Admin, Client, ClientError, ErrorCode, NewTopic, Offset, PartitionId, Record, TopicId};
use tidelog_tests::cluster::{Cluster, ClusterSettings};
use tidelog_tests::patience::{LIMIT, wait_until};
use tidelog_tests::raw_transactions::{SHARDS, shard_of};

const GROUPS: u64 = 40;
/// Of each partition: more than any group has read.
const RECORDS: u64 = 100;

async fn topic_id(admin: &Admin, name: &str) -> TopicId {
    let metadata = admin.metadata().await.unwrap();
    metadata.topics.iter().find(|topic| topic.name.as_str() == name).unwrap().topic_id
}

fn at(topic_id: TopicId, partition: u32, offset: u64) -> CommittedOffset {
    let (partition, offset) = (PartitionId(partition), Offset(offset));
    CommittedOffset { topic_id, partition, offset, leader_epoch: None, metadata: format!("note {offset}") }
}

async fn cluster_with_topic() -> (Cluster, Client, TopicId) {
    let cluster = Cluster::start(ClusterSettings::three()).await;
    let client = Client::connect(&cluster.servers()).await.unwrap();
    client.admin().create_topic(&NewTopic::named("orders").partitions(3)).await.unwrap();
    let id = topic_id(&client.admin(), "orders").await;
    // No group goes on beyond the end.
    let producer = client.producer().build().unwrap();
    for number in 0..3 * RECORDS {
        let record = Record::to("orders").partition(PartitionId((number % 3) as u32)).value("an order");
        drop(producer.send(record).await.unwrap());
    }
    producer.flush().await.unwrap();
    (cluster, client, id)
}

fn group(number: u64) -> String {
    format!("group-{number}")
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_survive_each_coordinator_killed_in_turn() {
    let (mut cluster, client, orders) = cluster_with_topic().await;
    let admin = client.admin();
    for number in 0..GROUPS {
        let offsets = vec![at(orders, 0, number), at(orders, 2, 2 * number)];
        admin.set_group_offsets(&group(number), offsets).await.unwrap();
    }
    for round in 1..=3u64 {
        let (coordinator, _) = cluster.leader("__groups", shard_of(&group(0))).await;
        let _ = cluster.kill(coordinator);
        for number in 0..GROUPS {
            let found = admin.group_offsets(&group(number)).await.unwrap();
            assert_eq!(
                found,
                [at(orders, 0, number + round - 1), at(orders, 2, 2 * number)],
                "group {number}, round {round}"
            );
            admin.set_group_offsets(&group(number), vec![at(orders, 0, number + round)]).await.unwrap();
        }
        assert!(cluster.is_down(coordinator), "all of that went on without it");
        cluster.restart(coordinator);
        for shard in 0..SHARDS {
            let (leader, _) = cluster.leader("__groups", shard).await;
            cluster.wait_in_sync(("__groups", shard), &[1, 2, 3], leader).await;
        }
    }
    let listed = admin.list_groups().await.unwrap();
    assert_eq!((listed.found.len() as u64, listed.missing), (GROUPS, Vec::new()));
    admin.delete_group(&group(7)).await.unwrap();
    let gone = admin.describe_group(&group(7)).await.unwrap_err();
    assert_eq!(gone.code(), Some(ErrorCode::UnknownGroup), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_survive_the_kill_of_all_brokers_at_once() {
    let (mut cluster, client, orders) = cluster_with_topic().await;
    let admin = client.admin();
    for number in 0..GROUPS {
        admin.set_group_offsets(&group(number), vec![at(orders, 1, number)]).await.unwrap();
    }
    for id in 1..=3 {
        let _ = cluster.kill(id);
    }
    cluster.restart_all(&[1, 2, 3]);
    for number in 0..GROUPS {
        assert_eq!(admin.group_offsets(&group(number)).await.unwrap(), [at(orders, 1, number)]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_group_hears_of_it_also_from_another_coordinator() {
    let (mut cluster, client, orders) = cluster_with_topic().await;
    let admin = client.admin();
    let waiting = {
        let admin = admin.clone();
        let wait = async move { admin.wait_for_group("late", "orders", PartitionId(1), Offset(41), LIMIT).await };
        tokio::spawn(wait)
    };
    admin.set_group_offsets("late", vec![at(orders, 1, 41)]).await.unwrap();
    // Who could not be asked in so short a time says that instead.
    let behind = wait_until("an answer within a short wait", async || {
        let waited = admin.wait_for_group("late", "orders", PartitionId(1), Offset(41), Duration::from_millis(300));
        match waited.await.unwrap_err() {
            ClientError::GroupBehind(behind) => Some(behind),
            error => {
                println!("{error}");
                None
            }
        }
    });
    let behind = behind.await;
    assert_eq!(behind.committed, Some(Offset(41)), "it is to read 41 next, so it is not done with that");
    assert!(!waiting.is_finished());

    let (coordinator, _) = cluster.leader("__groups", shard_of("late")).await;
    let _ = cluster.kill(coordinator);
    admin.set_group_offsets("late", vec![at(orders, 1, 42)]).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap(), Offset(42));
    assert!(cluster.is_down(coordinator));

    let error = admin.wait_for_group("late", "orders", PartitionId(9), Offset(0), LIMIT).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownPartition), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_else_writes_to_the_topic_of_the_groups() {
    let (_cluster, client, orders) = cluster_with_topic().await;
    let admin = client.admin();
    admin.set_group_offsets("some", vec![at(orders, 0, 1)]).await.unwrap();
    let producer = client.producer().build().unwrap();
    let internal = wait_until("the topic of the groups", async || producer.topic("__groups").await.ok()).await;
    let refused = internal.send(Some(b"key"), b"value").await.unwrap().await.unwrap_err();
    assert!(refused.to_string().contains("belongs to the broker"), "{refused}");
    let refused = admin.delete_records("__groups", PartitionId(0), None).await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InternalTopic), "{refused}");
    let refused = admin.delete_topic("__groups").await.unwrap_err();
    assert_eq!(refused.code(), Some(ErrorCode::InternalTopic), "{refused}");
    assert_eq!(admin.group_offsets("some").await.unwrap(), [at(orders, 0, 1)]);
}
