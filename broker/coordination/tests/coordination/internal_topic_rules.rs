//! The broker's own topics grow with the cluster, and never shrink by themselves; nobody else's do.

use crate::cluster::{Cluster, Folder, entries};
use tidelog_coordination::Reply;
use tidelog_coordination::command::{AlterPartition, Assignment, Command};
use tidelog_coordination::records::PartitionState;
use tidelog_protocol::{BrokerId, PartitionId};

const GROUPS: &str = "__groups";

/// Made while there was one broker, as a topic of its users was.
fn young() -> Cluster {
    let mut cluster = Cluster::of(1);
    cluster.create(GROUPS, |topic| (topic.partitions, topic.internal) = (2, true)).unwrap();
    cluster.create("orders", |topic| topic.partitions = 2).unwrap();
    cluster
}

fn grow(cluster: &mut Cluster, replicas_max: u16) -> u32 {
    match cluster.ask(&Command::GrowInternalTopics { replicas_max }) {
        Ok(Reply::Reassigned { copying, done: 0 }) => copying,
        other => unreachable!("{other:?}"),
    }
}

fn states(cluster: &Cluster, topic: &str) -> Vec<PartitionState> {
    cluster.controller.image().topic_named(topic).unwrap().partitions.clone()
}

/// How many replicas each partition is to have.
fn replicas(cluster: &Cluster, topic: &str) -> Vec<usize> {
    states(cluster, topic).iter().map(|state| state.target().count()).collect()
}

fn minimum(cluster: &Cluster) -> u16 {
    cluster.controller.image().topic_named(GROUPS).unwrap().config.min_in_sync_replicas
}

/// The leader of a partition of the groups takes all of its replicas in.
fn catch_up(cluster: &mut Cluster, partition: u32) {
    let topic = cluster.controller.image().topic_named(GROUPS).unwrap().clone();
    let state = &topic.partitions[partition as usize];
    let change = AlterPartition {
        topic_id: topic.id,
        partition: PartitionId(partition),
        leader_epoch: state.leader_epoch,
        partition_epoch: state.partition_epoch,
        in_sync: state.replicas.iter().map(|broker| cluster.registration(broker.0)).collect(),
    };
    let leader = cluster.registration(state.leader.unwrap().0);
    let held = cluster.alter_as(leader, change).unwrap();
    assert_eq!(held.in_sync.len(), held.replicas.len());
}

#[test]
fn what_was_made_with_one_broker_gets_a_replica_with_each_that_comes_and_then_its_minimum() {
    let mut cluster = young();
    assert_eq!(grow(&mut cluster, 3), 0, "there is nobody else");
    cluster.start(2, Folder::Clean);
    assert_eq!(grow(&mut cluster, 3), 0, "who has no lease yet gets nothing");
    cluster.unfence(2);
    assert_eq!(grow(&mut cluster, 3), 2);
    for state in states(&cluster, GROUPS) {
        assert_eq!((state.replicas, state.adding), (vec![BrokerId(1), BrokerId(2)], vec![BrokerId(2)]));
        assert_eq!(state.leader, Some(BrokerId(1)), "and goes on as it is");
    }
    (0..2).for_each(|partition| catch_up(&mut cluster, partition));
    assert_eq!((replicas(&cluster, GROUPS), minimum(&cluster)), (vec![2, 2], 1), "two are not enough to ask for two");
    cluster.serve(3, Folder::Clean);
    assert_eq!(grow(&mut cluster, 3), 2);
    assert_eq!(grow(&mut cluster, 3), 0, "it is under way");
    catch_up(&mut cluster, 0);
    assert_eq!(minimum(&cluster), 1, "the other partition has two in sync");
    catch_up(&mut cluster, 1);
    assert_eq!((replicas(&cluster, GROUPS), minimum(&cluster)), (vec![3, 3], 2));
    cluster.serve(4, Folder::Clean);
    assert_eq!((grow(&mut cluster, 3), replicas(&cluster, "orders")), (0, vec![1, 1]), "nobody else's, and no more");
    assert!(cluster.controller.image().feature_level() < 5, "brokers of an earlier release go on");
}

#[test]
fn who_comes_while_others_copy_is_not_forgotten() {
    let mut cluster = young();
    cluster.serve(2, Folder::Clean);
    assert_eq!(grow(&mut cluster, 3), 2);
    cluster.serve(3, Folder::Clean);
    assert_eq!(grow(&mut cluster, 3), 2);
    for state in states(&cluster, GROUPS) {
        assert_eq!((state.replicas.len(), state.adding), (3, vec![BrokerId(2), BrokerId(3)]));
    }
    (0..2).for_each(|partition| catch_up(&mut cluster, partition));
    assert_eq!((replicas(&cluster, GROUPS), minimum(&cluster)), (vec![3, 3], 2));
}

#[test]
fn three_that_were_in_sync_before_are_asked_for_two_as_soon_as_somebody_looks() {
    let mut cluster = Cluster::of(3);
    cluster.create(GROUPS, |topic| (topic.replication_factor, topic.internal) = (3, true)).unwrap();
    assert_eq!((grow(&mut cluster, 3), minimum(&cluster)), (0, 2));
}

#[test]
fn no_more_replicas_than_the_operator_wants_and_none_that_were_taken_away_once_two_must_be_in_sync() {
    let mut cluster = young();
    cluster.serve(2, Folder::Clean);
    cluster.serve(3, Folder::Clean);
    assert_eq!((grow(&mut cluster, 1), replicas(&cluster, GROUPS)), (0, vec![1, 1]));
    assert_eq!((grow(&mut cluster, 2), replicas(&cluster, GROUPS)), (2, vec![2, 2]));
    (0..2).for_each(|partition| catch_up(&mut cluster, partition));
    assert_eq!((grow(&mut cluster, 3), replicas(&cluster, GROUPS)), (2, vec![3, 3]));
    (0..2).for_each(|partition| catch_up(&mut cluster, partition));
    let assignment = |partition| Assignment {
        topic: GROUPS.into(),
        partition: PartitionId(partition),
        replicas: Some(vec![BrokerId(1), BrokerId(2)]),
    };
    let _ = cluster.ask(&Command::Reassign { assignments: (0..2).map(assignment).collect() }).unwrap();
    assert_eq!((grow(&mut cluster, 3), replicas(&cluster, GROUPS)), (0, vec![2, 2]));
    assert_eq!(minimum(&cluster), 2, "never down");
}

#[test]
fn growth_that_is_taken_back_leaves_what_was() {
    let mut cluster = young();
    cluster.serve(2, Folder::Clean);
    assert_eq!(grow(&mut cluster, 3), 2);
    let back = Assignment { topic: GROUPS.into(), partition: PartitionId(0), replicas: None };
    assert_eq!(
        cluster.ask(&Command::Reassign { assignments: vec![back] }),
        Ok(Reply::Reassigned { copying: 0, done: 1 })
    );
    assert_eq!(states(&cluster, GROUPS)[0].replicas, [BrokerId(1)]);
}

#[test]
fn a_topic_that_asks_for_more_already_is_left_alone() {
    let mut cluster = Cluster::of(2);
    let made = cluster.create(GROUPS, |topic| {
        (topic.replication_factor, topic.internal) = (2, true);
        topic.configs = entries(&[("min.insync.replicas", "2")]);
    });
    let _ = made.unwrap();
    cluster.serve(3, Folder::Clean);
    assert_eq!((grow(&mut cluster, 3), replicas(&cluster, GROUPS)), (0, vec![2]));
}
