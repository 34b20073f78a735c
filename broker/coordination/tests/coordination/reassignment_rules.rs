//! Replicas move, leaders are chosen by order: copy first, then switch; all of a request or nothing.

use crate::cluster::{Cluster, Folder, code, message};
use tidelog_coordination::catching_up::senders;
use tidelog_coordination::command::{Assignment, Command};
use tidelog_coordination::{Refusal, Reply};
use tidelog_protocol::{BrokerId, ErrorCode, LeaderEpoch, PartitionId};

fn assignment(topic: &str, replicas: Option<&[u32]>) -> Assignment {
    let replicas = replicas.map(|list| list.iter().map(|broker| BrokerId(*broker)).collect());
    Assignment { topic: topic.into(), partition: PartitionId(0), replicas }
}

fn reassign(cluster: &mut Cluster, topic: &str, replicas: &[u32]) -> Result<Reply, Refusal> {
    cluster.ask(&Command::Reassign { assignments: vec![assignment(topic, Some(replicas))] })
}

fn ids(list: &[BrokerId]) -> Vec<u32> {
    list.iter().map(|broker| broker.0).collect()
}

fn replicas(cluster: &Cluster, topic: &str) -> Vec<u32> {
    ids(&cluster.partition(topic).replicas)
}

const COPIES: Result<Reply, Refusal> = Ok(Reply::Reassigned { copying: 1, done: 0 });
const AT_ONCE: Result<Reply, Refusal> = Ok(Reply::Reassigned { copying: 0, done: 1 });

#[test]
fn new_replicas_copy_first_and_the_switch_comes_with_the_last_one_in_sync() {
    let mut cluster = Cluster::of(5);
    cluster.topic_on("x", [1, 2, 3], &[("min.insync.replicas", "2")]);
    assert_eq!(reassign(&mut cluster, "x", &[4, 5, 1]), COPIES);
    let moving = cluster.partition("x");
    assert_eq!(
        (ids(&moving.replicas), ids(&moving.adding), ids(&moving.removing)),
        (vec![4, 5, 1, 2, 3], vec![4, 5], vec![2, 3])
    );
    assert_eq!((moving.leader, ids(&moving.in_sync)), (Some(BrokerId(1)), vec![1, 2, 3]));
    assert!(!moving.is_under_replicated(), "what is being copied is not missing");
    cluster.alter("x", &[1, 2, 3, 4]).unwrap();
    assert!(cluster.partition("x").is_moving());
    cluster.alter("x", &[1, 2, 3, 4, 5]).unwrap();
    let moved = cluster.partition("x");
    assert!(!moved.is_moving());
    assert_eq!((replicas(&cluster, "x"), cluster.in_sync("x")), (vec![4, 5, 1], vec![4, 5, 1]));
    assert_eq!(cluster.leader("x"), Some(1), "the leader goes on, as it stays a replica");
}

#[test]
fn a_leader_that_moves_away_hands_over_to_a_new_replica() {
    let mut cluster = Cluster::of(4);
    cluster.topic_on("x", [1, 2], &[]);
    let epoch = cluster.partition("x").leader_epoch;
    assert_eq!(reassign(&mut cluster, "x", &[3, 4]), COPIES);
    cluster.alter("x", &[1, 3, 4]).unwrap();
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (Some(3), vec![3, 4]));
    assert_eq!(cluster.partition("x").leader_epoch, LeaderEpoch(epoch.0 + 1));
}

#[test]
fn a_new_replica_that_fails_holds_the_switch_up_and_nothing_else() {
    let mut cluster = Cluster::of(4);
    cluster.topic_on("x", [1, 2], &[]);
    reassign(&mut cluster, "x", &[3, 1]).unwrap();
    cluster.fence(3);
    cluster.fence(1);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (Some(2), vec![2]), "what is to go still counts");
    cluster.unfence(1);
    cluster.unfence(3);
    cluster.alter("x", &[2, 3]).unwrap();
    assert!(cluster.partition("x").is_moving(), "1 is to stay, and must be in sync again");
    cluster.alter("x", &[2, 3, 1]).unwrap();
    assert_eq!((cluster.leader("x"), replicas(&cluster, "x")), (Some(3), vec![3, 1]));
}

#[test]
fn a_shorter_list_or_another_order_needs_no_copy() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], &[]);
    assert_eq!(reassign(&mut cluster, "x", &[3, 1, 2]), AT_ONCE);
    assert_eq!(cluster.leader("x"), Some(3), "the preferred one leads at once");
    assert_eq!(reassign(&mut cluster, "x", &[1, 2]), AT_ONCE);
    assert_eq!((replicas(&cluster, "x"), cluster.in_sync("x"), cluster.leader("x")), (vec![1, 2], vec![1, 2], Some(1)));
    assert_eq!(reassign(&mut cluster, "x", &[1, 2]), Ok(Reply::Reassigned { copying: 0, done: 0 }));
}

#[test]
fn a_move_can_be_taken_back_or_redirected() {
    let mut cluster = Cluster::of(5);
    cluster.topic_on("x", [1, 2], &[]);
    let back = Command::Reassign { assignments: vec![assignment("x", None)] };
    assert_eq!(message(cluster.ask(&back)), "'x'-0 is not being moved: there is nothing to take back");
    reassign(&mut cluster, "x", &[3, 4]).unwrap();
    assert_eq!(reassign(&mut cluster, "x", &[5, 4]), COPIES);
    assert_eq!((replicas(&cluster, "x"), ids(&cluster.partition("x").adding)), (vec![5, 4, 1, 2], vec![5, 4]));
    assert_eq!(cluster.ask(&back), AT_ONCE);
    assert_eq!((replicas(&cluster, "x"), cluster.in_sync("x"), cluster.leader("x")), (vec![1, 2], vec![1, 2], Some(1)));
}

#[test]
fn taking_a_move_back_restores_the_order_and_with_it_the_preferred_leader() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [2, 3], &[]);
    let _ = reassign(&mut cluster, "x", &[1, 3]).unwrap();
    let back = Command::Reassign { assignments: vec![assignment("x", None)] };
    let _ = cluster.ask(&back).unwrap();
    assert_eq!(replicas(&cluster, "x"), [2, 3]);
    assert_eq!(cluster.partition("x").leader, Some(BrokerId(2)));
    // Also where one move took the place of another.
    let _ = reassign(&mut cluster, "x", &[1, 3]).unwrap();
    let _ = reassign(&mut cluster, "x", &[3, 1]).unwrap();
    let _ = cluster.ask(&back).unwrap();
    assert_eq!(replicas(&cluster, "x"), [2, 3]);
    assert!(cluster.partition("x").before.is_empty(), "nothing is kept once nothing moves");
}

#[test]
fn a_copy_that_is_in_sync_already_is_not_thrown_away_before_the_others_are() {
    let mut cluster = Cluster::of(4);
    cluster.topic_on("x", [1, 2], &[]);
    reassign(&mut cluster, "x", &[3, 4]).unwrap();
    cluster.alter("x", &[1, 3]).unwrap();
    let back = Command::Reassign { assignments: vec![assignment("x", None)] };
    assert_eq!(cluster.ask(&back), COPIES);
    assert_eq!((cluster.in_sync("x"), ids(&cluster.partition("x").removing)), (vec![1, 3], vec![3]));
    cluster.alter("x", &[1, 2, 3]).unwrap();
    assert_eq!((replicas(&cluster, "x"), cluster.in_sync("x")), (vec![1, 2], vec![1, 2]));
}

#[test]
fn a_copy_that_is_dropped_is_not_eligible_any_more() {
    let mut cluster = Cluster::of(4);
    cluster.topic_on("x", [1, 2], &[("durability", "written"), ("min.insync.replicas", "2")]);
    reassign(&mut cluster, "x", &[3, 4]).unwrap();
    cluster.alter("x", &[1, 2, 3]).unwrap();
    cluster.alter("x", &[1]).unwrap();
    assert_eq!(cluster.eligible("x"), [3, 2], "the copy was complete and left below the minimum");
    assert_eq!(cluster.ask(&Command::Reassign { assignments: vec![assignment("x", None)] }), AT_ONCE);
    assert_eq!((replicas(&cluster, "x"), cluster.eligible("x")), (vec![1, 2], vec![2]));
    // It would be given the seat of the last one in sync, and nobody else could lead.
    cluster.fence(2);
    cluster.start(1, Folder::Crashed);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (None, vec![2]));
    cluster.unfence(2);
    assert_eq!(cluster.leader("x"), Some(2));
}

#[test]
fn an_impossible_list_is_refused_with_what_to_do_and_nothing_half_done() {
    let mut cluster = Cluster::of(5);
    cluster.topic_on("x", [1, 2], &[("min.insync.replicas", "2")]);
    cluster.topic_on("y", [1, 2], &[]);
    cluster.fence(3);
    cluster.ask(&Command::Drain { broker_id: BrokerId(4) }).unwrap();
    let log = cluster.log.len();
    for (list, sentence) in [
        (&[1, 1][..], "'x'-0 cannot be moved: a broker stands twice among its replicas; a broker holds one at most"),
        (
            &[1],
            "'x'-0 cannot be moved: 1 replica would be fewer than its min.insync.replicas, which is 2: name more brokers, or lower that first",
        ),
        (
            &[],
            "'x'-0 cannot be moved: 0 replicas would be fewer than its min.insync.replicas, which is 2: name more brokers, or lower that first",
        ),
        (&[1, 9], "there is no broker 9; registered are: 1, 2, 3, 4, 5"),
        (&[1, 3], "'x'-0 cannot be moved: broker 3 is fenced: start it first, or name another"),
        (&[1, 4], "'x'-0 cannot be moved: broker 4 is being drained: take that back first, or name another"),
    ] {
        let assignments = vec![assignment("y", Some(&[5])), assignment("x", Some(list))];
        assert_eq!(message(cluster.ask(&Command::Reassign { assignments })), sentence);
    }
    let twice = vec![assignment("y", Some(&[5])), assignment("y", Some(&[1]))];
    assert_eq!(code(cluster.ask(&Command::Reassign { assignments: twice })), ErrorCode::InvalidReassignment);
    assert_eq!(code(reassign(&mut cluster, "z", &[1])), ErrorCode::UnknownTopic);
    assert_eq!(code(reassign(&mut cluster, "no good", &[1])), ErrorCode::InvalidName);
    let beyond = Assignment { partition: PartitionId(4), ..assignment("x", Some(&[1, 2])) };
    assert_eq!(
        message(cluster.ask(&Command::Reassign { assignments: vec![beyond] })),
        "topic 'x' has no partition 4: it has 1"
    );
    assert_eq!(cluster.log.len(), log);
}

#[test]
fn a_dead_broker_can_be_replaced_and_one_that_is_away_may_stay() {
    let mut cluster = Cluster::of(4);
    cluster.topic_on("x", [1, 2, 3], &[]);
    cluster.fence(3);
    cluster.fence(2);
    assert_eq!(reassign(&mut cluster, "x", &[1, 2, 4]), COPIES);
    cluster.alter("x", &[1, 4]).unwrap();
    assert!(cluster.partition("x").is_moving(), "2 must come back first");
    cluster.unfence(2);
    cluster.alter("x", &[1, 2, 4]).unwrap();
    assert_eq!(replicas(&cluster, "x"), [1, 2, 4]);
}

#[test]
fn a_drained_broker_gives_everything_away_and_can_be_removed() {
    let mut cluster = Cluster::of(4);
    for topic in ["a", "b", "c", "d"] {
        cluster.topic_on(topic, [1, 2, 3], &[]);
    }
    let drain = Command::Drain { broker_id: BrokerId(2) };
    assert_eq!(cluster.ask(&drain), Ok(Reply::Reassigned { copying: 4, done: 0 }));
    for topic in ["a", "b", "c", "d"] {
        assert_eq!(replicas(&cluster, topic), [1, 4, 3, 2], "the new one takes the place of the old one");
        cluster.alter(topic, &[1, 2, 3, 4]).unwrap();
        assert_eq!(replicas(&cluster, topic), [1, 4, 3]);
    }
    cluster.create("e", |topic| topic.replication_factor = 3).unwrap();
    assert!(!replicas(&cluster, "e").contains(&2), "it gets nothing new");
    let log = cluster.log.len();
    assert_eq!(cluster.ask(&drain), Ok(Reply::Reassigned { copying: 0, done: 0 }));
    assert_eq!(cluster.log.len(), log, "asked again it goes on where it stopped");
    assert_eq!(cluster.shut_down(2), 0);
    assert_eq!(cluster.ask(&Command::RemoveBroker { broker_id: BrokerId(2) }), Ok(Reply::Done));
}

#[test]
fn a_broker_that_nobody_can_stand_in_for_is_not_drained() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("a", [1, 2], &[]);
    cluster.topic_on("x", [1, 2, 3], &[]);
    let log = cluster.log.len();
    let refused = message(cluster.ask(&Command::Drain { broker_id: BrokerId(2) }));
    let sentence = "broker 2 cannot be drained: no other live broker can take its replica of 'x'-0, which has 3: \
                    add a broker, or give its partitions fewer replicas with 'tidelog cluster reassign'";
    assert_eq!(refused, sentence);
    assert_eq!(cluster.log.len(), log);
    assert_eq!(code(cluster.ask(&Command::Drain { broker_id: BrokerId(8) })), ErrorCode::UnknownBroker);
}

#[test]
fn draining_survives_a_restart_and_can_be_taken_back() {
    let mut cluster = Cluster::of(2);
    let keep = Command::Keep { broker_id: BrokerId(2) };
    assert_eq!(message(cluster.ask(&keep)), "broker 2 is not being drained: there is nothing to take back");
    cluster.ask(&Command::Drain { broker_id: BrokerId(2) }).unwrap();
    cluster.serve(2, Folder::Clean);
    assert!(cluster.controller.image().broker(BrokerId(2)).unwrap().draining);
    assert_eq!(cluster.ask(&keep), Ok(Reply::Done));
    assert!(cluster.controller.image().broker(BrokerId(2)).unwrap().takes_replicas());
}

#[test]
fn the_preferred_replica_leads_again_once_it_is_in_sync() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], &[]);
    let prefer = Command::ElectPreferred { partition: Some(("x".into(), PartitionId(0))) };
    assert_eq!(cluster.ask(&prefer), Ok(Reply::Elected { count: 0 }), "it leads already");
    cluster.fence(1);
    let refused = cluster.ask(&prefer).unwrap_err();
    assert_eq!(refused.message, "broker 1, preferred for 'x'-0, does not serve: start it first");
    cluster.unfence(1);
    let refused = cluster.ask(&prefer).unwrap_err();
    assert_eq!(refused.message, "broker 1, preferred for 'x'-0, is not in sync: wait until it has caught up");
    assert_eq!(cluster.ask(&Command::ElectPreferred { partition: None }), Ok(Reply::Elected { count: 0 }));
    cluster.alter("x", &[1, 2, 3]).unwrap();
    let epoch = cluster.partition("x").leader_epoch;
    assert_eq!(cluster.ask(&Command::ElectPreferred { partition: None }), Ok(Reply::Elected { count: 1 }));
    assert_eq!((cluster.leader("x"), cluster.partition("x").leader_epoch), (Some(1), LeaderEpoch(epoch.0 + 1)));
}

#[test]
fn an_unclean_election_happens_by_order_only_and_is_kept_on_record() {
    let mut cluster = Cluster::of(4);
    cluster.topic_on("x", [1, 2, 3], &[]);
    let force = |broker| {
        let (topic, partition) = ("x".into(), PartitionId(0));
        Command::ElectUnclean { topic, partition, broker_id: BrokerId(broker) }
    };
    let refused = message(cluster.ask(&force(2)));
    let sentence =
        "'x'-0 cannot be given to broker 2: broker 1 leads it; an unclean election is for a partition without a leader";
    assert_eq!(refused, sentence);
    cluster.alter("x", &[1]).unwrap();
    cluster.fence(1);
    cluster.fence(3);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (None, vec![1]), "2 lives and is not elected by itself");
    assert!(message(cluster.ask(&force(4))).ends_with("broker 4 holds no replica of it; those that do are: 1, 2, 3"));
    assert!(message(cluster.ask(&force(3))).ends_with("broker 3 does not serve: start it first, or name another"));
    assert_eq!(code(cluster.ask(&force(9))), ErrorCode::UnknownBroker);
    let epoch = cluster.partition("x").leader_epoch;
    assert_eq!(cluster.ask(&force(2)), Ok(Reply::Elected { count: 1 }));
    let state = cluster.partition("x");
    assert_eq!((state.leader, state.unclean_epoch), (Some(BrokerId(2)), Some(LeaderEpoch(epoch.0 + 1))));
    assert_eq!((cluster.in_sync("x"), state.leader_epoch), (vec![2], LeaderEpoch(epoch.0 + 1)));
    // The old leader comes back as a follower, and the record of what was done stays.
    cluster.unfence(1);
    assert_eq!(cluster.leader("x"), Some(2));
    cluster.alter("x", &[1, 2]).unwrap();
    assert_eq!(cluster.partition("x").unclean_epoch, Some(LeaderEpoch(epoch.0 + 1)));
}

#[test]
fn who_was_eligible_before_an_unclean_election_is_not_elected_after_it() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], &[("min.insync.replicas", "2")]);
    for broker in [1, 2, 3] {
        cluster.fence(broker);
    }
    // 1 left while two were in sync.
    cluster.unfence(1);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x"), cluster.eligible("x")), (None, vec![3], vec![2]));
    let (topic, partition, broker_id) = ("x".into(), PartitionId(0), BrokerId(1));
    cluster.ask(&Command::ElectUnclean { topic, partition, broker_id }).unwrap();
    assert_eq!((cluster.leader("x"), cluster.in_sync("x"), cluster.eligible("x")), (Some(1), vec![1], vec![]));
    cluster.unfence(2);
    cluster.fence(1);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (None, vec![1]), "2 has nothing of the new leadership");
}

#[test]
fn a_wiped_partition_is_given_up_by_order_only() {
    let mut cluster = Cluster::of(1);
    cluster.topic_on("x", [1], &[]);
    cluster.fence(1);
    cluster.serve(1, Folder::Wiped(5));
    assert_eq!(cluster.leader("x"), None);
    let (topic, partition, broker_id) = ("x".into(), PartitionId(0), BrokerId(1));
    cluster.ask(&Command::ElectUnclean { topic, partition, broker_id }).unwrap();
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (Some(1), vec![1]));
}

#[test]
fn a_replica_that_catches_up_has_as_many_senders_as_brokers_lead_what_it_lacks() {
    let mut cluster = Cluster::of(4);
    for (topic, held) in [("a", [1, 2]), ("b", [2, 1]), ("c", [3, 1]), ("d", [3, 2])] {
        cluster.topic_on(topic, held, &[]);
    }
    assert!(senders(cluster.controller.image()).is_empty(), "all are in sync");
    for (topic, target) in [("a", [1, 4]), ("c", [3, 4]), ("d", [3, 4])] {
        assert_eq!(reassign(&mut cluster, topic, &target), COPIES);
    }
    assert_eq!(
        senders(cluster.controller.image()).into_iter().collect::<Vec<_>>(),
        [(BrokerId(4), 2)],
        "3 leads two of them"
    );
    cluster.alter("a", &[1, 2, 4]).unwrap();
    assert_eq!(senders(cluster.controller.image()).get(&BrokerId(4)), Some(&1), "1 has nothing more to send");
}

#[test]
fn a_broker_whose_replicas_are_being_moved_off_is_removed_once_that_is_done() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2], &[]);
    assert_eq!(reassign(&mut cluster, "x", &[2, 3]), COPIES);
    let refused = message(cluster.ask(&Command::RemoveBroker { broker_id: BrokerId(1) }));
    assert!(refused.contains("what it holds is still being moved off it (1 replica): try again"), "{refused}");
}
