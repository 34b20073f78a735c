//! Brokers come, go and come back: who leads, who counts as in sync, and what is never done by itself (KIP-966).

use crate::cluster;
use crate::cluster::{Cluster, Folder, code, message};
use tidelog_coordination::command::{Command, RegisterBroker};
use tidelog_coordination::{ClusterImage, Reply};
use tidelog_protocol::{BrokerEpoch, BrokerId, ControllerEpoch, ErrorCode, LeaderEpoch};

const TWO: &[(&str, &str)] = &[("min.insync.replicas", "2")];
const TWO_WRITTEN: &[(&str, &str)] = &[("durability", "written"), ("min.insync.replicas", "2")];
const WRITTEN: &[(&str, &str)] = &[("durability", "written")];

#[test]
fn the_next_replica_in_sync_takes_over_when_a_lease_ends() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [2, 3, 1], &[]);
    let before = cluster.partition("x").leader_epoch;
    cluster.fence(2);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (Some(3), vec![3, 1]));
    assert_eq!(cluster.partition("x").leader_epoch.0, before.0 + 1);
    assert!(cluster.eligible("x").is_empty(), "two are in sync and one is enough");
}

#[test]
fn a_follower_whose_lease_ends_leaves_the_set_and_the_leader_stays() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], &[]);
    let before = cluster.partition("x").clone();
    cluster.fence(3);
    let after = cluster.partition("x");
    assert_eq!((after.leader, after.leader_epoch), (before.leader, before.leader_epoch));
    assert_eq!(cluster.in_sync("x"), [1, 2]);
}

#[test]
fn a_replica_out_of_sync_is_not_elected_though_nobody_else_is_there() {
    let mut cluster = Cluster::of(2);
    cluster.topic_on("x", [1, 2], &[]);
    cluster.alter("x", &[1]).unwrap();
    let epoch = cluster.partition("x").leader_epoch;
    cluster.fence(1);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (None, vec![1]), "the last one in sync stays so");
    assert_eq!(cluster.partition("x").last_leader, Some(BrokerId(1)));
    assert_eq!(cluster.partition("x").leader_epoch, epoch, "nobody leads, so there is no new leadership");
    cluster.unfence(1);
    assert_eq!((cluster.leader("x"), cluster.partition("x").last_leader), (Some(1), None));
    assert_eq!(cluster.partition("x").leader_epoch.0, epoch.0 + 1);
}

#[test]
fn who_leaves_below_the_minimum_stays_eligible_and_is_elected_when_the_last_in_sync_is_lost() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], TWO);
    cluster.fence(1);
    assert_eq!((cluster.in_sync("x"), cluster.eligible("x")), (vec![2, 3], vec![]), "two are enough");
    cluster.fence(2);
    assert_eq!((cluster.in_sync("x"), cluster.eligible("x")), (vec![3], vec![2]));
    cluster.fence(3);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (None, vec![3]));
    // 1 left while two were in sync: the watermark may have moved on without it.
    cluster.unfence(1);
    assert_eq!(cluster.leader("x"), None);
    cluster.unfence(2);
    assert_eq!(cluster.leader("x"), Some(2));
    assert_eq!((cluster.in_sync("x"), cluster.eligible("x")), (vec![2], vec![3]), "3 is still complete");
    cluster.unfence(3);
    cluster.alter("x", &[2, 3]).unwrap();
    assert!(cluster.eligible("x").is_empty(), "the watermark moves again, and nobody outside is complete");
}

#[test]
fn whom_the_leader_leaves_out_below_the_minimum_is_eligible_too() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], TWO);
    cluster.alter("x", &[1]).unwrap();
    assert_eq!(cluster.eligible("x"), [2, 3]);
    cluster.fence(1);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x"), cluster.eligible("x")), (Some(2), vec![2], vec![1, 3]));
}

#[test]
fn a_lower_minimum_takes_eligibility_away() {
    let mut cluster = Cluster::of(2);
    cluster.topic_on("x", [1, 2], TWO);
    cluster.fence(2);
    assert_eq!(cluster.eligible("x"), [2]);
    let lower = Command::AlterTopic {
        name: "x".into(),
        set: cluster::entries(&[("min.insync.replicas", "1")]),
        reset: Vec::new(),
    };
    cluster.ask(&lower).unwrap();
    assert!(cluster.eligible("x").is_empty(), "from here on the leader alone moves the watermark");
}

#[test]
fn a_crash_costs_eligibility_where_records_were_only_written() {
    for (configs, keeps) in [(TWO, true), (TWO_WRITTEN, false)] {
        let mut cluster = Cluster::of(2);
        cluster.topic_on("x", [1, 2], configs);
        cluster.fence(2);
        assert_eq!(cluster.eligible("x"), [2]);
        cluster.serve(2, Folder::Crashed);
        assert_eq!(!cluster.eligible("x").is_empty(), keeps, "{configs:?}");
        cluster.fence(1);
        assert_eq!(cluster.leader("x"), keeps.then_some(2), "{configs:?}");
    }
}

#[test]
fn a_clean_end_keeps_eligibility_only_if_it_was_the_end_of_the_last_registration() {
    let mut cluster = Cluster::of(2);
    cluster.topic_on("x", [1, 2], TWO_WRITTEN);
    cluster.fence(2);
    let first = cluster.registration(2).epoch;
    cluster.serve(2, Folder::Clean);
    assert_eq!(cluster.eligible("x"), [2]);
    // A folder from a backup carries the mark of an older life.
    let stale = RegisterBroker { closed_cleanly: Some(first), ..cluster::registration_of(2, 0) };
    cluster.ask(&Command::RegisterBroker(stale)).unwrap();
    assert!(cluster.eligible("x").is_empty());
}

#[test]
fn a_restarted_leader_hands_over_to_whom_is_in_sync_and_comes_back_as_a_follower() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], WRITTEN);
    // Faster than its lease: nobody noticed that it was gone.
    cluster.start(1, Folder::Crashed);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (Some(2), vec![2, 3]));
    cluster.unfence(1);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (Some(2), vec![2, 3]));
}

#[test]
fn the_last_in_sync_comes_back_from_a_crash_and_leads_what_it_has() {
    let mut cluster = Cluster::of(2);
    cluster.topic_on("x", [1, 2], WRITTEN);
    cluster.alter("x", &[1]).unwrap();
    cluster.start(1, Folder::Crashed);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (None, vec![1]));
    cluster.unfence(1);
    assert_eq!(cluster.leader("x"), Some(1));
}

#[test]
fn an_eligible_replica_takes_the_place_of_the_last_in_sync_that_lost_its_tail() {
    let mut cluster = Cluster::of(2);
    cluster.topic_on("x", [1, 2], TWO_WRITTEN);
    cluster.fence(2);
    cluster.fence(1);
    assert_eq!((cluster.in_sync("x"), cluster.eligible("x")), (vec![1], vec![2]));
    cluster.serve(1, Folder::Crashed);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (None, vec![2]), "2 may hold more than 1 has left");
    cluster.unfence(2);
    assert_eq!(cluster.leader("x"), Some(2));
}

#[test]
fn the_seat_of_the_last_in_sync_goes_to_an_eligible_replica_that_lives() {
    for away in [2, 3] {
        let mut cluster = Cluster::of(3);
        cluster.topic_on("x", [1, 2, 3], TWO_WRITTEN);
        cluster.alter("x", &[1]).unwrap();
        cluster.fence(away);
        assert_eq!((cluster.leader("x"), cluster.eligible("x")), (Some(1), vec![2, 3]));
        cluster.start(1, Folder::Crashed);
        let lives = 5 - away;
        assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (Some(lives), vec![lives]));
        assert_eq!(cluster.eligible("x"), [away], "it is as complete as the one that leads");
    }
}

#[test]
fn all_lose_power_at_once_and_the_last_in_sync_leads_again() {
    for configs in [WRITTEN, &[], TWO] {
        let mut cluster = Cluster::of(3);
        cluster.topic_on("x", [1, 2, 3], configs);
        for broker in [2, 1, 3] {
            cluster.start(broker, Folder::Crashed);
        }
        assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (None, vec![3]));
        for broker in [2, 1, 3] {
            cluster.unfence(broker);
        }
        assert!(cluster.leader("x").is_some(), "{configs:?}");
    }
}

#[test]
fn a_wiped_disk_is_in_no_set_and_leads_nothing_until_it_has_caught_up() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], TWO);
    cluster.fence(1);
    cluster.serve(1, Folder::Wiped(9));
    cluster.fence(2);
    cluster.fence(3);
    assert_eq!((cluster.leader("x"), cluster.in_sync("x"), cluster.eligible("x")), (None, vec![3], vec![2]));
    cluster.serve(2, Folder::Wiped(9));
    assert_eq!((cluster.leader("x"), cluster.eligible("x")), (None, vec![]), "an empty disk is not eligible either");
    cluster.unfence(3);
    assert_eq!(cluster.leader("x"), Some(3));
}

#[test]
fn an_older_copy_of_a_folder_is_in_no_set_and_leads_nothing_until_it_has_caught_up() {
    for configs in [TWO, TWO_WRITTEN] {
        let mut cluster = Cluster::of(3);
        cluster.topic_on("x", [1, 2, 3], configs);
        let none = cluster.start_knowing(3, &[]);
        assert!(!none, "nothing was ever stamped: it may be of an earlier release");
        assert!(!cluster.start_knowing(3, &[6]));
        let image = cluster.controller.image();
        assert_eq!(
            (image.broker(BrokerId(3)).unwrap().stamp, image.feature_level()),
            (None, 2),
            "some may not know stamps"
        );
        cluster.unfence(3);
        cluster.stamp(3, &[7]).unwrap();
        assert_eq!(cluster.controller.image().feature_level(), 11);
        // A start that was cut off before the cluster heard of it has drawn a stamp, too.
        assert!(!cluster.start_knowing(3, &[7, 8, 9]));
        cluster.unfence(3);
        cluster.alter("x", &[1, 2, 3]).unwrap();
        // All end at once. The copy is from before 9, with the mark of a clean end or without.
        for broker in [1, 2, 3] {
            cluster.fence(broker);
        }
        assert_eq!((cluster.in_sync("x"), cluster.eligible("x")), (vec![3], vec![2]));
        assert!(cluster.start_knowing(3, &[7, 8, 10]));
        cluster.unfence(3);
        assert_eq!((cluster.leader("x"), cluster.in_sync("x"), cluster.eligible("x")), (None, vec![2], vec![]));
        cluster.serve(2, Folder::Clean);
        assert_eq!(cluster.leader("x"), Some(2));
        cluster.alter("x", &[2, 3]).unwrap();
        // From now on it is the folder, and that of before would be the older one.
        assert!(!cluster.start_knowing(3, &[10]));
        assert!(cluster.start_knowing(3, &[9]));
        assert!(cluster.start_knowing(3, &[]), "a release that knew none could not have read the metadata");
    }
}

#[test]
fn an_older_copy_of_the_only_replica_waits_for_the_newest_folder_or_for_an_order() {
    let mut cluster = Cluster::of(2);
    cluster.topic_on("x", [1], &[]);
    cluster.stamp(1, &[7]).unwrap();
    assert!(!cluster.start_knowing(1, &[7, 8]));
    for stamps in [&[7, 9][..], &[7, 9, 10]] {
        assert!(cluster.start_knowing(1, stamps), "starting again makes it no newer");
        cluster.unfence(1);
        assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (None, vec![1]));
        assert_eq!(code(cluster.stamp(1, stamps)), ErrorCode::FencedBroker);
    }
    assert!(!cluster.start_knowing(1, &[8, 11]), "the newest is put back");
    cluster.unfence(1);
    assert_eq!(cluster.leader("x"), Some(1));

    assert!(cluster.start_knowing(1, &[8, 12]));
    cluster.unfence(1);
    let (topic, partition) = ("x".into(), tidelog_protocol::PartitionId(0));
    cluster.ask(&Command::ElectUnclean { topic, partition, broker_id: BrokerId(1) }).unwrap();
    assert_eq!(cluster.leader("x"), Some(1));
    assert!(!cluster.start_knowing(1, &[12]), "what leads is the folder");
    assert!(cluster.start_knowing(1, &[11]));
}

#[test]
fn a_copy_that_gets_a_new_partition_is_the_folder() {
    let mut cluster = Cluster::of(1);
    cluster.stamp(1, &[7]).unwrap();
    assert!(cluster.start_knowing(1, &[8]));
    cluster.unfence(1);
    cluster.topic_on("x", [1], &[]);
    assert_eq!(cluster.leader("x"), Some(1));
    assert!(!cluster.start_knowing(1, &[8, 9]));
    assert!(cluster.start_knowing(1, &[7, 10]));
}

#[test]
fn what_an_earlier_life_said_changes_nothing_however_late_it_comes() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], TWO);
    cluster.stamp(2, &[1]).unwrap();
    let earlier = cluster.registration(2);
    assert!(!cluster.start_knowing(2, &[1, 2]));
    cluster.unfence(2);
    cluster.alter("x", &[1, 2, 3]).unwrap();
    let late = Command::StampFolder { broker: earlier, stamps: cluster::folder_stamps(&[1, 3]) };
    assert_eq!(code(cluster.ask(&late)), ErrorCode::FencedBroker);
    cluster.stamp(2, &[2, 3]).unwrap();
    let log = cluster.log.len();
    cluster.stamp(2, &[3]).unwrap();
    assert_eq!(code(cluster.stamp(2, &[2])), ErrorCode::FencedBroker);
    // A registration, whether it was refused before or not.
    let stamps = cluster::folder_stamps(&[1, 2]);
    for older_than in [None, Some(earlier.epoch)] {
        let register = RegisterBroker { stamps: stamps.clone(), older_than, ..cluster::registration_of(2, 0) };
        let than = cluster.registration(2).epoch;
        assert_eq!(cluster.ask(&Command::RegisterBroker(register)), Ok(Reply::FolderIsOlder { than }));
    }
    assert_eq!((cluster.log.len(), cluster.in_sync("x")), (log, vec![1, 2, 3]));
}

#[test]
fn a_partition_whose_only_complete_disk_was_wiped_stays_offline_and_its_broker_does_not_pass_for_it() {
    let mut cluster = Cluster::of(2);
    cluster.topic_on("alone", [1], &[]);
    cluster.topic_on("x", [1, 2], &[]);
    cluster.alter("x", &[1]).unwrap();
    cluster.fence(1);
    cluster.serve(1, Folder::Wiped(9));
    for topic in ["alone", "x"] {
        assert_eq!((cluster.leader(topic), cluster.in_sync(topic)), (None, vec![]), "{topic}");
        assert_eq!(cluster.partition(topic).last_leader, Some(BrokerId(1)));
    }
}

#[test]
fn a_wiped_disk_leaves_its_seat_to_who_is_eligible() {
    let mut cluster = Cluster::of(2);
    cluster.topic_on("x", [1, 2], TWO);
    cluster.fence(2);
    cluster.fence(1);
    cluster.serve(1, Folder::Wiped(9));
    assert_eq!((cluster.leader("x"), cluster.in_sync("x")), (None, vec![2]));
    cluster.unfence(2);
    assert_eq!(cluster.leader("x"), Some(2));
}

#[test]
fn a_second_broker_of_the_same_id_is_refused_while_the_first_one_serves() {
    let mut cluster = Cluster::of(1);
    let twin = cluster.try_start(1, Folder::Wiped(2)).unwrap_err();
    assert_eq!(twin.code, ErrorCode::BrokerIdTaken);
    assert!(twin.message.contains("give this broker an id of its own"), "{}", twin.message);
    cluster.fence(1);
    assert!(cluster.try_start(1, Folder::Wiped(2)).is_ok());
}

#[test]
fn an_earlier_life_of_a_broker_is_not_listened_to() {
    let mut cluster = Cluster::of(2);
    cluster.topic_on("x", [1, 2], &[]);
    let old = cluster.registration(1);
    cluster.serve(1, Folder::Crashed);
    for command in [Command::FenceBroker(old), Command::UnfenceBroker(old), Command::ShutDownBroker(old)] {
        let refused = cluster.ask(&command);
        assert_eq!(code(refused), ErrorCode::FencedBroker, "{command:?}");
    }
    assert_eq!(
        message(cluster.ask(&Command::FenceBroker(old))),
        "broker 1 is registered under epoch 3, not 1: only its newest life may ask; register anew"
    );
    let nobody = cluster.registration(7);
    let refused = message(cluster.ask(&Command::FenceBroker(nobody)));
    assert_eq!(refused, "there is no broker 7; registered are: 1, 2");
}

#[test]
fn a_broker_that_starts_serves_only_once_it_has_caught_up() {
    let mut cluster = Cluster::of(1);
    cluster.start(2, Folder::Clean);
    assert!(cluster.controller.image().broker(BrokerId(2)).unwrap().fenced);
    let refused = message(cluster.create("x", |topic| topic.replication_factor = 2));
    assert!(refused.contains("on 1 live broker;"), "{refused}");
    cluster.unfence(2);
    cluster.create("x", |topic| topic.replication_factor = 2).unwrap();
    assert_eq!(cluster.in_sync("x").len(), 2);
}

#[test]
fn shutting_down_hands_leaderships_over_first_and_then_fences() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("led", [1, 2, 3], TWO);
    cluster.topic_on("followed", [2, 1], &[]);
    cluster.topic_on("alone", [1], &[]);
    assert_eq!(cluster.shut_down(1), 0);
    assert_eq!((cluster.leader("led"), cluster.in_sync("led")), (Some(2), vec![2, 3]));
    assert_eq!((cluster.leader("followed"), cluster.in_sync("followed")), (Some(2), vec![2]));
    assert_eq!(cluster.leader("alone"), None);
    let broker = cluster.controller.image().broker(BrokerId(1)).unwrap();
    assert!(broker.fenced && broker.leaving);
    assert_eq!(code(cluster.ask(&Command::UnfenceBroker(cluster.registration(1)))), ErrorCode::FencedBroker);
    cluster.serve(1, Folder::Clean);
    assert_eq!(cluster.leader("alone"), Some(1));
}

#[test]
fn a_broker_that_shuts_down_leads_on_until_another_has_caught_up() {
    let mut cluster = Cluster::of(2);
    cluster.topic_on("x", [1, 2], &[]);
    cluster.topic_on("y", [1, 2], &[]);
    cluster.alter("x", &[1]).unwrap();
    assert_eq!(cluster.shut_down(1), 1);
    assert_eq!((cluster.leader("x"), cluster.leader("y")), (Some(1), Some(2)));
    let log = cluster.log.len();
    assert_eq!(cluster.shut_down(1), 1);
    assert_eq!(cluster.log.len(), log, "asking again writes nothing");
    let refused = message(cluster.alter("y", &[1, 2]));
    assert!(refused.contains("it is shutting down"), "{refused}");
    cluster.alter("x", &[1, 2]).unwrap();
    assert_eq!(cluster.leader("x"), Some(2), "it has caught up and takes over at once");
    assert_eq!(cluster.shut_down(1), 0);
    assert_eq!(cluster.in_sync("x"), [2]);
}

#[test]
fn a_broker_is_removed_only_when_it_is_gone_and_holds_nothing() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2], &[]);
    let remove = |broker| Command::RemoveBroker { broker_id: BrokerId(broker) };
    assert!(message(cluster.ask(&remove(1))).contains("it holds 1 replica: drain it first"));
    assert!(message(cluster.ask(&remove(3))).contains("it still serves: stop it"));
    assert_eq!(code(cluster.ask(&remove(4))), ErrorCode::UnknownBroker);
    cluster.fence(3);
    assert_eq!(cluster.ask(&remove(3)), Ok(Reply::Done));
    assert_eq!(cluster.controller.image().broker(BrokerId(3)), None);
    // The epoch that went with it is not given out twice, not even after a snapshot.
    let image = cluster.controller.image();
    let mut snapshot = ClusterImage::default();
    image.to_records().iter().for_each(|record| snapshot.apply(image.as_of(), record));
    assert_eq!(&snapshot, image);
    cluster.serve(3, Folder::Clean);
    assert_eq!(cluster.registration(3).epoch, BrokerEpoch(4));
}

#[test]
fn each_controller_has_an_epoch_of_its_own() {
    let mut cluster = Cluster::default();
    for (broker, epoch) in [(1, 1), (2, 2), (2, 3)] {
        let begin = Command::BeginControllerEpoch { broker_id: BrokerId(broker) };
        assert_eq!(cluster.ask(&begin), Ok(Reply::ControllerEpochBegun { epoch: ControllerEpoch(epoch) }));
        assert_eq!(cluster.controller.image().controller(), Some(BrokerId(broker)));
    }
}

#[test]
fn a_single_broker_leads_under_one_more_epoch_at_each_start_however_it_is_admitted() {
    let mut cluster = Cluster::of(1);
    cluster.topic_on("x", [1], &[]);
    for round in 1..4 {
        cluster.serve(1, Folder::Crashed);
        assert_eq!(cluster.partition("x").leader_epoch, LeaderEpoch(round));
    }
}
