//! What an operator sees of the cluster.

use crate::cluster::Cluster;
use tidelog_coordination::command::{Assignment, Command};
use tidelog_coordination::description::{brokers, partition_counts, partitions};
use tidelog_protocol::messages::{BrokerStanding, PartitionCounts, PartitionFilter};
use tidelog_protocol::{BrokerId, PartitionId};

fn unsettled(cluster: &Cluster) -> Vec<String> {
    let topics = cluster.controller.image().topics();
    let of = |topic| partitions(topic, PartitionFilter::Unsettled).map(|partition| partition.topic.to_string());
    topics.flat_map(|topic| of(topic).collect::<Vec<_>>()).collect()
}

#[test]
fn each_trouble_of_a_partition_is_counted_and_shown() {
    let mut cluster = Cluster::of(4);
    cluster.topic_on("well", [4, 1], &[]);
    cluster.topic_on("offline", [3], &[]);
    cluster.topic_on("thin", [1, 3], &[("min.insync.replicas", "2")]);
    cluster.topic_on("moving", [1, 2], &[]);
    cluster.topic_on("second", [3, 2], &[]);
    assert_eq!(unsettled(&cluster), Vec::<String>::new());
    cluster.fence(3);
    let replicas = Some(vec![BrokerId(4), BrokerId(1)]);
    let assignment = Assignment { topic: "moving".into(), partition: PartitionId(0), replicas };
    cluster.ask(&Command::Reassign { assignments: vec![assignment] }).unwrap();
    assert_eq!(unsettled(&cluster), ["moving", "offline", "second", "thin"]);
    let expected = PartitionCounts {
        partitions: 5,
        offline: 1,
        under_replicated: 2,
        below_minimum: 1,
        moving: 1,
        not_preferred: 2,
    };
    assert_eq!(partition_counts(cluster.controller.image()), expected);
    let all = cluster.controller.image().topics().flat_map(|topic| partitions(topic, PartitionFilter::All)).count();
    assert_eq!(all, 5);
}

#[test]
fn brokers_are_shown_with_their_standing_their_lease_and_what_they_hold() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("a", [1, 2, 3], &[]);
    cluster.topic_on("b", [3, 1], &[]);
    cluster.alter("b", &[3]).unwrap();
    cluster.shut_down(3);
    cluster.fence(2);
    let seen = brokers(cluster.controller.image(), |broker| (broker.0 == 1).then_some(u64::MAX));
    let row =
        |at: usize| (seen[at].standing, seen[at].replicas, seen[at].in_sync, seen[at].leaders, seen[at].preferred);
    assert_eq!(row(0), (BrokerStanding::Serving, 2, 1, 1, 1));
    assert_eq!(row(1), (BrokerStanding::Fenced, 1, 0, 0, 0));
    assert_eq!(row(2), (BrokerStanding::Leaving, 2, 1, 1, 1));
    assert_eq!((seen[0].lease_left_ms, seen[1].lease_left_ms), (Some(u32::MAX), None));
}
