//! Where replicas go: evenly, over racks, by what brokers hold already; and how few copies balance takes.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::{Cluster, Folder};
use tidelog_coordination::Reply;
use tidelog_coordination::command::Command;
use tidelog_coordination::records::PartitionState;
use tidelog_protocol::BrokerId;

/// Replicas and preferred leaderships of each broker.
fn held(cluster: &Cluster, topics: impl Fn(&str) -> bool) -> BTreeMap<u32, (u32, u32)> {
    let mut held: BTreeMap<u32, (u32, u32)> = BTreeMap::new();
    for broker in cluster.controller.image().brokers() {
        held.insert(broker.broker_id.0, (0, 0));
    }
    for topic in cluster.controller.image().topics().filter(|topic| topics(topic.name.as_str())) {
        for state in &topic.partitions {
            for (rank, broker) in state.target().enumerate() {
                let (replicas, leaders) = held.entry(broker.0).or_default();
                *replicas += 1;
                *leaders += u32::from(rank == 0);
            }
        }
    }
    held
}

fn assert_level(counts: impl Iterator<Item = u32> + Clone, context: &str) {
    assert!(range(counts.clone()) <= 1, "{context}: {:?}", counts.collect::<Vec<_>>());
}

fn range(counts: impl Iterator<Item = u32> + Clone) -> u32 {
    counts.clone().max().unwrap_or_default() - counts.min().unwrap_or_default()
}

/// As far as placing one partition after the other can: leaders to the last one, followers nearly.
fn assert_spread(cluster: &Cluster, topics: impl Fn(&str) -> bool) {
    let held = held(cluster, topics);
    assert_level(held.values().map(|(_, leaders)| *leaders), &format!("leaders of {held:?}"));
    assert!(range(held.values().map(|(replicas, _)| *replicas)) <= 2, "replicas of {held:?}");
}

fn assert_balanced(cluster: &Cluster, topics: impl Fn(&str) -> bool) {
    let held = held(cluster, topics);
    assert_level(held.values().map(|(replicas, _)| *replicas), &format!("replicas of {held:?}"));
    assert_level(held.values().map(|(_, leaders)| *leaders), &format!("leaders of {held:?}"));
}

fn states(cluster: &Cluster) -> impl Iterator<Item = &PartitionState> {
    cluster.controller.image().topics().flat_map(|topic| &topic.partitions)
}

fn create(cluster: &mut Cluster, name: &str, partitions: u32, replicas: u16) {
    cluster
        .create(name, |topic| (topic.partitions, topic.replication_factor) = (partitions, replicas))
        .expect("a topic");
}

/// Every copy under way is done.
fn catch_up(cluster: &mut Cluster) {
    let image = cluster.controller.image().clone();
    for topic in image.topics() {
        for (partition, state) in topic.partitions().filter(|(_, state)| state.is_moving()) {
            let leader = state.leader.expect("somebody leads");
            let change = tidelog_coordination::command::AlterPartition {
                topic_id: topic.id,
                partition,
                leader_epoch: state.leader_epoch,
                partition_epoch: state.partition_epoch,
                in_sync: state.replicas.iter().map(|broker| cluster.registration(broker.0)).collect(),
            };
            cluster.alter_as(cluster.registration(leader.0), change).expect("it has caught up");
        }
    }
    assert!(states(cluster).all(|state| !state.is_moving()));
}

#[test]
fn a_topic_is_spread_evenly_whatever_the_numbers() {
    for brokers in 1..=6u32 {
        for factor in 1..=brokers as u16 {
            let mut cluster = Cluster::of(brokers);
            create(&mut cluster, "x", brokers * 5, factor);
            create(&mut cluster, "y", 7, factor);
            for topic in ["x", "y"] {
                assert_spread(&cluster, |name| name == topic);
            }
            let twice = |state: &PartitionState| state.replicas.iter().collect::<BTreeSet<_>>().len() < factor.into();
            assert!(!states(&cluster).any(twice));
        }
    }
}

#[test]
fn many_small_topics_are_spread_evenly_too() {
    let mut cluster = Cluster::of(3);
    for topic in 0..30 {
        create(&mut cluster, &format!("t{topic}"), 1, 2);
    }
    assert_balanced(&cluster, |_| true);
}

#[test]
fn a_topic_that_grows_goes_on_where_it_is_thin() {
    let mut cluster = Cluster::of(4);
    create(&mut cluster, "x", 2, 2);
    cluster.ask(&Command::CreatePartitions { name: "x".into(), total: 8 }).unwrap();
    assert_balanced(&cluster, |_| true);
}

#[test]
fn the_followers_of_one_leader_are_not_always_the_same() {
    let mut cluster = Cluster::of(4);
    create(&mut cluster, "x", 40, 2);
    let of_the_first = states(&cluster).filter(|state| state.replicas[0] == BrokerId(1));
    let followers: BTreeSet<_> = of_the_first.map(|state| state.replicas[1]).collect();
    assert_eq!(followers.len(), 3);
}

fn rack(broker: u32) -> Option<String> {
    Some(["north", "south", "west"][broker as usize % 3].into())
}

fn racks(state: &PartitionState) -> usize {
    state.target().filter_map(|broker| rack(broker.0)).collect::<BTreeSet<_>>().len()
}

#[test]
fn the_replicas_of_a_partition_stand_in_as_many_racks_as_there_are() {
    let mut cluster = Cluster::with_racks(6, rack);
    create(&mut cluster, "x", 12, 3);
    create(&mut cluster, "y", 12, 2);
    create(&mut cluster, "z", 12, 5);
    assert!(states(&cluster).all(|state| racks(state) == state.replicas.len().min(3)));
    assert_spread(&cluster, |_| true);
}

#[test]
fn brokers_that_are_away_or_drained_get_nothing() {
    let mut cluster = Cluster::of(4);
    cluster.fence(1);
    cluster.ask(&Command::Drain { broker_id: BrokerId(2) }).unwrap();
    create(&mut cluster, "x", 10, 2);
    assert!(states(&cluster).all(|state| state.replicas.iter().all(|broker| broker.0 > 2)));
}

#[test]
fn balance_gives_a_fourth_broker_its_share_with_as_few_copies_as_that_takes() {
    let mut cluster = Cluster::of(3);
    create(&mut cluster, "x", 24, 3);
    create(&mut cluster, "y", 24, 3);
    cluster.serve(4, Folder::Clean);
    let Ok(Reply::Balanced { copying, copies, .. }) = cluster.ask(&Command::Balance { copies_max: 0 }) else {
        unreachable!("balance is always possible")
    };
    assert_eq!((copying, copies), (36, 36), "a quarter of 144 replicas");
    for topic in ["x", "y"] {
        assert_level(held(&cluster, |name| name == topic).values().map(|(replicas, _)| *replicas), topic);
    }
    assert_balanced(&cluster, |_| true);
    catch_up(&mut cluster);
    let log = cluster.log.len();
    cluster.ask(&Command::Balance { copies_max: 0 }).unwrap();
    assert_eq!(cluster.log.len(), log, "balanced is balanced");
    cluster.ask(&Command::ElectPreferred { partition: None }).unwrap();
    let led = |broker| states(&cluster).filter(|state| state.leader == Some(BrokerId(broker))).count();
    assert_eq!([1, 2, 3, 4].map(led), [12; 4]);
}

#[test]
fn balance_copies_no_more_than_it_may_at_a_time() {
    let mut cluster = Cluster::of(2);
    create(&mut cluster, "x", 40, 2);
    cluster.serve(3, Folder::Clean);
    let mut rounds = 0;
    while let Ok(Reply::Balanced { copies, .. }) = cluster.ask(&Command::Balance { copies_max: 5 })
        && copies > 0
    {
        assert!(copies <= 5);
        catch_up(&mut cluster);
        rounds += 1;
    }
    assert_eq!(rounds, 6);
    assert_balanced(&cluster, |_| true);
}

#[test]
fn balance_brings_partitions_that_crowd_a_rack_into_the_others() {
    let mut cluster = Cluster::with_racks(6, rack);
    // All in one rack, as if racks had been named later.
    for topic in ["a", "b", "c", "d"] {
        cluster.topic_on(topic, [3, 6], &[]);
    }
    cluster.ask(&Command::Balance { copies_max: 0 }).unwrap();
    catch_up(&mut cluster);
    assert!(states(&cluster).all(|state| racks(state) == 2), "{:?}", states(&cluster).collect::<Vec<_>>());
    let held = held(&cluster, |_| true);
    assert!(held.values().all(|(replicas, _)| (1..=2).contains(replicas)), "{held:?}");
}

#[test]
fn balance_of_leaders_copies_nothing() {
    let mut cluster = Cluster::of(3);
    for topic in ["a", "b", "c", "d", "e", "f"] {
        cluster.topic_on(topic, [1, 2, 3], &[]);
    }
    let reply = cluster.ask(&Command::Balance { copies_max: 0 });
    assert_eq!(reply, Ok(Reply::Balanced { copying: 0, reordered: 4, copies: 0 }));
    let led = |broker| states(&cluster).filter(|state| state.leader == Some(BrokerId(broker))).count();
    assert_eq!([1, 2, 3].map(led), [2; 3], "those that are in sync lead at once");
}

#[test]
fn leaders_are_levelled_along_a_way_where_no_two_brokers_share_enough() {
    let mut cluster = Cluster::of(3);
    for topic in ["a", "b", "c"] {
        cluster.topic_on(topic, [1, 2], &[]);
    }
    for topic in ["d", "e"] {
        cluster.topic_on(topic, [2, 3], &[]);
    }
    cluster.topic_on("f", [3, 2], &[]);
    cluster.ask(&Command::Balance { copies_max: 0 }).unwrap();
    let held = held(&cluster, |_| true);
    assert_level(held.values().map(|(_, leaders)| *leaders), &format!("{held:?}"));
}

#[test]
fn what_stands_on_brokers_that_are_away_is_left_alone() {
    let mut cluster = Cluster::of(3);
    create(&mut cluster, "x", 12, 2);
    cluster.fence(3);
    let before: Vec<bool> = states(&cluster).map(|state| state.replicas.contains(&BrokerId(3))).collect();
    cluster.ask(&Command::Balance { copies_max: 0 }).unwrap();
    let after: Vec<bool> = states(&cluster).map(|state| state.replicas.contains(&BrokerId(3))).collect();
    assert_eq!(before, after);
}
