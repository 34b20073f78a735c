//! A leader changes who is in sync: compare-and-set, and who may be in the set.

use crate::cluster::{Cluster, Folder, code, message};
use tidelog_coordination::Reply;
use tidelog_coordination::command::{AlterInSync, AlterPartition, Command};
use tidelog_protocol::{BrokerId, ErrorCode, LeaderEpoch, PartitionEpoch, PartitionId, TopicId};

fn three() -> Cluster {
    let mut cluster = Cluster::of(4);
    cluster.topic_on("x", [1, 2, 3], &[]);
    cluster
}

#[test]
fn a_leader_leaves_out_who_lags_and_takes_it_back() {
    let mut cluster = three();
    let before = cluster.partition("x").clone();
    let after = cluster.alter("x", &[1, 3]).unwrap();
    assert_eq!(&after, cluster.partition("x"), "the answer is what holds now");
    assert_eq!((after.leader, after.leader_epoch), (before.leader, before.leader_epoch));
    assert_eq!(after.partition_epoch.0, before.partition_epoch.0 + 1);
    assert_eq!(after.in_sync, [BrokerId(1), BrokerId(3)]);
    assert_eq!(cluster.alter("x", &[3, 1, 2]).unwrap().in_sync, [BrokerId(1), BrokerId(2), BrokerId(3)]);
}

#[test]
fn a_change_made_from_an_older_state_is_refused() {
    let mut cluster = three();
    let leader = cluster.registration(1);
    let late = cluster.in_sync_change("x", &[1, 2]);
    cluster.fence(2);
    let refused = cluster.alter_as(leader, late).unwrap_err();
    assert_eq!(refused.code, ErrorCode::PartitionChanged);
    assert_eq!(refused.message, "'x'-0 is at partition epoch 2, not 1: decide again on its present state");
    assert_eq!(cluster.in_sync("x"), [1, 3]);
}

#[test]
fn a_change_whose_answer_was_lost_is_answered_again() {
    let mut cluster = three();
    let leader = cluster.registration(1);
    let change = cluster.in_sync_change("x", &[1, 2]);
    let first = cluster.alter_as(leader, change.clone()).unwrap();
    let log = cluster.log.len();
    assert_eq!(cluster.alter_as(leader, change), Ok(first));
    assert_eq!(cluster.log.len(), log);
}

#[test]
fn a_leader_that_asks_for_the_set_that_holds_learns_that_no_earlier_request_will_be_taken_any_more() {
    let mut cluster = three();
    let leader = cluster.registration(1);
    let on_its_way = cluster.in_sync_change("x", &[1]);
    let held = cluster.alter("x", &[1, 2, 3]).unwrap();
    assert_eq!((held.partition_epoch, held.in_sync.len()), (PartitionEpoch(on_its_way.partition_epoch.0 + 1), 3));
    assert_eq!(code(cluster.alter_as(leader, on_its_way)), ErrorCode::PartitionChanged);
}

#[test]
fn only_the_leader_of_the_present_epoch_may_ask() {
    let mut cluster = three();
    let change = cluster.in_sync_change("x", &[1, 2]);
    let follower = cluster.registration(2);
    assert_eq!(code(cluster.alter_as(follower, change.clone())), ErrorCode::NotLeader);
    let leader = cluster.registration(1);
    let newer = AlterPartition { leader_epoch: LeaderEpoch(9), ..change.clone() };
    assert_eq!(code(cluster.alter_as(leader, newer)), ErrorCode::UnknownEpoch);
    cluster.fence(1);
    assert_eq!(code(cluster.alter_as(leader, change.clone())), ErrorCode::FencedBroker);
    cluster.unfence(1);
    cluster.alter("x", &[2, 3, 1]).unwrap();
    cluster.fence(2);
    cluster.fence(3);
    assert_eq!(cluster.leader("x"), Some(1));
    assert_eq!(code(cluster.alter_as(leader, change.clone())), ErrorCode::FencedEpoch);
    cluster.serve(1, Folder::Crashed);
    assert_eq!(code(cluster.alter_as(leader, change)), ErrorCode::FencedBroker, "an earlier life");
}

#[test]
fn nobody_is_taken_in_who_could_not_lead() {
    let mut cluster = three();
    cluster.alter("x", &[1]).unwrap();
    let why = |cluster: &mut Cluster| {
        let refused = cluster.alter("x", &[1, 2]).unwrap_err();
        assert_eq!(refused.code, ErrorCode::IneligibleReplica);
        refused.message
    };
    cluster.fence(2);
    assert!(why(&mut cluster).ends_with("it is fenced; leave it out until it is heard of again"));
    cluster.unfence(2);
    cluster.topic_on("y", [2, 3], &[]);
    cluster.alter("y", &[2]).unwrap();
    assert_eq!(cluster.shut_down(2), 1);
    assert!(why(&mut cluster).ends_with("it is shutting down; leave it out"));
    assert!(message(cluster.alter("x", &[1, 4])).ends_with("it holds no replica"));
    assert!(message(cluster.alter("x", &[1, 9])).ends_with("there is no such broker"));
}

/// KIP-903: the change was on its way while the follower lost its tail and came back.
#[test]
fn a_follower_that_restarted_since_it_caught_up_is_not_taken_in() {
    let mut cluster = three();
    cluster.alter("x", &[1]).unwrap();
    let leader = cluster.registration(1);
    let late = cluster.in_sync_change("x", &[1, 2]);
    cluster.serve(2, Folder::Crashed);
    assert_eq!(late.partition_epoch, cluster.partition("x").partition_epoch, "that alone does not tell");
    let refused = cluster.alter_as(leader, late).unwrap_err();
    assert_eq!(refused.code, ErrorCode::IneligibleReplica);
    assert!(refused.message.ends_with("it has registered anew since; let it catch up again"), "{}", refused.message);
    assert!(cluster.alter("x", &[1, 2]).is_ok());
}

#[test]
fn a_set_without_its_leader_or_with_somebody_twice_is_refused() {
    let mut cluster = three();
    for set in [&[2, 4][..], &[1, 2, 2]] {
        assert_eq!(code(cluster.alter("x", set)), ErrorCode::Malformed, "{set:?}");
    }
}

#[test]
fn each_partition_of_a_request_is_decided_by_itself() {
    let mut cluster = three();
    cluster.topic_on("y", [1, 2], &[]);
    let (good, also) = (cluster.in_sync_change("x", &[1]), cluster.in_sync_change("y", &[1]));
    let stale = AlterPartition { partition_epoch: PartitionEpoch(90), ..cluster.in_sync_change("y", &[1]) };
    let elsewhere = AlterPartition { partition: PartitionId(7), ..good.clone() };
    let nowhere = AlterPartition { topic_id: TopicId([99; 16]), ..good.clone() };
    let leader = cluster.registration(1);
    let partitions = vec![good.clone(), stale, good, elsewhere, nowhere, also];
    let reply = cluster.ask(&Command::AlterInSync(AlterInSync { leader, partitions })).unwrap();
    let Reply::InSyncAltered { partitions } = reply else { unreachable!("{reply:?}") };
    let codes: Vec<_> = partitions.into_iter().map(|outcome| outcome.err().map(|refusal| refusal.code)).collect();
    let expected = [
        None,
        Some(ErrorCode::PartitionChanged),
        Some(ErrorCode::Malformed),
        Some(ErrorCode::UnknownPartition),
        Some(ErrorCode::UnknownTopic),
        Some(ErrorCode::Malformed),
    ];
    assert_eq!(codes, expected);
}

#[test]
fn a_leader_whose_log_broke_gives_the_lead_to_one_that_is_in_sync() {
    let mut cluster = three();
    let before = cluster.partition("x").clone();
    let after = cluster.alter("x", &[2, 3]).unwrap();
    assert_eq!((after.leader, after.in_sync), (Some(BrokerId(2)), vec![BrokerId(2), BrokerId(3)]));
    assert_eq!(after.leader_epoch.0, before.leader_epoch.0 + 1);
    assert_eq!(after.eligible, [], "what it would read back nobody knows");
    // Only to those who are in sync: another would lose records.
    let mut cluster = three();
    let _ = cluster.alter("x", &[1, 2]).unwrap();
    assert_eq!(code(cluster.alter("x", &[3])), ErrorCode::Malformed);
    assert_eq!(cluster.partition("x").leader, Some(BrokerId(1)));
    let after = cluster.alter("x", &[]).unwrap();
    assert_eq!((after.leader, after.in_sync), (Some(BrokerId(2)), vec![BrokerId(2)]), "it need not know of any");
}

#[test]
fn a_leader_whose_log_broke_and_that_is_alone_in_sync_gives_the_lead_to_an_eligible_one() {
    let mut cluster = Cluster::of(3);
    cluster.topic_on("x", [1, 2, 3], &[("min.insync.replicas", "2")]);
    cluster.alter("x", &[1, 2]).unwrap();
    cluster.alter("x", &[1]).unwrap();
    assert_eq!(cluster.eligible("x"), [2]);
    let before = cluster.partition("x").clone();
    let after = cluster.alter("x", &[]).unwrap();
    assert_eq!((after.leader, after.in_sync), (Some(BrokerId(2)), vec![BrokerId(2)]));
    assert_eq!(after.leader_epoch.0, before.leader_epoch.0 + 1);
    assert_eq!(after.eligible, [], "what it would read back nobody knows");
    // Nobody is left who is complete: it keeps the lead, and says itself why it does nothing with it.
    assert_eq!(code(cluster.alter("x", &[])), ErrorCode::IneligibleReplica);
    assert_eq!(cluster.leader("x"), Some(2));
}
