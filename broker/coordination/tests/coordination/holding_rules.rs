//! A broker says that a replica is gone, unreadable or too short: nobody counts on it any more, and an empty log never leads.

use crate::cluster::{Cluster, Folder, code, message};
use tidelog_coordination::Reply;
use tidelog_coordination::command::{Command, HeldReplica, HeldReplicas, Registration};
use tidelog_coordination::records::MetadataRecord;
use tidelog_protocol::messages::ReplicaHolding;
use tidelog_protocol::{BrokerEpoch, BrokerId, ErrorCode, PartitionEpoch, PartitionId, TopicId};

const ALL: [ReplicaHolding; 3] = [ReplicaHolding::Nothing, ReplicaHolding::Unreadable, ReplicaHolding::Short];
/// Such as a broker cannot read.
const LOST: [ReplicaHolding; 2] = [ReplicaHolding::Nothing, ReplicaHolding::Unreadable];

fn three(minimum: &str) -> Cluster {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], &[("min.insync.replicas", minimum)]);
    cluster
}

fn held(cluster: &Cluster, topic: &str, holds: ReplicaHolding) -> HeldReplica {
    let topic = cluster.controller.image().topic_named(topic).expect("the topic exists");
    let partition_epoch = topic.partitions[0].partition_epoch;
    HeldReplica { topic_id: topic.id, partition: PartitionId(0), partition_epoch, holds }
}

fn report(cluster: &mut Cluster, broker: u32, holds: ReplicaHolding) {
    let replicas = vec![held(cluster, "x", holds)];
    let holder = cluster.registration(broker);
    let reply = cluster.ask(&Command::ReportReplicas(HeldReplicas { holder, replicas }));
    assert_eq!(reply, Ok(Reply::ReplicasReported { replicas: vec![Ok(())] }));
}

/// In sync, eligible, leader.
fn counted(cluster: &Cluster) -> (Vec<u32>, Vec<u32>, Option<u32>) {
    (cluster.in_sync("x"), cluster.eligible("x"), cluster.leader("x"))
}

#[test]
fn a_replica_that_is_not_whole_is_neither_in_sync_nor_eligible_and_its_lead_moves() {
    for holds in ALL {
        let mut cluster = three("3");
        let epoch = cluster.partition("x").leader_epoch;
        report(&mut cluster, 2, holds);
        assert_eq!(counted(&cluster), (vec![1, 3], vec![], Some(1)), "{holds:?}");
        assert_eq!(cluster.partition("x").leader_epoch, epoch, "the leader stays");
        report(&mut cluster, 1, holds);
        assert_eq!(counted(&cluster), (vec![3], vec![], Some(3)), "{holds:?}");
    }
}

#[test]
fn an_eligible_replica_whose_folder_is_gone_is_never_elected() {
    for holds in ALL {
        let mut cluster = three("2");
        cluster.fence(2);
        cluster.fence(3);
        assert_eq!(counted(&cluster), (vec![1], vec![3], Some(1)));
        cluster.start(3, Folder::Crashed);
        report(&mut cluster, 3, holds);
        cluster.unfence(3);
        assert_eq!(counted(&cluster), (vec![1], vec![], Some(1)), "{holds:?}");
        cluster.fence(1);
        assert_eq!(counted(&cluster), (vec![1], vec![], None), "nobody who is there is complete: {holds:?}");
    }
}

#[test]
fn the_last_one_in_sync_gives_its_seat_to_an_eligible_one_also_to_one_that_is_away() {
    for holds in ALL {
        let mut cluster = three("2");
        cluster.fence(3);
        cluster.fence(2);
        assert_eq!(counted(&cluster), (vec![1], vec![2], Some(1)));
        report(&mut cluster, 1, holds);
        assert_eq!(counted(&cluster), (vec![2], vec![], None), "{holds:?}");
        cluster.unfence(2);
        assert_eq!(cluster.leader("x"), Some(2));
    }
}

#[test]
fn where_no_other_is_complete_nobody_leads_until_the_broker_begins_anew() {
    for holds in LOST {
        let mut cluster = three("1");
        cluster.fence(2);
        cluster.fence(3);
        assert_eq!(counted(&cluster), (vec![1], vec![], Some(1)));
        report(&mut cluster, 1, holds);
        assert_eq!(counted(&cluster), (vec![1], vec![], None), "its seat is kept: its folder may be put back");
        assert_eq!(cluster.partition("x").unreadable, Some(BrokerId(1)));
        let log = cluster.log.len();
        report(&mut cluster, 1, holds);
        assert_eq!(cluster.log.len(), log, "said again, it changes nothing");
        // Whoever else comes is not complete; and being heard of again does not bring the records back.
        cluster.serve(2, Folder::Clean);
        cluster.fence(1);
        cluster.unfence(1);
        assert_eq!(cluster.leader("x"), None);
        let preferred = Command::ElectPreferred { partition: Some(("x".into(), PartitionId(0))) };
        assert!(message(cluster.ask(&preferred)).contains("cannot read its replica"));
        cluster.serve(1, Folder::Crashed);
        assert_eq!(counted(&cluster), (vec![1], vec![], Some(1)), "it may have been put back: {holds:?}");
        assert_eq!(cluster.partition("x").unreadable, None);
    }
}

#[test]
fn an_operator_may_give_up_what_only_an_unreadable_replica_held() {
    let mut cluster = three("1");
    cluster.fence(2);
    cluster.fence(3);
    report(&mut cluster, 1, ReplicaHolding::Nothing);
    cluster.serve(2, Folder::Clean);
    let force = Command::ElectUnclean { topic: "x".into(), partition: PartitionId(0), broker_id: BrokerId(2) };
    assert_eq!(cluster.ask(&force), Ok(Reply::Elected { count: 1 }));
    assert_eq!(counted(&cluster), (vec![2], vec![], Some(2)));
    assert_eq!(cluster.partition("x").unreadable, None);
}

#[test]
fn a_log_that_is_too_short_leads_on_where_nobody_has_more() {
    let mut cluster = three("1");
    cluster.fence(2);
    cluster.fence(3);
    let log = cluster.log.len();
    report(&mut cluster, 1, ReplicaHolding::Short);
    assert_eq!((counted(&cluster), cluster.log.len()), ((vec![1], vec![], Some(1)), log));
}

#[test]
fn an_old_report_is_refused_and_each_is_decided_by_itself() {
    let mut cluster = three("2");
    let holder = cluster.registration(1);
    let late = held(&cluster, "x", ReplicaHolding::Nothing);
    cluster.fence(2);
    let good = held(&cluster, "x", ReplicaHolding::Nothing);
    let nowhere = HeldReplica { topic_id: TopicId([99; 16]), ..good };
    let elsewhere = HeldReplica { partition: PartitionId(7), ..good };
    let ask = |cluster: &mut Cluster, holder, replicas| {
        cluster.ask(&Command::ReportReplicas(HeldReplicas { holder, replicas }))
    };
    let reply = ask(&mut cluster, holder, vec![nowhere, elsewhere, late]);
    let Ok(Reply::ReplicasReported { replicas }) = reply else { unreachable!("{reply:?}") };
    let codes: Vec<_> = replicas.into_iter().map(code).collect();
    assert_eq!(codes, [ErrorCode::UnknownTopic, ErrorCode::UnknownPartition, ErrorCode::PartitionChanged]);
    assert_eq!(counted(&cluster), (vec![1, 3], vec![], Some(1)));
    let reply = ask(&mut cluster, holder, vec![good, good]);
    let Ok(Reply::ReplicasReported { replicas }) = reply else { unreachable!("{reply:?}") };
    assert_eq!(replicas[0], Ok(()));
    assert_eq!(code(replicas[1].clone()), ErrorCode::Malformed);
    assert_eq!(counted(&cluster), (vec![3], vec![], Some(3)));
    let earlier = Registration { epoch: BrokerEpoch(0), ..holder };
    assert_eq!(code(ask(&mut cluster, earlier, vec![good])), ErrorCode::FencedBroker, "an earlier life");
    assert_eq!(late.partition_epoch, PartitionEpoch(1));
}

/// A log without such a replica can still be read by the release before.
#[test]
fn only_a_partition_that_nobody_can_read_needs_the_newest_format() {
    let mut cluster = three("1");
    cluster.fence(2);
    cluster.fence(3);
    assert_eq!(cluster.controller.image().feature_level(), 2);
    report(&mut cluster, 1, ReplicaHolding::Unreadable);
    assert_eq!(cluster.controller.image().feature_level(), 3);
    let (_, last) = cluster.log.last().expect("a record");
    assert_eq!((last.version(), MetadataRecord::decode(&last.to_bytes()).as_ref()), (3, Ok(last)));
}
