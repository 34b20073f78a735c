//! Replicas that are not whole: gone, unreadable, on a disk that failed, or shorter than they were. The cluster hears of it and counts on them no
//! more; what others hold survives, and an empty or older log is never taken for the partition.

#![allow(clippy::unwrap_used, clippy::panic)] // A failed unwrap is a failed test.

use std::path::{Path, PathBuf};

use tidelog_protocol::messages::{Acks, PartitionDescription, ProduceRequest};
use tidelog_protocol::records::Compression;
use tidelog_protocol::{BrokerId, ErrorCode, Offset, PartitionId, TopicId, WireError};
use tidelog_tests::local_cluster::LocalCluster;
use tidelog_tests::patience::wait_for;
use tidelog_tests::raw_connection::{RawConnection, batch};
use tidelog_tests::stalling_disk::Call;

const TOPIC: &str = "ledger";
const FOLDER: &str = "ledger-0";

fn on_its_own<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

fn try_produce(cluster: &LocalCluster, broker: u32, topic_id: TopicId, acks: Acks) -> Result<Offset, WireError> {
    on_its_own(async {
        let mut connection = RawConnection::introduced(cluster.address(broker)).await;
        let (partition, batch) = (PartitionId(0), batch(&[b"value"], Compression::None));
        let request = ProduceRequest {
            topic_id,
            partition,
            leader_epoch: None,
            acks,
            expected_log_end: None,
            transactional_id: None,
        };
        connection.call(&request, &batch).await.map(|answer| answer.base_offset)
    })
}

/// Produces one value to whoever leads; gives its offset.
fn produce(cluster: &LocalCluster, topic_id: TopicId) -> Offset {
    produce_to(cluster, TOPIC, topic_id)
}

fn produce_to(cluster: &LocalCluster, topic: &str, topic_id: TopicId) -> Offset {
    wait_for("a value to be taken", || {
        let leader = cluster.partition(topic).leader?;
        try_produce(cluster, leader.0, topic_id, Acks::All).ok()
    })
}

fn described(cluster: &LocalCluster, broker: u32) -> PartitionDescription {
    on_its_own(async {
        let mut connection = RawConnection::introduced(cluster.address(broker)).await;
        let describe = tidelog_protocol::messages::DescribeTopicsRequest { topics: None };
        connection.call(&describe, &[]).await.unwrap().topics[0].partitions[0].clone()
    })
}

/// Has a broker noted that so much of a topic's partition is settled?
fn has_noted(cluster: &LocalCluster, broker: u32, topic_id: TopicId, watermark: u64) -> bool {
    let noted = std::fs::read(cluster.data(broker).join("high-watermarks")).unwrap_or_default();
    let entry = [&topic_id.0[..], &0_u32.to_be_bytes(), &watermark.to_be_bytes()].concat();
    noted.windows(entry.len()).any(|bytes| bytes == entry)
}

/// What is settled is noted as a broker starts and now and then.
fn wait_until_noted(cluster: &LocalCluster, broker: u32, topic_id: TopicId, watermark: u64) {
    wait_for("the watermark to be noted", || has_noted(cluster, broker, topic_id, watermark).then_some(()));
}

fn others(cluster: &LocalCluster) -> (u32, [u32; 2]) {
    let (leader, _) = cluster.leader(TOPIC);
    let others: Vec<u32> = (1..=3).filter(|id| *id != leader).collect();
    (leader, [others[0], others[1]])
}

fn down(cluster: &mut LocalCluster, broker: u32) {
    cluster.kill(broker);
    cluster.fence(broker);
}

fn folder(cluster: &LocalCluster, broker: u32) -> PathBuf {
    cluster.data(broker).join(FOLDER)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        assert!(entry.file_type().unwrap().is_file(), "{entry:?}");
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn the_last_replica_in_sync_without_its_folder_leads_nothing_and_leads_again_once_that_is_put_back() {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "1")]);
    let other_id = cluster.create_topic("other", &[("min.insync.replicas", "1")]);
    for number in 0..20 {
        assert_eq!(produce(&cluster, topic_id), Offset(number));
    }
    let (leader, [first, second]) = others(&cluster);
    wait_until_noted(&cluster, leader, topic_id, 20);
    down(&mut cluster, first);
    down(&mut cluster, second);
    cluster.kill(leader);
    let aside = cluster.data(leader).join("aside");
    std::fs::rename(folder(&cluster, leader), &aside).unwrap();
    cluster.start_broker(leader);
    // It alone is known to be complete, so nobody else leads; but with an empty log it does not, either.
    wait_for("nobody to lead", || cluster.partition(TOPIC).leader.is_none().then_some(()));
    let state = cluster.partition(TOPIC);
    assert_eq!((state.unreadable, state.in_sync), (Some(BrokerId(leader)), vec![BrokerId(leader)]));
    let refused = try_produce(&cluster, leader, topic_id, Acks::All).unwrap_err();
    assert!(refused.code == ErrorCode::OutOfService && refused.message.contains("is gone"), "{refused}");
    cluster.start_broker(first);
    assert_eq!(described(&cluster, first).log_end, Offset(20), "what is there stays there");
    assert_eq!(cluster.partition(TOPIC).leader, None);
    // What tells that there was something is not forgotten, so that this is as true at the next start.
    assert_eq!(produce_to(&cluster, "other", other_id), Offset(0));
    wait_until_noted(&cluster, leader, other_id, 1);
    assert!(has_noted(&cluster, leader, topic_id, 20));
    cluster.kill(leader);
    cluster.start_broker(leader);
    wait_for("nobody to lead again", || (cluster.partition(TOPIC).unreadable == Some(BrokerId(leader))).then_some(()));

    cluster.kill(leader);
    std::fs::rename(&aside, folder(&cluster, leader)).unwrap();
    cluster.start_broker(leader);
    assert_eq!(produce(&cluster, topic_id), Offset(20));
    assert_eq!(cluster.partition(TOPIC).unreadable, None);
}

#[test]
fn an_eligible_replica_whose_folder_is_gone_gives_way_to_one_that_is_complete() {
    gives_way_without_its_records(|folder| std::fs::remove_dir_all(folder).unwrap());
}

#[test]
fn an_eligible_replica_whose_folder_is_empty_gives_way_to_one_that_is_complete() {
    gives_way_without_its_records(|folder| remove_files(folder, |_| true));
}

#[test]
fn an_eligible_replica_whose_segments_are_gone_gives_way_to_one_that_is_complete() {
    gives_way_without_its_records(|folder| remove_files(folder, |name| name.ends_with(".log")));
    gives_way_without_its_records(|folder| remove_files(folder, |name| name != "identity"));
}

fn remove_files(folder: &Path, is_lost: impl Fn(&str) -> bool) {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder).unwrap().map(Result::unwrap) {
        if is_lost(entry.file_name().to_str().unwrap()) {
            std::fs::remove_file(entry.path()).unwrap();
            removed += 1;
        }
    }
    assert!(removed > 0, "nothing to lose in {folder:?}");
}

fn gives_way_without_its_records(lose: impl FnOnce(&Path)) {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "2")]);
    for number in 0..20 {
        assert_eq!(produce(&cluster, topic_id), Offset(number));
    }
    let (leader, [first, second]) = others(&cluster);
    wait_until_noted(&cluster, second, topic_id, 20);
    down(&mut cluster, first);
    down(&mut cluster, second);
    assert_eq!(cluster.partition(TOPIC).eligible, [BrokerId(second)], "below the minimum nothing is settled");
    down(&mut cluster, leader);
    lose(&folder(&cluster, second));
    cluster.start_broker(second);
    wait_for("the empty one to be counted on no more", || {
        let state = cluster.partition(TOPIC);
        (state.leader.is_none() && state.in_sync == [BrokerId(leader)] && state.eligible.is_empty()).then_some(())
    });
    cluster.start_broker(leader);
    assert_eq!(produce(&cluster, topic_id), Offset(20), "with all that was acknowledged");
    assert_eq!(cluster.leader(TOPIC).0, leader);
    cluster.wait_in_sync(TOPIC, &if leader < second { [leader, second] } else { [second, leader] });
    assert_eq!(described(&cluster, second).log_end, Offset(21), "filled again");
}

/// As a folder that was put back from a backup: it opens, and is older than it should be.
#[test]
fn a_replica_that_is_shorter_than_it_was_takes_nobody_elses_records_with_it() {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "2")]);
    for number in 0..10 {
        assert_eq!(produce(&cluster, topic_id), Offset(number));
    }
    let (leader, [first, second]) = others(&cluster);
    down(&mut cluster, second);
    let backup = cluster.data(second).join("backup");
    copy(&folder(&cluster, second), &backup);
    cluster.start_broker(second);
    cluster.wait_in_sync(TOPIC, &[1, 2, 3]);
    for number in 10..20 {
        assert_eq!(produce(&cluster, topic_id), Offset(number));
    }
    wait_until_noted(&cluster, second, topic_id, 20);
    down(&mut cluster, first);
    down(&mut cluster, leader);
    let state = cluster.partition(TOPIC);
    assert_eq!((state.in_sync, state.eligible), (vec![BrokerId(second)], vec![BrokerId(leader)]));
    cluster.kill(second);
    std::fs::remove_dir_all(folder(&cluster, second)).unwrap();
    std::fs::rename(&backup, folder(&cluster, second)).unwrap();
    cluster.start_broker(second);
    wait_for("the older one to give way", || {
        let state = cluster.partition(TOPIC);
        (state.leader.is_none() && state.in_sync == [BrokerId(leader)]).then_some(())
    });
    cluster.start_broker(leader);
    assert_eq!(produce(&cluster, topic_id), Offset(20), "with all that was acknowledged");
    wait_for("it to get what it lacked", || (described(&cluster, second).log_end == Offset(21)).then_some(()));
}

#[test]
fn a_leader_that_cannot_open_a_partition_gives_the_lead_to_one_that_can() {
    let cluster = LocalCluster::start(3);
    // Whichever of them it is to lead: something is in the way of all of them on broker 1.
    let names: Vec<String> = (0..3).map(|number| format!("blocked-{number}")).collect();
    for name in &names {
        std::fs::write(cluster.data(1).join(format!("{name}-0")), b"in the way").unwrap();
    }
    let led_first = names.iter().filter(|name| {
        cluster.create_topic(name, &[]);
        // Read at once: it is given away within a moment.
        cluster.partition(name).replicas[0] == BrokerId(1)
    });
    assert!(led_first.count() > 0, "three topics are spread over three brokers");
    for name in &names {
        wait_for("the others to do without it", || {
            let state = cluster.partition(name);
            let counted = state.in_sync.contains(&BrokerId(1)) || state.eligible.contains(&BrokerId(1));
            (state.leader.is_some() && !counted).then_some(())
        });
    }
}

#[test]
fn a_follower_whose_disk_failed_is_not_even_eligible() {
    let cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "3")]);
    assert_eq!(produce(&cluster, topic_id), Offset(0));
    let (leader, [first, _]) = others(&cluster);
    cluster.disk(first).fail_next(Call::Flush, FOLDER);
    assert_eq!(try_produce(&cluster, leader, topic_id, Acks::Leader), Ok(Offset(1)));
    wait_for("the disk to fail", || cluster.disk(first).has_failed().then_some(()));
    // The leader, too, would leave it out, as one that lags; but below the minimum it would be eligible then.
    wait_for("the others to do without it", || {
        let state = cluster.partition(TOPIC);
        (state.in_sync.len() == 2 && !state.in_sync.contains(&BrokerId(first)) && state.eligible.is_empty())
            .then_some(())
    });
    assert_eq!(cluster.leader(TOPIC).0, leader);
}

#[test]
fn a_leader_whose_disk_failed_and_that_is_alone_in_sync_gives_way_to_an_eligible_one() {
    let mut cluster = LocalCluster::start(3);
    let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "2")]);
    for number in 0..5 {
        assert_eq!(produce(&cluster, topic_id), Offset(number));
    }
    let (leader, [first, second]) = others(&cluster);
    down(&mut cluster, first);
    cluster.fence(second);
    let state = cluster.partition(TOPIC);
    assert_eq!((state.in_sync, state.eligible), (vec![BrokerId(leader)], vec![BrokerId(second)]));
    cluster.disk(leader).fail_next(Call::Flush, FOLDER);
    assert_eq!(try_produce(&cluster, leader, topic_id, Acks::Leader), Ok(Offset(5)), "written, not flushed yet");
    wait_for("the disk to fail", || cluster.disk(leader).has_failed().then_some(()));
    wait_for("it to give the lead up", || cluster.partition(TOPIC).leader.is_none().then_some(()));
    cluster.unfence(second);
    wait_for("the eligible one to lead", || (cluster.partition(TOPIC).leader == Some(BrokerId(second))).then_some(()));
    assert!(described(&cluster, second).log_end >= Offset(5), "what was acknowledged is there");
}

/// Which of the two comes first, the resignation or the change, is left to chance; the lead is given up either way.
#[test]
fn a_leader_whose_disk_failed_gives_way_though_the_in_sync_set_changes_meanwhile() {
    for _ in 0..3 {
        let mut cluster = LocalCluster::start(3);
        let topic_id = cluster.create_topic(TOPIC, &[("min.insync.replicas", "2")]);
        assert_eq!(produce(&cluster, topic_id), Offset(0));
        let (leader, [first, second]) = others(&cluster);
        down(&mut cluster, first);
        cluster.disk(leader).fail_next(Call::Flush, FOLDER);
        assert_eq!(try_produce(&cluster, leader, topic_id, Acks::Leader), Ok(Offset(1)), "written, not flushed yet");
        wait_for("the disk to fail", || cluster.disk(leader).has_failed().then_some(()));
        cluster.fence(second);
        wait_for("it to give the lead up", || cluster.partition(TOPIC).leader.is_none().then_some(()));
        cluster.unfence(second);
        let leads = || (cluster.partition(TOPIC).leader == Some(BrokerId(second))).then_some(());
        wait_for("the other one to lead", leads);
    }
}
